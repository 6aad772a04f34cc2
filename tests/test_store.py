"""The S3 server for one machine: as a command, through kills and restarts."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra import store
from pipeline.errors import StorageError
from pipeline.storage import open_storage


@contextmanager
def command(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """``python -m infra.store`` running, and what its one line of JSON says."""
    line = [sys.executable, "-m", "infra.store", "--dir", str(directory), "--json", *options]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
            assert process.stdout.read() == ""
        finally:
            process.kill()


def sourced(environment: str) -> dict[str, str]:
    """The AWS_* variables of a shell that has sourced the file."""
    script = f". {environment} && env"
    lines = subprocess.check_output(["sh", "-c", script], text=True, env={}).splitlines()
    return {k: v for k, _, v in (line.partition("=") for line in lines) if k.startswith("AWS_")}


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_command_survives_a_kill_and_ends_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with command(tmp_path, "--port", "0", "--bucket", "mine") as (process, said):
        variables = sourced(said["environment"])
        assert variables["AWS_ENDPOINT_URL"] == said["endpoint"]
        assert variables["AWS_SECRET_ACCESS_KEY"] not in json.dumps(said)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        storage = open_storage("s3://mine/x")
        for number in range(20):
            storage.write(f"{number:02}", b"kept")
        process.kill()
        deadline = time.monotonic() + 5
        while any(map(alive, said["processes"])):
            assert time.monotonic() < deadline, "the servers outlived their launcher"
            time.sleep(0.01)
    port = said["endpoint"].rpartition(":")[2]
    with command(tmp_path, "--port", port, "--bucket", "mine") as (process, said):
        assert sourced(said["environment"]) == variables
        assert [entry.key for entry in storage.list()] == [f"{number:02}" for number in range(20)]
        assert storage.read("07") == b"kept"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not any(map(alive, said["processes"]))


def test_the_secret_is_for_its_owner_only_and_no_other_store_may_start(
    s3_server: store.Running,
) -> None:
    directory = s3_server.environment.parent
    assert s3_server.secret_key not in repr(s3_server)
    for path in directory.iterdir():
        if path.is_file() and s3_server.secret_key.encode() in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path
    with pytest.raises(StorageError, match="running here already"):
        store.start(directory)


def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StorageError, match=f"{port}: Address already in use; choose another"):
            store.start(tmp_path, port)

    with pytest.raises(StorageError, match="bucket 'A b'"):
        store.start(tmp_path, bucket="A b")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a file, not a folder"):
        store.start(tmp_path / "file" / "below")

    def unsupported(*_arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    with monkeypatch.context() as patch:
        patch.setattr(os, "setxattr", unsupported)
        with pytest.raises(StorageError, match="cannot have user attributes"):
            store.start(tmp_path)
    program = (
        "import sys; sys.modules['swift'] = None; sys.argv[1:] = ['--dir', sys.argv[1]]\n"
        "from infra.store import main; main()"
    )
    line = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert ended.returncode == StorageError.exit_code
    assert ended.stderr.splitlines() == [
        "error: the store needs Swift (Linux): pip install 'draw-pipeline[store]'"
    ]
