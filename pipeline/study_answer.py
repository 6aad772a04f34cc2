"""What a study found, in sentences with numbers: the best setting, and what its two keys bring."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.study_stats import (
    Axis,
    Cell,
    Effect,
    Interval,
    best_report,
    effect,
    interval,
    known,
    shown,
)
from pipeline.study_view import StudyView

NOTHING = "No trial has a value yet."


def answer(view: StudyView) -> list[str]:
    """Up to three sentences: which levels of the space's first two keys are best, then what more of
    the first and of the second brings, each with its uncertainty or the reason why it has none."""
    best = _best(view)
    if best == NOTHING:
        return [best]
    one, *others = view.axes[:2]
    if not others:
        return [best, _alone(view, one)]
    return [best, _brings(view, one, others[0]), _brings(view, others[0], one)]


def compare(views: Sequence[StudyView]) -> str:
    """Which study's best trial is better, and whether the two intervals tell them apart."""
    sign = 1 if views[0].search.mode == "min" else -1
    found = []
    for view in views:
        for trial in view.ranked()[:1]:
            report = best_report(trial, view.search.mode)
            if report is not None and report.value is not None:
                found.append((sign * report.value, view, report))
    if len(found) < 2:
        return "There is nothing to compare yet: fewer than two of these studies have a value."
    (_, one, first), (_, other, second) = sorted(found, key=lambda entry: entry[0])[:2]
    metric = one.search.metric
    around = [interval(report.value, report.stderr, metric) for report in (first, second)]
    return (
        f"The best of {one.job.name} has {metric} {value_text(first.value, metric)}, the best of "
        f"{other.job.name} {value_text(second.value, metric)}: {_verdict(*around)}."
    )


def _verdict(one: Interval | None, other: Interval | None) -> str:
    if one is None or other is None:
        return "their intervals are not known"
    apart = one[1] < other[0] or other[1] < one[0]
    return "the intervals lie apart" if apart else "too close to tell them apart"


def value_text(value: float | None, metric: str) -> str:
    """A value of the metric with enough digits; errors in per cent; – for what is no number."""
    if value is None or not known(value):
        return "–"
    if metric == "error":
        return f"{100 * value:.2f} %"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4g}"


def interval_text(found: tuple[float, float] | None, metric: str) -> str:
    """The two ends, or that they are not known."""
    if found is None:
        return "interval not known"
    return f"95 % interval {value_text(found[0], metric)} to {value_text(found[1], metric)}"


def _best(view: StudyView) -> str:
    ranked, metric = view.ranked(), view.search.metric
    if not ranked:
        return NOTHING
    pair = view.axes[:2]

    def setting(number: int) -> str:
        values = ranked[number].values
        return " with ".join(f"{axis.label} = {shown(values.get(axis.path))}" for axis in pair)

    trial = ranked[0]
    report = best_report(trial, view.search.mode)
    assert report is not None
    around = interval(report.value, report.stderr, metric)
    text = (
        f"The best trial has {setting(0)}: {metric} {value_text(report.value, metric)} "
        f"({interval_text(around, metric)}) on validation, trial {trial.number}, after "
        f"{report.examples:,} examples"
    )

    def levels(number: int) -> list[int | None]:
        return [axis.level(ranked[number].values.get(axis.path)) for axis in pair]

    rival = next((i for i in range(1, len(ranked)) if levels(i) != levels(0)), None)
    if rival is None:
        return f"{text}; no other setting of these has a value yet."
    second = best_report(ranked[rival], view.search.mode)
    assert second is not None
    other = interval(second.value, second.stderr, metric)
    return (
        f"{text}; next comes {setting(rival)} with {value_text(second.value, metric)} "
        f"({_verdict(around, other)})."
    )


