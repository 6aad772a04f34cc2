"""What a finished run shows the world: weights, pictures, the record (last) and the pages."""

import platform
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from typing import Any

import torch
from safetensors.torch import load

from draw_model import Cnn, ConvDraw, Dcgan, Model, Pictures
from pipeline import checkpoint, pictures
from pipeline.contact_sheet import png
from pipeline.errors import DataError
from pipeline.job import Job, crop_of, run_id
from pipeline.job_file import check_job
from pipeline.listing import read_attempts, read_metrics
from pipeline.loader import as_text, cropped, model_of, open_loader
from pipeline.manifest import Manifest
from pipeline.prepare import load_manifest
from pipeline.records import (
    METRICS,
    MODEL,
    PICTURES,
    RECORD,
    WEIGHTS,
    RunRecord,
    read_record,
    run_path,
)
from pipeline.report import write_run_page, write_storage_page
from pipeline.storage import Storage
from pipeline.values import to_json, to_plain
from pipeline.worker import Outcome

SHOWN = 30
"""Test images in the pictures of reconstructions."""
SHOWN_TEXTS = 5
TEXTS = "samples.txt"
KERNELS = "kernels.png"
SAMPLES = 100
"""Imagined images in the sample grid."""


def publish(
    job: Job, manifest: Manifest, storage: Storage, outcome: Outcome, *, index: bool = True
) -> RunRecord:
    """Weights and pictures of the best checkpoint, then the record, then the pages.

    ``index=False`` leaves the storage's own page as it is.
    """
    home = storage.below(run_path(run_id(job, manifest)))
    model, weights_sha256 = publish_weights(job, manifest, home, outcome.best_step)
    draw_pictures(job, manifest, storage, home, model)
    record = make_record(job, manifest, storage, outcome, weights_sha256)
    home.write(RECORD, to_json(record))
    write_run_page(storage, record.id)
    if index:
        write_storage_page(storage)
    return record


def publish_unfinished(job: Job, manifest: Manifest, storage: Storage) -> None:
    """Weights, pictures and page of a run that was stopped, from its best checkpoint; no record.

    Raises DataError when it has no whole checkpoint.
    """
    run = run_id(job, manifest)
    home = storage.below(run_path(run))
    found = checkpoint.latest(home, run)
    if found is None:
        raise DataError(f"{home.url}: no whole checkpoint to draw pictures from")
    state, _ = found
    step = state.best_step if state.best_step in checkpoint.steps(home) else state.step
    model, _ = publish_weights(job, manifest, home, step)
    draw_pictures(job, manifest, storage, home, model)
    write_run_page(storage, run)


def publish_weights(job: Job, manifest: Manifest, home: Storage, step: int) -> tuple[Model, str]:
    """A checkpoint's weights under the names that readers know; the model, and their sha256."""
    weights = checkpoint.read(home, step)[checkpoint.MODEL]
    home.write(WEIGHTS, weights)
    home.write(MODEL, to_json(describe(job, manifest)))
    model = model_of(job, manifest)
    model.load_state_dict(load(weights))
    return model.eval(), sha256(weights).hexdigest()


def describe(job: Job, manifest: Manifest) -> dict[str, Any]:
    """What ``draw_model.from_plain`` builds the model from."""
    shape = cropped(manifest.shape, crop_of(job))
    return {**to_plain(job.model), "shape": list(shape), "classes": len(manifest.classes)}


def finished_run(storage: Storage, run: str) -> tuple[Job, Manifest, Model]:
    """Job, data set and trained model of a finished run, from its published weights.

    Raises DataError where one is damaged, or the weights are not those that the record names.
    """
    home, record = storage.below(run_path(run)), read_record(storage, run)
    weights = home.read(WEIGHTS)
    found = sha256(weights).hexdigest()
    if record.weights_sha256 != found:
        raise DataError(
            f"{home.address(WEIGHTS)}: sha256 {found[:12]}…, the record says "
            f"{record.weights_sha256[:12] or 'nothing'}…; delete run.json and run the job again "
            "(the checkpoints are kept)"
        )
    job = check_job(record.job, home.address(RECORD))
    name, _, id = record.dataset.removeprefix("datasets/").partition("/")
    manifest = load_manifest(storage, name, id)
    model = model_of(job, manifest)
    model.load_state_dict(load(weights))
    return job, manifest, model.eval()


