"""A study as a reader's page takes it in: its trials, compared where all of them can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.job import Job
from pipeline.space import Search
from pipeline.study import Report, StudyRecord, TrialRecord
from pipeline.study_stats import (
    Axis,
    Cell,
    axes,
    best_report,
    cells,
    known,
    reached,
)

LABELS = {
    "model.steps": "glimpses T",
    "model.read_n": "read window N",
    "model.write_n": "write window N",
    "model.hidden": "hidden units",
    "model.latent": "latents",
    "train.lr": "learning rate",
    "train.batch_size": "batch size",
    "train.total_epochs": "epochs",
}
"""Key path → what readers call it; other keys are called by their last part."""


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """One study. ``full``: what its longest trial may spend, in examples or seconds as the job
    says, None if that is not known yet. ``record`` is None while the search runs. ``pictures``:
    trial → file name → bytes. ``pages``: trials whose run has a page. ``hours``: of the search so
    far, all its starts.
    """

    id: str
    job: Job
    trials: Sequence[TrialRecord]
    full: float | None = None
    record: StudyRecord | None = None
    pictures: Mapping[int, Mapping[str, bytes]] = field(default_factory=dict)
    pages: frozenset[int] = frozenset()
    hours: float = 0.0

    @property
    def search(self) -> Search:
        assert self.job.search is not None
        return self.job.search

    @property
    def unit(self) -> str:
        """What rungs are measured in: examples or seconds."""
        return self.search.scheduler.unit

    @property
    def rungs(self) -> list[float]:
        if self.record is not None:
            return self.record.rungs
        return [] if self.full is None else self.search.scheduler.rungs(self.full)

    @property
    def amounts(self) -> list[float | None]:
        """Where trials are compared: their own ends (None), each rung, the full length."""
        return [None, *self.rungs, *([] if self.full is None else [self.full])]

    @cached_property
    def axes(self) -> list[Axis]:
        return axes(self.search.space, labels(self.search.space))

    def at(self, trial: TrialRecord, amount: float | None) -> Report | None:
        """What a trial is compared by at this amount."""
        return reached(trial, amount, self.unit, self.search.mode)

    def map(self, one: Axis, other: Axis, amount: float | None) -> dict[tuple[int, int], Cell]:
        """The cells of two keys, of the trials that came to this amount."""
        found = [(trial, self.at(trial, amount)) for trial in self.trials]
        rows = [
            (t.number, one.level(t.values.get(one.path)), other.level(t.values.get(other.path)),
             r.value)
            for t, r in found if r is not None and r.value is not None
        ]  # fmt: skip
        return cells(rows, self.search.mode)

    def ranked(self) -> list[TrialRecord]:
        """The trials that have a value, best first."""
        sign = 1 if self.search.mode == "min" else -1
        found = [(best_report(trial, self.search.mode), trial) for trial in self.trials]
        pairs = [(sign * (r.value or 0.0), t.number, t) for r, t in found if r is not None]
        return [trial for _, _, trial in sorted(pairs, key=lambda pair: pair[:2])]


def labels(paths: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """What readers call each key; the whole path where two would be called the same."""
    short = {path: LABELS.get(path, path.rsplit(".", 1)[-1].replace("_", " ")) for path in paths}
    names = list(short.values())
    return {path: path if names.count(name) > 1 else name for path, name in short.items()}


def cost(trial: TrialRecord, report: Report, unit: str) -> float | None:
    """What a report has cost: seconds, examples, or floating-point operations."""
    if unit != "flops":
        return float(getattr(report, unit))
    per_example = trial.flops_an_example
    return per_example * report.examples if per_example and known(per_example) else None
