"""Surveys of a storage: one listing, and those small records alone that are new since the last."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from pipeline.champion import CHAMPIONS, DECISIONS, Decision
from pipeline.ending import ENDING, Ending
from pipeline.errors import PipelineError, StorageError
from pipeline.job_file import check_job, parse
from pipeline.lease import MARGIN, Hold
from pipeline.records import ATTEMPTS, CHECKPOINTS, JOB, RECORD, RunRecord
from pipeline.retrain_due import SCHEDULE, Schedule, moment, owed
from pipeline.storage import Entry, NotFound, Storage
from pipeline.study import LEASE, STUDIES, STUDY, STUDY_JOB, TRIALS, TrialRecord
from pipeline.survey import (
    SeenChampion,
    SeenLease,
    SeenRun,
    SeenStudy,
    SeenTrial,
    Survey,
    Told,
    listed,
)
from pipeline.values import from_json

T = TypeVar("T")
FRESH_S = 60.0
"""A younger object is read each time: stores know times to the second only, so it may have been
written again since, with as many bytes."""


class Surveyor:
    """Keeps what it has read, for the next survey of the same storage."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self.storage, self.clock = storage, clock
        self._kept: dict[str, tuple[Entry, Any]] = {}

    def survey(self) -> Survey:
        """Raises StorageError when the storage does not answer."""
        self._now, self._next, self._damaged = self.clock(), dict[str, Any](), dict[str, str]()
        sizes, told = listed(self.storage.list())
        with ThreadPoolExecutor(8) as pool:
            studies = [one for one in pool.map(self._study, *_split(told[STUDIES])) if one]
            trials = {trial.run: trial for study in studies for trial in study.trials}
            runs = list(pool.map(
                lambda id, its: self._run(id, its, trials.get(id)), *_split(told["runs"])
            ))  # fmt: skip
            champions = [one for one in pool.map(self._champion, *_split(told[CHAMPIONS])) if one]
        leases = [
            lease for top in (STUDIES, CHAMPIONS) for name, its in told[top].items()
            if LEASE in its and (lease := self._lease(top, name, its[LEASE]))
        ]  # fmt: skip
        self._kept = self._next  # what is gone is forgotten
        return Survey(
            sizes=sizes, runs=runs, studies=studies, champions=champions, leases=leases,
            damaged=self._damaged,
        )  # fmt: skip

    def _read(self, entry: Entry | None, parse: Callable[[bytes, str], T]) -> T | None:
        """What the object says, None where there is none; a damaged one is noted as such."""
        if entry is None:
            return None
        known, value = self._kept.get(entry.key, (None, None))
        if known != entry:
            try:
                value = parse(self.storage.read(entry.key), self.storage.address(entry.key))
            except NotFound:  # deleted since it was listed
                return None
            except StorageError:
                raise
            except PipelineError as fault:
                self._damaged[entry.key] = str(fault)
                return None
        if entry.modified < self._now - FRESH_S:
            self._next[entry.key] = (entry, value)
        return value

    def _run(self, id: str, its: Told, trial: SeenTrial | None) -> SeenRun:
        starts = [its[name].modified for name in (ATTEMPTS, JOB) if name in its]
        checkpoint = its[CHECKPOINTS].modified if CHECKPOINTS in its else None
        seen = SeenRun(
            id=id, status="training" if starts else "stopped", started=max(starts, default=None),
            checkpoint=checkpoint,
        )  # fmt: skip
        if RECORD in its:
            whole = self._read(its[RECORD], lambda data, at: bool(from_json(RunRecord, data, at)))
            return replace(seen, status="finished" if whole else "damaged")
        newest = max(*starts, checkpoint or 0.0, 0.0)
        if ENDING in its and its[ENDING].modified >= newest:
            ending = self._read(its[ENDING], lambda data, at: from_json(Ending, data, at))
            if ending:
                return replace(seen, status=ending.status, ended=its[ENDING].modified)
        if trial and trial.status not in ("running", "waiting"):
            failed = trial.status == "failed"
            return replace(seen, status="failed" if failed else "stopped", settled=True)
        return seen

    def _study(self, id: str, its: Told) -> SeenStudy | None:
        job = self._read(its.get(STUDY_JOB), _job_of_study)
        if job is None:
            return None
        metric, mode, wanted = job

        def trial(data: bytes, at: str) -> SeenTrial:
            record = from_json(TrialRecord, data, at)
            report = record.best(mode)
            return SeenTrial(
                status=record.status, run=record.run, best=report.value if report else None
            )

        read = [self._read(entry, trial) for name, entry in its.items() if name.startswith(TRIALS)]
        trials = tuple(one for one in read if one)
        values = [one.best for one in trials if one.best is not None]
        best = (min if mode == "min" else max)(values, default=None)
        return SeenStudy(
            id=id, metric=metric, complete=STUDY in its, trials=trials, wanted=wanted, best=best
        )

    def _champion(self, name: str, its: Told) -> SeenChampion | None:
        try:
            return self._decided(name, its)
        except ValueError as fault:  # a time or a time zone that is none
            where = f"{CHAMPIONS}/{name}"
            self._damaged[where] = f"{self.storage.address(where)}: {fault}"
            return None

    def _decided(self, name: str, its: Told) -> SeenChampion | None:
        numbers = {
            int(key.removeprefix(f"{DECISIONS}/")[:-5]): entry
            for key, entry in its.items()
            if key.startswith(DECISIONS)
        }

        def decision(number: int) -> Decision | None:
            return self._read(numbers.get(number), lambda data, at: from_json(Decision, data, at))

        newest = decision(max(numbers, default=0))
        if newest is None and numbers:
            return None
        ticked, number = newest, max(numbers, default=0)
        while ticked and ticked.tick is None and number > 1:  # people have decided since
            number -= 1
            ticked = decision(number)
        tick = ticked.tick if ticked else None
        place = newest.after.champion if newest else None
        promotion = decision(place.since) if place else None
        return SeenChampion(
            name=name,
            decisions=len(numbers),
            kind=newest.kind if newest else "",
            decided=moment(newest.at) if newest else None,
            success=moment(ticked.at) if ticked and tick else None,
            tick=moment(tick) if tick else None,
            promoted=moment(promotion.at) if promotion else None,
            pinned=bool(newest and newest.after.pinned),
            due=self._due(its.get(SCHEDULE), tick),
        )

    def _due(self, entry: Entry | None, tick: str | None) -> float | None:
        schedule = self._read(entry, lambda data, at: from_json(Schedule, data, at))
        return owed(schedule, tick) if schedule else None

    def _lease(self, top: str, name: str, entry: Entry) -> SeenLease | None:
        hold = self._read(entry, lambda data, at: from_json(Hold, data, at))
        if entry.key in self._damaged:
            return None
        if hold is None:  # a newer one has been made since it was listed: its holder is alive
            return SeenLease(top=top, name=name, held=True, stuck=False, since=None)
        held, free = self._now <= hold.until + MARGIN, hold.until == 0.0
        since = None if free else hold.since
        return SeenLease(top=top, name=name, held=held, stuck=not (held or free), since=since)


def _split(told: dict[str, Told]) -> tuple[list[str], list[Told]]:
    return list(told), list(told.values())


def _job_of_study(data: bytes, where: str) -> tuple[str, str, int] | None:
    """Metric, mode and number of trials of a study's job."""
    search = check_job(parse(data.decode(errors="replace"), where)[0], where).search
    return (search.metric, search.mode, search.total) if search else None
