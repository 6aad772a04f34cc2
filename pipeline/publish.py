"""What a finished run shows the world: weights, pictures, the record (last) and the pages."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata

import torch
from safetensors.torch import load

from draw_model import Model, from_plain
from pipeline import checkpoint, pictures
from pipeline.cache import ShardCache, cache_folder
from pipeline.curves import curves_png
from pipeline.job import Job, run_id
from pipeline.listing import read_attempts, read_metrics
from pipeline.loader import Loader, Split
from pipeline.manifest import Manifest
from pipeline.records import (
    MODEL,
    PICTURES,
    RECORD,
    WEIGHTS,
    RunRecord,
    run_path,
)
from pipeline.report import write_run_page, write_storage_page
from pipeline.storage import Storage
from pipeline.values import to_json, to_plain
from pipeline.worker import Outcome

SHOWN = 30
"""Test images in the pictures of reconstructions."""
SAMPLES = 100
"""Imagined images in the sample grid."""


def publish(job: Job, manifest: Manifest, storage: Storage, outcome: Outcome) -> RunRecord:
    """Weights and pictures of the best checkpoint, then the record, then the pages."""
    home = storage.below(run_path(run_id(job, manifest)))
    model = publish_weights(job, manifest, home, outcome.best_step)
    draw_pictures(job, manifest, storage, home, model)
    record = make_record(job, manifest, storage, home, outcome)
    home.write(RECORD, to_json(record))
    write_run_page(storage, record.id)
    write_storage_page(storage)
    return record


def publish_weights(job: Job, manifest: Manifest, home: Storage, step: int) -> Model:
    """The weights of a checkpoint under the names that readers know; the model with them."""
    weights = checkpoint.read(home, step)[checkpoint.MODEL]
    home.write(WEIGHTS, weights)
    described = {**to_plain(job.model), "shape": list(manifest.shape)}
    home.write(MODEL, to_json(described))
    model = from_plain(described)
    model.load_state_dict(load(weights))
    return model.eval()


def load_model(home: Storage) -> Model:
    """The trained model of a finished run, from its published weights."""
    import json

    model = from_plain(json.loads(home.read(MODEL)))
    model.load_state_dict(load(home.read(WEIGHTS)))
    return model.eval()


@torch.no_grad()
def draw_pictures(
    job: Job, manifest: Manifest, storage: Storage, home: Storage, model: Model
) -> None:
    cache = ShardCache(cache_folder(), int(job.cluster.cache_gb * 1e9))
    loader = Loader(
        Split(cache, storage, manifest, "test"),
        batch_size=SHOWN,
        seed=job.train.seed,
        binarisation=job.data.binarisation,
        shapes=model.noise_shapes(),
        training=False,
    )
    batch = loader.batch(0, range(SHOWN))
    samples = model.sample(SAMPLES, job.train.seed)
    drawn = pictures.of_model(samples, batch.x, model.reconstruct(batch))
    tables = read_metrics(storage, run_id(job, manifest))
    for name, data in {**drawn, "curves.png": curves_png(tables)}.items():
        home.write(f"{PICTURES}/{name}", data)


def make_record(
    job: Job, manifest: Manifest, storage: Storage, home: Storage, outcome: Outcome
) -> RunRecord:
    tables = read_metrics(storage, run_id(job, manifest))
    train = tables["train"]
    seconds = float(sum(train["seconds"].to_pylist()))
    examples = int(sum(train["examples"].to_pylist()))
    attempts = read_attempts(storage, run_id(job, manifest))
    return RunRecord(
        version=RunRecord.VERSION,
        id=run_id(job, manifest),
        name=job.name,
        job=to_plain(job),
        dataset=manifest.path,
        manifest_content=manifest.content,
        parameters=outcome.parameters,
        steps=outcome.step,
        epochs=float(job.train.total_epochs),
        examples_seen=examples,
        best_step=outcome.best_step,
        skipped_steps=outcome.skipped_steps,
        results=outcome.results,
        workers=attempts[-1]["workers"],
        device=attempts[-1]["device"],
        machine=machine(attempts[-1]["device"]),
        attempts=len(attempts),
        train_seconds=seconds,
        examples_per_second=examples / max(seconds, 1e-9),
        started=attempts[0]["started"],
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
    )


def machine(device: str) -> str:
    """Processor or GPU model and count."""
    if device == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()}"
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
        model = names[0] if names else model
    except OSError:  # not Linux: the plain name is what there is
        pass
    return f"{model}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    names = ("draw-pipeline", "torch", "ray", "numpy", "pyarrow", "webdataset")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
