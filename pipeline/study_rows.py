"""What the scripts of a study's page know: its trials as JSON values, already compared."""

import math
from collections.abc import Sequence
from typing import Any

from pipeline.space import Values
from pipeline.study import Report, TrialRecord
from pipeline.study_stats import (
    COSTS,
    Axis,
    axes,
    best_report,
    front,
    importance,
    interval,
    known,
)  # fmt: skip
from pipeline.study_view import StudyView, cost, labels

MOST_REPORTS = 60_000
"""So many reports are inside a page; with more, only the best trials bring their curves."""


def page_data(views: Sequence[StudyView]) -> dict[str, Any]:
    """All that the page's scripts know, as JSON values without NaN.

    A trial's ``at`` holds, for every place of comparison, [value, low, high, examples, seconds] or
    None; its ``levels`` are indices into the names of each key, −1 for none.
    """
    space = _common_space(views)
    shared = axes(space, labels(space))
    places = max(len(view.amounts) for view in views)
    studies = [_study(view, shared, places) for view in views]
    return {
        "compare": len(views) > 1,
        "metric": views[0].search.metric,
        "mode": views[0].search.mode,
        "studies": studies,
        "keys": [_key(axis) for axis in shared],
        "places": _places(views),
        "costs": list(COSTS),
        "trials": [row for i, view in enumerate(views) for row in _rows(view, i, shared, places)],
    }


def _common_space(views: Sequence[StudyView]) -> dict[str, Values]:
    """Every key of the studies; where they disagree, levels or a range that hold both."""
    found: dict[str, list[Values]] = {}
    for view in views:
        for path, values in view.search.space.items():
            found.setdefault(path, []).append(values)
    return {path: _joined(values) for path, values in found.items()}


def _joined(found: Sequence[Values]) -> Values:
    lists = [values.listed for values in found]
    if all(one is not None for one in lists):
        return Values(choice=[value for one in lists for value in one or ()])
    ends = [float(end) for values in found for end in values.corners if known(end)]
    if len(found) == 1 or min(ends) == max(ends):
        return found[0]
    logarithmic = any(values.log_uniform for values in found) and min(ends) > 0
    around = [min(ends), max(ends)]
    return Values(log_uniform=around) if logarithmic else Values(uniform=around)


def _key(axis: Axis) -> dict[str, Any]:
    return {
        "path": axis.path,
        "label": axis.label,
        "kind": axis.kind,
        "names": list(axis.names),
        "edges": list(axis.edges),
    }


def _places(views: Sequence[StudyView]) -> list[str]:
    """What each place of comparison is called."""
    most = max(views, key=lambda view: len(view.amounts))
    titles = ["each trial so far, its best value"]
    for place in range(1, len(most.amounts)):
        found = {
            f"{view.amounts[place]:,.0f} {view.unit}" for view in views if place < len(view.amounts)
        }
        last = place == len(most.amounts) - 1
        titles.append(f"{'full length' if last else f'rung {place}'}: {' / '.join(sorted(found))}")
    return titles


def _study(view: StudyView, shared: Sequence[Axis], places: int) -> dict[str, Any]:
    """A study's importance [place][key] and fronts [place][cost], and what it is."""
    amounts = _padded(view, places)
    reports = [[(t, r) for t in view.trials if (r := _at(view, t, amount))] for amount in amounts]
    return {
        "id": view.id,
        "name": view.job.name,
        "unit": view.unit,
        "rungs": [_finite(rung) for rung in view.rungs],
        "full": _finite(view.full),
        "importance": [
            [
                _finite(
                    importance(
                        [axis.level(t.values.get(axis.path)) for t, _ in found],
                        [r.value or 0.0 for _, r in found],
                    )
                )
                for axis in shared
            ]
            for found in reports
        ],
        "fronts": [
            {
                unit: front(
                    [
                        (t.number, spent, r.value or 0.0)
                        for t, r in found
                        if (spent := cost(t, r, unit)) is not None
                    ],
                    view.search.mode,
                )
                for unit in COSTS
            }
            for found in reports
        ],
    }


def _padded(view: StudyView, places: int) -> list[float | None]:
    """The study's amounts, the last again where another study has more of them."""
    amounts = view.amounts
    return [*amounts, *[math.inf] * (places - len(amounts))]


def _at(view: StudyView, trial: TrialRecord, amount: float | None) -> Report | None:
    return None if amount == math.inf else view.at(trial, amount)


def _rows(view: StudyView, study: int, shared: Sequence[Axis], places: int) -> list[dict[str, Any]]:
    total = sum(len(trial.reports) for trial in view.trials)
    share = len(view.trials) if total <= MOST_REPORTS else MOST_REPORTS * len(view.trials) // total
    drawn = {trial.number for trial in view.ranked()[:share]} if total > MOST_REPORTS else None
    amounts = _padded(view, places)
    return [
        _row(view, trial, study, shared, amounts, drawn is None or trial.number in drawn)
        for trial in view.trials
    ]


def _row(
    view: StudyView,
    trial: TrialRecord,
    study: int,
    shared: Sequence[Axis],
    amounts: Sequence[float | None],
    drawn: bool,
) -> dict[str, Any]:
    metric = view.search.metric
    best = best_report(trial, view.search.mode)
    levels = [axis.level(trial.values.get(axis.path)) for axis in shared]
    test = interval(trial.test, trial.test_stderr, metric)
    return {
        "study": study,
        "number": trial.number,
        "status": trial.status,
        "reason": trial.reason,
        "seed": trial.seed,
        "run": trial.run,
        "page": trial.number in view.pages,
        "values": [_finite(trial.values.get(axis.path)) for axis in shared],
        "levels": [-1 if level is None else level for level in levels],
        "at": [_compared(_at(view, trial, amount), metric) for amount in amounts],
        "examples": trial.examples,
        "seconds": _finite(trial.seconds),
        "epoch": _finite(trial.reports[-1].epoch) if trial.reports else None,
        "crashes": trial.crashes,
        "parameters": trial.parameters,
        "flops": _finite(trial.flops_an_example),
        "test": _finite(trial.test),
        "test_interval": None if test is None else [_finite(end) for end in test],
        "clock": [
            _finite(moment)
            for moment in (trial.clock.decided, trial.clock.first_step, trial.clock.last_step,
                           trial.clock.over)
        ],
        "terms": _finite(best.terms) if best else {},
        "curve": [
            [r.examples, _finite(round(r.seconds, 2)), _finite(r.value)] for r in trial.reports
        ]
        if drawn
        else None,
    }  # fmt: skip


def _compared(report: Report | None, metric: str) -> list[float | None] | None:
    if report is None:
        return None
    around = interval(report.value, report.stderr, metric) or (None, None)
    found = (report.value, *around, report.examples, report.seconds)
    return [_finite(value) for value in found]


def _finite(value: Any) -> Any:
    """The same value with None in the place of every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
