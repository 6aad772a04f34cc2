"""What a search leaves behind, and where: ``studies/<study id>/…`` below the storage's root."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.errors import DataError, JobError
from pipeline.job import Job, deciding
from pipeline.job_file import check_job, parse
from pipeline.storage import NotFound, Storage
from pipeline.values import STRICT, digest, from_json, to_json, to_plain

log = logging.getLogger(__name__)
STUDIES = "studies"
STUDY, STUDY_JOB = "study.json", "job.yaml"
TRIALS, STARTS, LEASE = "trials", "starts", "lease"
Status = Literal["waiting", "running", "finished", "stopped", "unfinished", "failed"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Report:
    """A trial after one validation. ``examples`` and ``seconds`` of training so far; ``value`` is
    the study's metric (None: not finite), ``stderr`` its standard error where it is known."""

    step: int
    epoch: float
    examples: int
    seconds: float
    value: float | None
    stderr: float | None = None
    terms: dict[str, float | None] = Field(default_factory=dict)
    """All other single numbers of the validation, the loss among them."""
    time: float
    """Seconds since the epoch at which the search heard of it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Clock:
    """When what happened to a trial in its newest attempt, in seconds since the epoch."""

    decided: float
    """The search chose the trial."""
    first_step: float | None = None
    """Its first training step began."""
    last_step: float | None = None
    """Its last step so far ended."""
    over: float | None = None
    """The search knew that the trial was over."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrialRecord:
    """``trials/000007.json``: one trial, written anew at each report.

    ``status``: waiting (chosen, not started), running, finished (trained in full), stopped (by the
    scheduler, at ``reason``), unfinished (cut off; goes on when the search does), failed (with its
    ``reason``). ``values`` is key path → value, ``seed`` its training seed, ``run`` the id of its
    run. ``flops_an_example`` counts matrix products and convolutions, forward and backward.
    """

    VERSION: ClassVar[int] = 1

    version: int = 1
    number: int
    values: dict[str, Any]
    seed: int
    run: str
    status: Status
    reason: str = ""
    reports: list[Report] = Field(default_factory=list)
    crashes: int = 0
    clock: Clock
    parameters: int | None = None
    flops_an_example: float | None = None
    test: float | None = None
    """The metric on the test split, of finished trials; it decides nothing."""
    test_stderr: float | None = None

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.status in ("finished", "stopped", "failed")

    @property
    def seconds(self) -> float:
        return self.reports[-1].seconds if self.reports else 0.0

    @property
    def examples(self) -> int:
        return self.reports[-1].examples if self.reports else 0

    def best(self, mode: str) -> Report | None:
        """The report with the best value."""
        known = [report for report in self.reports if report.value is not None]
        pick = min if mode == "min" else max
        return pick(known, key=lambda report: report.value or 0.0, default=None)

    def at(self, amount: float, unit: str) -> Report | None:
        """The first report at or after this many examples or seconds."""
        return next((r for r in self.reports if getattr(r, unit) >= amount), None)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyRecord:
    """``study.json``, written last: every trial that the job asks for is settled.

    ``full`` is what the longest trial may spend and ``rungs`` where trials are judged, both in
    ``unit`` (examples or seconds). ``seconds`` is the time of the search itself, all its starts.
    ``best`` is the number of the best trial by its validation metric, None if none has one.
    """

    VERSION: ClassVar[int] = 1

    version: int = 1
    id: str
    name: str
    job: dict[str, Any]
    trials: int
    finished: int
    stopped: int
    failed: int
    unfinished: int
    best: int | None
    unit: str
    full: float
    rungs: list[float]
    seconds: float
    started: str
    ended: str
    machine: str
    versions: dict[str, str]


def study_id(job: Job, contents: Sequence[str]) -> str:
    """Job name + a hash of what decides which trials there are and what each of them does.

    ``contents`` are those of the data sets' manifests. How many trials, how long, and how often
    one is tried again is not in it: raising them makes the study go on.
    """
    assert job.search is not None
    search = to_plain(job.search)
    for name in ("trials", "retries", "at_once", "gpus", "budget_hours"):
        del search[name]
    plain = to_plain(job)
    identity = {
        "data": [plain["data"], list(contents)],
        "model": deciding("model", plain["model"]),
        "train": deciding("train", plain["train"]),
        "search": search,
    }
    if job.start is not None:
        identity["start"] = deciding("start", plain["start"])
    return f"{job.name}-{digest(identity)[:10]}"


def study_path(study: str) -> str:
    return f"{STUDIES}/{study}"


def trial_key(number: int) -> str:
    return f"{TRIALS}/{number:06d}.json"


def trial_job(job: Job, values: dict[str, Any], seed: int) -> Job:
    """The ordinary job of one trial. Raises JobError when the values do not make one."""
    plain = to_plain(replace(job, search=None))
    shown = ", ".join(f"{path} = {value}" for path, value in values.items())
    for path, value in {**values, "train.seed": seed}.items():
        *sections, last = path.split(".")
        place = plain
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise JobError(f"{job.name} with {shown}: {path}: {section} is no section")
        place[last] = value
    return check_job(plain, f"{job.name} with {shown}")


def data_jobs(job: Job) -> list[Job]:
    """Trial jobs, one for each data set that the space names."""
    assert job.search is not None
    keys = [key for key in job.search.space if key.startswith("data.")]
    lists = [job.search.space[key].listed or [] for key in keys]
    return [
        trial_job(job, dict(zip(keys, values, strict=True)), job.train.seed)
        for values in product(*lists)
    ]


def longest_epochs(job: Job) -> int:
    """Epochs of the trials that train longest."""
    assert job.search is not None
    tried = job.search.space.get("train.total_epochs")
    return max(tried.corners) if tried else job.train.total_epochs


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Start:
    """``starts/000002.json``: one start of the search, and how long it has been at it."""

    started: str
    seconds: float


def read_starts(study: Storage) -> list[Start]:
    keys = [entry.key for entry in study.list(STARTS)]
    return [from_json(Start, study.read(key), study.address(key)) for key in keys]


def read_study_job(study: Storage) -> Job:
    """The job of a study by its folder. Raises DataError where there is none."""
    where = study.address(STUDY_JOB)
    try:
        job = check_job(parse(study.read(STUDY_JOB).decode(errors="replace"), where)[0], where)
    except NotFound:
        raise DataError(f"{where}: there is no such study; run its job first") from None
    if job.search is None:
        raise DataError(f"{where}: has no section search; run the study's job again")
    return job


def write_trial(study: Storage, trial: TrialRecord) -> None:
    study.write(trial_key(trial.number), to_json(trial))


def read_trials(study: Storage) -> list[TrialRecord]:
    """All trials of a study, in order of their numbers.

    A damaged record is said and left out: its number is proposed again, with the same values.
    """

    def read(key: str) -> TrialRecord | None:
        try:
            return from_json(TrialRecord, study.read(key), study.address(key))
        except DataError as fault:
            log.warning("%s; the trial is taken for new", fault)
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, [entry.key for entry in study.list(TRIALS)]))
    return [trial for trial in found if trial is not None]


def best_trial(trials: Sequence[TrialRecord], mode: str) -> TrialRecord | None:
    """The trial with the best value at any of its validations; the earlier one of equals."""
    sign = 1 if mode == "min" else -1
    bests = [(trial.best(mode), trial) for trial in trials]
    ranked = [(sign * (r.value or 0.0), t.number, t) for r, t in bests if r is not None]
    return min(ranked)[2] if ranked else None
