"""Two runs on the same test examples with the same noise: is one better than the other?"""

from typing import ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.errors import DataError, JobError
from pipeline.gate import ERROR, Interval, interval, matched, not_finite
from pipeline.job import crop_of
from pipeline.loader import open_loader
from pipeline.measures.contract import Advance, Finished, Found, Wanted, classifies
from pipeline.measures.counts import mcnemar, told
from pipeline.retrain_compare import per_example
from pipeline.values import STRICT

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Against:
    """``difference`` is the other run minus this one: above 0, this one is better."""

    TITLE: ClassVar[str] = "Against another run"
    ABOUT: ClassVar[str] = (
        "Both runs on the same test examples with the same noise. A difference above 0 says that "
        "this run is better; an interval with 0 in it shows none."
    )

    other: str
    metric: Literal["error", "loss"]
    mine: float
    others: float
    difference: Interval
    method: Literal["matched proportions", "paired t"]
    wrong_here_only: int | None
    wrong_there_only: int | None
    p: float | None
    """Of McNemar's exact test; None where the metric is a loss."""

    def rows(self) -> list[tuple[str, str]]:
        d, form = self.difference, ".2%" if self.metric == ERROR else ".4f"
        exact = []
        if self.p is not None:
            text = f"{told(self.p)}: {self.wrong_here_only:,} wrong here only, "
            exact = [("McNemar's exact test", f"{text}{self.wrong_there_only:,} there only")]
        return [
            (f"{self.metric} here", f"{self.mine:{form}}"),
            (f"{self.metric} of {self.other}", f"{self.others:{form}}"),
            (
                "there minus here",
                f"{d.mean:{form}}, 95 % interval {d.low:{form}} to {d.high:{form}} "
                f"({self.method}, {d.examples:,} examples)",
            ),
            *exact,
        ]


def against(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """The paired difference of the error of two classifiers, of the loss of other models.

    Raises JobError where the two cannot be compared, DataError where there is no interval: of one
    test example only, or of a loss that is not finite.
    """
    other = wanted.against
    assert other is not None  # measured only where it was named
    metric: Literal["error", "loss"] = "error" if classifies(finished.model) else "loss"
    _check(finished, other)
    values = []
    for done, run in enumerate((finished, other)):
        # Both through the reader of the first, so that targets and noise are the same.
        loader = open_loader(
            finished.job, finished.manifest, finished.storage, "test", run.model.noise_shapes()
        )
        values.append(per_example(run.model, loader, metric, run.job.train.precision)[0])
        advance(done + 1, 2)
    mine, others = values
    try:
        value = compared(other.run, metric, mine, others)
    except ValueError as fault:
        raise DataError(
            f"{finished.run} and {other.run} on {finished.manifest.path}: {fault}; compare others"
        ) from None
    return Found(value=value, of=other.run)


def compared(
    other: str, metric: Literal["error", "loss"], mine: np.ndarray, others: np.ndarray
) -> Against:
    """The finding of (n,) errors (1 is wrong) or losses of each, n ≥ 2.

    Raises ValueError for fewer than two, or where one is not finite.
    """
    for which, found in (("first", mine), ("second", others)):
        if broken := not_finite(f"the {metric} of the {which}", found):
            raise ValueError(broken)
    wrong = metric == ERROR
    here, there = int((mine > others).sum()), int((mine < others).sum())
    return Against(
        other=other,
        metric=metric,
        mine=float(mine.mean()),
        others=float(others.mean()),
        difference=(matched if wrong else interval)(others - mine, CONFIDENCE),
        method="matched proportions" if wrong else "paired t",
        wrong_here_only=here if wrong else None,
        wrong_there_only=there if wrong else None,
        p=mcnemar(here, there) if wrong else None,
    )


def _check(one: Finished, other: Finished) -> None:
    """Raises JobError, in one line, where the same numbers of the two would not mean the same."""
    pairs = {
        "classifies": (classifies(one.model), classifies(other.model)),
        "measures": (one.model.measure(), other.model.measure()),
        "test examples": (_test_shards(one), _test_shards(other)),
        "binarisation": (one.job.data.binarisation, other.job.data.binarisation),
        "crop": (crop_of(one.job), crop_of(other.job)),
        "classes": (one.manifest.classes, other.manifest.classes),
    }
    if pairs["classifies"] == (True, True):
        del pairs["measures"]  # of the loss; that an answer is wrong means the same for both
    for name, (mine, others) in pairs.items():
        if mine != others:
            raise JobError(
                f"{one.run} and {other.run} differ in {name}: {mine} and {others}; "
                "compare runs of the same data and kind"
            )


def _test_shards(run: Finished) -> str:
    return ", ".join(shard.sha256[:12] for shard in run.manifest.of("test"))
