"""What the tests of classifiers share: drawn digits on a larger canvas, and batches for models."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from draw_model import Batch, Model, noise
from pipeline.sources.synthetic import Synthetic


def batch_of(model: Model, x: torch.Tensor, y: torch.Tensor, step: int = 0) -> Batch:
    """These examples, with fresh noise for every ``step``."""
    draws = noise.draw(model.noise_shapes(), 0, "test", step, range(len(x)))
    return Batch(x=x, y=y, mask=torch.ones(len(x), dtype=torch.bool), noise=draws)


def doubled(batch: Batch) -> Batch:
    """The batch in float64, with grey pixels."""
    draws = {name: value.double() for name, value in batch.noise.items()}
    return Batch(x=0.2 + 0.5 * batch.x.double(), y=batch.y, mask=batch.mask, noise=draws)


def some(batch: Batch, rows: list[int]) -> Batch:
    assert batch.y is not None
    draws = {name: value[rows] for name, value in batch.noise.items()}
    return Batch(x=batch.x[rows], y=batch.y[rows], mask=batch.mask[rows], noise=draws)


def moved(model: Model, scale: float = 0.3) -> Model:
    """In float64, with every parameter moved off its first value."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model


def digits(count: int, side: int, kinds: Sequence[int] = range(10)) -> tuple:
    """Drawn digits of these kinds at random places of a black canvas: x (n, 1, side, side), y."""
    source = Synthetic(size=16, train=count)
    places = np.random.default_rng(0).integers(0, side - 16, (count, 2), endpoint=True)
    x, y = np.zeros((count, 1, side, side), np.float32), np.zeros(count, np.int64)
    for i, (image, kind) in enumerate(source.examples("train", 0, count)):
        top, left = places[i]
        x[i, :, top : top + 16, left : left + 16] = image / 255
        y[i] = kind
    chosen = np.isin(y, kinds)
    return torch.from_numpy(x[chosen]), torch.from_numpy(y[chosen])


def trained(model: Model, x: torch.Tensor, y: torch.Tensor, steps: int, lr: float) -> list[float]:
    """Adam on batches of 32 of these examples in turn → share of right answers in each batch."""
    adam = torch.optim.Adam(model.parameters(), lr=lr)
    right: list[float] = []
    for step in range(steps):
        rows = torch.arange(32 * step, 32 * (step + 1)) % len(x)
        terms = model(batch_of(model, x[rows], y[rows], step))
        adam.zero_grad()
        terms["loss"].mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        adam.step()
        right.append(terms["correct"].mean().item())
    return right


def relu(values: Iterable[float]) -> list[float]:
    return [max(value, 0.0) for value in values]


def nats(logits: Sequence[float], y: int) -> float:
    """−log of the softmax at y."""
    return float(np.log(sum(np.exp(value) for value in logits)) - logits[y])
