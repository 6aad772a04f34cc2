"""Who may do what must not be done twice: one holder at a time for a folder of a storage.

``<prefix>/000001.json``, ``000002.json``, …: each is made once and never changed, and the highest
number is the present. Its holder renews by making the next number; anybody may make the next one
after the present one has run out. So of two who go for the same number one learns that it lost.
"""

import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.errors import DataError, LeaseError, PipelineError, StorageError
from pipeline.storage import NotFound, Storage
from pipeline.values import STRICT, from_json, to_json

log = logging.getLogger(__name__)
SECONDS = 30.0
"""How long a hold lasts that is not renewed."""
MARGIN = 5.0
"""Seconds by which the clocks of two machines may differ."""
KEPT = 3
"""Numbers that stay: enough that whoever read the newest a moment ago still finds it."""
Clock = Callable[[], float]
Moment = Annotated[float, Field(ge=0, le=1e11)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Hold:
    """One number. Times are seconds since the epoch by the holder's clock; ``until`` is 0 when it
    was given back. ``token`` is the same for all numbers of one hold, and of no other."""

    holder: str
    token: str
    since: Moment
    until: Moment
    seconds: Moment
    """How long it lasts from its writing."""


class Lease:
    """A hold that was won. Its owner looks at ``lost``, and calls ``require`` before what others
    must not do at the same time; ``number`` grows with each renewal and with each new owner."""

    def __init__(self, storage: Storage, prefix: str, number: int, hold: Hold, clock: Clock):
        self.lost = Event()
        """Set once another process holds the lease; that does not change again."""
        self.number = number
        self._storage, self._prefix, self._hold, self._clock = storage, prefix, hold, clock
        self._lock = Lock()

    @property
    def held(self) -> bool:
        """Whether no other process can hold it now. False also while renewals do not get through;
        it is True again when one has."""
        return not self.lost.is_set() and self._clock() < self._hold.until

    def require(self) -> None:
        """Raises LeaseError when another process holds the lease, StorageError when that cannot be
        found out. A process that was paused for longer than the hold lasts learns of it here."""
        if not self.held and not self.lost.is_set():
            self.renew()
        if not self.held:
            held = self._storage.address(self._prefix)
            raise LeaseError(
                f"{held}: taken over by another process while this one ({self._hold.holder}) did "
                "not renew it; nothing more is written here, the other one goes on"
            )

    def renew(self) -> None:
        """Makes the next number, or sets ``lost``. Raises StorageError; the hold then goes on."""
        self._next(self._clock() + self._hold.seconds)

    def release(self) -> None:
        """Makes the next number, one that has already run out: the next owner need not wait."""
        self._next(0.0)

    def _next(self, until: float) -> None:
        with self._lock:
            if self.lost.is_set():
                return
            hold, number = replace(self._hold, until=until), self.number + 1
            while not _create(self._storage, self._prefix, number, hold):
                try:
                    found = _read(self._storage, self._prefix, number)
                except NotFound:  # made by another and, long since, cleaned up by another
                    found = None
                if found is None or found.token != hold.token:
                    self.lost.set()
                    return
                number += 1  # it was ours: the reply to an earlier attempt was lost
            if _superseded(self._storage, self._prefix, number):
                self.lost.set()
                return
            self.number, self._hold = number, hold


@contextmanager
def hold(
    storage: Storage,
    prefix: str,
    *,
    holder: str | None = None,
    seconds: float = SECONDS,
    margin: float = MARGIN,
    wait: bool = False,
    clock: Clock = time.time,
) -> Iterator[Lease]:
    """Takes the lease of the folder ``prefix``, renews it in the background, and gives it back.

    ``holder`` is what others are told; by default the process and its machine. With ``wait``, a
    hold that nobody renews is waited for until it has run out (at most ``seconds`` + ``margin``);
    one that is renewed is refused as soon as that is seen. Raises LeaseError when another process
    holds it, StorageError when the store has no create-once writes.
    """
    storage.preflight().require_create_once()
    lease = _take(storage, prefix, holder or own_name(), seconds, margin, wait, clock)
    over = Event()
    thread = Thread(target=_renewing, args=(lease, seconds / 3, over), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        try:
            lease.release()
        except PipelineError as fault:
            log.warning("%s; the lease is free in %.0f s", fault, seconds + margin)


def own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _take(
    storage: Storage,
    prefix: str,
    holder: str,
    seconds: float,
    margin: float,
    wait: bool,
    clock: Clock,
) -> Lease:
    watched, seen = 0, 0.0
    while True:
        number, present = _present(storage, prefix)
        now = clock()
        if number != watched:
            if present is not None and watched and present.until > now:
                raise _refusal(storage, prefix, present)  # renewed: whoever holds it is alive
            watched, seen = number, now
        # A clock that is far ahead must not hold for longer than a dead holder is watched.
        if present is None or now > min(present.until, seen + present.seconds) + margin:
            own = Hold(holder=holder, token=uuid.uuid4().hex, since=now, until=now + seconds,
                       seconds=seconds)  # fmt: skip
            if _create(storage, prefix, number + 1, own) and not _superseded(
                storage, prefix, number + 1
            ):
                return Lease(storage, prefix, number + 1, own, clock)
        elif not wait:
            raise _refusal(storage, prefix, present)
        else:
            time.sleep(min(0.5, present.seconds / 10))


def _renewing(lease: Lease, every: float, over: Event) -> None:
    failed = False
    while not lease.lost.is_set() and not over.wait(every / 4 if failed else every):
        try:
            lease.renew()
            failed = False
        except PipelineError as fault:
            if not failed:
                log.warning("%s; the lease could not be renewed, trying again", fault)
            failed = True
    if lease.lost.is_set():
        log.error("%s: lost to another process", lease._storage.address(lease._prefix))


def _present(storage: Storage, prefix: str) -> tuple[int, Hold | None]:
    """The highest number and what it says; 0 and None where there is none yet."""
    while numbers := _numbers(storage, prefix):
        try:
            return max(numbers), _read(storage, prefix, max(numbers))
        except NotFound:
            time.sleep(0.05)  # cleaned up since it was listed, so there is a higher one
    return 0, None


def _superseded(storage: Storage, prefix: str, number: int) -> bool:
    """Whether the number just made is not the highest: a process that slept between reading and
    writing may fill the gap of one that was cleaned up. Cleans up, in either case."""
    numbers = _numbers(storage, prefix)
    late = max(numbers, default=0) > number
    old = [number] if late else [one for one in numbers if one <= number - KEPT]
    try:
        storage.delete(*(_key(prefix, one) for one in old))
    except StorageError as fault:
        log.debug("%s; left to the next renewal", fault)
    return late


def _numbers(storage: Storage, prefix: str) -> list[int]:
    names = (entry.key.rsplit("/", 1)[-1] for entry in storage.list(prefix))
    return [int(name[:-5]) for name in names if re.fullmatch(r"[0-9]{6,12}\.json", name)]


def _key(prefix: str, number: int) -> str:
    return f"{prefix}/{number:06d}.json"


def _create(storage: Storage, prefix: str, number: int, hold: Hold) -> bool:
    return storage.create(_key(prefix, number), to_json(hold))


def _read(storage: Storage, prefix: str, number: int) -> Hold:
    key = _key(prefix, number)
    data = storage.read(key)
    try:
        return from_json(Hold, data, storage.address(key))
    except DataError as fault:
        raise DataError(f"{fault}; remove it if nobody is at work here") from None


def _refusal(storage: Storage, prefix: str, present: Hold) -> LeaseError:
    since, until = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        for moment in (present.since, present.until)
    )
    return LeaseError(
        f"{storage.address(prefix)}: held by {present.holder} since {since}, at least until "
        f"{until}; let it end or stop it there, or try again after that time if it has died"
    )
