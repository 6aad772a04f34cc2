"""What the trials of a study say together: intervals, cells, fronts, importance, effects."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pipeline.space import Values
from pipeline.study import Report, TrialRecord
from pipeline.wilson import wilson

Z = 1.959964
"""Of a normal distribution, 95 % lie within ± this many standard deviations."""
BINS = 5
"""Into so many a range is cut."""
MOST_WHOLE = 8
"""A range of whole numbers with no more values than this is not cut into bins."""
COSTS = ("seconds", "examples", "flops")
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One key of the space. ``kind``: listed, linear or log; ``names`` of its levels, ascending
    where they are numbers. Levels of a range lie between neighbours of ``edges``."""

    path: str
    label: str
    kind: str
    names: tuple[str, ...]
    edges: tuple[float, ...] = ()

    def level(self, value: Any) -> int | None:
        """Index of the level that a value belongs to; None for a value of no level."""
        if self.kind == "listed":
            name = shown(value)
            return self.names.index(name) if name in self.names else None
        if not known(value):
            return None
        return sum(value >= edge for edge in self.edges[1:-1])


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The trials with equal levels of two keys that have a value; ``best`` is one's number."""

    best: int
    value: float
    count: int
    low: float
    """Least value of its trials."""
    high: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a key's level ``last`` brings against ``first``: the mean over pairs of cells that
    differ in this key only, ``change`` in units of the metric (below 0: a lower value).

    ``interval`` is Student's, 95 %, None with a single pair.
    """

    first: int
    last: int
    change: float
    interval: Interval | None
    pairs: int


def known(value: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def shown(value: Any) -> str:
    """A value of a job file in few characters: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)  # as JSON has it too, but a hundred times for each trial
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False)


def axes(space: Mapping[str, Values], labels: Mapping[str, str]) -> list[Axis]:
    """The keys of a space in their order; a range is cut into equal parts of its scale."""
    return [_axis(path, values, labels.get(path, path)) for path, values in space.items()]


def _axis(path: str, values: Values, label: str) -> Axis:
    if values.listed is not None:
        return _listed(path, values.listed, label)
    whole = values.int_range is not None
    first, last = values.int_range or values.uniform or values.log_uniform or (0, 1)
    if whole and last - first < MOST_WHOLE:
        return _listed(path, range(int(first), int(last) + 1), label)
    last += whole  # the last whole number belongs to a bin as wide as the others
    parts = [place / BINS for place in range(BINS + 1)]
    kind = "log" if values.log_uniform else "linear"
    if kind == "log":
        edges = [first * (last / first) ** part for part in parts]
    else:
        edges = [first + (last - first) * part for part in parts]
    if whole:
        edges = [math.ceil(edge - 1e-9) for edge in edges]
    names = [f"{a}–{b - 1}" if whole else f"{a:.2g}–{b:.2g}" for a, b in pairwise(edges)]
    return Axis(path=path, label=label, kind=kind, names=tuple(names), edges=tuple(edges))


def _listed(path: str, values: Iterable[Any], label: str) -> Axis:
    ordered = list(values)
    if all(map(known, ordered)):
        ordered.sort()
    names = dict.fromkeys(map(shown, ordered))
    return Axis(path=path, label=label, kind="listed", names=tuple(names))


def best_report(trial: TrialRecord, mode: str, last_step: float = math.inf) -> Report | None:
    """The report with the best finite value until a step; the earliest of equals."""
    sign = 1 if mode == "min" else -1
    finite = [r for r in trial.reports if r.step <= last_step and known(r.value)]
    return min(finite, key=lambda report: sign * (report.value or 0.0), default=None)


def reached(trial: TrialRecord, amount: float | None, unit: str, mode: str) -> Report | None:
    """What a trial is compared by: its best report, or with an ``amount`` of examples or seconds
    the first report at or after it, with the best value until then: that of the checkpoint which
    so much training leaves. None if it never came there or had no finite value on the way.
    """
    if amount is None:
        return best_report(trial, mode)
    there = trial.at(amount * (1 - 1e-9), unit)
    if there is None:
        return None
    best = best_report(trial, mode, there.step)
    if best is None or best.value == there.value:
        return best and there
    return replace(there, value=best.value, stderr=best.stderr)


