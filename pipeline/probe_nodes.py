"""Whether workers on different nodes of a cluster can add up numbers, as training makes them."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pipeline.cluster import start_ray, stop_ray
from pipeline.errors import ClusterError
from pipeline.storage import open_storage

NUMBERS = 1 << 20
"""Of four bytes, in the sum."""
PATIENCE_S = 40


def all_reduce(rank: int, world: int, device: Any) -> float:
    """Seconds of a sum over all ranks of a joined group. Raises ClusterError when it is wrong."""
    import torch
    import torch.distributed as dist

    seconds = 0.0
    for _ in range(3):  # the first one builds the connections
        numbers = torch.full((NUMBERS,), float(rank) + 1, device=device)
        started = time.perf_counter()
        dist.all_reduce(numbers)
        right = bool((numbers == world * (world + 1) / 2).all())
        seconds = time.perf_counter() - started
        if not right:
            raise ClusterError(f"the sum over {world} processes is wrong")
    return seconds


def between_processes(backend: str, rank: str, world: str, folder: str) -> dict[str, Any]:
    """One process of several here, which meet in a folder."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    device = torch.device("cuda", int(rank)) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=int(rank), world_size=int(world),
        timeout=timedelta(seconds=PATIENCE_S),
    )  # fmt: skip
    try:
        return {"seconds": all_reduce(int(rank), int(world), device)}
    finally:
        dist.destroy_process_group()


def between_nodes(url: str) -> dict[str, Any]:
    """Ray Train's workers, one on each node that has GPUs, or else cores.

    ``url`` is a folder of a storage that all nodes reach, for Ray's notes. Raises ClusterError
    where no node is up, or something else is at work on all cores or GPUs of one.
    """
    filesystem, root = open_storage(url).arrow()
    start_ray()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipeline.gloo import NodeTorchConfig

    try:
        offers = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpu = any(offer.get("GPU") for offer in offers)
        kind, backend = ("GPU", "nccl") if gpu else ("CPU", "gloo")
        world = sum(bool(offer.get(kind)) for offer in offers)
        free = ray.available_resources().get(kind, 0)
        if free < world or not world:
            raise ClusterError(
                f"{world} nodes with {kind}s, of which {free:g} {kind}s are free; try again when "
                "no job holds them, or start a worker node"
            )
        trainer = TorchTrainer(
            _loop,
            scaling_config=ScalingConfig(
                num_workers=world, use_gpu=gpu, placement_strategy="STRICT_SPREAD"
            ),
            torch_config=NodeTorchConfig(backend=backend, timeout_s=PATIENCE_S),
            run_config=RunConfig(
                name="doctor",
                storage_path=root,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(controller_failure_limit=0),
            ),
        )
        seconds = trainer.fit().return_value
        return {"backend": backend, "world": world, "seconds": seconds}
    finally:
        stop_ray()


def _loop() -> float:
    from ray import train as ray_train
    from ray.train.torch import get_device

    context = ray_train.get_context()
    return all_reduce(context.get_world_rank(), context.get_world_size(), get_device())


ROLES: dict[str, Callable[..., dict[str, Any]]] = {
    "collective": between_processes, "nodes": between_nodes
}  # fmt: skip
