"""What a training worker tells the world as it works: the driver's terminal, and Ray's metrics."""

import json
import logging
import time
from typing import Any

from pipeline.metrics import Row

PACE_S = 0.5
"""Between two looks at the driver's word, and two words to it."""


class Notes(logging.Handler):
    """Takes a worker's warnings to the driver's terminal."""

    def __init__(self, channel: str) -> None:
        super().__init__(logging.WARNING)
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        from ray.experimental import internal_kv

        key = f"{self.channel}:note:{record.created:.6f}"
        internal_kv._internal_kv_put(key, record.getMessage())


class Asked:
    """Whether the driver asks on a channel for a stop; it is looked up at most every PACE_S."""

    def __init__(self, channel: str) -> None:
        self.key, self.looked, self.stopped = f"{channel}:stop", 0.0, False

    def __call__(self) -> bool:
        from ray.experimental import internal_kv

        now = time.monotonic()
        if not self.stopped and now - self.looked > PACE_S:
            self.looked = now
            self.stopped = internal_kv._internal_kv_get(self.key) is not None
        return self.stopped


class Listener:
    """A worker's line to the driver (rank 0) and to Ray's metrics (all ranks)."""

    def __init__(self, channel: str, rank: int, run: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self.channel, self.rank = channel, rank
        self.spoke, self.asked = 0.0, Asked(channel)
        tags = {"run": run, "rank": str(rank)}

        def series(kind: Any, name: str, text: str) -> Any:
            made = kind(name, description=text, tag_keys=("run", "rank"))
            made.set_default_tags(tags)
            return made

        self.gauges = {
            "loss": series(Gauge, "draw_loss_nats", "Training loss of the last step"),
            "reconstruction": series(Gauge, "draw_reconstruction_nats", "Reconstruction term"),
            "correct": series(Gauge, "draw_accuracy", "Share of right answers of the last step"),
            "kl": series(Gauge, "draw_kl_nats", "KL term"),
            "gradient_norm": series(Gauge, "draw_gradient_norm", "Gradient norm before clipping"),
            "lr": series(Gauge, "draw_learning_rate", "Learning rate"),
            "step": series(Gauge, "draw_step", "Steps done"),
            "epoch": series(Gauge, "draw_epoch", "Epochs done"),
            "seconds": series(Gauge, "draw_step_seconds", "Time that the last step took"),
            "checkpoint_seconds": series(
                Gauge, "draw_checkpoint_seconds", "From snapshot to storage, newest checkpoint"
            ),
            "checkpoint_time": series(
                Gauge, "draw_checkpoint_timestamp_seconds", "When the newest checkpoint was whole"
            ),
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
        if now - self.spoke < PACE_S:
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
        from ray.experimental import internal_kv

        if self.rank == 0:
            key = f"{self.channel}:report:{row['step']:012d}"
            internal_kv._internal_kv_put(key, json.dumps(row))
        self.validation.set(row["loss"])
        ray_train.report({k: v for k, v in row.items() if isinstance(v, int | float)})

    def _say(self, row: Row) -> None:
        from ray.experimental import internal_kv

        if self.rank == 0:
            internal_kv._internal_kv_put(f"{self.channel}:row", json.dumps(row))

    def stop(self) -> bool:
        return self.rank == 0 and self.asked()
