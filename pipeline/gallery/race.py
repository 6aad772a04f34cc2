"""Several runs beside each other: how their validations went."""

from collections.abc import Sequence

from pipeline.curve_pictures import Racer, race_png
from pipeline.datasets import MANIFEST
from pipeline.errors import JobError
from pipeline.manifest import Manifest
from pipeline.records import RunRecord, read_record
from pipeline.storage import Storage
from pipeline.validations import validations
from pipeline.values import from_json


def race(storage: Storage, runs: Sequence[str]) -> dict[str, bytes]:
    """``race.png``: error, or loss, over examples and over time, of these runs; raises JobError
    where their numbers are not of one kind, DataError for a run without a validation."""
    found, unit = racers(storage, runs)
    return {"race.png": race_png(found, unit)}


def racers(storage: Storage, runs: Sequence[str]) -> tuple[list[Racer], str]:
    """What ``race`` draws, and its unit."""
    records = [read_record(storage, run) for run in dict.fromkeys(runs)]
    if len(records) < 2:
        raise JobError(f"--race {records[0].id}: that is the run itself; name another")
    kinds = [_kind(storage, record) for record in records]
    for record, kind in zip(records[1:], kinds[1:], strict=True):
        for name, value in kind.items():
            if value != kinds[0][name]:
                raise JobError(
                    f"{record.id}: its {name} is {value}, that of {records[0].id} "
                    f"{kinds[0][name]}; numbers of different kinds are not compared"
                )
    first = records[0].results["val"]
    if first.likelihood == "adversarial":
        raise JobError(f"{records[0].id}: a game's losses tell of no progress; none to race")
    answers = all(record.results["val"].error is not None for record in records)
    made = []
    for record in records:
        name = "correct" if answers else "loss"
        hours, values, examples = validations(storage, record.id, name, "examples")
        made.append(Racer(record.id, examples, hours, 100 * (1 - values) if answers else values))
    return made, "wrong answers on validation (%)" if answers else "validation (nats per example)"


def _kind(storage: Storage, record: RunRecord) -> dict[str, str]:
    """What makes the numbers of two runs comparable: the target, and the very examples."""
    key = f"{record.dataset}/{MANIFEST}"
    manifest = from_json(Manifest, storage.read(key), storage.address(key))
    shards = ", ".join(shard.sha256[:12] for shard in manifest.of("val"))
    return {"target": record.results["val"].target, "validation set": shards}
