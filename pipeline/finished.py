"""A finished run, opened: what its measures and pictures may know of it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from draw_model import Batch, Model, noise
from pipeline.job import Job
from pipeline.loader import Loader, open_loader
from pipeline.manifest import Manifest
from pipeline.publish import finished_run
from pipeline.storage import Storage
from pipeline.worker import autocast

BLOCK = 6 * noise.BLOCK
"""Samples that are imagined at once: canvases of 32 steps of 3 × 54 × 54 take 215 MB."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished run, ready to be asked: its model evaluates on ``device``."""

    storage: Storage
    run: str
    job: Job
    manifest: Manifest
    model: Model
    device: torch.device

    def loader(self, split: str, batch_size: int | None = None) -> Loader:
        """The split in order, read as the run's job reads it."""
        shapes = self.model.noise_shapes()
        return open_loader(
            self.job, self.manifest, self.storage, split, shapes, batch_size=batch_size
        )

    def precision(self) -> AbstractContextManager[Any]:
        """The region in which the model computes as it did in training."""
        return autocast(self.device.type, self.job.train.precision)

    def images(self, count: int, seed: int) -> Iterator[torch.Tensor]:
        """The first ``count`` samples of ``seed`` in blocks (b, C, H, W), as ``Model.sample``."""
        shapes = self.model.noise_shapes()
        for first in range(0, count, BLOCK):
            places = range(first, min(first + BLOCK, count))
            draws = noise.draw(shapes, seed, "sample", 0, places)
            made = self.model.generate({k: v.to(self.device) for k, v in draws.items()})
            yield made["images"].float()

    def first_tests(self, count: int) -> Batch:
        """The first ``count`` examples of the test split, or all where there are less."""
        count = min(count, self.manifest.splits["test"])
        return self.loader("test", count).batch(0, range(count)).to(self.device)


def open_finished(storage: Storage, run: str, device: torch.device | None = None) -> Finished:
    """A run by its whole id, on a GPU where there is one and no other device is wished for.

    Raises DataError where it is not finished or is damaged.
    """
    job, manifest, model = finished_run(storage, run)
    wished = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Finished(
        storage=storage, run=run, job=job, manifest=manifest, model=model.to(wished), device=wished
    )
