"""The runs whose weights a run went on from."""

from pipeline.errors import DataError
from pipeline.records import RunRecord, read_record
from pipeline.storage import Storage


def started_from(record: RunRecord) -> list[tuple[str, int | None]]:
    """The runs whose weights, or their mean, this one began with; none: afresh.

    Of each its id and the step of the checkpoint, or None for what the run published.
    """
    start = record.job.get("start") or {}
    all = [start, *start.get("also", [])] if start.get("run") else []
    return [(of["run"], of.get("step")) for of in all]


def lineage(
    storage: Storage, record: RunRecord, *, first: bool = False
) -> tuple[list[RunRecord], str | None]:
    """``record``, the runs that it started from, what those started from, and so on, each once.

    ``first`` leaves out what other runs than the first put into a mean. Second, the id of a run
    whose record is not there or not readable; None where all are: then all that began afresh is in
    the list.
    """
    line, known, lost = [record], {record.id}, None
    for one in line:  # grows as it goes
        for start, _ in started_from(one)[: 1 if first else None]:
            if start in known:
                continue
            known.add(start)
            try:
                line.append(read_record(storage, start))
            except DataError:
                lost = start
    return line, lost
