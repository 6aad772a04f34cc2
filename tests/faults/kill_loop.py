"""Kills workers, drivers and whole clusters with SIGKILL, and compares what is left in the end.

``python -m tests.faults.kill_loop --kills 21``: one run is left alone; the same job, elsewhere, is
killed again and again at random moments and started again where its driver died. Both must end
with the same bytes of weights and the same loss at every step.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from pipeline import checkpoint
from pipeline.listing import read_attempts, read_metrics
from pipeline.storage import Storage, open_storage

ROOT = Path(__file__).parents[2]
KINDS = ("worker", "driver", "cluster")
PATIENCE_S = 300.0
"""No kill may stop progress for longer than this."""
JOB = {
    "name": "killed",
    "storage": "${DRAW_STORAGE}",
    "data": {"source": "synthetic", "size": 16, "train": 640, "val": 64, "test": 64},
    "model": {"kind": "draw", "steps": 4, "hidden": 32, "latent": 4, "read_n": 4, "write_n": 4},
    "train": {"total_epochs": 100, "batch_size": 64, "checkpoint_every_steps": 7, "lr": 0.003},
    "cluster": {"workers": 2, "max_failures": 1000},
}


@dataclass
class Run:
    """One job in one storage, whose driver may die and be started again."""

    folder: Path
    total_epochs: int
    recoveries: dict[str, list[float]] = field(default_factory=lambda: {k: [] for k in KINDS})

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.job = self.folder / "job.yaml"
        self.job.write_text(
            yaml.safe_dump({**JOB, "train": {**JOB["train"], "total_epochs": self.total_epochs}})
        )
        self.storage = open_storage(f"file://{self.folder}/storage")
        self.driver = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "DRAW_STORAGE": self.storage.url,
            "DRAW_CACHE": str(self.folder / "cache"),
        }
        environment.pop("RAY_ADDRESS", None)
        with open(self.folder / "driver.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", str(self.job), "--json"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def home(self) -> Storage | None:
        names = self.storage.folders("runs")
        return self.storage.below(f"runs/{names[0]}") if names else None

    def newest(self) -> int:
        """Step of the newest checkpoint, −1 before the first."""
        home = self.home()
        return max(checkpoint.steps(home), default=-1) if home else -1

    def starts(self) -> int:
        """How often training has signed in."""
        home = self.home()
        return len(read_attempts(self.storage, self.storage.folders("runs")[0])) if home else 0

    def wait_past(self, step: int, starts: int = -1) -> bool:
        """Until there is a newer checkpoint, and one start more; False when the run has ended.

        The start is waited for because a dead driver's workers write on for a moment: who kills
        again before the next driver's workers are there has killed nothing new.
        """
        deadline = time.monotonic() + PATIENCE_S
        while self.newest() <= step or self.starts() <= starts:
            if self.driver.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"no progress for {PATIENCE_S} s: {self.tail()}"
            time.sleep(0.01)
        return True

    def kill(self, kind: str) -> None:
        family = psutil.Process(self.driver.pid).children(recursive=True)
        if kind == "worker":
            workers = [p for p in family if _is_worker(p)]
            assert workers, f"no training worker among {len(family)} processes"
            random.choice(workers).kill()
            return
        if kind == "cluster":
            for process in family:
                _kill(process)
            psutil.wait_procs(family, timeout=30)
        self.end()  # of the driver alone: its orphans may still be training when the next starts
        self.driver = self.start()

    def end(self) -> None:
        """Kills the driver, if it lives; what it started dies with it."""
        self.driver.kill()
        self.driver.wait()

    def finish(self) -> None:
        code = self.driver.wait(timeout=PATIENCE_S)
        assert code == 0, f"exit code {code}: {self.tail()}"

    def tail(self) -> str:
        return (self.folder / "driver.log").read_text(errors="replace")[-3000:]

    def result(self) -> tuple[bytes, list[float], int]:
        """Weights, loss of every step, and how often training was started."""
        home = self.home()
        assert home is not None
        run_id = self.storage.folders("runs")[0]
        table = read_metrics(self.storage, run_id)["train"]
        record = json.loads(home.read("run.json"))
        newest = checkpoint.read(home, checkpoint.steps(home)[-1])[checkpoint.MODEL]
        return newest, table["loss"].to_pylist(), record["attempts"]


def survive(folder: Path, kinds: Sequence[str], total_epochs: int) -> Run:
    """Kills by these kinds, at random moments between checkpoints; the finished run."""
    run = Run(folder, total_epochs)
    try:
        for number, kind in enumerate(kinds):
            before = run.newest()
            assert run.wait_past(before), f"ended before kill {number}: {run.tail()}"
            time.sleep(random.uniform(0.0, 0.7))
            since, starts = time.monotonic(), run.starts()
            run.kill(kind)
            at = run.newest()
            assert run.wait_past(at, starts), f"ended while recovering: {run.tail()}"
            run.recoveries[kind].append(time.monotonic() - since)
            print(f"kill {number + 1:2} {kind:8} after step {at:5}, "
                  f"past it again in {run.recoveries[kind][-1]:.1f} s", flush=True)  # fmt: skip
        run.finish()
    finally:
        run.end()
    return run


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=21)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    kinds = [KINDS[k % len(KINDS)] for k in range(options.kills)]
    random.shuffle(kinds)
    with tempfile.TemporaryDirectory() as folder:
        straight = Run(Path(folder) / "straight", options.epochs)
        straight.driver.wait(timeout=1800)
        straight.finish()
        killed = survive(Path(folder) / "killed", kinds, options.epochs)
        (weights, losses, _), (others, theirs, attempts) = straight.result(), killed.result()
    same = weights == others and losses == theirs
    print(f"{options.kills} kills, {attempts} starts, {len(losses)} steps")
    for kind, seconds in killed.recoveries.items():
        if seconds:
            ordered = sorted(seconds)
            print(f"recovery from {kind}: min {ordered[0]:.1f}, median "
                  f"{ordered[len(ordered) // 2]:.1f}, max {ordered[-1]:.1f} s")  # fmt: skip
    print("weights and losses are bit-identical" if same else "NOT THE SAME")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
