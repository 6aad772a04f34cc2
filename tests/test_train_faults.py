"""Training while its store fails: refuses, cuts off, is killed, is gone, is damaged."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from infra import store
from pipeline import checkpoint, storage_s3
from pipeline.__main__ import main
from pipeline.errors import StorageError
from pipeline.metrics import Row
from pipeline.storage import Storage
from pipeline.train import train
from pipeline.worker import Outcome, Worker
from tests.faults.proxy import SLOW_DOWN, Fault, Proxy
from tests.tiny import PLAIN, home_of, losses, prepared, same, tiny_job, weights

ROOT = Path(__file__).parents[1]
SHORT = {"total_epochs": 2}
"""Ten steps, with checkpoints at 2, 4, 5, 6, 8 and 10."""
ENDED_S = 120
"""No process may need longer to end, on a machine that is busy with other things."""


class Unsteady(Proxy):
    """Every ninth request meets the next of these faults."""

    FAULTS = (
        SLOW_DOWN,
        Fault(reply_bytes=0),
        Fault(request_bytes=100),
        Fault(reply_bytes=500),
        Fault(delay=0.2),
        Fault(answer="500 Internal Server Error"),
    )

    def next_fault(self, request_line: str) -> Fault:
        usual = super().next_fault(request_line)
        turn, rest = divmod(len(self.requests), 9)
        return usual if rest else self.FAULTS[turn % len(self.FAULTS)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """The run that nothing befell."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DRAW_CACHE", str(folder / "cache"))
        return run(f"file://{folder}/root")[1]


def run(url: str, worker: Worker | None = None) -> tuple[Outcome, Storage]:
    job = tiny_job(url, train=SHORT)
    manifest, storage = prepared(job)
    outcome = train(job, manifest, storage, worker or Worker())
    return outcome, home_of(job, manifest, storage)


def whole(home: Storage) -> list[int]:
    """Steps of the committed checkpoints, each of which was read and is whole."""
    return [step for step in checkpoint.steps(home) if checkpoint.read(home, step)]


def assert_equal(home: Storage, straight: Storage) -> None:
    assert whole(home) == whole(straight)
    assert same(weights(home), weights(straight))
    assert losses(home) == losses(straight)


def test_refusals_cuts_and_lost_replies_change_no_bit(
    s3_storage: Storage,
    s3_server: store.Running,
    monkeypatch: pytest.MonkeyPatch,
    straight: Storage,
) -> None:
    with Unsteady(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        outcome, home = run(s3_storage.url)
        assert_equal(home, straight)
        assert outcome.finished
        assert len(proxy.requests) > 9 * len(Unsteady.FAULTS)


def test_a_server_that_is_killed_and_comes_back_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: Storage
) -> None:
    server = store.start(tmp_path / "store")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    port = int(server.endpoint.rpartition(":")[2])
    restarts: list[Future[store.Running]] = []

    def restart() -> store.Running:
        time.sleep(1)
        return store.start(tmp_path / "store", port)

    def progress(row: Row) -> None:
        if row["step"] == 7:
            server.kill()
            restarts.append(thread.submit(restart))

    with ThreadPoolExecutor(1) as thread:  # lives as long as the server that it starts must
        try:
            outcome, home = run(f"s3://{server.bucket}/x", Worker(progress=progress))
            assert outcome.finished
            assert_equal(home, straight)
        finally:
            server.kill()
            for restarted in restarts:
                restarted.result().kill()


def test_a_store_that_is_silent_for_good_ends_training_with_one_line(
    s3_storage: Storage, s3_server: store.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(s3_server.endpoint) as proxy, monkeypatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "3")
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setattr(storage_s3, "READ_SECONDS", 1)

        silent: list[float] = []

        def progress(row: Row) -> None:
            if row["step"] == 6:
                proxy.always = Fault(delay=30)
                silent.append(time.monotonic())

        with pytest.raises(StorageError, match="did not answer in time") as fault:
            run(s3_storage.url, Worker(progress=progress))
        assert time.monotonic() - silent[0] < ENDED_S
        assert "\n" not in str(fault.value)
    (run_id,) = s3_storage.folders("runs")
    assert whole(s3_storage.below(f"runs/{run_id}"))[-1] in (4, 5)


