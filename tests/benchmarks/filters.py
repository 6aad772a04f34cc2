"""The filters' gradient by hand against autograd's chain through the formula as it is printed."""

import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from draw_model import attention
from draw_model.classifier import Classifier, ClassifierConfig
from draw_model.contract import Model
from draw_model.draw import Draw, DrawConfig
from pipeline.worker import ready_cpu

BATCH = 128
STEPS = 10
"""Of training, on each side of a pair."""


def plain(centre: Tensor, delta: Tensor, sigma: Tensor, offsets: Tensor, pixels: Tensor) -> Tensor:
    mu = centre[:, None] + offsets * delta[:, None]
    distance = (pixels - mu[:, :, None]) / sigma[:, None, None]
    return torch.softmax(-0.5 * distance.square(), dim=2)


def models() -> dict[str, Model]:
    """Those of jobs/cluttered_fresh.yaml and jobs/mnist.yaml."""
    return {
        "classifier on 100×100": Classifier(ClassifierConfig(window_sigma=4.5), (1, 100, 100), 10),
        "DRAW on 28×28": Draw(DrawConfig(steps=10, read_n=5, write_n=5), (1, 28, 28)),
    }


def pairs(model: Model, repeats: int) -> list[tuple[float, float]]:
    """Examples/s of training steps in bfloat16 on one thread, with ours and with ``plain``."""
    torch.set_num_threads(1)
    ready_cpu()
    step = _step(model)
    step()
    found = []
    for _ in range(repeats):
        ours = _rate(step)
        with patch.object(attention, "filterbank", plain):
            found.append((ours, _rate(step)))
    return found


def _step(model: Model) -> Callable[[], None]:
    batch = model.fake_batch(BATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(batch)["loss"].mean()
        loss.backward()
        optimizer.step()

    return step


def _rate(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * BATCH / (time.perf_counter() - started)
