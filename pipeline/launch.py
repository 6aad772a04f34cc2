"""Ray Train around ``train.py``: starts the workers, listens to them, passes on a stop."""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.cluster import Placement, check_fits, place
from pipeline.errors import ClusterError, DataError, PipelineError, TrainingError
from pipeline.job import Job, run_id
from pipeline.manifest import Manifest
from pipeline.metrics import Row
from pipeline.records import RAY_NOTES, run_path
from pipeline.storage import Storage
from pipeline.telemetry import Listener, Notes
from pipeline.train import train
from pipeline.worker import Outcome, Worker, interrupted

log = logging.getLogger(__name__)

PATIENCE = 5
"""Times that Ray waits a minute for room for all workers: enough for an autoscaler."""
NO_ROOM = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
"""Ray Train's own names for a cluster that is too small or too busy."""
SAID_AFTER_S = 30
"""Seconds before the first step after which the terminal says what is waited for."""
QUIET_AFTER_S = 120
"""Seconds without a step, later on, after which it says what that may mean."""
COLLECTIVE_TIMEOUT_S = 300
"""A rank that waits longer for the others fails, and all start again: never a silent hang."""


def launch(
    job: Job,
    manifest: Manifest,
    storage: Storage,
    *,
    progress: Callable[[Row], None],
    stopping: Callable[[], bool],
    ours: bool,
    report: Callable[[Row], None] = lambda row: None,
) -> Outcome:
    """Trains on the connected cluster; ``progress`` hears rank 0's newest row now and then,
    ``report`` every validation, a little later than it happens.

    When ``stopping`` says so, the workers write a checkpoint and leave: Interrupted is raised; so
    they do, without waiting for them, when ``report`` or ``progress`` raises.
    Raises ClusterError, TrainingError and what the workers raised as PipelineError.
    """
    import ray
    from ray.experimental import internal_kv

    placement = place(job, ray.cluster_resources())
    if ours:
        check_fits(placement, ray.cluster_resources())
    channel = f"draw:{run_id(job, manifest)}:{uuid.uuid4().hex}"
    trainer = _trainer(job, manifest, storage, placement, channel)
    outcome: list[Any] = []

    def fit() -> None:
        try:
            outcome.append(trainer.fit().return_value)
        except Exception as fault:  # handed to the main thread, which raises it
            outcome.append(fault)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    silence = Silence(placement)
    try:
        while thread.is_alive():
            thread.join(0.3)
            if said := silence.after(_pass_on(channel, stopping, progress, report)):
                has = {name: ray.cluster_resources().get(name, 0) for name in ("CPU", "GPU")}
                log.warning("%s; the cluster has %d cores, %d GPUs", said, *has.values())
    except BaseException:
        internal_kv._internal_kv_put(f"{channel}:stop", "1")
        raise
    _pass_on(channel, stopping, progress, report)
    internal_kv._internal_kv_del(channel, del_by_prefix=True)
    return _settled(outcome[0], placement)


class Silence:
    """How long nothing new was heard from the workers, and what that may mean."""

    def __init__(self, placement: Placement, clock: Callable[[], float] = time.monotonic) -> None:
        self.placement, self.clock = placement, clock
        self.heard: bytes | None = None
        self.until = clock() + SAID_AFTER_S

    def after(self, row: bytes | None) -> str | None:
        """What to say now that rank 0's newest row is this one; mostly nothing."""
        pause = SAID_AFTER_S if row is None else QUIET_AFTER_S
        if row == self.heard and self.clock() <= self.until:
            return None
        new, self.heard = row != self.heard, row
        self.until = self.clock() + pause
        if new:
            return None
        start = f"{self.placement.least} workers with {self.placement.cpus} cores each to start"
        if row is None:
            return f"waiting for {start}"
        return (
            f"no step for {pause} s: a long validation, or nodes are gone and training waits for "
            + start
        )


