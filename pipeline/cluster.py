"""Which Ray cluster a job runs on, and how its workers are placed there."""

import logging
import os
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from pipeline.errors import ClusterError
from pipeline.job import Elastic, Job

ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # reports are fetched at this pace; default 2 s
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",  # Ray's default of 15 starves workers beside anything else
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",
}
OBJECT_STORE_BYTES = 200_000_000
"""Nothing large goes through Ray here; its default would take 30 % of the memory."""
EXAMPLES_PER_CPU_WORKER = 32
"""Fewer than these a step and the workers' talk costs more than they save."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How many workers, on what, with how many cores each."""

    least: int
    """Workers without which training waits for nodes; less than ``workers`` on an elastic job."""
    workers: int
    device: Literal["cpu", "cuda"]
    cpus: int


def place(job: Job, resources: dict[str, float]) -> Placement:
    """What ``auto`` comes to on a cluster with these resources (``{"CPU": 2.0, "GPU": …}``).

    Raises ClusterError when the job asks for GPUs and there are none.
    """
    wanted, gpus, cpus = job.cluster, int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    device: Literal["cpu", "cuda"] = "cuda" if gpus else "cpu"
    if wanted.device != "auto":
        device = wanted.device
    if device == "cuda" and not gpus:
        raise ClusterError(
            "cluster.device is cuda, the cluster has no GPU; use auto or cpu, or another cluster"
        )
    if isinstance(wanted.workers, Elastic):
        workers = wanted.workers.most
    elif wanted.workers != "auto":
        workers = wanted.workers
    elif device == "cuda":
        workers = gpus
    else:
        useful = max(1, job.train.batch_size // EXAMPLES_PER_CPU_WORKER)
        workers = max(1, min(cpus // wanted.cpus_per_worker, useful))
    workers = min(workers, job.train.batch_size)
    least = wanted.workers.least if isinstance(wanted.workers, Elastic) else workers
    return Placement(
        least=min(least, workers), workers=workers, device=device, cpus=wanted.cpus_per_worker
    )


def start_ray() -> bool:
    """Connects to the cluster that RAY_ADDRESS or this machine offers, or starts one here.

    Returns whether it was started here. Raises ClusterError when it cannot be reached.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS") or running_here()
    if not address and "RAY_AUTH_MODE" not in os.environ:
        # A cluster of our own lives as long as this process; so does its token. Ray reads both
        # when it is imported.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    if ray.is_initialized():
        return False
    # Seconds of imports, while ray.init waits for the processes that it starts.
    threading.Thread(target=import_module, args=("ray.train.torch",), daemon=True).start()
    from ray.exceptions import RayError

    # Workers send their warnings themselves; Ray's own lines stay in its log files.
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address:
            _answers(address)
            ray.init(address=address, **quiet)
            return False
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # one node, our own
        ray.init(
            address="local",
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,  # two more processes that a run's own cluster does not need
            _node_ip_address="127.0.0.1",  # Ray would listen on the machine's own address
            **quiet,
        )
        return True
    except (OSError, RuntimeError, ValueError, RayError) as fault:
        reason = str(fault).strip().splitlines()[0]
        raise ClusterError(
            f"no Ray cluster at {address or 'this machine'}: {reason}; check RAY_ADDRESS and "
            "RAY_AUTH_MODE"
        ) from None


def stop_ray() -> None:
    """Leaves the cluster; one that was started here ends."""
    import ray

    ray.shutdown()


def running_here() -> str | None:
    """The address of a cluster that ``ray start`` made on this machine, if it still answers."""
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    with suppress(OSError, ValueError):
        address = noted.read_text().strip()
        _answers(address)
        return address
    return None


def _answers(address: str) -> None:
    """Raises OSError when nobody listens at host:port; Ray itself would ask for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def check_fits(placement: Placement, resources: dict[str, float]) -> None:
    need = placement.least * placement.cpus
    if need > resources.get("CPU", 0):
        raise ClusterError(
            f"cluster.workers × cluster.cpus_per_worker is {need}, this machine has "
            f"{int(resources.get('CPU', 0))} cores; lower one, or use auto"
        )
    if placement.device == "cuda" and placement.least > resources.get("GPU", 0):
        raise ClusterError(
            f"cluster.workers is {placement.least}, this machine has "
            f"{int(resources.get('GPU', 0))} GPUs; lower it, or use auto"
        )
