"""What networks, failing servers and wrong settings do to a store: a real server and a proxy."""

import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra import store
from pipeline import storage_s3
from pipeline.errors import StorageError
from pipeline.storage import Storage, open_storage
from tests.faults.proxy import LOST_REPLY, SLOW_DOWN, Fault, Proxy

MB = 1 << 20
CUT_GET = Fault(method="GET", reply_bytes=100_000)


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [entry.key for entry in storage.list(prefix)]


def message(fault: pytest.ExceptionInfo[StorageError]) -> str:
    """The error's text, which must be one line without the secret."""
    text = str(fault.value)
    assert "\n" not in text
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "unset") not in text
    return text


@pytest.fixture
def proxy(s3_server: store.Running) -> Iterator[Proxy]:
    with Proxy(s3_server.endpoint) as running:
        yield running


@pytest.fixture
def via(proxy: Proxy, s3_storage: Storage) -> Storage:
    """The same place as ``s3_storage``, reached through the proxy."""
    return open_storage(s3_storage.url, proxy.url)


def test_a_lost_reply_to_a_create_is_our_own_success(via: Storage, proxy: Proxy) -> None:
    proxy.faults = [LOST_REPLY, LOST_REPLY]
    assert via.create("lease", b"mine")
    assert [line.split()[0] for line in proxy.requests] == ["PUT", "PUT", "PUT", "GET"]


def test_a_create_whose_every_reply_is_lost_asks_who_won(
    via: Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.faults = [LOST_REPLY]
    assert via.create("lease", b"mine")
    proxy.faults = [LOST_REPLY]
    assert not via.create("lease", b"another's")
    proxy.faults = [Fault(method="PUT", request_bytes=0)]
    with pytest.raises(StorageError, match="broke off"):
        via.create("never sent", b"mine")


def test_a_retried_create_that_another_won_is_lost(
    via: Storage, proxy: Proxy, s3_storage: Storage
) -> None:
    s3_storage.write("lease", b"another's")
    proxy.faults = [LOST_REPLY, SLOW_DOWN]
    assert not via.create("lease", b"mine")


@pytest.mark.parametrize(
    "faults",
    [
        [SLOW_DOWN] * 3,
        [Fault(answer="500 Internal Server Error")] * 2,
        [LOST_REPLY],
        [Fault(method="PUT", request_bytes=1000)],
        [Fault(delay=0.3)],
        [CUT_GET, CUT_GET],
    ],
    ids=["slow down", "error 500", "lost reply", "cut request", "slow", "half a body"],
)
def test_what_passes_is_tried_again(via: Storage, proxy: Proxy, faults: list[Fault]) -> None:
    data = os.urandom(MB)
    proxy.faults = list(faults)
    via.write("x", data)
    assert via.read("x") == data
    assert proxy.faults == []


def test_half_a_body_is_never_taken_for_the_whole(
    via: Storage, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(MB)
    via.write("x", data)
    proxy.faults = [CUT_GET]
    via.download("x", tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == data
    proxy.always = CUT_GET
    monkeypatch.setattr(storage_s3, "ROUNDS", 2)
    for action in (lambda: via.read("x"), lambda: via.download("x", tmp_path / "half")):
        with pytest.raises(StorageError, match="broke off") as fault:
            action()
        assert via.address("x") in message(fault)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_an_upload_in_parts_survives_lost_replies(
    via: Storage, proxy: Proxy, tmp_path: Path
) -> None:
    data = os.urandom(20 * MB)
    (tmp_path / "up").write_bytes(data)
    proxy.faults = [LOST_REPLY, Fault(method="POST"), Fault(method="POST", reply_bytes=0)]
    via.upload("big", tmp_path / "up")
    assert proxy.faults == []
    assert via.read("big") == data


def test_a_server_killed_in_mid_write_shows_the_old_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(8 * MB)
    half = Fault(method="PUT", request_bytes=4 * MB, stall=1)
    running = store.start(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", running.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", running.secret_key)
    storage = open_storage(f"s3://{running.bucket}/x", running.endpoint)
    storage.write("old", data)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with Proxy(running.endpoint, [half, half]) as proxy, ThreadPoolExecutor(2) as threads:
        through = open_storage(storage.url, proxy.url)
        writes = [threads.submit(through.write, name, data[::-1]) for name in ("old", "new")]
        assert proxy.stalled.wait(10)
        running.kill()
        assert all(isinstance(write.exception(), StorageError) for write in writes)
    with store.start(tmp_path, port=proxy.target.port or 0) as again:
        assert again.secret_key == running.secret_key
        assert storage.read("old") == data
        assert keys(storage) == ["old"]
        assert not storage.exists("new")


def test_a_store_without_create_once_is_found_out(via: Storage, proxy: Proxy) -> None:
    proxy.always = Fault(without_header="if-none-match")
    report = via.preflight()
    assert not report.create_once
    with pytest.raises(StorageError, match="unsafe"):
        report.require_create_once()
    assert keys(via) == []


def test_wrong_credentials_are_one_line(
    s3_storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StorageError, match=r"refused by .* \(403") as fault:
        s3_storage.preflight()
    assert "wrong-secret" not in message(fault)


def test_no_credentials_are_one_line(
    s3_storage: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match="no credentials"):
        s3_storage.read("x")


def test_a_missing_bucket_is_one_line(s3_server: store.Running) -> None:
    storage = open_storage(f"s3://missing-{uuid.uuid4().hex}/x")
    for action in (storage.preflight, lambda: storage.read("x"), lambda: keys(storage)):
        with pytest.raises(StorageError, match="no bucket 'missing-") as fault:
            action()
        message(fault)


def test_an_endpoint_that_is_down_is_one_line_within_seconds(
    s3_server: store.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    storage = open_storage("s3://bucket/x", "http://127.0.0.1:1")
    start = time.monotonic()
    for action in (lambda: storage.read("x"), lambda: storage.create("x", b"")):
        with pytest.raises(StorageError, match=r"cannot connect to http://127\.0\.0\.1:1") as fault:
            action()
        message(fault)
    assert time.monotonic() - start < 10