@torch.no_grad()
def draw_pictures(
    job: Job, manifest: Manifest, storage: Storage, home: Storage, model: Model
) -> None:
    """Writes all pictures of a run; those of reconstructions show the first test images."""
    from pipeline.curves import curves_png  # Matplotlib, which readers of a run go without

    shown = min(SHOWN, manifest.splits["test"])
    loader = open_loader(job, manifest, storage, "test", model.noise_shapes(), batch_size=shown)
    batch = loader.batch(0, range(shown))
    samples = model.sample(SAMPLES, job.train.seed)
    drawn = pictures.of_model(samples, batch.x, model.reconstruct(batch))
    drawn |= texts(samples, SHOWN_TEXTS) | kernels(model)
    tables = read_metrics(storage, run_id(job, manifest))
    for name, data in {**drawn, "curves.png": curves_png(tables)}.items():
        home.write(f"{PICTURES}/{name}", data)


def texts(samples: Pictures, most: int | None = None) -> dict[str, bytes]:
    """``samples.txt`` of a model that writes, with at most so many texts; else nothing."""
    if "codes" not in samples:
        return {}
    return {TEXTS: "\n\n".join(as_text(codes) for codes in samples["codes"][:most]).encode()}


def kernels(model: Model) -> dict[str, bytes]:
    """``kernels.png``: a column a first kernel, a row a channel that it reads; else nothing.

    The largest weight, up or down, is white or black; 0 is grey.
    """
    if not isinstance(model, ConvDraw | Cnn | Dcgan):
        return {}
    first = model.first_kernels()  # (M, K, S, S)
    rows = first.transpose(0, 1).flatten(0, 1).unsqueeze(1)  # (K · M, 1, S, S)
    shades = 0.5 + rows / (2 * rows.abs().max())
    shown = pictures.grid(shades, columns=len(first), scale=-(-30 // first.shape[-1]))
    return {KERNELS: png(shown)}


def make_record(
    job: Job, manifest: Manifest, storage: Storage, outcome: Outcome, weights_sha256: str
) -> RunRecord:
    """The record of a run whose training has come to ``outcome``."""
    run = run_id(job, manifest)
    train = read_metrics(storage, run).get("train")
    if train is None:
        where = storage.address(f"{run_path(run)}/{METRICS}")
        raise DataError(f"{where}: gone while the run was training; run the job again")
    seconds = float(sum(train["seconds"].to_pylist()))
    examples = int(sum(train["examples"].to_pylist()))
    attempts = read_attempts(storage, run)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    starts = [entry["started"] for entry in attempts if entry["started"]]
    return RunRecord(
        version=RunRecord.VERSION,
        id=run,
        name=job.name,
        job=to_plain(job),
        dataset=manifest.path,
        manifest_content=manifest.content,
        parameters=outcome.parameters,
        weights_sha256=weights_sha256,
        steps=outcome.step,
        epochs=float(job.train.total_epochs),
        examples_seen=examples,
        best_step=outcome.best_step,
        skipped_steps=outcome.skipped_steps,
        results=outcome.results,
        workers=outcome.workers,
        device=outcome.device,
        machine=outcome.machine,
        attempts=max(1, len(attempts)),
        train_seconds=seconds,
        examples_per_second=examples / max(seconds, 1e-9),
        started=min(starts, default=finished),
        finished=finished,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    names = ("draw-pipeline", "torch", "ray", "numpy", "pyarrow", "webdataset")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
