"""A job across several Ray nodes, each in a network of its own, one of which is lost."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.checkpoint import steps
from pipeline.listing import read_attempts, read_metrics
from pipeline.storage import Storage, open_storage
from tests import nodes
from tests.cluster import ROOT

JOB = {
    "name": "nodes",
    "storage": "${DRAW_STORAGE}",
    "data": {"source": "synthetic", "size": 16, "train": 640, "val": 64, "test": 64},
    "model": {"kind": "draw", "steps": 4, "hidden": 32, "latent": 4, "read_n": 4, "write_n": 4},
    "train": {"total_epochs": 30, "batch_size": 64, "checkpoint_every_steps": 5, "lr": 0.001},
    "cluster": {"workers": {"least": 1, "most": 2}},
}
PATIENCE_S = 400.0


def drive(job: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    with open(job.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(job), "--json", *words],
            cwd=ROOT, env=environment, stdout=log, stderr=log,
        )  # fmt: skip


def run_of(storage: Storage) -> str:
    (run,) = storage.folders("runs")
    return run


def wait_for_checkpoint(driver: subprocess.Popen[bytes], storage: Storage, job: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (storage.folders("runs") and steps(storage.below(f"runs/{run_of(storage)}"))):
        said = job.with_suffix(".log").read_text()
        assert driver.poll() is None, said[-3000:]
        assert time.monotonic() < deadline, f"no checkpoint: {said[-3000:]}"
        time.sleep(0.05)


@pytest.mark.cluster
def test_a_run_on_two_nodes_goes_on_with_the_same_batches_when_one_is_lost(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(JOB))
    straight, storage = (open_storage(f"file://{tmp_path}/{name}") for name in ("one", "two"))
    with nodes.started(2, storage.url) as cluster:
        lost = list(cluster.running)[-1]
        environment = {
            **cluster.environment, "RAY_ADDRESS": cluster.address,
            "DRAW_CACHE": str(tmp_path / "cache"),
            # Ray's first try still counts on the node that is gone.
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
        }  # fmt: skip
        program = (
            "import sys; from pipeline.probe import sum_between_workers\n"
            "print(sum_between_workers(*sys.argv[1:]))"
        )
        told = subprocess.run(
            [sys.executable, "-c", program, cluster.address, storage.url],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr[-2000:]
        assert told.stdout.startswith("gloo between 2 nodes, ")
        assert not list(storage.list())
        driver = drive(job, environment)
        wait_for_checkpoint(driver, storage, job)
        cluster.kill(lost)
        code = driver.wait(timeout=PATIENCE_S)
    assert code == 0, job.with_suffix(".log").read_text()[-3000:]

    run = run_of(storage)
    attempts = read_attempts(storage, run)
    assert [attempt["workers"] for attempt in attempts] == [2, 1]
    assert 0 < attempts[1]["from_step"] < 300
    assert json.loads(storage.read(f"runs/{run}/run.json"))["attempts"] == 2

    environment = {**os.environ, "DRAW_STORAGE": straight.url, "DRAW_CACHE": str(tmp_path / "c")}
    assert drive(job, environment, "--without-ray").wait(timeout=PATIENCE_S) == 0
    found, expected = (read_metrics(one, run)["train"] for one in (storage, straight))
    assert found["step"].to_pylist() == list(range(1, 301))  # each once
    assert found["examples"] == expected["examples"]
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-3)
