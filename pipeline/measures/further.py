"""How often a classifier is wrong on pictures that its data set could have had as well.

Where pictures are made by chance, the stored ones of a split are one draw of many. A run that was
chosen by its validation pictures is flattered by these; further ones, of the same digits in other
places among other clutter, know nothing of the choice.
"""

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.errors import JobError
from pipeline.loader import Split, loader_of
from pipeline.manifest import Manifest
from pipeline.measures.answers import Answers, counted, picture
from pipeline.measures.contract import Advance, Finished, Found, Wanted, unlike_default
from pipeline.plan import PADDING
from pipeline.sources.contract import Source
from pipeline.values import STRICT

USUAL = 30_000
"""As many as are compared between runs; findings on another number are named by it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Further(Answers):
    """As ``Answers``, of examples that follow the split's last."""

    TITLE: ClassVar[str] = "Answers to further pictures"
    ABOUT: ClassVar[str] = (
        "The data set's pictures are one draw of many that could be made of the same digits. These "
        "are others, which neither chose a model nor taught it. Each digit is in several of them: "
        "the interval is that of these digits, and wider for others. " + Answers.ABOUT
    )

    def rows(self) -> list[tuple[str, str]]:
        (label, error), *others = super().rows()
        return [(f"further {label}", error), *others]


class Beyond(Split):
    """A split's examples after its last, made when they are asked for: id 0 is the first."""

    def __init__(self, source: Source, manifest: Manifest, split: str, count: int) -> None:
        self.source, self.name, self.shape = source, split, manifest.shape
        self.first, self.examples = manifest.splits[split], count

    def gather(self, ids: np.ndarray, side: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As a split does. Raises DataError where the source's own files are not at hand."""
        x, y = np.zeros((len(ids), *self.shape), np.uint8), np.zeros(len(ids), np.int64)
        rows = np.flatnonzero(ids != PADDING)
        start, stop = int(ids[rows].min()), int(ids[rows].max()) + 1
        made = list(self.source.examples(self.name, self.first + start, self.first + stop))
        for row in rows:
            x[row], y[row] = made[ids[row] - start]
        return x[..., :side, :side], y


def further(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """Error with Wilson's interval, and the confusion matrix, beyond the end of a split.

    Raises JobError for a split that is made anew at every step.
    """
    job, split = finished.job, wanted.split
    assert wanted.further is not None  # measured only where it was named
    beyond = Beyond(job.data, finished.manifest, split, wanted.further)
    loader = loader_of(job, beyond, finished.model.noise_shapes())
    if loader.compose is not None:
        raise JobError(
            f"{finished.run}: its {split} pictures are made anew whenever they are read; write "
            f"answers --split {split}"
        )
    value = counted(Further, finished, loader, None, advance)
    count = "" if wanted.further == USUAL else f"{wanted.further}"
    of = "-".join(part for part in (unlike_default(wanted, "split"), count) if part)
    return Found(value=value, files=picture(value), of=of)
