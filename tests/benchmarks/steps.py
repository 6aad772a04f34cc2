"""Whole training steps as they are against steps with one thing done as it is printed, or was."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch
from torch import Tensor

from draw_model import attention, classifier
from draw_model.classifier import Classifier, ClassifierConfig
from draw_model.contract import Model
from draw_model.draw import Draw, DrawConfig
from draw_model.soap import SOAP
from pipeline.worker import ready_cpu

BATCH = 128
STEPS = 10
"""Of training, on each side of a pair."""
GLIMPSES, DRAWS = "classifier on 100×100", "DRAW on 28×28"

Step = Callable[[], None]
Pair = tuple[float, float]


def plain(centre: Tensor, delta: Tensor, sigma: Tensor, offsets: Tensor, pixels: Tensor) -> Tensor:
    """The filters with autograd's gradient, not the one by hand."""
    mu = centre[:, None] + offsets * delta[:, None]
    distance = (pixels - mu[:, :, None]) / sigma[:, None, None]
    return torch.softmax(-0.5 * distance.square(), dim=2)


def models() -> dict[str, Model]:
    """Those of jobs/cluttered_fresh.yaml and jobs/mnist.yaml."""
    return {
        GLIMPSES: Classifier(ClassifierConfig(window_sigma=4.5), (1, 100, 100), 10),
        DRAWS: Draw(DrawConfig(steps=10, read_n=5, write_n=5), (1, 28, 28)),
    }


def pairs(repeats: int) -> dict[str, list[Pair]]:
    """Examples/s in bfloat16 on one thread: name of a pair → (as it is, the other) in turn."""
    torch.set_num_threads(1)
    ready_cpu()
    made = models()
    glimpses, draws = (_step(model, torch.optim.Adam) for model in made.values())
    soap = _step(made[GLIMPSES], SOAP)
    by_autograd = patch.object(attention, "filterbank", plain)
    in_float32 = patch.object(classifier, "autocast_precision", lambda pictures: pictures)
    return {
        f"{GLIMPSES}, filters' gradient by hand / autograd":
            _in_turn(repeats, glimpses, glimpses, by_autograd),
        f"{DRAWS}, filters' gradient by hand / autograd":
            _in_turn(repeats, draws, draws, by_autograd),
        f"{GLIMPSES}, pictures in bfloat16 / float32":
            _in_turn(repeats, glimpses, glimpses, in_float32),
        f"{GLIMPSES}, SOAP / Adam": _in_turn(repeats, soap, glimpses, nullcontext()),
    }  # fmt: skip


def _in_turn(
    repeats: int, ours: Step, other: Step, changed: AbstractContextManager[object]
) -> list[Pair]:
    found = []
    for _ in range(repeats):
        rate = _rate(ours)
        with changed:
            found.append((rate, _rate(other)))
    return found


def _step(model: Model, kind: type[torch.optim.Optimizer]) -> Step:
    batch = model.fake_batch(BATCH)
    optimizer = kind(model.parameters(), lr=1e-6)  # type: ignore[call-arg]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(batch)["loss"].mean()
        loss.backward()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            optimizer.step()

    step()
    return step


def _rate(step: Step) -> float:
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * BATCH / (time.perf_counter() - started)
