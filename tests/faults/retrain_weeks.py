"""Weeks of ticks with a fake clock, real tiny training and random SIGKILLs, and what must hold.

``python -m tests.faults.retrain_weeks --weeks 10``: each week brings more data, two processes are
started for the same tick, and both may be killed at any moment and are started again. In the end
every tick is decided once, every champion has its record, and old checkpoints are gone.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from pipeline import champion
from pipeline.champion import Decision
from pipeline.errors import PipelineError
from pipeline.job_file import check_job
from pipeline.publish import finished_run
from pipeline.records import CHECKPOINTS, run_path
from pipeline.retrain import retrain
from pipeline.storage import Storage, open_storage
from pipeline.terminal import Terminal
from tests.forks import FORKS

MONDAY = 1_772_420_400.0  # 2026-03-02 03:00 UTC
WEEK = 7 * 86400.0
KEEP = 2
PATIENCE_S = 600.0
"""A tick that takes longer, kills and all, is a fault."""
OBJECTS = 35
"""A tick that trains writes more than these: whoever is killed after one of them is mid-tick."""
JOB: dict[str, Any] = {
    "name": "weekly",
    "data": {"source": "synthetic", "size": 12, "val": 20, "test": 40},
    "model": {"kind": "draw", "steps": 1, "hidden": 16, "latent": 4, "read_n": 3, "write_n": 3},
    "train": {"total_epochs": 2, "batch_size": 16, "checkpoint_every_steps": 3, "lr": 0.01},
    "cluster": {"workers": 1},
    "retrain": {"cron": "0 3 * * 1", "zone": "UTC", "new": ["data", "job"],
                "retention": {"keep": KEEP, "delete": True}},
}  # fmt: skip
LEASE_S = 2.0


class Started:
    """A process that does the tick of a week, and what it says in the end."""

    def __init__(self, url: str, week: int):
        self._said, says = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_tick, args=(says, url, week), daemon=False)
        self._process.start()
        says.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()

    def words(self) -> str:
        """Waits for its end; nothing of one that was killed."""
        try:
            said = str(self._said.recv())
        except EOFError:
            said = ""
        self._process.join()
        return said


def _tick(says: Connection, url: str, week: int) -> None:
    torch.set_num_threads(1)
    # In every third week nothing is new.
    data = {**JOB["data"], "train": 40 + 16 * (week - week // 3)}
    job = check_job({**JOB, "storage": url, "data": data}, "job")
    try:
        done = retrain(
            job, Terminal(quiet=True), without_ray=True, lease_seconds=LEASE_S,
            clock=lambda: MONDAY + week * WEEK + 60,
        )  # fmt: skip
        says.send(f"{'already' if done.already else 'decided'} {done.decision.number}")
    except PipelineError as fault:
        says.send(f"refused: {fault}")


def wait_for_objects(folder: Path, wanted: int, pair: list[Started]) -> None:
    """Until so many objects were written from now on, or both processes have ended."""
    before, seen = written(folder), set[tuple[str, int]]()
    while len(seen) < wanted and any(process.alive for process in pair):
        seen |= written(folder) - before
        time.sleep(0.01)


def written(folder: Path) -> set[tuple[str, int]]:
    """Every file and when it was written: what is written again counts again."""
    found = set()
    for path in folder.rglob("*.*"):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue  # replaced or removed since it was listed
    return found


def one_week(url: str, week: int, kills: int, chance: random.Random) -> tuple[list[str], int]:
    """What the processes of a tick said that came to an end, and how many were killed."""
    said: list[str] = []
    killed = 0
    began = time.monotonic()
    while not any(words.startswith(("already", "decided")) for words in said):
        if time.monotonic() - began > PATIENCE_S:
            raise AssertionError(f"week {week}: nothing decided within {PATIENCE_S:.0f} s: {said}")
        pair = [Started(url, week) for _ in range(2 if killed == 0 else 1)]
        if killed < kills:
            wait_for_objects(Path(url.removeprefix("file://")), chance.randint(1, OBJECTS), pair)
            chance.shuffle(pair)
        for process in pair:
            if killed < kills and process.alive:
                process.kill()
                killed += 1
            said.append(process.words())
    return [words for words in said if words], killed


def check(storage: Storage, weeks: int) -> list[Decision]:
    """What must hold after so many weeks; the decisions."""
    rows = champion.history(storage, JOB["name"])
    decisions = [row for row in rows if isinstance(row, Decision)]
    assert len(decisions) == len(rows) == weeks, "a decision is damaged, missing, or one too many"
    ticks = [decision.tick for decision in decisions]
    assert ticks == sorted(set(ticks)), "a tick was decided twice, or out of order"
    holder = None
    for decision in decisions:
        if decision.kind == "promotion":
            holder = decision.challenger
        place = decision.after.champion
        assert place is not None
        assert place.run == holder, "the champion is not the last that was promoted"
    for run in {d.challenger for d in decisions if d.challenger}:
        finished_run(storage, run)  # whole, and its weights are those of its record
    trained = {run for decision in decisions for run in decision.trained}
    assert trained == set(storage.folders("runs")), "a run that no decision names was trained"
    kept = [run for run in trained if list(storage.list(f"{run_path(run)}/{CHECKPOINTS}"))]
    assert len(kept) <= KEEP + 1, "old checkpoints were not removed"
    return decisions


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weeks", type=int, default=10)
    parser.add_argument("--kills", type=int, default=2, help="of each week, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        url, killed = f"file://{folder}/storage", 0
        for week in range(options.weeks):
            said, more = one_week(url, week, chance.randint(0, options.kills), chance)
            killed += more
            print(f"week {week}: {more} killed; {' | '.join(said)[:160]}", flush=True)
        for decision in check(open_storage(url), options.weeks):
            print(f"{decision.number:3} {decision.kind:10} {decision.reason}")
    print(f"{options.weeks} weeks, {killed} SIGKILLs: every tick decided once, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
