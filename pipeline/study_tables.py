"""A study as tables: one row a trial, one row a report, in the formats that all tools read."""

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO, StringIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.space import Search, Values
from pipeline.study import TrialRecord
from pipeline.study_stats import best_report, known

TRIALS, REPORTS = "trials", "reports.parquet"
TIME = pa.timestamp("ms", tz="UTC")
FORMULA = ("=", "+", "-", "@", "\t")
"""What a spreadsheet takes for a formula at the beginning of a text."""
Typed = tuple[pa.DataType, list[Any]]


def tables(job: Job, trials: Sequence[TrialRecord]) -> dict[str, bytes]:
    """``trials.csv``, ``.json`` and ``.parquet``, one row a trial, and ``reports.parquet``.

    Columns have one type each; lists among the values are JSON texts; numbers that are not finite
    are empty cells, null. Times are UTC. In the CSV a text that a spreadsheet would take for a
    formula has an apostrophe before it. ``best`` is the metric's best validation, ``flops`` all of
    training: those of an example × examples.
    """
    assert job.search is not None
    table = _table(_trial_columns(job.search, trials))
    rows = [
        {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
        for row in table.to_pylist()
    ]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows([_harmless(cell) for cell in row.values()] for row in rows)
    return {
        f"{TRIALS}.csv": text.getvalue().encode(),
        f"{TRIALS}.json": (json.dumps(rows, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        f"{TRIALS}.parquet": _parquet(table),
        REPORTS: _parquet(_table(_report_columns(trials))),
    }


def ended(trial: TrialRecord) -> float:
    """When a trial was over, or what is known next to that, in seconds since the epoch."""
    return trial.clock.over or trial.clock.last_step or trial.clock.decided


def _trial_columns(search: Search, trials: Sequence[TrialRecord]) -> dict[str, Typed]:
    bests = [best_report(trial, search.mode) for trial in trials]
    flops = [t.flops_an_example * t.examples if t.flops_an_example else None for t in trials]
    clocks = [trial.clock for trial in trials]
    return {
        "number": (pa.int64(), [t.number for t in trials]),
        "status": (pa.string(), [t.status for t in trials]),
        "reason": (pa.string(), [t.reason for t in trials]),
        "seed": (pa.int64(), [t.seed for t in trials]),
        **{
            key: column(values, [trial.values.get(key) for trial in trials])
            for key, values in search.space.items()
        },
        "metric": (pa.string(), [search.metric for _ in trials]),
        "best": (pa.float64(), [best and best.value for best in bests]),
        "stderr": (pa.float64(), [best and best.stderr for best in bests]),
        "best_step": (pa.int64(), [best and best.step for best in bests]),
        "examples": (pa.int64(), [t.examples for t in trials]),
        "seconds": (pa.float64(), [t.seconds for t in trials]),
        "flops": (pa.float64(), flops),
        "parameters": (pa.int64(), [t.parameters for t in trials]),
        "test": (pa.float64(), [t.test for t in trials]),
        "test_stderr": (pa.float64(), [t.test_stderr for t in trials]),
        "run": (pa.string(), [t.run for t in trials]),
        "crashes": (pa.int64(), [t.crashes for t in trials]),
        "decided": (TIME, [c.decided for c in clocks]),
        "first_step": (TIME, [c.first_step for c in clocks]),
        "last_step": (TIME, [c.last_step for c in clocks]),
        "over": (TIME, [c.over for c in clocks]),
    }


def _report_columns(trials: Sequence[TrialRecord]) -> dict[str, Typed]:
    reports = [(trial.number, report) for trial in trials for report in trial.reports]
    terms = sorted({name for _, report in reports for name in report.terms})
    return {
        "number": (pa.int64(), [number for number, _ in reports]),
        "step": (pa.int64(), [r.step for _, r in reports]),
        "epoch": (pa.float64(), [r.epoch for _, r in reports]),
        "examples": (pa.int64(), [r.examples for _, r in reports]),
        "seconds": (pa.float64(), [r.seconds for _, r in reports]),
        "value": (pa.float64(), [r.value for _, r in reports]),
        "stderr": (pa.float64(), [r.stderr for _, r in reports]),
        "time": (TIME, [r.time for _, r in reports]),
        **{f"terms.{n}": (pa.float64(), [r.terms.get(n) for _, r in reports]) for n in terms},
    }


def column(values: Values, found: list[Any]) -> Typed:
    """The narrowest type for all that a key may be; JSON texts where there is none."""
    kinds = {type(one) for one in (*values.corners, *found) if one is not None}
    plain: dict[type, pa.DataType] = {
        bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()
    }  # fmt: skip
    if kinds == {int, float}:
        return pa.float64(), found
    if len(kinds) == 1 and (kind := kinds.pop()) in plain:
        return plain[kind], found
    return pa.string(), [None if one is None else json.dumps(one, sort_keys=True) for one in found]


def _table(columns: dict[str, Typed]) -> pa.Table:
    made = {}
    for name, (kind, found) in columns.items():
        if kind == pa.float64():
            found = [float(one) if known(one) else None for one in found]
        elif kind == TIME:  # what no calendar holds is left out
            found = [round(t * 1000) if known(t) and 0 <= t <= 1e11 else None for t in found]
        try:
            made[name] = pa.array(found, kind)
        except (pa.ArrowException, OverflowError) as fault:
            reason = str(fault).splitlines()[0]
            raise DataError(
                f"column {name} of the trials does not fit {kind} ({reason}); remove the record "
                "that says so, its trial is then made again"
            ) from None
    return pa.table(made)


def _parquet(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r\n", "\n").replace("\r", "\n")  # a lone one would end the row
    return f"'{cell}" if cell.lstrip(" \n").startswith(FORMULA) else cell
