"""Ray Tune over ordinary runs: many trials of one job, stopped early, cut off and resumed at will.

A study lives in its records (``study.py``). Each start of a search reads them, hands Ray Tune what
is left to do, and writes down what it hears; Ray Tune itself remembers nothing between starts.
"""

import logging
import os
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import lease
from pipeline.cluster import place, stop_ray
from pipeline.errors import ClusterError, Interrupted
from pipeline.job import Job
from pipeline.run import StopRequests, prepare_and_connect
from pipeline.starting import with_start
from pipeline.storage import open_storage
from pipeline.study import LEASE, StudyRecord, TrialRecord, data_jobs, write_trial
from pipeline.study_progress import Progress
from pipeline.study_run import Study, check_models, check_space
from pipeline.terminal import Terminal
from pipeline.trial import keep_keys, run_trial
from pipeline.values import digest, to_plain

log = logging.getLogger(__name__)
LEAVING_S = 20.0
"""What trials get to write a checkpoint and leave when the search is asked to stop."""
LEASE_S = 10.0
TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the records say it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "20",  # a stopped trial's process is used again after it
    "RAY_AIR_NEW_OUTPUT": "0",  # the other kind prints to standard output whatever one says
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
DRIVER_BYTES = 200e6
"""Of a trial that trains with workers of its own. It must ask Ray for something, but not for a
core: with the drivers on all cores no worker would ever start."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search came to; ``already`` is True when there was nothing left to do."""

    record: StudyRecord
    page: str
    already: bool


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many trials train at once, and what Ray reserves for each."""

    at_once: int
    resources: dict[str, float]


def search(job: Job, terminal: Terminal) -> Searched:
    """Runs a search to its end, from wherever it was cut off.

    Raises PipelineError of what could not go on; nothing that was done is lost.
    """
    assert job.search is not None
    check_space(job)
    storage = open_storage(job.storage)
    storage.preflight().require_create_once()
    job = with_start(job, storage)
    os.environ.update({k: v for k, v in TUNE.items() if k not in os.environ})
    with StopRequests() as stopping:
        sets = {digest(to_plain(one.data)): one.data for one in data_jobs(job)}
        found, _ = prepare_and_connect(
            list(sets.values()), storage, terminal, stopping, with_ray=True
        )
        try:
            job, room = settled(job)
            study = Study(job, dict(zip(sets, found, strict=True)), storage)
            check_models(study)
            terminal.say(f"study {study.id} in {job.storage}")
            with lease.hold(study.home, LEASE, seconds=LEASE_S, wait=True) as held:
                return _search(study, room, terminal, stopping, held)
        finally:
            stop_ray()


def settled(job: Job) -> tuple[Job, Room]:
    """The job with what the cluster settles for each of its trials, and how many fit at once.

    Raises ClusterError when not even one does.
    """
    import ray

    wanted, has = job.search, ray.cluster_resources()
    assert wanted is not None
    workers = job.cluster.workers if isinstance(job.cluster.workers, int) else 1
    job = replace(job, cluster=replace(job.cluster, workers=workers))
    placement = place(job, has)
    gpus = 0.0
    if placement.device == "cuda":
        gpus = 1.0 if wanted.gpus is None else wanted.gpus
    need = {"CPU": float(placement.cpus), **({"GPU": gpus} if gpus else {})}
    fit = min(int(has.get(name, 0) / (amount * workers)) for name, amount in need.items())
    if fit < 1:
        raise ClusterError(
            f"a trial needs {workers} workers with {need}, the cluster has "
            f"{ {name: has.get(name, 0) for name in need} }; lower cluster.workers or "
            "cluster.cpus_per_worker, or add nodes"
        )
    asked = wanted.at_once
    resources = need if workers == 1 else {"CPU": 0.0, "memory": DRIVER_BYTES}
    job = replace(job, cluster=replace(job.cluster, device=placement.device))
    return job, Room(at_once=fit if asked == "auto" else min(asked, fit), resources=resources)


def _search(
    study: Study, room: Room, terminal: Terminal, stopping: StopRequests, held: lease.Lease
) -> Searched:
    from pipeline.tuning import Ledger, Rule

    rule = Rule(study.search, study.full)

    def write(trial: TrialRecord) -> None:
        held.require()  # whoever took over writes from now on
        write_trial(study.home, trial)

    ledger = Ledger(study.gather(), rule, write)
    numbers = range(study.search.total)
    new = [number for number in numbers if number not in ledger.trials]
    again = [trial for trial in ledger.trials.values() if not trial.settled]
    with Progress(study, ledger.trials, terminal) as progress:
        if (new or again) and not study.used_up():
            keep_keys()
            _tune(study, ledger, room, (again, new), stopping, held, progress)
        for trial in list(ledger.trials.values()):
            if not trial.settled and trial.status != "unfinished":
                ledger.change(trial.number, status="unfinished")
        left = len(numbers) - sum(trial.settled for trial in ledger.trials.values())
        if stopping.is_set() and left:
            raise Interrupted(
                f"stopped with {left} of {len(numbers)} trials left; the same command goes on "
                "from there"
            )
        record = progress.finish()
    return Searched(record=record, page=progress.page, already=not (new or again))


def _tune(
    study: Study,
    ledger: Any,
    room: Room,
    left: tuple[Sequence[TrialRecord], Sequence[int]],
    stopping: StopRequests,
    held: lease.Lease,
    progress: Progress,
) -> None:
    """Ray Tune until all trials are settled, or the search is to end."""
    from ray import tune
    from ray.experimental import internal_kv

    from pipeline.tuning import Observer, Proposals, Scheduler, StopAll

    asked_at: list[float] = []

    def ending() -> bool:
        gone = held.lost.is_set() or ledger.fault is not None
        return stopping.is_set() or gone or study.used_up()

    def turn() -> None:
        if ending() and not asked_at:
            asked_at.append(time.monotonic())
            internal_kv._internal_kv_put(f"{study.shared.channel}:stop", "1")
        progress.turn()

    def over() -> bool:
        return bool(asked_at) and time.monotonic() - asked_at[0] > LEAVING_S

    def propose(number: int) -> TrialRecord | None:
        trial = study.propose(number, list(ledger.trials.values()))
        ledger.put(trial)
        return None if trial.settled else trial

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    again, new = left
    trial = tune.with_parameters(run_trial, shared=study.shared)
    with tempfile.TemporaryDirectory(prefix="tune-") as folder:
        tune.Tuner(
            tune.with_resources(trial, room.resources),
            tune_config=tune.TuneConfig(
                search_alg=Proposals(list(again), list(new), propose, ending),
                scheduler=Scheduler(ledger),
                num_samples=len(again) + len(new),
                max_concurrent_trials=room.at_once,
                reuse_actors=True,  # the next trial finds torch imported
            ),
            run_config=tune.RunConfig(
                name=uuid.uuid4().hex,
                storage_path=folder,
                stop=StopAll(over),
                callbacks=[Observer(ledger, turn)],
                failure_config=tune.FailureConfig(max_failures=study.search.retries),
                verbose=0,
            ),
        ).fit()
    held.require()
    if ledger.fault is not None:
        raise ledger.fault
