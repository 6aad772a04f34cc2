"""Training itself: plain torch and DDP on one worker of any number; knows no Ray.

The loop is: make the state, one step, the run. What varies (model, optimiser, schedule, precision,
data) arrives as values. All ranks decide everything from numbers that are equal on all of them.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from draw_model import Model
from pipeline import checkpoint, plan
from pipeline.checkpoint import State
from pipeline.errors import TrainingError
from pipeline.evaluate import evaluate
from pipeline.job import Job, run_id
from pipeline.loader import Loader, model_of, open_loader
from pipeline.manifest import SPLITS, Manifest
from pipeline.metrics import Row, Sums, across_workers, add, masked_sums, means
from pipeline.optimizer import averaged, lr_at, make_optimizer
from pipeline.recorder import Recorder
from pipeline.records import Result, run_path
from pipeline.retrain_start import begin
from pipeline.storage import Storage
from pipeline.worker import Outcome, Worker, agree, autocast, machine, memory_mb, ready_cpu


class Training:
    """The state of one worker: model, optimiser, loaders, and where it is."""

    def __init__(self, job: Job, manifest: Manifest, storage: Storage, worker: Worker) -> None:
        self.job, self.worker, self.train = job, worker, job.train
        run = run_id(job, manifest)
        home = storage.below(run_path(run))
        self.recorder = Recorder(home, run, worker, self.train.keep_checkpoints)
        self.model = seeded_model(job, manifest).to(worker.device)
        self.optimizer = make_optimizer(self.train, self.model)
        shapes = self.model.noise_shapes()

        def loaders() -> list[Loader]:
            return [
                open_loader(job, manifest, storage, split, shapes, training=split == "train",
                            first=worker.local_rank)
                for split in SPLITS
            ]  # fmt: skip

        # A damaged shard of any split stops all ranks here, before a step is trained.
        self.loader, self.validation, self.test = agree(worker, loaders)
        self.total_steps = self.train.total_epochs * self.loader.steps
        self.recorder.kept = {epoch * self.loader.steps for epoch in self.train.keep_epochs}
        self.seconds = 0.0  # spent in steps since this process began
        self.state = State(run_id=run)
        if found := self.recorder.resume():
            self.state, files = found
            checkpoint.restore(files, self.model, self.optimizer)
        else:
            agree(worker, lambda: begin(self.model, job, storage))
        self.statistics = moving_statistics(self.model)
        self.ddp: nn.Module = self.model
        if worker.world > 1:
            self.ddp = DistributedDataParallel(
                self.model,
                device_ids=[worker.device.index] if worker.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                forward_sync_buffers=bool(self.statistics),
            )

    def step(self) -> Row:
        """One optimiser step on the next global batch; a step that is not finite changes nothing.

        Losses and gradients are sums over real examples divided by the global count, so padding,
        accumulation and the number of workers change nothing but the order of additions.
        """
        started = time.perf_counter()
        worker, step = self.worker, self.state.step
        count, waited, sums = self.loader.count(step), 0.0, None
        kept = [buffer.clone() for buffer in self.statistics]
        self.optimizer.zero_grad(set_to_none=True)
        places = plan.share(range(self.train.batch_size), worker.rank, worker.world)
        for part in range(self.train.accumulation):
            before = time.perf_counter()
            batch = self.loader.batch(step, plan.share(places, part, self.train.accumulation))
            batch = batch.to(worker.device)
            waited += time.perf_counter() - before
            last = part == self.train.accumulation - 1
            with nullcontext() if last else self._no_sync(), self._autocast():
                terms = self.ddp(batch)
            # DDP takes the mean over workers; the sum is wanted.
            loss = torch.where(batch.mask, terms["loss"], 0.0).sum() * (worker.world / count)
            with nullcontext() if last else self._no_sync():
                loss.backward()
            sums = add(sums, masked_sums(terms, batch.mask))
        assert sums is not None
        sums, stop = across_workers(sums, worker.world, float(worker.stop()))
        norm = float(
            nn.utils.clip_grad_norm_(self.model.parameters(), self.train.clip_norm or math.inf)
        )
        row = self._row(sums, count, norm)
        if row["skipped"]:
            for buffer, before_it in zip(self.statistics, kept, strict=True):
                buffer.copy_(before_it)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = row["lr"]
            with self._autocast():
                self.optimizer.step()
        self.state = replace(
            self.state, step=step + 1, skipped_steps=self.state.skipped_steps + row["skipped"]
        )
        seconds = time.perf_counter() - started
        self.seconds += seconds
        row |= {
            "time": time.time(), "seconds": seconds, "examples_per_second": count / seconds,
            "data_wait": waited / seconds, "memory_mb": memory_mb(worker.device), "stop": stop > 0,
        }  # fmt: skip
        return row

    def _row(self, sums: Sums, count: int, norm: float) -> Row:
        values = means(sums, count)
        finite = math.isfinite(norm) and math.isfinite(values["loss"])  # type: ignore[arg-type]
        return {
            "step": self.state.step + 1,
            "epoch": (self.state.step + 1) / self.loader.steps,
            **values,
            "examples": count,
            "gradient_norm": norm,
            "lr": lr_at(self.train, self.state.step, self.total_steps),
            "skipped": not finite,
        }

    def _no_sync(self) -> Any:
        ddp = self.ddp
        return ddp.no_sync() if isinstance(ddp, DistributedDataParallel) else nullcontext()

    def _autocast(self) -> Any:
        return autocast(self.worker.device.type, self.train.precision)

    def validate(self) -> Row:
        """The bound on the validation split; remembers the best step."""
        with averaged(self.optimizer):
            result = self._evaluate(self.validation)
        best = self.state.best_loss
        value = {"loss": result.loss, "error": result.error, "last": -float(self.state.step)}[
            self.train.keep_best
        ]
        if value is None:
            raise TrainingError("train.keep_best is error: this model answers nothing; use loss")
        if best is None or value < best:
            known = value if math.isfinite(value) else None
            self.state = replace(self.state, best_step=self.state.step, best_loss=known)
        row = {
            "step": self.state.step,
            "epoch": self.state.step / self.loader.steps,
            "loss": result.loss,
            "stderr": result.stderr,
            **result.terms,
            "examples": self.loader.seen(self.state.step),
            "seconds": self.seconds,
        }
        self.recorder.validations.append(row)
        return row

    def _evaluate(self, loader: Loader) -> Result:
        worker = self.worker
        if worker.world > 1:
            for buffer in self.statistics:  # rank 0's are the ones that a checkpoint keeps
                dist.broadcast(buffer, src=0)
        with self._autocast():
            return evaluate(
                self.model, loader, rank=worker.rank, world=worker.world, device=worker.device
            )

    def save(self) -> None:
        self.recorder.save(self.model, self.optimizer, self.state)

    def outcome(self, finished: bool, results: dict[str, Result] | None = None) -> Outcome:
        return Outcome(
            finished=finished,
            step=self.state.step,
            total_steps=self.total_steps,
            best_step=self.state.best_step,
            skipped_steps=self.state.skipped_steps,
            parameters=sum(p.numel() for p in self.model.parameters()),
            workers=self.worker.world,
            device=self.worker.device.type,
            machine=machine(self.worker.device),
            results=results or {},
        )

    def finish(self) -> Outcome:
        """Evaluates the best checkpoint on val and test."""
        step, files = self.recorder.best(self.state)
        self.state = replace(self.state, best_step=step)
        checkpoint.restore(files, self.model)
        results = {one.split.name: self._evaluate(one) for one in (self.validation, self.test)}
        return self.outcome(True, results)


def train(job: Job, manifest: Manifest, storage: Storage, worker: Worker) -> Outcome:
    """Trains to the end, from the newest checkpoint if there is one.

    Raises TrainingError when more than ``train.max_skipped_steps`` steps were not finite, and
    DataError for a damaged shard, on all ranks alike. Checkpoints stay as they are.
    """
    ready_cpu()
    training = Training(job, manifest, storage, worker)
    cadence = job.train.validate_every_steps or training.loader.steps
    while training.state.step < training.total_steps:
        row = training.step()
        stopping = row.pop("stop")
        training.recorder.rows.append(row)
        worker.progress(row | training.recorder.written)
        step = training.state.step
        if training.state.skipped_steps > job.train.max_skipped_steps:
            raise _diverged(training)
        due = step % cadence == 0 or step == training.total_steps
        validation = training.validate() if due else None
        kept = step in training.recorder.kept or step % job.train.checkpoint_every_steps == 0
        if due or stopping or kept:
            training.save()
        if validation:
            training.recorder.settle()  # whoever hears of it may end this process
            worker.report(validation)
        if stopping and step < training.total_steps:
            training.recorder.settle()
            return training.outcome(finished=False)
    training.recorder.settle_all()
    return training.finish()


def _diverged(training: Training) -> TrainingError:
    training.recorder.save_rows()
    return TrainingError(
        f"{training.state.run_id}: {training.state.skipped_steps} steps had a loss or gradient "
        f"that is not finite (train.max_skipped_steps is "
        f"{training.train.max_skipped_steps}), the last at step {training.state.step}; what was "
        "learnt before is kept; lower train.lr or train.clip_norm"
    )


def seeded_model(job: Job, manifest: Manifest) -> Model:
    """The untrained model; its weights are a function of ``train.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.train.seed)
        return model_of(job, manifest)


def moving_statistics(model: nn.Module) -> list[torch.Tensor]:
    """What the forward pass changes (batch norm's moving means): the buffers that are saved."""
    saved = model.state_dict(keep_vars=True)
    return [buffer for name, buffer in model.named_buffers() if name in saved]
