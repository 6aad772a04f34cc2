"""``python -m tests.benchmarks [pipeline|loader|gemm|start|steps]``: all of them, or one.

Each figure is a ratio within this run: the two sides alternate, and the median of the pairwise
ratios is printed with its range.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.cache import ShardCache
from pipeline.job import Job
from pipeline.listing import read_metrics
from pipeline.loader import Loader, Split
from pipeline.manifest import Manifest
from pipeline.prepare import prepare
from pipeline.sources import Synthetic
from pipeline.storage import open_storage
from pipeline.train import seeded_model
from tests.benchmarks import steps as training_steps
from tests.tiny import tiny_job

ROOT = Path(__file__).parents[2]
MODEL = {"kind": "draw", "steps": 10, "hidden": 256, "latent": 10, "read_n": 5, "write_n": 5}
BATCH = 128
WARM_UP = 10
"""Steps of either side that are not counted."""


def ratios(name: str, pairs: Sequence[tuple[float, float]], unit: str) -> None:
    """Prints the medians of both sides and of their ratio, pair by pair."""
    ours, theirs = zip(*pairs, strict=True)
    each = sorted(a / b for a, b in pairs)
    print(
        f"{name}: {statistics.median(ours):,.0f} against {statistics.median(theirs):,.0f} {unit}; "
        f"ratio {statistics.median(each):.3f} (from {each[0]:.3f} to {each[-1]:.3f}, "
        f"{len(each)} pairs)",
        flush=True,
    )


def bench_job(folder: Path, seed: int, steps: int, workers: int, cpus: int) -> Job:
    """The model of jobs/mnist.yaml on drawn digits, for this many steps in one epoch."""
    return tiny_job(
        f"file://{folder}/storage",
        data={"size": 28, "train": steps * BATCH, "val": 64, "test": 64},
        model=MODEL,
        train={"total_epochs": 1, "batch_size": BATCH, "seed": seed, "lr": 1e-3,
               "checkpoint_every_steps": 500},
        cluster={"workers": workers, "cpus_per_worker": cpus},
    )  # fmt: skip


def by_pipeline(folder: Path, job: Job) -> float:
    """Examples/s in the training steps of a whole run: Ray, loader, DDP, metrics, checkpoints."""
    from pipeline.job_file import dump_job

    path = folder / "job.yaml"
    path.write_text(dump_job(job))
    environment = {**os.environ, "DRAW_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(path), "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    storage = open_storage(job.storage)
    table = read_metrics(storage, json.loads(done.stdout)["id"])["train"].slice(WARM_UP)
    return sum(table["examples"].to_pylist()) / sum(table["seconds"].to_pylist())


def by_plain_loop(folder: Path, job: Job, threads: int) -> float:
    """Examples/s of the bare model: forward, backward, clip, Adam on the job's own batches.

    Same first weights, same batches, all in memory before the clock starts: what a window looks at
    decides how fast a step is, so other images would be another figure.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    storage = open_storage(job.storage)
    manifest = prepare(job.data, storage)
    model = seeded_model(job, manifest)
    split = Split(ShardCache(folder / "cache", 10**10), storage, manifest, "train")
    one = Loader(split, batch_size=BATCH, seed=job.train.seed,
                 binarisation=job.data.binarisation, shapes=model.noise_shapes(),
                 training=True)  # fmt: skip
    batches = [one.batch(step, range(BATCH)) for step in range(one.steps)]
    optimizer = torch.optim.Adam(model.parameters(), lr=job.train.lr)
    for step, batch in enumerate(batches):
        if step == WARM_UP:
            started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model(batch)["loss"].mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return (len(batches) - WARM_UP) * BATCH / (time.perf_counter() - started)


def pipeline(repeats: int) -> None:
    """One worker on all cores, and one for each, through Ray, against a plain loop on all."""
    steps, cores = 300, os.cpu_count() or 1
    for workers, threads in ((1, cores), (cores, 1)):
        with tempfile.TemporaryDirectory() as name:
            folder, pairs = Path(name), []
            for seed in range(repeats):
                job = bench_job(folder, seed, steps, workers, threads)
                pairs.append((by_pipeline(folder, job), by_plain_loop(folder, job, cores)))
            ratios(f"pipeline, {workers} × {threads} threads / plain loop", pairs, "examples/s")


