"""Which run a job starts from, where it names one loosely."""

from dataclasses import replace

from pipeline.errors import StorageError
from pipeline.job import Job
from pipeline.records import RECORD, read_record, run_path
from pipeline.storage import Storage


def with_start(job: Job, storage: Storage) -> Job:
    """The job with the whole id of the run that it starts from, and the sha256 of its weights.

    ``start.run`` is an id, the name of a job, or the beginning of an id; the last two mean a
    finished run that is not the job's own. Raises StorageError where there is none or more than
    one, DataError for an id of an unfinished one.
    """
    if job.start is None or job.start.run is None:
        return job
    run = _meant(job.start.run, job.name, storage)
    weights = job.start.weights_sha256 or read_record(storage, run).weights_sha256
    return replace(job, start=replace(job.start, run=run, weights_sha256=weights))


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
