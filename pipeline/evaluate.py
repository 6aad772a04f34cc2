"""A whole split, each example exactly once, with the loss that training uses."""

import math
from collections.abc import Callable

import torch

from draw_model import Measure, Model
from pipeline import plan
from pipeline.loader import Loader
from pipeline.metrics import Sums, across_workers, add, masked_sums, means
from pipeline.records import Result


@torch.no_grad()
def evaluate(
    model: Model,
    loader: Loader,
    *,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """The mean of every term over the split and the standard error of the loss.

    Each worker evaluates its share of every batch; the sums are the same on any number of workers
    up to the order of additions. ``progress`` is called with (examples done, examples).
    """
    device = torch.device(device)
    was_training = model.training
    model.eval()
    places = plan.share(range(loader.batch_size), rank, world)
    total: Sums | None = None
    for step in range(loader.steps):
        batch = loader.batch(step, places).to(device)
        terms = model(batch)
        sums = masked_sums({**terms, "loss²": terms["loss"].double() ** 2}, batch.mask)
        total = add(total, sums)
        if progress:
            progress(min((step + 1) * loader.batch_size, loader.split.examples),
                     loader.split.examples)  # fmt: skip
    model.train(was_training)
    assert total is not None, "a loader of an empty split is never evaluated"
    total, _ = across_workers(total, world)
    return _result(total, loader, model.measure())


def _result(total: Sums, loader: Loader, measure: Measure) -> Result:
    count = loader.split.examples
    square = float(total.pop("loss²"))
    loss = float(total.pop("loss")) / count
    terms = means(total, count)
    variance = max(square / count - loss**2, 0.0) * count / max(count - 1, 1)
    return Result(
        split=loader.split.name,
        examples=count,
        loss=loss,
        stderr=math.sqrt(variance / count),
        terms=terms,
        dimensions=measure.dimensions,
        nats_per_dimension=loss / measure.dimensions,
        chance=measure.chance,
        binarisation=loader.binarisation,
        likelihood=measure.likelihood,
    )
