"""When a job is due: a cron line in a time zone, also on the days when clocks are changed.

A time that a spring night leaves out is due at the end of the gap; one that an autumn night has
twice is due at its first coming. Lines that run every hour or oftener follow the sun instead, as
Debian's cron does. What was missed while nobody looked is due once, not once a time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = ("minute", "hour", "day of month", "month", "day of week")
BACK = (1 / 24, 1.0, 8.0, 32.0, 366.0, 9 * 366.0)
"""Days looked back for the last due time, the shortest first; 29 February may be 8 years away."""


def check_cron(line: str) -> None:
    """Raises ValueError for a line that not all schedulers read alike, or that is never due."""
    parts = line.split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"cron is {line!r}, {len(parts)} fields; write five: {', '.join(FIELDS)}")
    for name, part in zip(FIELDS, parts, strict=True):
        if set(part.upper()) - set("0123456789*,-/ABCDEFGHIJKLMNOPRSTUVWY"):
            raise ValueError(f"cron is {line!r}: {name} {part!r} has characters no field has")
    if parts[2] != "*" and parts[4] != "*":
        raise ValueError(
            f"cron is {line!r}: day of month and day of week are both given, and schedulers "
            "differ on what that means; write * for one of them"
        )
    if parts[2].upper().startswith("L") or parts[4].upper().endswith("L") or "7" in parts[4]:
        raise ValueError(f"cron is {line!r}: L, and 7 for Sunday, are not known everywhere; write "
                         "a number, and 0 for Sunday")  # fmt: skip
    try:
        next(CronSim(line, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as fault:
        wrong = str(fault).removeprefix("Bad ").replace("-", " ")
        raise ValueError(f"cron is {line!r}: no such {wrong}; see man 5 crontab") from None
    except StopIteration:
        raise ValueError(f"cron is {line!r}: never due; such a day does not exist") from None


def fields_of(line: str) -> list[list[int]]:
    """Minutes, hours, days, months and days of the week (0 is Sunday) of a good line, in order."""
    read = CronSim(line, datetime(2024, 1, 1, tzinfo=UTC))
    fields = [read.minutes, read.hours, read.days, read.months]
    weekdays = sorted({day % 7 for day in read.weekdays if isinstance(day, int)})
    return [*(sorted(field) for field in fields), weekdays]


def check_zone(zone: str) -> None:
    """Raises ValueError for a name that is no time zone."""
    try:
        ZoneInfo(zone)
    except (ValueError, OSError) as fault:  # ZoneInfoNotFoundError is a KeyError
        raise _unknown(zone) from fault
    except KeyError:
        raise _unknown(zone) from None


def _unknown(zone: str) -> ValueError:
    return ValueError(f"zone is {zone!r}, no time zone; write one such as Europe/Berlin or UTC")


def due_after(line: str, zone: str, moment: float) -> Iterator[datetime]:
    """The times after ``moment`` (seconds since the epoch) at which the line is due, in its zone,
    each once and in order."""
    last = datetime.fromtimestamp(moment, UTC)
    for time in CronSim(line, last.astimezone(ZoneInfo(zone))):
        # Two lines of one gap both fall on its end: due once.
        if time.astimezone(UTC) > last:
            last = time.astimezone(UTC)
            yield time


def last_due(line: str, zone: str, now: float) -> datetime | None:
    """The newest time up to ``now`` at which the line was due, in its zone: the tick that is to be
    done, however many were missed. None if there was none in nine years."""
    for days in BACK:
        found = None
        for time in due_after(line, zone, now - timedelta(days=days).total_seconds()):
            if time.timestamp() > now:
                break
            found = time
        if found:
            return found
    return None


def utc(time: datetime) -> str:
    """A time as ticks are named: UTC, ISO 8601, to the second."""
    return time.astimezone(UTC).isoformat(timespec="seconds")