def _brings(view: StudyView, one: Axis, other: Axis) -> str:
    """At the furthest amount where the key's extreme levels can be compared within two levels of
    the other key; failing that, where they can be in one."""
    tables = [(amount, fair.map(one, other, amount)) for fair, amount in _fair(view)]
    found = [(amount, table, effect(table)) for amount, table in tables]
    known_ones = [(a, t, e) for a, t, e in found if e is not None]
    if not known_ones:
        return (
            f"What {one.label} brings cannot be told yet: no two trials that came equally far "
            f"differ in it and share their {other.label}."
        )
    widest = max(
        range(len(known_ones)),
        key=lambda i: (known_ones[i][2].pairs > 1, _span(known_ones[i][2]), i),
    )
    amount, table, main = known_ones[widest]
    text = (
        f"{_going(one, main)} {_change(view, main)}{_certainty(view, main)}; mean over "
        f"{main.pairs} {'level' if main.pairs == 1 else 'levels'} of {other.label}, the best "
        f"trial of each, {_after(view, amount)}"
    )
    return f"{text}{_last_step(view, one, table, main)}."


def _fair(view: StudyView) -> list[tuple[StudyView, float | None]]:
    """Amounts at which trials are comparable; their own ends only where none is stopped, and only
    of those that are trained in full."""
    amounts: list[tuple[StudyView, float | None]] = [(view, a) for a in view.amounts[1:]]
    if view.search.scheduler.kind != "none":
        return amounts
    finished = [trial for trial in view.trials if trial.status == "finished"]
    return [(replace(view, trials=finished), None), *amounts]


def _span(found: Effect) -> int:
    return found.last - found.first


def _going(axis: Axis, found: Effect) -> str:
    first, last = axis.names[found.first], axis.names[found.last]
    return f"Going from {first} to {last} in {axis.label}"


def _change(view: StudyView, found: Effect) -> str:
    size = abs(found.change)
    if size < 1e-9:
        return f"leaves the {view.search.metric} as it is"
    unit = " points" if view.search.metric == "error" else ""
    verb = "raises" if found.change > 0 else "lowers"
    return f"{verb} the {view.search.metric} by {_size(view, size)}{unit}"


def _size(view: StudyView, size: float) -> str:
    return f"{100 * size:.2f}" if view.search.metric == "error" else f"{size:.3g}"


def _certainty(view: StudyView, found: Effect) -> str:
    if found.interval is None:
        return ", of which the uncertainty is not known"
    low, high = found.interval
    ends = f"95 % interval {_signed(view, low)} to {_signed(view, high)}"
    return f" ({ends})" if low > 0 or high < 0 else f", which may be chance ({ends})"


def _signed(view: StudyView, change: float) -> str:
    return f"{'−' if change < 0 else '+'}{_size(view, abs(change))}"


def _after(view: StudyView, amount: float | None) -> str:
    return "each at its end" if amount is None else f"after {amount:,.0f} {view.unit}"


def _last_step(
    view: StudyView, axis: Axis, table: Mapping[tuple[int, int], Cell], main: Effect
) -> str:
    """What the last of several levels brought against the one before it: whether it levels off."""
    before = {place for place, _ in table if main.first < place < main.last}
    if not before:
        return ""
    pair = (max(before), main.last)
    step = effect({place: cell for place, cell in table.items() if place[0] in pair})
    if step is None:
        return ""
    names = f"{axis.names[step.first]} to {axis.names[step.last]}"
    return f"; its last step, {names}, {_change(view, step)}{_certainty(view, step)}"


def _alone(view: StudyView, axis: Axis) -> str:
    """With a single key there is nothing to pair: the best of each level, as it is."""
    metric, sign = view.search.metric, 1 if view.search.mode == "min" else -1
    bests: dict[int, float] = {}
    amount = max((a for a in view.amounts if a is not None), default=None)
    for trial in view.trials:
        report, level = view.at(trial, amount), axis.level(trial.values.get(axis.path))
        if report is not None and report.value is not None and level is not None:
            bests[level] = min(bests.get(level, math.inf), sign * report.value)
    if len(bests) < 2:
        return f"What {axis.label} brings cannot be told yet: fewer than two levels came that far."
    listed = ", ".join(
        f"{axis.names[level]}: {value_text(sign * bests[level], metric)}" for level in sorted(bests)
    )
    return f"The best {metric} at each {axis.label}, {_after(view, amount)}: {listed}."
