"""What doctor tries in processes of their own, so that a crash or a hang there is an answer."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import probe_nodes
from pipeline.cluster import start_ray, stop_ray
from pipeline.errors import ClusterError, PipelineError
from pipeline.probe_nodes import NUMBERS
from pipeline.storage import PREFLIGHT, open_storage

CHILD_TIMEOUT_S = 90
REFUSED = "InvalidAuthToken"
"""Stands in what Ray says when the token is not the cluster's."""
FIREWALL = "see that this host's name resolves and no firewall is between; set GLOO_SOCKET_IFNAME"


def ask_dashboard(address: str) -> str:
    """Whether http://host:8265 takes our token, as ``ray job submit`` would give it.

    Raises ClusterError when it does not, is not there, or runs another Ray.
    """
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if not token and path.is_file():
        token = path.read_text().strip()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{address.rstrip('/')}/api/version", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            there = str(json.load(reply)["ray_version"])
    except urllib.error.HTTPError as fault:
        with fault:
            raise ClusterError(
                f"{address} answers {fault.code} {fault.reason}; use the head's token "
                "(RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH), and check RAY_ADDRESS"
            ) from None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise ClusterError(f"{address}: no Ray there ({fault}); check RAY_ADDRESS") from None
    here = metadata.version("ray")
    if there != here:
        raise ClusterError(f"{address} runs Ray {there}, here is {here}; install the same")
    return f"Ray {there} at {address}, token accepted"


def ask_cluster(address: str) -> tuple[str, int]:
    """What the cluster at host:port offers, and the number of its nodes. Raises ClusterError."""
    advice = "check RAY_ADDRESS, RAY_AUTH_MODE and the token"
    (said,) = _children([["ray"]], f"Ray at {address}", advice)
    counts = ", ".join(f"{number:g} {kind}" for kind, number in said["resources"].items())
    return f"{said['nodes']} nodes at {address}: {counts or 'no cores'}", said["nodes"]


def sum_between_workers(address: str | None, url: str) -> str:
    """What a sum between workers came to: one on each node of the cluster at host:port, else
    processes of this machine, one on each GPU; ``url`` is a storage.

    Raises ClusterError where they do not meet.
    """
    import torch

    if address and not address.startswith("http"):
        what = f"a sum between nodes at {address}"
        notes = open_storage(url).below(f"{PREFLIGHT}/{uuid.uuid4().hex}")
        try:
            (one,) = _children([["nodes", notes.url]], what, FIREWALL)
        finally:
            for entry in list(notes.list()):
                notes.delete(entry.key)
        rate = 4 * NUMBERS / one["seconds"] / 1e6
        return f"{one['backend']} between {one['world']} nodes, {rate:,.0f} MB/s"
    gpu = torch.cuda.is_available()
    backend, world = ("nccl", torch.cuda.device_count()) if gpu else ("gloo", 2)
    rate = sum_between_processes(backend, world) / 1e6
    return f"{backend} between {world} processes, {rate:,.0f} MB/s"


def sum_between_processes(backend: str, world: int) -> float:
    """Bytes a second of an all-reduce between ``world`` processes here. Raises ClusterError."""
    advice = FIREWALL
    if backend == "nccl":
        advice = "run one GPU alone to find the bad one; NCCL_DEBUG=INFO says more"
    with tempfile.TemporaryDirectory() as folder:
        roles = [["collective", backend, str(rank), str(world), folder] for rank in range(world)]
        said = _children(roles, f"{backend} between {world} processes", advice)
    return 4 * NUMBERS / max(one["seconds"] for one in said)


def _children(roles: list[list[str]], what: str, advice: str) -> list[Any]:
    """What processes with these roles print, all at once; all are ended when one fails."""
    line = [sys.executable, "-m", "pipeline.probe"]
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder, f"{i}.out"), Path(folder, f"{i}.err")) for i in range(len(roles))]
        started = []
        try:
            for words, (out, err) in zip(roles, files, strict=True):
                with out.open("wb") as to, err.open("wb") as errors:
                    started.append(subprocess.Popen([*line, *words], stdout=to, stderr=errors))
            code = _first_fault(started, [err for _, err in files])
        finally:
            for process in started:
                process.kill()
                process.wait()
        if code is None:
            raise ClusterError(f"{what}: no answer in {CHILD_TIMEOUT_S} s; {advice}")
        if code:
            last = max((err for _, err in files), key=lambda err: err.stat().st_size)
            reason = (last.read_text(errors="replace").strip().splitlines() or ["ended"])[-1]
            if REFUSED in reason:
                reason = "the token is missing or not the cluster's"
            raise ClusterError(f"{what}: {reason.partition('; ')[0]}; {advice}")
        return [json.loads(out.read_text().splitlines()[-1]) for out, _ in files]


def _first_fault(processes: list[subprocess.Popen[bytes]], errors: list[Path]) -> int | None:
    """0 when all have ended well, the exit code of one that has not, or None out of time.

    A refused token counts as a fault at once: Ray would go on trying for most of a minute.
    """
    deadline = time.monotonic() + CHILD_TIMEOUT_S
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if faults := [code for code in codes if code]:
            return faults[0]
        if None not in codes:
            return 0
        if any(REFUSED in path.read_text(errors="replace") for path in errors):
            return ClusterError.exit_code
        time.sleep(0.05)
    return None


def _ray() -> dict[str, Any]:
    start_ray()
    import ray

    try:
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        offered = {k: v for k, v in ray.cluster_resources().items() if k in ("CPU", "GPU")}
        return {"nodes": nodes, "resources": offered}
    finally:
        stop_ray()


ROLES: dict[str, Callable[..., dict[str, Any]]] = {"ray": _ray, **probe_nodes.ROLES}


def main() -> int:
    role, *words = sys.argv[1:]
    try:
        print(json.dumps(ROLES[role](*words)))
    except PipelineError as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