def _pass_on(
    channel: str,
    stopping: Callable[[], bool],
    progress: Callable[[Row], None],
    report: Callable[[Row], None],
) -> bytes | None:
    """What the workers said since the last time, and to them whether they have to leave.

    Returns rank 0's newest row as it came, None before the first."""
    from ray.experimental import internal_kv

    if stopping():
        internal_kv._internal_kv_put(f"{channel}:stop", "1")
    if row := internal_kv._internal_kv_get(f"{channel}:row"):
        progress(json.loads(row))
    for note in _taken(f"{channel}:note:"):
        log.warning("%s", note)
    for validation in _taken(f"{channel}:report:"):
        report(json.loads(validation))
    return row or None


def _taken(prefix: str) -> Iterator[str]:
    """What workers left under a prefix, in order of its keys; it is gone afterwards."""
    from ray.experimental import internal_kv

    for key in sorted(internal_kv._internal_kv_list(prefix)):
        yield (internal_kv._internal_kv_get(key) or b"").decode()
        internal_kv._internal_kv_del(key)


def _trainer(
    job: Job, manifest: Manifest, storage: Storage, placement: Placement, channel: str
) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipeline.gloo import NodeTorchConfig

    home = f"{run_path(run_id(job, manifest))}/{RAY_NOTES}"
    filesystem, root = storage.below(home).arrow()
    gpu = placement.device == "cuda"
    return TorchTrainer(
        _loop,
        train_loop_config={
            "job": job,
            "manifest": manifest,
            "storage": storage,
            "placement": placement,
            "channel": channel,
        },
        scaling_config=ScalingConfig(
            num_workers=_or_range(placement),
            use_gpu=gpu,
            resources_per_worker={"CPU": placement.cpus, **({"GPU": 1} if gpu else {})},
        ),
        torch_config=NodeTorchConfig(
            backend="nccl" if gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S
        ),
        # Ray's own notes on this attempt. Training resumes from our checkpoints alone, so each
        # attempt has a fresh name: Ray would take a finished name for done.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=root,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=job.cluster.max_failures, controller_failure_limit=PATIENCE
            ),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _or_range(placement: Placement) -> int | tuple[int, int]:
    if placement.least == placement.workers:
        return placement.workers
    return placement.least, placement.workers


def _loop(config: dict[str, Any]) -> Outcome | PipelineError:
    """What each Ray Train worker runs."""
    import torch
    from ray import train as ray_train
    from ray.train.torch import get_device

    placement: Placement = config["placement"]
    torch.set_num_threads(placement.cpus)
    context = ray_train.get_context()
    rank = context.get_world_rank()
    listener = Listener(config["channel"], rank, run_id(config["job"], config["manifest"]))
    logging.getLogger("pipeline").addHandler(Notes(config["channel"]))
    worker = Worker(
        rank=rank,
        world=context.get_world_size(),
        local_rank=context.get_local_rank(),
        device=get_device(),
        progress=listener.progress,
        report=listener.report,
        stop=listener.stop,
    )
    try:
        return train(config["job"], config["manifest"], config["storage"], worker)
    except (TrainingError, DataError) as fault:  # on all ranks alike: trying again is no use
        return fault


def _settled(result: Any, placement: Placement) -> Outcome:
    """The outcome, or the reason why there is none as one of the errors that a person can read."""
    from ray.train import ControllerError, TrainingFailedError

    if isinstance(result, ControllerError):
        fault = result.controller_failure
        if type(fault).__name__ in NO_ROOM:
            raise ClusterError(
                f"no room for {placement.least} workers with {placement.cpus} cores each "
                f"({placement.device}), tried {PATIENCE} times; lower cluster.workers or add nodes"
            )
        log.error("%s", fault)
        raise ClusterError(
            f"{placement.workers} workers could not be joined, tried {PATIENCE} times: "
            f"{_last_line(fault)}; see what `python -m pipeline doctor` says"
        )
    if isinstance(result, TrainingFailedError):
        failures = getattr(result, "worker_failures", {})
        for fault in failures.values():
            cause = getattr(fault, "cause", None) or fault
            if isinstance(cause, PipelineError):
                raise cause
        log.error("%s", result)
        first = _last_line(next(iter(failures.values()), result))
        raise TrainingError(
            f"a worker failed more often than cluster.max_failures allows: {first}; "
            "run the same command again to go on from the last checkpoint"
        )
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, Outcome)
    if not result.finished:
        raise interrupted(result)
    return result


def _last_line(fault: Any) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[-1]