def interval(value: float | None, stderr: float | None, metric: str) -> Interval | None:
    """The 95 % interval of a validation value, None where its standard error is not known.

    An ``error`` is a share of n examples: Wilson's interval, with n from the standard error
    √(p(1−p)/n). All others: ± 1.96 standard errors.
    """
    if value is None or stderr is None or not (known(value) and known(stderr)) or stderr < 0:
        return None
    if metric != "error":
        return (value - Z * stderr, value + Z * stderr)
    if stderr == 0 or not 0 < value < 1:
        return None
    return wilson(value, value * (1 - value) / stderr**2, Z)


def cells(
    rows: Iterable[tuple[int, int | None, int | None, float]], mode: str
) -> dict[tuple[int, int], Cell]:
    """(level of the one key, level of the other) → cell, of (number, level, level, value)."""
    sign = 1 if mode == "min" else -1
    groups: dict[tuple[int, int], list[tuple[float, int, float]]] = {}
    for number, one, other, value in rows:
        if one is not None and other is not None:
            groups.setdefault((one, other), []).append((sign * value, number, value))
    return {
        place: Cell(
            best=min(found)[1],
            value=min(found)[2],
            count=len(found),
            low=min(value for _, _, value in found),
            high=max(value for _, _, value in found),
        )
        for place, found in groups.items()
    }


def front(points: Iterable[tuple[int, float, float]], mode: str) -> list[int]:
    """Numbers of the trials, of (number, cost, value), than which no other is both as cheap and
    as good and in one of them better; cheapest first."""
    sign = 1 if mode == "min" else -1
    best = math.inf
    found: list[int] = []
    for _, value, number in sorted((cost, sign * value, number) for number, cost, value in points):
        if value < best:
            best = value
            found.append(number)
    return found


def importance(groups: Sequence[int | None], values: Sequence[float]) -> float | None:
    """Share of the variance of the trials' ranks that a parameter's levels explain by themselves.

    ε² = (SSB − (k − 1)·MSW) / SST (Kelley 1935) over ranks: what remains of the explained share
    when k levels without any effect are expected to explain nothing. Ranks, so that one trial that
    went astray does not decide it. From 0 to 1; None with one level, or as many levels as trials.
    """
    pairs = [(g, v) for g, v in zip(groups, values, strict=True) if g is not None]
    ranks = _ranks([value for _, value in pairs])
    members: dict[int, list[float]] = {}
    for (group, _), rank in zip(pairs, ranks, strict=True):
        members.setdefault(group, []).append(rank)
    n, k = len(pairs), len(members)
    if k < 2 or n <= k:
        return None
    middle = sum(ranks) / n
    total = sum((rank - middle) ** 2 for rank in ranks)
    if total == 0:
        return 0.0
    means = {group: sum(found) / len(found) for group, found in members.items()}
    within = sum((rank - means[group]) ** 2 for group, found in members.items() for rank in found)
    return max(0.0, (total - within - (k - 1) * within / (n - k)) / total)


def _ranks(values: Sequence[float]) -> list[float]:
    """1 for the least; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, start = [0.0] * len(values), 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + 1 + end) / 2
        start = end
    return ranks


def effect(table: Mapping[tuple[int, int], Cell]) -> Effect | None:
    """What more of the first key brings, its widest step that at least two levels of the other
    key can tell of (one, if there is none); None without any pair of cells."""
    levels = sorted({one for one, _ in table})
    spans = [(b - a, -a, a, b) for a in levels for b in levels if a < b]
    for least in (2, 1):
        for _, _, first, last in sorted(spans, reverse=True):
            shared = sorted({o for one, o in table if one == first and (last, o) in table})
            if len(shared) >= least:
                changes = [table[last, o].value - table[first, o].value for o in shared]
                return _paired(first, last, changes)
    return None


def _paired(first: int, last: int, changes: Sequence[float]) -> Effect:
    from scipy.special import stdtrit

    n = len(changes)
    mean = sum(changes) / n
    around = None
    if n > 1:
        spread = math.sqrt(sum((change - mean) ** 2 for change in changes) / (n - 1) / n)
        half = float(stdtrit(n - 1, 0.975)) * spread
        around = (mean - half, mean + half)
    return Effect(first=first, last=last, change=mean, interval=around, pairs=n)
