"""The runs whose weights a run went on from."""

from pipeline.errors import DataError
from pipeline.records import RunRecord, read_record
from pipeline.storage import Storage


def started_from(record: RunRecord) -> str | None:
    """The id of the run whose weights this one began with; None where it began afresh."""
    start: str | None = (record.job.get("start") or {}).get("run")
    return start


def lineage(storage: Storage, record: RunRecord) -> tuple[list[RunRecord], str | None]:
    """``record``, the run that it started from, what that one started from, and so on.

    Second, the id of a run whose record is not there or not readable; None where all are: then the
    last of the list began afresh.
    """
    line, known = [record], {record.id}
    while (start := started_from(line[-1])) and start not in known:
        known.add(start)
        try:
            line.append(read_record(storage, start))
        except DataError:
            return line, start
    return line, None
