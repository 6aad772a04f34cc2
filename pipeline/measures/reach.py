"""How long a run would have to train until its loss is at a target, by its own curve so far."""

from collections.abc import Sequence
from itertools import takewhile
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from pipeline.errors import DataError
from pipeline.lineage import lineage
from pipeline.measures.contract import Advance, Finished, Found, Wanted
from pipeline.records import RunRecord, read_record
from pipeline.storage import Storage
from pipeline.validations import validations
from pipeline.values import STRICT

LEAST = 12
"""Validations of a run whose curve is drawn on; ``FEWEST`` are left for each fit."""
FEWEST = 6
POWERS = np.linspace(0.1, 2.0, 96)
LEFT_OUT = (0.0, 0.15, 0.3, 0.45, 0.6)
"""Shares of the curve's beginning that the fits do without."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fit:
    """loss = ``level`` + ``scale`` · hours^−``power`` from ``since`` hours on; nats an example."""

    since: float
    level: float
    scale: float
    power: float

    def loss(self, hours: np.ndarray) -> np.ndarray:
        return self.level + self.scale * hours**-self.power

    def until(self, target: float) -> float | None:
        """Hours at which the curve is at ``target``; None where it levels off above, or rises."""
        if target <= self.level or self.scale <= 0:
            return None
        return float((self.scale / (target - self.level)) ** (1 / self.power))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reach:
    """Of the validation loss over the hours that training spent in steps."""

    TITLE: ClassVar[str] = "How long until a target"
    ABOUT: ClassVar[str] = (
        "A curve loss = level + scale · hours^−power through the validations, drawn on. It is "
        "fitted to all of them and again without the beginning: how far these answers lie apart "
        "tells how little an extrapolation is worth. It knows nothing of what a falling learning "
        "rate still gives, nor of other settings."
    )

    target: float
    best: float
    epochs: float
    hours: float
    reached: float | None
    """Hours after which a validation was at the target, where one was."""
    machine: str
    fits: tuple[Fit, ...]

    def rows(self) -> list[tuple[str, str]]:
        def told(fit: Fit) -> str:
            hours = fit.until(self.target)
            # A curve that comes there after a century does not come there.
            if hours is None or hours > 1e6:
                return f"never (levels at {fit.level:.2f})"
            return f"{hours:,.1f} h"

        so_far = f"{self.best:.2f} nats after {self.epochs:g} epochs, {self.hours:.2f} h of steps"
        first = ("so far, validation", f"{so_far} on {self.machine}")
        if self.reached is not None:
            return [first, (f"{self.target:g} nats", f"reached after {self.reached:.2f} h")]
        return [
            first,
            *(
                (f"{self.target:g} nats by the curve from {fit.since:.2f} h on", told(fit))
                for fit in self.fits
            ),
        ]


def reach(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """Raises DataError where a run has too few validations."""
    from pipeline.curve_pictures import reach_png  # Matplotlib, which other measures go without

    assert wanted.target is not None
    record = read_record(finished.storage, finished.run)
    hours, losses, epochs = whole_curve(finished.storage, record)
    if len(losses) < LEAST:
        raise DataError(
            f"{finished.run}: {len(losses)} validations, reach needs {LEAST}; train longer, or set "
            "train.validate_every_steps"
        )
    fits = []
    firsts = sorted({round(share * (len(losses) - FEWEST)) for share in LEFT_OUT})
    for done, first in enumerate(firsts, start=1):
        fits.append(fitted(hours[first:], losses[first:]))
        advance(done, len(firsts))
    there = np.flatnonzero(losses <= wanted.target)
    value = Reach(
        target=wanted.target, best=float(losses.min()), epochs=float(epochs[-1]),
        hours=float(hours[-1]), fits=tuple(fits),
        reached=float(hours[there[0]]) if len(there) else None,
        machine=f"{record.workers} × {record.device}, {record.machine}",
    )  # fmt: skip
    picture = reach_png(hours, losses, wanted.target, fits)
    return Found(value=value, files={"png": picture}, of=f"{wanted.target:g}")


def whole_curve(storage: Storage, record: RunRecord) -> list[np.ndarray]:
    """Hours, losses and epochs of the validations of a run, and before it of the runs of the same
    job that it goes on from, as far as they are there: its weights cost their hours too."""
    line, _ = lineage(storage, record, first=True)
    own = list(takewhile(lambda one: one.name == record.name, line))[::-1]
    parts, spent, passed = [], 0.0, 0.0
    for one in own:
        hours, losses, epochs = validations(storage, one.id, "loss", "epoch")
        parts.append((hours + spent, losses, epochs + passed))
        spent, passed = spent + one.train_seconds / 3600, passed + one.epochs
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def fitted(hours: Sequence[float] | np.ndarray, losses: Sequence[float] | np.ndarray) -> Fit:
    """Least squares: for each power of a grid the level and the scale are a straight line's."""
    hours, losses = np.asarray(hours), np.asarray(losses)
    best, least = None, np.inf
    for power in POWERS:
        columns = np.stack([np.ones_like(hours), hours**-power], axis=1)
        (level, scale), *_ = np.linalg.lstsq(columns, losses, rcond=None)
        wrong = float(((columns @ [level, scale] - losses) ** 2).sum())
        if wrong < least:
            least = wrong
            best = Fit(
                since=float(hours[0]), level=float(level), scale=float(scale), power=float(power)
            )
    assert best is not None
    return best
