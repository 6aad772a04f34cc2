"""Which checkpoints of a champion's line are no longer needed, and their removal."""

from dataclasses import dataclass

from pipeline.champion import Decision, history, latest
from pipeline.records import CHECKPOINTS, RECORD, run_path
from pipeline.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Old:
    """The checkpoints of one run."""

    run: str
    keys: tuple[str, ...]
    bytes: int


def old_checkpoints(storage: Storage, name: str, keep: int) -> list[Old]:
    """Those of complete runs that decisions name, but for the ``keep`` newest and the champion.

    Weights, records, metrics and pages are no checkpoints and stay. Raises DataError where the
    champion is not known: then nothing may go.
    """
    champion = latest(storage, name).after.champion
    rows = [row for row in history(storage, name) if isinstance(row, Decision)]
    runs = list(dict.fromkeys(run for row in reversed(rows) for run in row.trained))
    safe = {*runs[:keep], *([champion.run] if champion else [])}
    found = []
    for run in runs:
        if run in safe or not storage.exists(f"{run_path(run)}/{RECORD}"):
            continue
        entries = list(storage.list(f"{run_path(run)}/{CHECKPOINTS}"))
        if entries:
            keys = tuple(entry.key for entry in entries)
            found.append(Old(run=run, keys=keys, bytes=sum(entry.bytes for entry in entries)))
    return found


def remove(storage: Storage, old: list[Old]) -> None:
    """The commits of checkpoints go with them; one that was cut off here is found again."""
    for one in old:
        storage.delete(*one.keys)
