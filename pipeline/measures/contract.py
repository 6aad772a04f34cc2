"""What a measure is given, and what it gives back: a finished run in, numbers and words out."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import torch
from pydantic.dataclasses import dataclass as record

from draw_model import Batch, Measure, Model
from pipeline.finished import Finished
from pipeline.loader import Loader
from pipeline.records import target
from pipeline.values import STRICT

Advance = Callable[[int, int], None]
"""Called with (done, of how many)."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asked for. None of the other run or the classifier: they were not named."""

    split: str = "test"
    samples: int = 50
    first: int | None = None
    count: int = 10_000
    seed: int = 0
    against: Finished | None = None
    classifier: Finished | None = None
    target: float | None = None
    """Nats an example."""
    further: int | None = None
    """Examples beyond the end of the split."""


class Value(Protocol):
    """The numbers of a measure: a strict dataclass that can tell itself."""

    TITLE: ClassVar[str]
    ABOUT: ClassVar[str]

    def rows(self) -> list[tuple[str, str]]:
        """Label and text of each line of a table."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """``files``: pictures and texts by their ending; ``of`` tells several of a kind apart."""

    value: Value
    files: Mapping[str, bytes] = field(default_factory=dict)
    of: str = ""


@record(frozen=True, kw_only=True, config=STRICT)
class Spread:
    """One number of many examples: mean, its standard error, standard deviation, the largest."""

    examples: int
    mean: float
    stderr: float
    sigma: float
    most: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.stderr:.2f}"


def spread(values: torch.Tensor) -> Spread:
    """Of (n,) values, n ≥ 1; σ is that of a sample (n − 1), and 0 for one value."""
    values, count = values.double(), len(values)
    sigma = float(values.std()) if count > 1 else 0.0
    return Spread(
        examples=count, mean=float(values.mean()), stderr=sigma / math.sqrt(count), sigma=sigma,
        most=float(values.max()),
    )  # fmt: skip


def batches(
    loader: Loader, device: torch.device, first: int | None = None
) -> Iterator[tuple[int, Batch]]:
    """Steps and batches of a split in order, on ``device``; the mask ends after ``first``."""
    count = examples(loader, first)
    for step in range(-(-count // loader.batch_size)):
        batch = loader.batch(step, range(loader.batch_size))
        places = step * loader.batch_size + torch.arange(loader.batch_size)
        yield step, replace(batch, mask=batch.mask & (places < count)).to(device)


def examples(loader: Loader, first: int | None) -> int:
    """How many examples of the split are asked for."""
    return loader.split.examples if first is None else min(first, loader.split.examples)


def weighs(model: Model) -> bool:
    """Whether the model has a likelihood that is a bound over latents."""
    with torch.no_grad():
        return model.AXES == 3 and bool(model.weigh(fake(model)))


def classifies(model: Model) -> bool:
    """Whether the model answers with one of several classes."""
    with torch.no_grad():
        return model.AXES == 3 and model.classify(fake(model)) is not None


def imagines(model: Model) -> bool:
    """Whether the model makes pictures from noise alone."""
    return "images" in model.sample(1, 0)


def fake(model: Model) -> Batch:
    return model.fake_batch(2).to(next(model.parameters()).device)


def pixels(measure: Measure, binarisation: str) -> str:
    """The target of a bound on the pixels alone: the loss of Model II has the classes in too."""
    return target(measure.likelihood.partition(" and ")[0], binarisation)


def unlike_default(wanted: Wanted, *names: str) -> str:
    """What tells a finding for which other values of these ``names`` were asked from the one that
    is made by default, so that neither takes the other's place."""
    letters = {"split": "", "samples": "k"}
    parts = [
        f"{letters.get(name, name)}{value}"
        for name in names
        if (value := getattr(wanted, name)) != getattr(Wanted, name)
    ]
    return "-".join(parts)