def test_a_checkpoint_that_was_damaged_in_the_store_is_named_and_the_one_before_it_used(
    s3_storage: Storage, straight: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []
    worker = Worker(progress=lambda row: asked.append(row["step"]), stop=lambda: len(asked) >= 7)
    stopped, home = run(s3_storage.url, worker)
    assert (stopped.finished, checkpoint.steps(home)[-2:]) == (False, [6, 8])
    key = f"{checkpoint.folder(8)}/{checkpoint.MODEL}"
    data = bytearray(home.read(key))
    data[-1] ^= 1
    home.write(key, bytes(data))
    with caplog.at_level(logging.WARNING):
        resumed, home = run(s3_storage.url)
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "pipeline.checkpoint"]
    assert home.address(key) in warning
    assert "\n" not in warning
    assert resumed.finished
    assert_equal(home, straight)


@contextmanager
def command(job: Path, endpoint: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m pipeline run`` on one thread, with all it says in ``log``."""
    more = {"AWS_ENDPOINT_URL": endpoint, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    line = [sys.executable, "-m", "pipeline", "run", str(job), "--without-ray"]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            line, cwd=ROOT, env={**os.environ, **more}, stdout=file, stderr=file
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def test_a_process_killed_while_it_uploads_and_one_left_without_a_store_leave_no_half_checkpoint(
    s3_storage: Storage,
    s3_server: store.Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    straight: Storage,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And no key or secret is in anything that the run wrote or said."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    job, killed, left = (tmp_path / name for name in ("job.yaml", "killed.log", "left.log"))
    values = {**PLAIN, "storage": s3_storage.url, "train": {**PLAIN["train"], **SHORT}}
    job.write_text(yaml.safe_dump(values))
    plain = tiny_job(s3_storage.url, train=SHORT)
    home = home_of(plain, prepared(plain)[0], s3_storage)
    path = home.url.removeprefix("s3:/") + "/"

    def half(step: int, name: str) -> Fault:
        return Fault(
            method=f"PUT {path}{checkpoint.folder(step)}/{name}", request_bytes=100, stall=1
        )

    with Proxy(s3_server.endpoint, [half(4, checkpoint.OPTIMIZER)]) as proxy:
        with command(job, proxy.url, killed):
            assert proxy.stalled.wait(ENDED_S), killed.read_text()
        assert whole(home) == [2]
        there = [entry.key for entry in home.list(checkpoint.folder(4))]
        assert there == [f"{checkpoint.folder(4)}/{checkpoint.MODEL}"]

        proxy.stalled.clear()
        proxy.faults = [half(8, checkpoint.COMMIT)]
        with command(job, proxy.url, left) as process:
            assert proxy.stalled.wait(ENDED_S), left.read_text()
            proxy.__exit__()
            assert process.wait(ENDED_S) == StorageError.exit_code
    assert left.read_text().splitlines()[-1].startswith(home.address(checkpoint.folder(8)))
    assert "Traceback" not in left.read_text()
    assert whole(home)[-1] == 6

    assert main(["run", str(job), "--without-ray", "--json"]) == 0
    assert_equal(home, straight)
    written = [entry.key for entry in s3_storage.list()]
    assert {"run.json", "job.yaml", "index.html"} <= {key.rpartition("/")[2] for key in written}
    said = "".join([killed.read_text(), left.read_text(), *capfd.readouterr()])
    for secret in (s3_server.secret_key, s3_server.access_key):
        assert secret not in said
        assert [key for key in written if secret.encode() in s3_storage.read(key)] == []


@pytest.mark.parametrize("wrong", ["endpoint", "storage"])
def test_credentials_in_an_address_are_refused_and_not_repeated(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if wrong == "endpoint":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://someone:hush/hush@127.0.0.1:1")
    monkeypatch.setenv("PLACE", f"s3://{'someone:hush@' if wrong == 'storage' else ''}bucket/x")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**PLAIN, "storage": "${PLACE}"}))
    assert main(["run", str(tmp_path / "job.yaml"), "--without-ray"]) == StorageError.exit_code
    said = "".join(capfd.readouterr())
    assert len(said.splitlines()) == 1
    assert "AWS_SECRET_ACCESS_KEY" in said
    assert "someone" not in said
    assert "hush" not in said


@pytest.mark.parametrize(("keep", "kept"), [(1, [15]), (2, [14, 15]), (6, [6, 8, 10, 12, 14, 15])])
def test_as_many_checkpoints_stay_as_the_job_says(
    keep: int, kept: list[int], tmp_path: Path
) -> None:
    job = tiny_job(f"file://{tmp_path}/a", train={"keep_checkpoints": keep})
    manifest, storage = prepared(job)
    outcome = train(job, manifest, storage, Worker())
    steps = checkpoint.steps(home_of(job, manifest, storage))
    assert steps == sorted({*kept, outcome.best_step})
