"""A Ray head of the tests' own, started as an operator would, for all tests that share it."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TOKEN = secrets.token_hex(32)
"""Made anew: what is searched for it includes the sources of these tests."""


@dataclass
class Head:
    """A Ray head that was started in the project's root, as an operator would."""

    dashboard: str
    metrics_port: int
    environment: dict[str, str]
    storage: str
    address: str
    folder: Path
    """All that the head and its processes write."""

    def drive(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A driver from a shell beside the head."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *words], cwd=ROOT, capture_output=True, text=True,
            env={**self.environment, "RAY_ADDRESS": self.address, **environment}, timeout=400,
        )  # fmt: skip

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "ray"), "job", "submit", "--address", self.dashboard, *words]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=400
        )

    def written(self) -> dict[str, bytes]:
        """Every plain file of the cluster, which still writes."""
        found = {}
        for path in self.folder.rglob("*"):
            try:
                if path.is_file() and not path.is_symlink():
                    found[str(path)] = path.read_bytes()
            except FileNotFoundError:
                continue  # removed since it was listed
        return found


def require_no_secret(said: Mapping[str, bytes], *secrets: str) -> None:
    """Fails with the place of the first secret that stands in what was said by name."""
    for secret in (one.encode() for one in secrets):
        found = [name for name, data in said.items() if secret in data]
        around = said[found[0]].partition(secret)[0][-500:] if found else b""
        assert found == [], around


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment_of(folder: str, store: str) -> dict[str, str]:
    """What the processes of a cluster are started with whose files are in ``folder``."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_TMPDIR": folder,
        "DRAW_STORAGE": store,
        "DRAW_CACHE": f"{folder}/cache",
    }


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a process and all below it; it may have ended by itself."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for one in (process, *family):
        with suppress(psutil.NoSuchProcess):  # it ended with the one before it
            one.kill()
    process.wait()
    psutil.wait_procs(family, timeout=30)


@contextmanager
def started(store: str) -> Iterator[Head]:
    """``ray start --head`` with token authentication; ended by its own processes alone."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        ports = {name: free_port() for name in ("gcs", "dashboard", "metrics", "agent")}
        environment = environment_of(folder, store)
        command = [
            str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2",
            "--node-ip-address=127.0.0.1", f"--port={ports['gcs']}",
            f"--dashboard-port={ports['dashboard']}", f"--temp-dir={folder}/ray",
            f"--metrics-export-port={ports['metrics']}",
            f"--dashboard-agent-listen-port={ports['agent']}",
            "--object-store-memory=100000000",
        ]  # fmt: skip
        with open(f"{folder}/head.log", "wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        dashboard = f"http://127.0.0.1:{ports['dashboard']}"
        try:
            _wait_for(f"{dashboard}/api/version", process)
            address = f"127.0.0.1:{ports['gcs']}"
            yield Head(dashboard, ports["metrics"], environment, store, address, Path(folder))
        finally:
            kill_family(process)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "ray start ended"
        try:
            with urllib.request.urlopen(request, timeout=2):
                return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)