def loader(repeats: int) -> None:
    """The loader on decoded shards against a gather from one tensor in memory."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = Synthetic(size=28, train=30_000, val=16, test=16)
        storage = open_storage(f"file://{folder}/storage")
        manifest = prepare(source, storage)
        split = Split(ShardCache(Path(folder) / "cache", 10**10), storage, manifest, "train")
        for kind in ("grey", "dynamic"):
            pairs = [(_by_loader(split, kind), _by_gather(manifest)) for _ in range(repeats)]
            ratios(f"loader, {kind} targets / gather in memory", pairs, "images/s")


def _by_loader(split: Split, kind: str) -> float:
    one = Loader(
        split, batch_size=BATCH, seed=0, binarisation=kind, shapes={"z": (10, 10)}, training=True
    )  # type: ignore[arg-type]
    return _rate(lambda step: one.batch(step, range(BATCH)), one.steps)


def _by_gather(manifest: Manifest) -> float:
    images = torch.zeros(manifest.splits["train"], *manifest.shape, dtype=torch.uint8)
    order = torch.randperm(len(images))
    return _rate(
        lambda step: images[order[step * BATCH : (step + 1) * BATCH]].float().div_(255),
        len(images) // BATCH,
    )


def _rate(make: Callable[[int], object], steps: int) -> float:
    make(0)
    started = time.perf_counter()
    for step in range(steps):
        make(step)
    return steps * BATCH / (time.perf_counter() - started)


def gemm(repeats: int) -> None:
    """The model's arithmetic rate against the machine's own, one thread."""
    pairs = []
    with tempfile.TemporaryDirectory() as name:
        job = bench_job(Path(name), 0, 60, 1, 1)
        for _ in range(repeats):
            flops = by_plain_loop(Path(name), job, 1) * flops_an_example()
            pairs.append((flops / 1e9, _gemm_rate() / 1e9))
    ratios("model, 1 thread / matrix product 128×562×1024", pairs, "GFLOP/s")


def flops_an_example() -> float:
    """Multiplications and additions of the matrix products, forward and (twice that) backward."""
    n, side, hidden, latent, steps = 5, 28, 256, 10, 10
    cells = (2 * n * n + 2 * hidden) * 4 * hidden + (latent + hidden) * 4 * hidden
    layers = hidden * (2 * latent + n * n + 10)
    windows = 2 * (n * side * side + n * n * side) + (n * n * side + n * side * side)
    return 3 * 2.0 * steps * (cells + layers + windows)


def _gemm_rate() -> float:
    torch.set_num_threads(1)
    a, b = torch.randn(BATCH, 562), torch.randn(562, 1024)
    for _ in range(20):
        a @ b
    started = time.perf_counter()
    for _ in range(200):
        a @ b
    return 200 * 2 * BATCH * 562 * 1024 / (time.perf_counter() - started)


def start(repeats: int) -> None:
    """Seconds from the command to the first training step, against a bare ``ray.init``."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(repeats):
            pairs.append((_first_step(Path(folder), k), _bare_ray()))
    ratios("command to first step, cluster of its own / bare ray.init", _ms(pairs), "ms")


def _ms(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(1000 * a, 1000 * b) for a, b in pairs]


def _first_step(folder: Path, seed: int) -> float:
    from pipeline.job_file import dump_job

    path = folder / "job.yaml"
    path.write_text(dump_job(bench_job(folder, seed, 20, 2, 1)))
    started = time.time()
    environment = {**os.environ, "DRAW_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(path), "--json"],
        cwd=ROOT, env=environment, capture_output=True, check=True,
    )  # fmt: skip
    storage = open_storage(f"file://{folder}/storage")
    table = read_metrics(storage, json.loads(done.stdout)["id"])["train"]
    first = table.slice(0, 1).to_pylist()[0]
    return float(first["time"]) - started


def _bare_ray() -> float:
    started = time.perf_counter()
    code = "import ray; ray.init(logging_level=40); ray.shutdown()"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    return time.perf_counter() - started


def steps(repeats: int) -> None:
    """Training steps as they are against steps with one thing done otherwise."""
    for name, pairs in training_steps.pairs(repeats).items():
        ratios(f"steps, {name}", pairs, "examples/s")


BENCHES = {
    "pipeline": pipeline, "loader": loader, "gemm": gemm, "start": start, "steps": steps,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", choices=[*BENCHES, []], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, numpy {np.__version__}, {os.cpu_count()} cores", flush=True)
    for name in options.which or BENCHES:
        BENCHES[name](options.repeats)


if __name__ == "__main__":
    main()
