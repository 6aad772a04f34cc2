"""Ray Train around ``train.py``: finds or starts a cluster, places the workers, listens to them."""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from pipeline.cluster import Placement, check_fits, place
from pipeline.errors import PipelineError, TrainingError
from pipeline.job import Job, run_id
from pipeline.manifest import Manifest
from pipeline.metrics import Row
from pipeline.records import RAY_NOTES, run_path
from pipeline.storage import Storage
from pipeline.train import train
from pipeline.worker import Outcome, Worker, interrupted

log = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT_S = 300
"""A rank that waits longer for the others fails, and all start again: never a silent hang."""


def launch(
    job: Job,
    manifest: Manifest,
    storage: Storage,
    *,
    progress: Callable[[Row], None],
    stopping: threading.Event,
    ours: bool,
) -> Outcome:
    """Trains on the connected cluster; ``progress`` hears rank 0's newest row now and then.

    Setting ``stopping`` makes the workers write a checkpoint and leave: Interrupted is raised.
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
    asked = False
    while thread.is_alive():
        thread.join(0.1)
        if stopping.is_set() and not asked:
            asked = internal_kv._internal_kv_put(f"{channel}:stop", "1") is not None
        if row := internal_kv._internal_kv_get(f"{channel}:row"):
            progress(json.loads(row))
        for key in internal_kv._internal_kv_list(f"{channel}:note:"):
            log.warning("%s", (internal_kv._internal_kv_get(key) or b"").decode())
            internal_kv._internal_kv_del(key)
    internal_kv._internal_kv_del(channel, del_by_prefix=True)
    return _settled(outcome[0], placement)


def _trainer(
    job: Job, manifest: Manifest, storage: Storage, placement: Placement, channel: str
) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

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
            num_workers=placement.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": placement.cpus, **({"GPU": 1} if gpu else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S),
        # Ray's own notes on this attempt. Training resumes from our checkpoints alone, so each
        # attempt has a fresh name: Ray would take a finished name for done.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=root,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=job.cluster.max_failures),
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _loop(config: dict[str, Any]) -> Outcome | PipelineError:
    """What each Ray Train worker runs."""
    import torch
    from ray import train as ray_train
    from ray.train.torch import get_device

    placement: Placement = config["placement"]
    torch.set_num_threads(placement.cpus)
    context = ray_train.get_context()
    rank = context.get_world_rank()
    listener = _Listener(config["channel"], rank, run_id(config["job"], config["manifest"]))
    logging.getLogger("pipeline").addHandler(_Notes(config["channel"]))
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
    except TrainingError as fault:  # all ranks agree that it diverged: trying again is no use
        return fault


class _Notes(logging.Handler):
    """Takes a worker's warnings to the driver's terminal."""

    def __init__(self, channel: str) -> None:
        super().__init__(logging.WARNING)
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        from ray.experimental import internal_kv

        key = f"{self.channel}:note:{record.created:.6f}"
        internal_kv._internal_kv_put(key, record.getMessage())


class _Listener:
    """A worker's line to the driver (rank 0) and to Ray's metrics (all ranks)."""

    PACE_S = 0.3

    def __init__(self, channel: str, rank: int, run: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self.channel, self.rank = channel, rank
        self.spoke = self.asked = 0.0
        self.stopped = False
        tags = {"run": run, "rank": str(rank)}

        def series(kind: Any, name: str, text: str) -> Any:
            made = kind(name, description=text, tag_keys=("run", "rank"))
            made.set_default_tags(tags)
            return made

        self.gauges = {
            "loss": series(Gauge, "draw_loss_nats", "Training loss of the last step"),
            "reconstruction": series(Gauge, "draw_reconstruction_nats", "Reconstruction term"),
            "kl": series(Gauge, "draw_kl_nats", "KL term"),
            "gradient_norm": series(Gauge, "draw_gradient_norm", "Gradient norm before clipping"),
            "lr": series(Gauge, "draw_learning_rate", "Learning rate"),
            "step": series(Gauge, "draw_step", "Steps done"),
            "epoch": series(Gauge, "draw_epoch", "Epochs done"),
            "examples_per_second": series(
                Gauge, "draw_examples_per_second", "Throughput, all workers"
            ),
            "data_wait": series(Gauge, "draw_data_wait_ratio", "Share of a step waiting for data"),
            "memory_mb": series(Gauge, "draw_memory_megabytes", "Peak memory of the worker"),
        }
        self.validation = series(Gauge, "draw_validation_loss_nats", "Bound on the validation set")
        self.examples = series(Counter, "draw_examples", "Examples trained on, all workers")
        self.skipped = series(Counter, "draw_skipped_steps", "Steps that were not finite")
        self.pending = 0

    def progress(self, row: Row) -> None:
        self.pending += row["examples"]
        if row["skipped"]:
            self.skipped.inc()
        now = time.monotonic()
        if now - self.spoke < self.PACE_S:
            return
        self.spoke = now
        for name, gauge in self.gauges.items():
            if name in row:
                gauge.set(row[name])
        self.examples.inc(self.pending)
        self.pending = 0
        self._say(row)

    def report(self, row: Row) -> None:
        from ray import train as ray_train

        self.validation.set(row["loss"])
        ray_train.report({k: v for k, v in row.items() if isinstance(v, int | float)})

    def _say(self, row: Row) -> None:
        from ray.experimental import internal_kv

        if self.rank == 0:
            internal_kv._internal_kv_put(f"{self.channel}:row", json.dumps(row))

    def stop(self) -> bool:
        from ray.experimental import internal_kv

        now = time.monotonic()
        if self.rank == 0 and not self.stopped and now - self.asked > self.PACE_S:
            self.asked = now
            self.stopped = internal_kv._internal_kv_get(f"{self.channel}:stop") is not None
        return self.stopped


def _settled(result: Any, placement: Placement) -> Outcome:
    """The outcome, or the reason why there is none as one of the errors that a person can read."""
    from ray.train import TrainingFailedError

    if isinstance(result, TrainingFailedError):
        failures = getattr(result, "worker_failures", {})
        for fault in failures.values():
            cause = getattr(fault, "cause", None) or fault
            if isinstance(cause, PipelineError):
                raise cause
        log.error("%s", result)
        first = str(next(iter(failures.values()), result)).strip().splitlines()[-1]
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
