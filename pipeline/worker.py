"""What training may know of a cluster, and what it hands back: two small values."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from pipeline.errors import Interrupted
from pipeline.metrics import Row
from pipeline.records import Result


def _nothing(row: Row) -> None:
    """The default of a worker that nobody listens to."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of ``world`` equal processes; a cluster fills it, or a test by hand.

    ``progress`` hears every step, ``report`` every validation, on all ranks; ``stop`` says whether
    this worker was asked to leave: all ranks then write one checkpoint and return.
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
    results: dict[str, Result] = field(default_factory=dict)


def interrupted(outcome: Outcome) -> Interrupted:
    return Interrupted(
        f"stopped at step {outcome.step} of {outcome.total_steps} with a checkpoint; the same "
        "command goes on from there"
    )
