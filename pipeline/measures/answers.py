"""How often a classifier is wrong, and which class it takes for which."""

from typing import ClassVar, TypeVar

import torch
from pydantic.dataclasses import dataclass

from pipeline.contact_sheet import png
from pipeline.loader import Loader
from pipeline.measures.contract import (
    Advance,
    Finished,
    Found,
    Wanted,
    batches,
    examples,
    unlike_default,
)
from pipeline.measures.counts import wilson
from pipeline.measures.matrix import matrix
from pipeline.values import STRICT

MOST_CLASSES = 40
"""In a picture; the numbers are in the finding whatever there are."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Answers:
    """Answers of a classifier, counted: ``confusion[true][answered]``."""

    TITLE: ClassVar[str] = "Answers"
    ABOUT: ClassVar[str] = (
        "Rows are the true classes, columns the answers. Each cell counts examples and is the "
        "brighter, the larger its share of its row: green is right, red is wrong."
    )

    split: str
    classes: tuple[str, ...]
    confusion: list[list[int]]
    examples: int
    wrong: int
    error: float
    low: float
    high: float
    """Wilson's 95 % interval of the error."""

    def rows(self) -> list[tuple[str, str]]:
        pairs = [
            (count, self.classes[true], self.classes[said])
            for true, row in enumerate(self.confusion)
            for said, count in enumerate(row)
            if true != said and count
        ]
        worst = sorted(pairs, key=lambda pair: -pair[0])[:3]
        often = ", ".join(f"{true} taken for {said} ({count:,})" for count, true, said in worst)
        return [
            (f"{self.split} error", f"{self.error:.2%}: {self.wrong:,} of {self.examples:,} wrong"),
            ("95 % interval (Wilson)", f"{self.low:.2%} to {self.high:.2%}"),
            ("most often", often or "–"),
        ]


Kind = TypeVar("Kind", bound=Answers)


def answers(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """Error with Wilson's interval, and the confusion matrix."""
    value = counted(Answers, finished, finished.loader(wanted.split), wanted.first, advance)
    return Found(value=value, files=picture(value), of=unlike_default(wanted, "split", "first"))


@torch.no_grad()
def counted(
    kind: type[Kind], finished: Finished, loader: Loader, first: int | None, advance: Advance
) -> Kind:
    """What the model answers to the first examples of a loader, at least one, counted."""
    names = finished.manifest.classes
    count, kinds = examples(loader, first), len(names)
    table = torch.zeros(kinds * kinds, dtype=torch.int64)
    for step, batch in batches(loader, finished.device, first):
        with finished.precision():
            scores = finished.model.classify(batch)
        assert scores is not None  # measured only where it classifies
        assert batch.y is not None  # the loader gives the classes of every picture
        cells = batch.y * kinds + scores.argmax(1)  # (B,)
        table += torch.bincount(cells[batch.mask].cpu(), minlength=kinds * kinds)
        advance(min((step + 1) * loader.batch_size, count), count)
    confusion = table.view(kinds, kinds)
    wrong = count - int(confusion.trace())
    low, high = wilson(wrong, count)
    return kind(
        split=loader.split.name, classes=names, confusion=confusion.tolist(), examples=count,
        wrong=wrong, error=wrong / count, low=low, high=high,
    )  # fmt: skip


def picture(value: Answers) -> dict[str, bytes]:
    """The confusion matrix, of few enough classes, by its ending."""
    if len(value.classes) > MOST_CLASSES:
        return {}
    return {"png": png(matrix(value.confusion, value.classes))}
