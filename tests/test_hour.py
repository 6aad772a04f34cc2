"""``jobs/cluttered_hour.sh``, on small drawn digits: its stages, and what each begins with."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.lineage import started_from
from pipeline.records import RunRecord, read_record
from pipeline.storage import open_storage

ROOT = Path(__file__).parents[1]
DIGITS = {"source": "synthetic", "size": 28, "train": 64, "val": 16, "test": 16}
SMALL = {"data": DIGITS, "model.hidden": 8, "train.total_epochs": 1, "train.batch_size": 32}


def begun(record: RunRecord) -> set[str]:
    """The runs whose weights it began with."""
    return {run for run, _ in started_from(record)}


def test_each_stage_begins_with_the_mean_of_the_two_runs_before_it_also_after_a_stop(tmp_path):
    values = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    environment = {
        **os.environ, "DRAW_STORAGE": f"file://{tmp_path}/storage", "DRAW_CACHE": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [ROOT / "jobs/cluttered_hour.sh", *values],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    with start() as stopped:
        lines = iter(stopped.stderr.readline, "")
        assert any(line.startswith("1-1: train") for line in lines)
        os.killpg(stopped.pid, signal.SIGTERM)  # all, as a terminal's Ctrl-C does
        after = "".join(lines)  # to the end: every process that could write here has left
    assert stopped.returncode != 0
    assert "2-1" not in after

    with start() as again:
        said = again.stderr.read()
    assert again.returncode == 0, said[-3000:]
    named = {line.split(": train: done")[0] for line in said.splitlines()}
    assert named >= {"2-1", "2-2", "3"}, said

    storage = open_storage(environment["DRAW_STORAGE"])
    records = {run: read_record(storage, run) for run in storage.folders("runs")}
    assert len(records) == 6
    stages = [records.keys() - set().union(*map(begun, records.values()))]
    while earlier := set().union(*(begun(records[run]) for run in stages[-1])):
        stages.append(earlier)
    assert [len(stage) for stage in stages] == [1, 2, 2, 1]
    assert set().union(*stages) == set(records)
    second = [records[run].job for run in stages[1]]
    assert {job["train"]["seed"] for job in second} == {1, 2}
    assert {job["model"]["steps"] for job in second} == {8}
    assert {records[run].job["model"]["steps"] for run in stages[2]} == {4}
