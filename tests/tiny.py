"""Small real things for tests: a job on drawn digits, its shards, and training by hand."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load
from torch import Tensor

from pipeline import checkpoint
from pipeline.cache import ShardCache
from pipeline.job import Job, run_id
from pipeline.job_file import check_job
from pipeline.listing import read_metrics
from pipeline.loader import Loader, Split
from pipeline.manifest import Manifest, Shard
from pipeline.prepare import prepare
from pipeline.records import run_path
from pipeline.shards import sha256_of, write_shard
from pipeline.storage import Storage, open_storage

PLAIN: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "synthetic", "size": 12, "train": 70, "val": 20, "test": 20},
    "model": {"kind": "draw", "steps": 3, "hidden": 16, "latent": 4, "read_n": 3, "write_n": 3},
    "train": {"total_epochs": 3, "batch_size": 16, "checkpoint_every_steps": 2, "lr": 0.01},
    "cluster": {"workers": 1},
}
"""Five steps an epoch, the last of them padded."""


def tiny_job(storage: str | Path = "file:///nowhere", **sections: dict[str, Any]) -> Job:
    """The job above with other values: ``tiny_job(url, train={"lr": 0.1})``."""
    plain = {**PLAIN, "storage": str(storage)}
    for name, values in sections.items():
        plain[name] = {**plain[name], **values}
    return check_job(plain, "tiny")


def prepared(job: Job) -> tuple[Manifest, Storage]:
    storage = open_storage(job.storage)
    return prepare(job.data, storage), storage


def home_of(job: Job, manifest: Manifest, storage: Storage) -> Storage:
    return storage.below(run_path(run_id(job, manifest)))


def weights(home: Storage, step: int | None = None) -> dict[str, Tensor]:
    """The weights of a checkpoint, by default the newest."""
    step = checkpoint.steps(home)[-1] if step is None else step
    return load(checkpoint.read(home, step)[checkpoint.MODEL])


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def root_of(home: Storage) -> tuple[Storage, str]:
    """The storage that a run's folder is in, and the run's id."""
    root, run = home.address("").rstrip("/").rsplit("/runs/", 1)
    return open_storage(root), run


def losses(home: Storage) -> list[float]:
    """The training loss of every step, in order."""
    return column(read_metrics(*root_of(home))["train"], "loss")


def column(table: Any, name: str) -> list[Any]:
    values: Sequence[Any] = table[name].to_pylist()
    return list(values)


def loader_over(examples: np.ndarray, *, training: bool, crop: int | None = None) -> Loader:
    """A loader of these examples, (n, C, H, W) or (n, L), all in one batch, from a real shard."""
    with tempfile.TemporaryDirectory() as folder:
        storage, file = open_storage(f"file://{folder}/store"), f"{folder}/train-000000.tar"
        write_shard(Path(file), ((one, 0) for one in examples), first=0)
        shard = Shard(
            file="train-000000.tar", split="train", first=0, examples=len(examples),
            bytes=Path(file).stat().st_size, sha256=sha256_of(Path(file)),
        )  # fmt: skip
        manifest = Manifest(
            version=1, name="tiny", id="0", source={}, shape=examples.shape[1:],
            classes=("one",), splits={"train": len(examples)}, class_counts={}, shards=(shard,),
            origin="", licence="",
        )  # fmt: skip
        storage.upload(f"{manifest.path}/{shard.file}", Path(file))
        split = Split(ShardCache(Path(folder, "cache"), 10**9), storage, manifest, "train")
        return Loader(
            split, batch_size=len(examples), seed=3, binarisation="grey", shapes={},
            training=training, crop=crop,
        )  # fmt: skip
