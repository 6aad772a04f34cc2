"""Which tick a champion's schedule owes next, from what its last tick wrote down."""

from datetime import UTC, datetime
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.champion import champion_path
from pipeline.retrain_values import Retrain
from pipeline.schedule import due_after
from pipeline.storage import Storage
from pipeline.values import STRICT, to_json

SCHEDULE = "schedule.json"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Schedule:
    """``champions/<name>/schedule.json``, written anew by each tick before anything else.

    Decisions and runs do not hold the schedule, and the whole section is not for a storage that
    others read: the address of a webhook may be as good as a password.
    """

    VERSION: ClassVar[int] = 1

    version: int = 1
    cron: str
    zone: str
    tick: str
    """The newest tick that was started, UTC, ISO 8601."""
    started: str
    """When, UTC, ISO 8601."""


def note(storage: Storage, name: str, section: Retrain, tick: str, now: float) -> None:
    """Writes what ``owed`` needs to know; ``now`` in seconds since the epoch."""
    started = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    schedule = Schedule(cron=section.cron, zone=section.zone, tick=tick, started=started)
    storage.write(f"{champion_path(name)}/{SCHEDULE}", to_json(schedule))


def owed(schedule: Schedule, decided: str | None) -> float | None:
    """When the first tick after the one decided last was or will be due, in seconds since the
    epoch; ``decided`` is that tick, None where no tick has been decided.

    The first and not the newest, so that what is late grows later until a tick is decided. None
    where the line is never due again. Raises ValueError for a time, line or zone that is none.
    """
    if decided is None:
        return moment(schedule.tick)
    following = due_after(schedule.cron, schedule.zone, moment(decided))
    first = next(following, None)
    return first.timestamp() if first else None


def moment(time: str) -> float:
    """Seconds since the epoch of a time as records hold it. Raises ValueError."""
    return datetime.fromisoformat(time).timestamp()
