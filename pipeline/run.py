"""The main job: prepare, train, evaluate, publish. Each stage meets the next in storage only."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType

import torch

from pipeline import ending, plan, publish
from pipeline.cluster import start_ray, stop_ray
from pipeline.errors import DataError, Interrupted, JobError
from pipeline.job import Job, run_id
from pipeline.job_file import dump_job
from pipeline.loader import model_of
from pipeline.manifest import Manifest
from pipeline.metrics import Row
from pipeline.prepare import prepare
from pipeline.records import JOB, PAGE, RECORD, RunRecord, run_path
from pipeline.sources import DataConfig
from pipeline.starting import with_start
from pipeline.storage import Storage, open_storage
from pipeline.terminal import Advance, Terminal
from pipeline.train import seeded_model, train
from pipeline.values import from_json
from pipeline.worker import Outcome, Worker, interrupted


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run came to; ``already`` is True when there was nothing left to do."""

    record: RunRecord
    page: str
    already: bool


class StopRequests(threading.Event):
    """Set by SIGTERM or the first Ctrl-C; a second signal ends the process at once."""

    def __enter__(self) -> "StopRequests":
        self._before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        self.listen()
        return self

    def listen(self) -> None:
        """Takes the signals; to be called again after Ray has started, which takes SIGTERM too."""
        if threading.current_thread() is threading.main_thread():
            for signum in self._before:
                signal.signal(signum, self._ask)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.is_set():
            os._exit(128 + signum)  # whatever is committed is in storage; nothing else matters
        self.set()

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in self._before.items():
                signal.signal(signum, handler)


def run(
    job: Job,
    terminal: Terminal,
    *,
    without_ray: bool = False,
    also: Callable[[], bool] = lambda: False,
) -> Finished:
    """Runs a job to its end, from wherever it was cut off; stops as by a signal when ``also`` says.

    Raises PipelineError of the stage that could not go on; nothing that was done is lost.
    """
    storage = open_storage(job.storage)
    storage.preflight()
    job = with_start(job, storage)
    with StopRequests() as stopping:
        (manifest,), ours = prepare_and_connect(
            [job.data], storage, terminal, stopping, with_ray=not without_ray
        )
        done = complete(job, manifest, storage)
        if done:
            return Finished(record=done, page=_page(storage, done.id), already=True)
        _check_model(job, manifest)  # what does not fit ends here, before a worker starts
        home = storage.below(run_path(run_id(job, manifest)))
        home.write(JOB, dump_job(job).encode())
        terminal.say(f"run {run_id(job, manifest)} in {job.storage}")
        total = job.train.total_epochs * plan.steps_per_epoch(
            manifest.splits["train"], job.train.batch_size
        )
        with ending.noted(home), terminal.stage("train") as advance:

            def progress(row: Row) -> None:
                advance(row["step"], total, _note(row))

            def stop() -> bool:
                return stopping.is_set() or also()

            if without_ray:
                outcome = _in_this_process(job, manifest, storage, progress, stop)
            else:
                from pipeline.launch import launch

                outcome = launch(
                    job, manifest, storage, progress=progress, stopping=stop, ours=ours
                )
                stop_ray()
    with ending.noted(home), terminal.stage("publish"):
        record = publish.publish(job, manifest, storage, outcome)
    return Finished(record=record, page=_page(storage, record.id), already=False)


def prepare_and_connect(
    sets: Sequence[DataConfig],
    storage: Storage,
    terminal: Terminal,
    stopping: StopRequests,
    *,
    with_ray: bool,
) -> tuple[list[Manifest], bool]:
    """The data sets' manifests, and whether a Ray cluster was started here.

    Ray takes seconds to start, so the shards are made meanwhile. Ray has the main thread: what it
    starts dies with the thread that started it.
    """
    with ThreadPoolExecutor(1) as background, terminal.stage("prepare") as advance:
        progress = _interruptible(advance, stopping)
        prepared = [background.submit(prepare, one, storage, progress=progress) for one in sets]
        ours = with_ray and start_ray()
        stopping.listen()
        return [one.result() for one in prepared], ours


def _check_model(job: Job, manifest: Manifest) -> None:
    """Raises JobError for a model that does not fit the data, or not ``train.keep_best``."""
    with torch.device("meta"):
        model_of(job, manifest)
    if job.train.keep_best != "error":
        return
    model = seeded_model(job, manifest).eval()  # not on meta: some look at values
    with torch.no_grad():
        terms = model(model.fake_batch(2))
    if "correct" not in terms:
        raise JobError(
            f"{job.name}: train.keep_best is error, but a model of kind {job.model.kind} gives no "
            "answers; write loss or last"
        )


def _interruptible(advance: Advance, stopping: threading.Event) -> Advance:
    def counted(done: int, total: int, note: str = "") -> None:
        if stopping.is_set():
            raise Interrupted("stopped while preparing; the same command starts it again")
        advance(done, total, "images")

    return counted


def _in_this_process(
    job: Job,
    manifest: Manifest,
    storage: Storage,
    progress: Callable[[Row], None],
    stop: Callable[[], bool],
) -> Outcome:
    worker = Worker(progress=progress, stop=stop)
    outcome = train(job, manifest, storage, worker)
    if not outcome.finished:
        raise interrupted(outcome)
    return outcome


def _note(row: Row) -> str:
    return (
        f"epoch {row['epoch']:.2f}  loss {row['loss']:.2f}  "
        f"{row['examples_per_second']:,.0f} examples/s"
    )


def complete(job: Job, manifest: Manifest, storage: Storage) -> RunRecord | None:
    """The record of the job's run if it is there: then nothing is left to do."""
    home = storage.below(run_path(run_id(job, manifest)))
    if not home.exists(RECORD):
        return None
    try:
        return from_json(RunRecord, home.read(RECORD), home.address(RECORD))
    except DataError as fault:
        raise DataError(f"{fault}; delete it and run again (the checkpoints are kept)") from None


def _page(storage: Storage, run: str) -> str:
    return storage.address(f"{run_path(run)}/{PAGE}")
