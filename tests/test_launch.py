"""The whole chain on real Ray clusters: submitted, measured, killed, stopped."""

import json
import subprocess
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.cluster import place
from pipeline.errors import ClusterError
from pipeline.launch import Silence
from pipeline.storage import open_storage
from tests.cluster import BIN, TOKEN, free_port, require_no_secret
from tests.tiny import tiny_job

SMALL = [
    "--set", "data.train=256", "--set", "data.val=64", "--set", "data.test=64",
    "--set", "model.hidden=16", "--set", "model.steps=3", "--set", "train.total_epochs=2",
]  # fmt: skip


@pytest.mark.cluster
def test_a_job_file_is_submitted_as_written_and_its_series_are_there(head):
    """`ray job submit jobs/quickstart.yaml`, where the head was started in the project's root."""
    done = head.submit("--", "jobs/quickstart.yaml", *SMALL, "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    storage = open_storage(head.storage)
    (run,) = storage.folders("runs")
    assert run.startswith("quickstart-")
    record = json.loads(storage.read(f"runs/{run}/run.json"))
    assert record["workers"] == 2
    assert record["results"]["test"]["examples"] == 64
    assert storage.exists(f"runs/{run}/index.html")
    assert storage.exists("index.html")
    assert TOKEN.encode() not in b"".join(storage.read(e.key) for e in storage.list())


@pytest.mark.cluster
def test_the_working_directory_is_shipped_with_its_mode_bits(head):
    """`ray job submit --working-dir . -- jobs/quickstart.yaml`, against any cluster.

    The run is already complete, so that this says as well that a run is not trained twice.
    """
    done = head.submit("--working-dir", ".", "--", "jobs/quickstart.yaml", *SMALL, "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert '"already": true' in done.stdout
    assert len(open_storage(head.storage).folders("runs")) == 1


@pytest.mark.cluster
def test_a_search_is_submitted_as_any_job_and_its_page_is_there(head, s3_server):
    search = "{space: {train.lr: {grid: [0.001, 0.003]}}, scheduler: {kind: none}}"
    done = head.submit(
        "--", "jobs/quickstart.yaml", *SMALL, "--set", f"search={search}", "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    storage = open_storage(head.storage)
    (study,) = storage.folders("studies")
    assert json.loads(storage.read(f"studies/{study}/study.json"))["finished"] == 2
    page = storage.read(f"studies/{study}/index.html")
    assert TOKEN.encode() not in page
    assert study.encode() in storage.read("index.html")
    assert len(storage.folders("runs")) == 3
    # Ray Tune would hand the driver's AWS keys to its actors, through the logs of Ray's agents.
    require_no_secret(head.written(), s3_server.secret_key, TOKEN)


@pytest.mark.cluster
def test_training_speaks_through_rays_own_metrics(head):
    done = head.submit(
        "--no-wait", "--", "jobs/quickstart.yaml", *SMALL, "--set", "train.total_epochs=150",
        "--set", "train.seed=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = {
        "ray_draw_loss_nats", "ray_draw_examples_per_second", "ray_draw_validation_loss_nats",
        "ray_draw_step_seconds", "ray_draw_checkpoint_seconds",
        "ray_draw_checkpoint_timestamp_seconds",
    }  # fmt: skip
    deadline, seen, ranks = time.monotonic() + 90, {}, set()
    while not (wanted <= seen.keys() and len(ranks) == 2):  # each worker tells at its own pace
        assert time.monotonic() < deadline, f"only {sorted(seen)} after 90 s"
        time.sleep(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{head.metrics_port}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
            seen = {f.name: f.samples for f in families if f.name.startswith("ray_draw_")}
        ranks = {sample.labels["rank"] for sample in seen.get("ray_draw_loss_nats", [])}
    assert ranks == {"0", "1"}
    written = seen["ray_draw_checkpoint_timestamp_seconds"]
    assert {sample.labels["rank"] for sample in written} == {"0"}
    assert all(abs(time.time() - sample.value) < 600 for sample in written)
    submission = done.stdout.split("raysubmit_")[1].split("'")[0].split()[0]
    stopped = subprocess.run(
        [str(BIN / "ray"), "job", "stop", "--address", head.dashboard, f"raysubmit_{submission}"],
        env=head.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@pytest.mark.cluster
def test_a_wrong_job_ends_its_submission_with_one_line(head):
    done = head.submit("--", "jobs/quickstart.yaml", "--set", "train.lr=1e-3")
    assert done.returncode == 1
    assert "write 1.0e-3" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.cluster
def test_more_workers_than_the_cluster_has_room_for_are_one_line_in_bounded_time(head):
    done = head.drive(
        "run", "jobs/quickstart.yaml", *SMALL, "--set", "cluster.workers=5",
        "--set", "train.seed=2", RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S="2",
    )  # fmt: skip
    assert done.returncode == 6, done.stderr[-2000:]
    assert "no room for 5 workers with 1 cores each (cpu)" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_that_are_silent_are_spoken_of_now_and_then():
    """First while they do not start, and later when no step comes: a node may be gone."""
    now = [0.0]
    silence = Silence(place(tiny_job(), {"CPU": 4}), lambda: now[0])

    def said(at, row):
        now[0] = at
        return silence.after(row)

    start = "1 workers with 1 cores each to start"
    assert [said(at, None) for at in (1, 30, 31, 32, 61, 62)] == [
        None, None, f"waiting for {start}", None, None, f"waiting for {start}",
    ]  # fmt: skip
    assert [said(at, b"1") for at in (100, 220)] == [None, None]
    late = said(221, b"1")
    assert late.startswith("no step for 120 s")
    assert late.endswith(start)
    assert [said(at, row) for at, row in ((222, b"1"), (300, b"2"), (420, b"2"))] == [None] * 3
    assert said(421, b"2") == late


@pytest.mark.cluster
def test_a_cluster_that_does_not_answer_or_refuses_us_is_one_line(head):
    for environment in (
        {"RAY_ADDRESS": f"127.0.0.1:{free_port()}"},
        {"RAY_AUTH_TOKEN": "f" * 64},
    ):
        done = head.drive("run", "jobs/quickstart.yaml", *SMALL, "--json", **environment)
        assert done.returncode == 6, done.stderr[-2000:]
        assert "check RAY_ADDRESS and RAY_AUTH_MODE" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("cluster", "resources", "expected"),
    [
        ({}, {"CPU": 2.0}, (2, "cpu", 1)),
        ({}, {"CPU": 64.0, "GPU": 4.0}, (4, "cuda", 1)),
        ({}, {"CPU": 64.0}, (4, "cpu", 1)),  # 128 examples: no worker with less than 32
        ({"cpus_per_worker": 2}, {"CPU": 2.0}, (1, "cpu", 2)),
        ({"cpus_per_worker": 4}, {"CPU": 2.0}, (1, "cpu", 4)),
        ({"device": "cpu"}, {"CPU": 2.0, "GPU": 1.0}, (2, "cpu", 1)),
        ({"workers": 3}, {"CPU": 2.0}, (3, "cpu", 1)),
    ],
)
def test_workers_default_to_what_the_cluster_has(cluster, resources, expected):
    job = tiny_job(train={"batch_size": 128}, cluster={"workers": "auto", **cluster})
    placed = place(job, resources)
    assert (placed.workers, placed.device, placed.cpus) == expected


def test_a_gpu_that_is_not_there_is_one_line():
    with pytest.raises(ClusterError, match="the cluster has no GPU; use auto or cpu"):
        place(tiny_job(cluster={"device": "cuda"}), {"CPU": 2.0})
