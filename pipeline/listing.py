"""What a storage holds: its runs, their metrics and attempts, its data sets, damaged ones too."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import checkpoint
from pipeline.ending import ENDING, Ending
from pipeline.errors import DataError, PipelineError, StorageError
from pipeline.manifest import Manifest
from pipeline.records import ATTEMPTS, CHECKPOINTS, JOB, METRICS, PAGE, RECORD, RunRecord, run_path
from pipeline.storage import NotFound, Storage
from pipeline.study import STUDIES, STUDY, best_trial, read_study_job, read_trials, study_path
from pipeline.values import from_json


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run in the list. ``when``: finished, or last written to (UTC, ISO 8601).

    ``status`` is complete; damaged (its record cannot be read); stopped or failed, with the
    ``reason`` that it left; or unfinished: it trains, or was killed. ``step`` is that of the last
    checkpoint. Loss in nats per example, of the test split.
    """

    id: str
    status: str
    page: bool
    when: str
    name: str = ""
    loss: float | None = None
    stderr: float | None = None
    nats_per_dimension: float | None = None
    dataset: str = ""
    binarisation: str = ""
    likelihood: str = ""
    error: float | None = None
    target: str = ""
    epochs: float | None = None
    examples_per_second: float | None = None
    step: int | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One search in the list. ``best`` is the best value of ``metric`` on validation; ``trials``
    are known ``of`` those wanted. ``status`` is complete, unfinished or damaged."""

    id: str
    status: str
    page: bool
    name: str = ""
    trials: int = 0
    of: int = 0
    metric: str = ""
    best: float | None = None


def list_studies(storage: Storage) -> list[StudyRow]:
    """All searches of a storage by id; a damaged one is a row too."""
    return [_study_row(storage, study) for study in storage.folders(STUDIES)]


def list_runs(storage: Storage) -> list[RunRow]:
    """All runs of a storage, newest first; a damaged record is a row too, not an error."""
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda run_id: _row(storage, run_id), storage.folders("runs")))
    return sorted(rows, key=lambda row: (row.when, row.id), reverse=True)


def list_datasets(storage: Storage) -> dict[str, Manifest | None]:
    """Path → manifest, None for a damaged one; a data set without one does not exist."""
    found: dict[str, Manifest | None] = {}
    for name in storage.folders("datasets"):
        for id in storage.folders(f"datasets/{name}"):
            key = f"datasets/{name}/{id}/manifest.json"
            data = read_optional(storage, key)
            if data is None:
                continue
            try:
                found[f"{name}/{id}"] = from_json(Manifest, data, storage.address(key))
            except DataError:
                found[f"{name}/{id}"] = None
    return found


def read_metrics(storage: Storage, run_id: str) -> dict[str, pa.Table]:
    """``train`` and ``validation``: all parts together, by step, the last row of each step.

    Raises DataError that names a part which is not Parquet or does not fit the others.
    """
    folder = f"{run_path(run_id)}/{METRICS}"
    parts: dict[str, list[pa.Table]] = {"train": [], "validation": []}
    for key in sorted(entry.key for entry in storage.list(folder)):
        kind, _, name = key.rsplit("/", 1)[-1].partition("-")
        if kind in parts and name.endswith(".parquet"):
            parts[kind].append(_part(storage, key))
    where = storage.address(folder)
    return {kind: _joined(tables, where) for kind, tables in parts.items() if tables}


def read_attempts(storage: Storage, run_id: str) -> list[dict[str, Any]]:
    """When, from which step and on what training was (re)started; None for what is not known."""
    run = storage.below(run_path(run_id))
    return [_attempt(run, entry.key) for entry in run.list(ATTEMPTS)]


def whole_id(storage: Storage, folder: str, wanted: str) -> str:
    """The one id in ``runs`` or ``studies`` that is this, or begins so.

    Raises StorageError where it is none, or could be several.
    """
    ids = storage.folders(folder)
    matching = [wanted] * (wanted in ids) or [one for one in ids if one.startswith(wanted)]
    if len(matching) != 1:
        there = ", ".join(matching or ids) or "none"
        raise StorageError(
            f"{storage.address(folder)}: {len(matching)} {folder} begin with {wanted!r}; "
            f"name one of: {there}"
        )
    return matching[0]


def read_optional(storage: Storage, key: str) -> bytes | None:
    """The object, or None where there is none."""
    try:
        return storage.read(key)
    except NotFound:
        return None


def _study_row(storage: Storage, study: str) -> StudyRow:
    home = storage.below(study_path(study))
    page = home.exists(PAGE)
    try:
        job, trials = read_study_job(home), read_trials(home)
    except PipelineError:
        return StudyRow(id=study, status="damaged", page=page)
    assert job.search is not None
    best = best_trial(trials, job.search.mode)
    report = best.best(job.search.mode) if best else None
    return StudyRow(
        id=study,
        status="complete" if home.exists(STUDY) else "unfinished",
        page=page,
        name=job.name,
        trials=len(trials),
        of=job.search.total,
        metric=job.search.metric,
        best=report.value if report else None,
    )


def _row(storage: Storage, run_id: str) -> RunRow:
    run = storage.below(run_path(run_id))
    data, page = read_optional(run, RECORD), run.exists(PAGE)
    try:
        record = None if data is None else from_json(RunRecord, data, run.address(RECORD))
    except DataError:
        return RunRow(id=run_id, status="damaged", page=page, when=_last_written(run))
    if record is None:
        return _without_record(run, run_id, page)
    test = record.results.get("test")
    return RunRow(
        id=run_id,
        status="complete",
        page=page,
        when=record.finished,
        name=record.name,
        loss=test.loss if test else None,
        stderr=test.stderr if test else None,
        nats_per_dimension=test.nats_per_dimension if test else None,
        dataset=record.dataset.removeprefix("datasets/"),
        binarisation=test.binarisation if test else "",
        likelihood=test.likelihood if test else "",
        error=test.error if test else None,
        target=test.target if test else "",
        epochs=record.epochs,
        examples_per_second=record.examples_per_second,
    )


def _without_record(run: Storage, run_id: str, page: bool) -> RunRow:
    times = {entry.key: entry.modified for entry in run.list()}
    goes_on = [at for key, at in times.items() if key.split("/")[0] in (ATTEMPTS, CHECKPOINTS, JOB)]
    status, reason = "unfinished", ""
    if times.get(ENDING, -1.0) >= max(goes_on, default=0.0):
        with suppress(DataError, NotFound):  # a damaged one says no more than none
            ending = from_json(Ending, run.read(ENDING), run.address(ENDING))
            status, reason = ending.status, ending.reason
    return RunRow(
        id=run_id, status=status, reason=reason, page=page,
        when=_when(max(times.values(), default=0.0)), step=max(checkpoint.steps(run), default=None),
    )  # fmt: skip


def _last_written(run: Storage) -> str:
    return _when(max((entry.modified for entry in run.list()), default=0.0))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _attempt(run: Storage, key: str) -> dict[str, Any]:
    fields = ("started", "from_step", "workers", "device")
    try:
        entry = json.loads(run.read(key))
        return {name: entry.get(name) for name in fields}
    except (ValueError, AttributeError):
        return dict.fromkeys(fields)


def _part(storage: Storage, key: str) -> pa.Table:
    data = storage.read(key)
    try:
        # Parts are small. Arrow's thread pools, started for them, abort one process in five that
        # ends right after (exit code 134, pyarrow 26.0).
        table = pq.read_table(BytesIO(data), use_threads=False, pre_buffer=False)
        table["step"].cast(pa.int64())
    except (pa.ArrowException, OSError, ValueError, KeyError) as fault:
        reason = str(fault).splitlines()[0]
        raise DataError(
            f"{storage.address(key)}: no Parquet with a column step ({reason}); remove the object"
        ) from None
    return table


def _joined(parts: Sequence[pa.Table], where: str) -> pa.Table:
    try:
        table = pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as fault:
        reason = str(fault).splitlines()[0]
        raise DataError(f"{where}: parts do not fit together ({reason}); remove one") from None
    steps = table["step"].to_numpy()
    order = np.argsort(steps, kind="stable")
    last = np.append(np.diff(steps[order]) != 0, True)[: len(order)]
    return table.take(pa.array(order[last]))
