"""Which run a job starts from, where it names one loosely."""

from dataclasses import replace

from pipeline.job import Job
from pipeline.listing import whole_id
from pipeline.records import read_record
from pipeline.storage import Storage


def with_start(job: Job, storage: Storage) -> Job:
    """The job with the whole id of the run that it starts from, and the sha256 of its weights.

    Raises StorageError where no run, or more than one, is meant; DataError for an unfinished one.
    """
    if job.start is None or job.start.run is None or job.start.weights_sha256 is not None:
        return job
    run = whole_id(storage, "runs", job.start.run)
    weights = read_record(storage, run).weights_sha256
    return replace(job, start=replace(job.start, run=run, weights_sha256=weights))
