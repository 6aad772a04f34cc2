"""What a whole storage says at one moment: its sizes, and what is known of each thing in it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.champion import CHAMPIONS, DECISIONS
from pipeline.checkpoint import COMMIT
from pipeline.ending import ENDING
from pipeline.records import ATTEMPTS, CHECKPOINTS, JOB, RECORD
from pipeline.retrain_due import SCHEDULE
from pipeline.storage import Entry
from pipeline.study import LEASE, STUDIES, STUDY, STUDY_JOB, TRIALS

FOLDERS = ("runs", "datasets", STUDIES, CHAMPIONS)
TELLING = {
    "runs": re.compile(
        f"{RECORD}|{ENDING}|{JOB}|({ATTEMPTS})/[^/]+|({CHECKPOINTS})/[^/]+/{COMMIT}"
    ),
    STUDIES: re.compile(rf"{STUDY}|{STUDY_JOB}|{TRIALS}/\d+\.json|({LEASE})/\d+\.json"),
    CHAMPIONS: re.compile(rf"{SCHEDULE}|{DECISIONS}/\d+\.json|({LEASE})/\d+\.json"),
}
"""Objects of a run, study or champion that say something; of a folder in brackets the newest."""
RunStatus = Literal["finished", "training", "stopped", "failed", "damaged"]
Told = dict[str, Entry]
"""What says something of one run, study or champion, by its name there."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a top folder, ``other`` for what is in none of them."""

    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class SeenRun:
    """Times are seconds since the epoch: of the newest start, checkpoint and ending.

    ``training`` is what was started and has not said that it ended: one that was killed, too.
    ``settled`` is a run that stays unfinished for good, since its search has settled the trial.
    """

    id: str
    status: RunStatus
    started: float | None = None
    checkpoint: float | None = None
    ended: float | None = None
    settled: bool = False


@dataclass(frozen=True, kw_only=True)
class SeenTrial:
    status: str
    run: str
    best: float | None


@dataclass(frozen=True, kw_only=True)
class SeenStudy:
    """``best`` is the best value of ``metric`` on validation; ``wanted`` trials are asked for."""

    id: str
    metric: str
    complete: bool
    trials: tuple[SeenTrial, ...]
    wanted: int
    best: float | None


@dataclass(frozen=True, kw_only=True)
class SeenChampion:
    """Times are seconds since the epoch, None for what is not known yet.

    ``decided`` is when the newest decision was made, of ``kind``; ``success`` when the newest one
    of a tick was, and ``tick`` that tick's due time; ``due`` as ``retrain_due.owed``.
    """

    name: str
    decisions: int
    kind: str = ""
    decided: float | None = None
    success: float | None = None
    tick: float | None = None
    promoted: float | None = None
    pinned: bool = False
    due: float | None = None


@dataclass(frozen=True, kw_only=True)
class SeenLease:
    """``held`` by a live process, or ``stuck``: run out, not given back, and nobody took it over.
    ``since`` when, None where nobody holds it."""

    top: str
    name: str
    held: bool
    stuck: bool
    since: float | None


@dataclass(frozen=True, kw_only=True)
class Survey:
    """``damaged`` are records that cannot be read, key → fault; what they would say is missing."""

    sizes: dict[str, Size]
    runs: list[SeenRun]
    studies: list[SeenStudy]
    champions: list[SeenChampion]
    leases: list[SeenLease]
    damaged: dict[str, str]


def listed(entries: Iterable[Entry]) -> tuple[dict[str, Size], dict[str, dict[str, Told]]]:
    """Sizes by top folder; by top folder and name, the objects that say something."""
    counts = {top: [0, 0] for top in (*FOLDERS, "other")}
    told: dict[str, dict[str, Told]] = {top: {} for top in TELLING}
    for entry in entries:
        top, _, rest = entry.key.partition("/")
        count = counts[top if top in FOLDERS and rest else "other"]
        count[0] += 1
        count[1] += entry.bytes
        name, _, inside = rest.partition("/")
        match = TELLING[top].fullmatch(inside) if top in TELLING else None
        if match:
            slot = match[match.lastindex or 0]
            its = told[top].setdefault(name, {})
            if slot not in its or _age(entry) > _age(its[slot]):
                its[slot] = entry
    return {top: Size(objects=n, bytes=size) for top, (n, size) in counts.items()}, told


def _age(entry: Entry) -> tuple[float, int, str]:
    """Orders objects of one folder by when they were made; numbers tell those of one second."""
    return entry.modified, len(entry.key), entry.key
