"""Who is the champion, and every decision that made it so: numbered, immutable, kept for ever.

``champions/<name>/decisions/000001.json``, …: each is made by a create-once write and carries the
state after it, so the highest number alone says who is champion, and there is no pointer to race
for. A decision names the number that it was made upon; of all that were made upon the same one,
exactly one is written.
"""

import re
import uuid
from dataclasses import field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from pipeline.errors import DataError, LeaseError, StorageError
from pipeline.gate import Verdict
from pipeline.lease import own_name
from pipeline.records import read_record, run_path
from pipeline.storage import NotFound, Storage
from pipeline.values import STRICT, from_json, to_json

CHAMPIONS = "champions"
DECISIONS = "decisions"
Kind = Literal["promotion", "keep", "refusal", "skip", "rollback", "pin", "unpin"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Champion:
    """A run that holds the place, and what it was measured on."""

    run: str
    weights_sha256: str
    dataset: str
    """Its data set's folder below the storage's root."""
    test: str
    """Digest of the test examples that challengers are compared on."""
    since: int
    """The number of the decision that put it there."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Seen:
    """What the last challenger was made of; a tick that finds nothing else is skipped."""

    data: str
    """The manifest's content."""
    code: str
    job: str
    """Digest of model, training and how pictures are read."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class State:
    """How things stand after a decision."""

    champion: Champion | None = None
    pinned: bool = False
    """While it is, no tick trains or promotes."""
    seen: Seen | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Decision:
    """One numbered object. Times are UTC, ISO 8601."""

    VERSION: ClassVar[int] = 1

    version: int = 1
    name: str
    number: int
    kind: Kind
    reason: str
    """In words, for a person."""
    at: str
    by: str
    """The process that decided."""
    token: str
    """Of no other decision: tells racers apart."""
    tick: str | None = None
    """The due time that it belongs to; None where a person decided."""
    challenger: str | None = None
    """The run that was put to the gate."""
    trained: tuple[str, ...] = ()
    """All runs of the tick."""
    verdict: Verdict | None = None
    after: State = field(default_factory=State)


NOBODY = Decision(
    name="", number=0, kind="keep", reason="nothing has been decided yet", at="", by="", token=""
)
"""What the first decision is made upon."""


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A decision that cannot be read; ``fault`` names the object."""

    number: int
    fault: str


def champion_path(name: str) -> str:
    return f"{CHAMPIONS}/{name}"


def key_of(name: str, number: int) -> str:
    return f"{champion_path(name)}/{DECISIONS}/{number:06d}.json"


def numbers(storage: Storage, name: str) -> list[int]:
    """Of all decisions, in order."""
    listed = (entry.key.rsplit("/", 1)[-1] for entry in storage.list(
        f"{champion_path(name)}/{DECISIONS}"))  # fmt: skip
    return sorted(int(one[:-5]) for one in listed if re.fullmatch(r"[0-9]{6,9}\.json", one))


def read(storage: Storage, name: str, number: int) -> Decision:
    """Raises DataError for a damaged one, NotFound where there is none."""
    key = key_of(name, number)
    where = storage.address(key)
    decision = from_json(Decision, storage.read(key), where)
    if (decision.name, decision.number) != (name, number):
        raise DataError(
            f"{where}: says that it is decision {decision.number} of {decision.name!r}; it was put "
            "here by hand: move it away"
        )
    return decision


def latest(storage: Storage, name: str) -> Decision:
    """The present: the highest number, ``NOBODY`` where nothing was decided.

    Raises DataError where it is damaged: who is champion is not guessed.
    """
    number = max(numbers(storage, name), default=0)
    try:
        return read(storage, name, number) if number else NOBODY
    except DataError as fault:
        raise DataError(
            f"{fault}; it is the newest decision, so nobody knows the champion: restore it, or "
            "remove it to go back to the one before it"
        ) from None


def history(storage: Storage, name: str) -> list[Decision | Damaged]:
    """All decisions, oldest first; a damaged or missing one is a row too, not an error."""
    found: list[Decision | Damaged] = []
    there = numbers(storage, name)
    for number in range(1, max(there, default=0) + 1):
        try:
            found.append(read(storage, name, number))
        except NotFound:
            fault = f"{storage.address(key_of(name, number))}: missing; restore it"
            found.append(Damaged(number=number, fault=fault))
        except DataError as fault_found:
            found.append(Damaged(number=number, fault=str(fault_found)))
    return found


def decide(
    storage: Storage, name: str, upon: Decision, kind: Kind, reason: str, **values: Any
) -> Decision:
    """Writes the decision that follows ``upon``; ``values`` are more fields of it.

    ``after`` is the state of ``upon`` where it is not given. A champion that this decision puts in
    place is given its number. Raises LeaseError when another process has decided meanwhile: what
    was decided here no longer stands on the present, and nothing is changed.
    """
    number = upon.number + 1
    after: State = values.pop("after", upon.after)
    if after.champion is not None and after.champion != upon.after.champion:
        after = replace(after, champion=replace(after.champion, since=number))
    decision = Decision(
        name=name, number=number, kind=kind, reason=reason, by=own_name(), after=after,
        token=uuid.uuid4().hex,
        at=values.pop("at", None) or datetime.now(UTC).isoformat(timespec="seconds"), **values,
    )  # fmt: skip
    key = key_of(name, number)
    if storage.create(key, to_json(decision)):
        return decision
    other = read(storage, name, number)
    raise LeaseError(
        f"{storage.address(key)}: {other.by} decided first ({other.kind}: {other.reason}), so this "
        f"{kind} was made upon what is no longer the present; nothing was changed, try again"
    )


def known(storage: Storage, name: str) -> Decision:
    """As ``latest``, of a champion that has decisions. Raises StorageError for another name."""
    decision = latest(storage, name)
    if decision is NOBODY:
        names = ", ".join(storage.folders(CHAMPIONS)) or "none"
        raise StorageError(
            f"{storage.address(champion_path(name))}: no decisions; there are: {names}"
        )
    return decision


def require_weights(storage: Storage, champion: Champion) -> None:
    """Raises DataError where the champion's run is gone or has other weights now."""
    record = read_record(storage, champion.run)
    if record.weights_sha256 != champion.weights_sha256:
        raise DataError(
            f"{storage.address(run_path(champion.run))}: its weights are not those that were "
            "promoted; restore them"
        )
