"""A study while it runs: what is left of it, and what a new trial tries."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

from pipeline.errors import JobError
from pipeline.job import Job, run_id
from pipeline.loader import model_of
from pipeline.manifest import Manifest
from pipeline.publish import versions
from pipeline.space import corners, drawn
from pipeline.storage import Storage
from pipeline.study import (
    Clock,
    StudyRecord,
    TrialRecord,
    best_trial,
    longest_epochs,
    read_starts,
    read_trials,
    study_id,
    study_path,
    trial_job,
)
from pipeline.tpe import ask
from pipeline.trial import Shared, measured, reports_of_run
from pipeline.values import digest, to_plain
from pipeline.worker import machine

BUILDS = 100
"""Models of different settings that are built before the first trial starts."""


class Study:
    """A study on its storage: its job, its data sets, its records, and what is left of it."""

    def __init__(self, job: Job, manifests: dict[str, Manifest], storage: Storage) -> None:
        assert job.search is not None
        self.job, self.search, self.storage = job, job.search, storage
        self.shared = Shared(
            job=job, manifests=manifests, storage=storage, channel=f"search:{uuid.uuid4().hex}"
        )
        self.id = study_id(job, sorted(m.content for m in manifests.values()))
        self.home = storage.below(study_path(self.id))
        examples = longest_epochs(job) * max(m.splits["train"] for m in manifests.values())
        scheduler = self.search.scheduler
        self.unit: str = scheduler.unit
        self.full: float = scheduler.full or float(examples)
        self.rungs = scheduler.rungs(self.full)
        self.starts = read_starts(self.home)
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time of the search so far, all its starts."""
        return sum(one.seconds for one in self.starts) + time.monotonic() - self.began

    def used_up(self) -> bool:
        hours = self.search.budget_hours
        return hours is not None and self.seconds > hours * 3600

    def gather(self) -> list[TrialRecord]:
        """The records, with those of trials that were cut off brought up to what their runs say."""
        found = [t for t in read_trials(self.home) if t.number < self.search.total]
        return [trial if trial.settled else self._caught_up(trial) for trial in found]

    def _caught_up(self, trial: TrialRecord) -> TrialRecord:
        job = self.shared.job_of(trial.values, trial.seed)
        stored = reports_of_run(job, self.shared.manifest_of(job), self.storage, self.search.metric)
        heard = {report.step: report for report in trial.reports}
        reports = [heard.get(report.step, report) for report in stored] or trial.reports
        return replace(trial, status="unfinished", reports=reports)

    def propose(self, number: int, trials: Sequence[TrialRecord]) -> TrialRecord:
        """A new trial. One whose values cannot be built is failed already."""
        search, setting = self.search, self.search.setting(number)
        twin = next((t for t in trials if search.setting(t.number) == setting), None)
        if twin:
            values = twin.values
        else:
            values = ask(search, trials, setting) if search.searcher == "tpe" else drawn(
                search, setting
            )  # fmt: skip
        trial = TrialRecord(
            number=number,
            values=values,
            seed=search.seed_of(number, self.job.train.seed),
            run="",
            status="waiting",
            clock=Clock(decided=time.time()),
        )
        try:
            job = self.shared.job_of(values, trial.seed)
            manifest = self.shared.manifest_of(job)
            with torch.device("meta"):
                model_of(job, manifest)
        except JobError as fault:
            return replace(trial, status="failed", reason=str(fault))
        return replace(trial, run=run_id(job, manifest))

    def record(self, trials: Sequence[TrialRecord], started: str) -> StudyRecord:
        count = {s: sum(t.status == s for t in trials) for s in ("finished", "stopped", "failed")}
        best = best_trial(trials, self.search.mode)
        return StudyRecord(
            id=self.id,
            name=self.job.name,
            job=to_plain(self.job),
            trials=len(trials),
            unfinished=len(trials) - sum(count.values()),
            best=None if best is None else best.number,
            unit=self.unit,
            full=self.full,
            rungs=self.rungs,
            seconds=self.seconds,
            started=started,
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine(torch.device("cpu")),
            versions=versions(),
            **count,
        )


def check_space(job: Job) -> None:
    """Makes the jobs of the space's corners. Raises JobError for the first that is none."""
    assert job.search is not None
    for values in corners(job.search):
        try:
            trial_job(job, values, job.train.seed)
        except JobError as fault:
            raise JobError(f"search.space: {str(fault).splitlines()[0]}") from None


def check_models(study: Study) -> None:
    """Builds the models of the space's corners, without memory for them, and measures one.

    Raises JobError for the first that cannot be built, for those that measure different things,
    and for a metric that the model does not have.
    """
    seen: dict[str, str] = {}
    built: dict[str, Job] = {}
    for values in corners(study.search, BUILDS):
        job = study.shared.job_of(values, study.job.train.seed)
        known = digest([to_plain(job.data), to_plain(job.model)])
        if known in built:
            continue
        built[known] = job
        with torch.device("meta"):
            measure = model_of(job, study.shared.manifest_of(job)).measure()
        seen[measure.likelihood] = ", ".join(f"{key} = {value}" for key, value in values.items())
    one = next(iter(built.values()))
    model = model_of(one, study.shared.manifest_of(one))
    with torch.no_grad():
        terms = model(model.fake_batch(2))
    row = {name: float(term.mean()) for name, term in terms.items() if term.dim() == 1}
    measured({"stderr": 0.0, **row}, study.search.metric, 2)
    if len(seen) > 1:
        (this, where), (other, there) = list(seen.items())[:2]
        raise JobError(
            f"search.space: {where} is measured by {this}, {there} by {other}: their losses cannot "
            "be compared; search them in two studies"
        )
