"""What a job would take, before it takes it: sizes from its values, time from a few real steps."""

import math
import resource
import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from draw_model import Batch, Model
from pipeline import plan
from pipeline.job import Job, crop_of
from pipeline.loader import cropped, model_for
from pipeline.optimizer import make_optimizer
from pipeline.sources import SHARD_EXAMPLES
from pipeline.worker import autocast, ready_cpu

WARM_UP, MEASURED = 2, 3
"""Steps; the first ones fill caches and start threads."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """``flops_a_step`` counts the multiplications and additions of matrix products and
    convolutions, forward and backward. ``memory_mb`` and ``step_seconds`` are of one process with
    the whole global batch on this machine's cores; ``hours`` is of the training steps alone."""

    shape: tuple[int, ...]
    classes: int
    parameters: int
    splits: dict[str, int]
    shards: int
    steps_an_epoch: int
    total_steps: int
    flops_a_step: float
    memory_mb: float
    step_seconds: float
    examples_per_second: float
    hours: float


def estimate(job: Job) -> Estimate:
    """Makes the model and trains it for a few steps on random examples; stores nothing.

    Raises DataError when the source's files are needed to count its examples and are not there,
    JobError when the model cannot read this data.
    """
    ready_cpu()  # as training does
    about, splits = job.data.about(), job.data.splits()
    shape = cropped(about.shape, crop_of(job))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.train.seed)
        model = model_for(job, shape, len(about.classes))
    batch = model.fake_batch(job.train.batch_size // job.train.accumulation)
    flops = flops_an_example(model) * job.train.batch_size
    seconds = _step_seconds(job, model, batch)
    steps = plan.steps_per_epoch(splits["train"], job.train.batch_size)
    total = steps * job.train.total_epochs
    return Estimate(
        shape=shape,
        classes=len(about.classes),
        parameters=sum(p.numel() for p in model.parameters()),
        splits=splits,
        shards=sum(math.ceil(count / SHARD_EXAMPLES) for count in splits.values()),
        steps_an_epoch=steps,
        total_steps=total,
        flops_a_step=flops,
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        step_seconds=seconds,
        examples_per_second=job.train.batch_size / seconds,
        hours=seconds * total / 3600,
    )


def flops_an_example(model: Model, count: int = 2) -> float:
    """Multiplications and additions of matrix products and convolutions, forward and backward."""
    batch = model.fake_batch(count)
    with FlopCounterMode(display=False) as counter:
        _backward(model, batch)
    model.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) / count


def _backward(model: Model, batch: Batch, precision: str = "float32") -> None:
    with autocast("cpu", precision):
        loss = model(batch)["loss"].mean()
    loss.backward()


def _step_seconds(job: Job, model: Model, batch: Batch) -> float:
    """The fastest of a few steps, each of as many ``batch`` as the job accumulates: what else runs
    on the machine only makes a step longer."""
    optimizer, fastest = make_optimizer(job.train, model), math.inf
    for step in range(WARM_UP + MEASURED):
        started = time.perf_counter()
        model.zero_grad(set_to_none=True)
        for _ in range(job.train.accumulation):
            _backward(model, batch, job.train.precision)
        torch.nn.utils.clip_grad_norm_(model.parameters(), job.train.clip_norm or math.inf)
        with autocast("cpu", job.train.precision):
            optimizer.step()
        if step >= WARM_UP:
            fastest = min(fastest, time.perf_counter() - started)
    return fastest
