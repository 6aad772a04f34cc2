"""How to run a real S3 server on one machine: OpenStack Swift with its S3 API, on loopback.

``python -m infra.store --dir D`` serves until it is told to stop; what was written stays in D. The
three servers behind the S3 API have no authentication, so none is reachable from other machines.
"""

import argparse
import ctypes
import fcntl
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NoReturn

from infra.store_config import (
    ACCESS_KEY,
    ENVIRONMENT,
    HOST,
    SERVERS,
    free_ports,
    known_secret,
    write_configuration,
    write_private,
)
from pipeline.errors import PipelineError, StorageError
from pipeline.storage import local_errors

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
START_SECONDS = 60
STOP_SECONDS = 5


@dataclass(kw_only=True)
class Running:
    """A server that answers. Ends with ``stop``, at the end of a ``with``, or with its starter."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    environment: Path
    """A file of mode 0600 to be sourced by a shell; the only place of the secret for people."""
    processes: Sequence[subprocess.Popen[bytes]]
    lock: IO[str] = field(repr=False)

    def stop(self) -> None:
        """Lets requests in progress end, for at most STOP_SECONDS."""
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.lock.close()

    def kill(self) -> None:
        """The same as a power cut of the server: SIGKILL to all of its processes at once."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        self.lock.close()

    def wait(self) -> NoReturn:
        """Waits for as long as all processes run; raises StorageError when one has ended."""
        while all(process.poll() is None for process in self.processes):
            time.sleep(0.5)
        raise StorageError(f"a server process ended; see the logs in {self.environment.parent}")

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_fault: object) -> None:
        self.stop()


def start(directory: Path | str, port: int = 0, bucket: str = "draw") -> Running:
    """Starts the server on the data in ``directory`` and returns when it answers.

    ``port`` 0 takes a free one. Call it from a thread that lives on: the server ends with it.
    Raises StorageError where Swift is missing, the file system cannot hold it, the port is taken,
    another server uses the directory, the bucket's name is none, or a process does not start.
    """
    directory = Path(directory).absolute()
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise StorageError(f"bucket {bucket!r}: use 3 to 63 of a-z, 0-9, '-' and '.'")
    with local_errors(str(directory)):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_machine(directory)
    lock = _locked(directory)
    running = None
    try:
        ports = dict(zip(SERVERS, free_ports(port), strict=True))
        environment = directory / "store.env"
        secret_key = known_secret(environment) or secrets.token_urlsafe(24)
        write_configuration(directory, ports, secret_key)
        running = Running(
            endpoint=f"http://{HOST}:{ports['proxy']}",
            access_key=ACCESS_KEY,
            secret_key=secret_key,
            bucket=bucket,
            environment=environment,
            processes=[_spawn(directory, SERVERS[kind], kind) for kind in SERVERS],
            lock=lock,
        )
        write_private(environment, ENVIRONMENT.format(**vars(running)))
        _await_answer(running)
        _finish_updates(directory)
    except BaseException:
        running.kill() if running else lock.close()
        raise
    return running


def _check_machine(directory: Path) -> None:
    if find_spec("swift") is None:
        raise StorageError("the store needs Swift (Linux): pip install 'draw-pipeline[store]'")
    probe = directory / "xattr-probe"
    try:
        probe.touch()
        os.setxattr(probe, "user.draw", b"1")
    except OSError as fault:
        raise StorageError(
            f"{directory}: files here cannot have user attributes ({fault.strerror}), which Swift "
            "needs; choose a --dir on ext4, xfs or btrfs"
        ) from None
    finally:
        probe.unlink(missing_ok=True)


def _locked(directory: Path) -> IO[str]:
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StorageError(f"{directory}: a store is running here already; stop it first") from None
    return lock


def _spawn(directory: Path, module: str, name: str, *options: str) -> subprocess.Popen[bytes]:
    """Runs a server's own ``main``, in a process that ends with this one."""
    program = "from infra.store import serve; serve()"
    arguments = [module, str(os.getpid()), str(directory / f"{name}.conf"), "-v", *options]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "EVENTLET_NO_GREENDNS": "yes"}
    with (directory / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **settings},
        )


def serve() -> None:
    """The whole of a server process: ``module parent-process configuration options``."""
    module, parent, *sys.argv[1:] = sys.argv[1:]
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() == int(parent):  # otherwise it ended before the line above
        import_module(module).main()


def _await_answer(running: Running) -> None:
    """Makes the bucket, which all of the servers must work together for."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return _make_bucket(running)
        except OSError:
            ended = any(process.poll() is not None for process in running.processes)
            if ended or time.monotonic() > deadline:
                raise StorageError(
                    f"the store did not start; see the logs in {running.environment.parent}"
                ) from None
            time.sleep(0.03)


def _make_bucket(running: Running) -> None:
    """By Swift's own interface, for which no signature is needed."""
    login = {"X-Auth-User": running.access_key, "X-Auth-Key": running.secret_key}
    request = urllib.request.Request(f"{running.endpoint}/auth/v1.0", headers=login)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=5) as reply:
        address, token = reply.headers["X-Storage-Url"], reply.headers["X-Auth-Token"]
    request = urllib.request.Request(
        f"{address}/{running.bucket}", method="PUT", headers={"X-Auth-Token": token}
    )
    with direct.open(request, timeout=5):
        pass


def _finish_updates(directory: Path) -> None:
    """Brings into the listings what was stored while the container server was gone."""
    if any(path.is_file() for path in directory.glob("devices/disk/async_pending*/**/*")):
        _spawn(directory, "swift.obj.updater", "object", "once").wait(START_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.store", description=__doc__)
    parser.add_argument("--dir", required=True, help="where the data are and stay")
    parser.add_argument("--port", type=int, default=9000, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--bucket", default="draw", help="made if it is not there")
    parser.add_argument("--json", action="store_true", help="say where it is as one line of JSON")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with start(options.dir, options.port, options.bucket) as running:
            print(_description(running, options.json), flush=True)
            running.wait()
    except PipelineError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)


def _description(running: Running, as_json: bool) -> str:
    if as_json:
        shown = {key: getattr(running, key) for key in ("endpoint", "access_key", "bucket")}
        processes = [process.pid for process in running.processes]
        return json.dumps(shown | {"environment": str(running.environment), "processes": processes})
    return (
        f". {shlex.quote(str(running.environment))}   # s3://{running.bucket}, "
        f"AWS_ENDPOINT_URL={running.endpoint} AWS_ACCESS_KEY_ID={running.access_key}"
    )


if __name__ == "__main__":
    main()
