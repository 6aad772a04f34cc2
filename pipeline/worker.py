"""What training may know of a cluster, and what it hands back; how its ranks stay of one mind."""

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pipeline.errors import Interrupted, PipelineError
from pipeline.metrics import Row
from pipeline.records import Result

T = TypeVar("T")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def autocast(device: str, precision: str) -> torch.autocast:
    """The region in which a job of this ``train.precision`` computes on this kind of device."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def _nothing(row: Row) -> None:
    """The default of a worker that nobody listens to."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of ``world`` equal processes; a cluster fills it, or a test by hand.

    ``progress`` hears every step, and on rank 0 with it what ``Recorder.written`` says;
    ``report`` hears every validation, when rank 0's checkpoint of it is in storage; both on
    all ranks. ``stop`` says whether this worker was asked to leave: all ranks then write one
    checkpoint and return.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: Callable[[Row], None] = _nothing
    report: Callable[[Row], None] = _nothing
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What training came to. ``finished`` is False when it was asked to stop before the end."""

    finished: bool
    step: int
    total_steps: int
    best_step: int
    skipped_steps: int
    parameters: int
    workers: int
    device: str
    machine: str
    results: dict[str, Result] = field(default_factory=dict)


def interrupted(outcome: Outcome) -> Interrupted:
    return Interrupted(
        f"stopped at step {outcome.step} of {outcome.total_steps} with a checkpoint; the same "
        "command goes on from there"
    )


def share(worker: Worker, action: Callable[[], T]) -> T:
    """What rank 0 found, on all ranks; an error that a person can act upon is shared as well."""
    box: list[Any] = [None, None]
    if worker.rank == 0:
        try:
            box[0] = action()
        except PipelineError as fault:
            box[1] = fault
    if worker.world > 1:
        dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    found: T = box[0]
    return found


def agree(worker: Worker, action: Callable[[], T]) -> T:
    """Each rank's own result; when one rank failed, its error is raised on all of them."""
    result: T | None = None
    faults: list[PipelineError | None] = [None] * worker.world
    try:
        result = action()
    except PipelineError as fault:
        faults[worker.rank] = fault
    if worker.world > 1:
        dist.all_gather_object(faults, faults[worker.rank])
    for found in faults:
        if found is not None:
            raise found
    assert result is not None
    return result


def ready_cpu() -> None:
    """Sets this process up to train on a CPU.

    Far from a window's centre its filters are subnormal numbers, and those take CPUs many times
    longer: a quarter of the first epoch. They are zeros from here on, in this thread and those it
    starts. And memory that was freed stays with the process: glibc gives large blocks back at once,
    and each step would take them anew, page by page, which was a fifth of a step of convolutions.
    """
    torch.set_flush_denormal(True)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def machine(device: torch.device) -> str:
    """Processor or GPU model and count."""
    if device.type == "cuda":
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(device)}"
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
        model = names[0] if names else model
    except OSError:  # not Linux: the plain name is what there is
        pass
    return f"{model}, {os.cpu_count()} cores"


def memory_mb(device: torch.device) -> float:
    """Peak memory of this worker so far: the GPU's if it has one, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
