"""What training leaves in storage as it goes, and finds there when it comes back.

Rank 0 alone writes: metrics first, then the checkpoint that they belong to, in the background, one
at a time. So the metrics of a step that a resume starts from are always there.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import torch
import torch.distributed as dist
from torch import nn

from pipeline import checkpoint
from pipeline.checkpoint import State
from pipeline.errors import DataError
from pipeline.metrics import Row, write_part
from pipeline.records import ATTEMPTS, CHECKPOINTS
from pipeline.storage import Storage
from pipeline.values import to_json
from pipeline.worker import Worker, share

log = logging.getLogger(__name__)
Found = tuple[State, dict[str, bytes]]


class Recorder:
    """The folder of one run, as its training workers see it."""

    def __init__(self, run: Storage, run_id: str, worker: Worker, keep_checkpoints: int) -> None:
        self.run, self.run_id, self.worker = run, run_id, worker
        self.keep_checkpoints = keep_checkpoints
        self.kept: set[int] = set()
        """Steps whose checkpoints stay, whatever comes."""
        self.rows: list[Row] = []
        self.validations: list[Row] = []
        self.written: Row = {}
        """The newest checkpoint of this process, on rank 0: when it was in storage (seconds since
        the epoch), and the seconds from its snapshot until then."""
        self._attempt = 0
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def resume(self) -> Found | None:
        """The newest whole checkpoint: rank 0 reads it and shares it, so that all ranks agree."""

        def read() -> Found | None:
            found = checkpoint.latest(self.run, self.run_id)
            self._attempt = self._sign_in(found[0].step if found else 0)
            return found

        return share(self.worker, read)

    def best(self, state: State) -> tuple[int, dict[str, bytes]]:
        """Step and files of the best checkpoint; of the newest whole one if that is damaged."""

        def read() -> tuple[int, dict[str, bytes]]:
            try:
                return state.best_step, checkpoint.read(self.run, state.best_step)
            except DataError as fault:
                log.warning("%s; the newest whole checkpoint stands in for the best", fault)
            found = checkpoint.latest(self.run, self.run_id)
            if found is None:
                raise DataError(
                    f"{self.run.address(CHECKPOINTS)}: no whole checkpoint is left; run the job "
                    "again to train anew"
                )
            return found[0].step, found[1]

        return share(self.worker, read)

    def _sign_in(self, step: int) -> int:
        """One small object for each time training (re)started: the run's history. Its number."""
        entry = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "from_step": step,
            "workers": self.worker.world,
            "device": self.worker.device.type,
        }
        number = 1 + sum(1 for _ in self.run.list(ATTEMPTS + "/"))
        while not self.run.create(f"{ATTEMPTS}/{number:06d}.json", to_json(entry)):
            number += 1
        return number

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Takes a snapshot now and writes it in the background."""
        write_rows = self._rows_so_far()
        if self.worker.rank > 0:
            return
        began = time.perf_counter()
        files = checkpoint.snapshot(model, optimizer, state)

        def write() -> None:
            write_rows()
            older = [step for step in checkpoint.steps(self.run) if step < state.step]
            newest = older[max(0, len(older) + 1 - self.keep_checkpoints) :]
            checkpoint.commit(self.run, state.step, files, {*newest, *self.kept, state.best_step})
            seconds = time.perf_counter() - began
            self.written = {"checkpoint_time": time.time(), "checkpoint_seconds": seconds}

        self._submit(write)

    def save_rows(self) -> None:
        """Writes the metrics alone, for a run that gives up before its next checkpoint."""
        write_rows = self._rows_so_far()
        if self.worker.rank == 0:
            self.settle()
            write_rows()

    def _rows_so_far(self) -> Callable[[], None]:
        rows, validations = self.rows, self.validations
        self.rows, self.validations = [], []

        def write() -> None:
            write_part(self.run, "train", self._attempt, rows)
            write_part(self.run, "validation", self._attempt, validations)

        return write

    def _submit(self, write: Callable[[], None]) -> None:
        self.settle()
        self._pending = self._writer.submit(write)

    def settle(self) -> None:
        """Waits until what was saved is in storage; raises what went wrong there."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def settle_all(self) -> None:
        """As ``settle``; then every rank may read what rank 0 wrote."""
        self.settle()
        if self.worker.world > 1:
            dist.barrier()
