"""Which runs a job starts from, where it names them loosely."""

from dataclasses import replace
from hashlib import sha256

from pipeline import checkpoint
from pipeline.errors import JobError, StorageError
from pipeline.job import Job, deciding
from pipeline.records import RECORD, RunRecord, read_record, run_path
from pipeline.retrain_values import Weights
from pipeline.storage import Storage
from pipeline.values import to_plain

MAY_DIFFER = ("steps", "glimpses", "window_init", "window_sigma", "window_limit", "zoom_to")
"""Fields of a model whose weights mean the same with any value of them."""


def with_start(job: Job, storage: Storage) -> Job:
    """The job with the whole ids of the runs that it starts from, and the sha256 of their weights.

    A run's name is an id, the name of a job, or the beginning of an id; the last two mean a
    finished run that is not the job's own. Raises StorageError where there is none or more than
    one, or no checkpoint at the step that is named; DataError for an id of an unfinished one,
    JobError where its weights would mean something else in the job's model.
    """
    if job.start is None or job.start.run is None:
        return job
    first, *also = (_found(job, of, storage) for of in job.start.weights)
    start = replace(job.start, run=first.run, weights_sha256=first.weights_sha256, also=also)
    return replace(job, start=start)


def _found(job: Job, of: Weights, storage: Storage) -> Weights:
    run = _meant(of.run, job.name, storage)
    record = read_record(storage, run)
    _check_model(job, record)
    found = record.weights_sha256 if of.step is None else _of_step(storage, run, of.step)
    return replace(of, run=run, weights_sha256=of.weights_sha256 or found)


def _of_step(storage: Storage, run: str, step: int) -> str:
    """The sha256 of the weights in a run's checkpoint."""
    home = storage.below(run_path(run))
    if step not in (there := checkpoint.steps(home)):
        raise StorageError(
            f"{home.address(checkpoint.folder(step))}: start.step {step} is no checkpoint; name "
            f"one of: {', '.join(map(str, there)) or 'none'}"
        )
    return sha256(checkpoint.read(home, step)[checkpoint.MODEL]).hexdigest()


def _meant(wanted: str, own: str, storage: Storage) -> str:
    there = storage.folders("runs")
    if wanted in there:
        return wanted
    begin = [one for one in there if one.startswith(wanted) and one.rpartition("-")[0] != own]
    named = [one for one in begin if one.rpartition("-")[0] == wanted]
    meant = [one for one in named or begin if storage.exists(f"{run_path(one)}/{RECORD}")]
    if len(meant) != 1:
        raise StorageError(
            f"{storage.address('runs')}: start.run {wanted} is {len(meant)} finished runs; name "
            f"one of: {', '.join(meant or there) or 'none'}"
        )
    return meant[0]


def _check_model(job: Job, record: RunRecord) -> None:
    here = deciding("model", to_plain(job.model))
    there = deciding("model", record.job["model"])
    for name in sorted(here.keys() | there.keys()):
        if name not in MAY_DIFFER and here.get(name) != there.get(name):
            shown = [one.get(name, "as by default") for one in (there, here)]
            raise JobError(
                f"start.run {record.id}: its model.{name} is {shown[0]}, here {shown[1]}; weights "
                "mean the same only in the same model, give both one value"
            )
