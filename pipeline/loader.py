"""Manifest + plan → batches: the only place where bytes of a data set become tensors."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from draw_model import Batch, Model, build, noise
from draw_model.char_rnn import ALPHABET
from draw_model.contract import Shape
from pipeline import plan
from pipeline.cache import ShardCache, cache_folder
from pipeline.errors import DataError, JobError
from pipeline.job import Job, crop_of
from pipeline.manifest import Manifest
from pipeline.sources.canvas import integers
from pipeline.sources.contract import Binarisation, Compose
from pipeline.storage import Storage

Shapes = Mapping[str, tuple[int, ...]]

CHARACTERS = np.zeros(256, dtype=np.int64)
CHARACTERS[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
"""ASCII code → place in the alphabet; a shard with any other code was refused."""


def as_text(codes: torch.Tensor) -> str:
    """(L,) places in the alphabet, as ``Batch.x`` has them → the text."""
    return "".join(ALPHABET[code] for code in codes.tolist())


class Split:
    """One split, decoded and mapped: indexed by example id. Holds no pixel in memory itself."""

    def __init__(
        self, cache: ShardCache, storage: Storage, manifest: Manifest, split: str, first: int = 0
    ) -> None:
        self.name, self.shape = split, manifest.shape
        self.shards = cache.open(storage, manifest, split, first)
        self.ends = np.cumsum([len(shard) for shard in self.shards])
        self.examples = int(self.ends[-1]) if self.shards else 0

    def gather(self, ids: np.ndarray, side: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (n, C, H, W) and int64 (n,), of pictures the first ``side`` rows and columns if
        that is given; padding ids give zeros."""
        corner = ... if side is None else np.s_[:, :, :side, :side]
        shape = self.shape if side is None else (self.shape[0], side, side)
        x = np.zeros((len(ids), *shape), dtype=np.uint8)
        y = np.zeros(len(ids), dtype=np.int64)
        owner = np.searchsorted(self.ends, ids, side="right")
        for k in np.unique(owner[ids >= 0]):
            rows = np.flatnonzero((owner == k) & (ids >= 0))
            local = ids[rows] - (self.ends[k] - len(self.shards[k]))
            x[rows] = self.shards[k]["x"][corner][local]
            y[rows] = self.shards[k]["y"][local]
        return x, y


class Loader:
    """Batches of one split for one purpose (training, or evaluation of a split).

    Training goes through a fresh order each epoch; evaluation reads in order. All random numbers
    are a function of (seed, purpose, step, place in the global batch).
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        binarisation: Binarisation,
        shapes: Shapes,
        training: bool,
        crop: int | None = None,
        compose: Compose | None = None,
    ) -> None:
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.shape, self.crop = cropped(split.shape, crop), crop
        self.compose = compose
        self.binarisation, self.shapes, self.training = binarisation, shapes, training
        self.purpose = "train" if training else f"evaluate/{split.name}"
        self.steps = plan.steps_per_epoch(split.examples, batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def ids(self, step: int) -> np.ndarray:
        """(batch_size,) example ids of the whole global batch of this step."""
        epoch, index = divmod(step, self.steps)
        if self._order[0] != epoch:
            self._order = (epoch, self._epoch_order(epoch))
        return plan.batch_ids(self._order[1], index, self.batch_size)

    def batch(self, step: int, places: range) -> Batch:
        """The given places of the global batch of this step."""
        ids = self.ids(step)[places.start : places.stop]
        stored, y = self.split.gather(ids)
        if self.compose is not None and len(ids):
            stream = f"{self.purpose}/compose"
            draw = partial(integers, self.seed, stream, places, step=step)
            stored = self.compose(stored, self._others, self.split.examples, draw)
        text = len(self.shape) == 1
        return Batch(
            x=torch.from_numpy(CHARACTERS[stored]) if text else self._target(stored, step, places),
            y=torch.from_numpy(y),
            mask=torch.from_numpy(ids != plan.PADDING),
            noise=noise.draw(self.shapes, self.seed, self.purpose, step, places),
        )

    def _others(self, ids: np.ndarray, side: int) -> np.ndarray:
        return self.split.gather(ids, side)[0]

    def count(self, step: int) -> int:
        """Real examples in the global batch of this step."""
        return int((self.ids(step) != plan.PADDING).sum())

    def seen(self, steps: int) -> int:
        """Real examples in the global batches of the first ``steps`` steps."""
        epochs, rest = divmod(steps, self.steps)
        return epochs * self.split.examples + rest * self.batch_size

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if self.training:
            return plan.order(self.split.examples, self.seed, epoch)
        return np.arange(self.split.examples)

    def _target(self, grey: np.ndarray, step: int, places: range) -> torch.Tensor:
        x = torch.from_numpy(self._cut(grey, step, places)).float().div_(255)
        if self.binarisation == "threshold":
            return (x >= 0.5).float()
        if self.binarisation == "dynamic":
            stream = f"{self.purpose}/binarise"
            drawn = noise.uniform(self.seed, stream, step, places, self.shape)
            return (drawn < x).float()
        return x

    def _cut(self, pictures: np.ndarray, step: int, places: range) -> np.ndarray:
        """(n, C, H, W) → (n, C, crop, crop): somewhere in training, the middle in evaluation."""
        if self.crop is None:
            return pictures
        room = np.array(pictures.shape[2:]) - self.crop  # (2,): down, right
        corner = np.broadcast_to(room // 2, (len(places), 2))
        if self.training:
            stream = f"{self.purpose}/crop"
            chance = noise.uniform(self.seed, stream, step, places, (2,)).numpy()
            corner = np.minimum((chance * (room + 1)).astype(np.int64), room)
        windows = np.lib.stride_tricks.sliding_window_view(pictures, (self.crop, self.crop), (2, 3))
        return windows[np.arange(len(places)), :, corner[:, 0], corner[:, 1]]


def cropped(shape: Shape, crop: int | None) -> Shape:
    """The shape of one example as a model sees it. Raises DataError where it cannot be cut so."""
    if crop is None:
        return shape
    if len(shape) != 3 or crop > min(shape[1:]):
        raise DataError(f"crop is {crop}, the examples are {shape}; write a smaller crop or null")
    return (shape[0], crop, crop)


def model_of(job: Job, manifest: Manifest) -> Model:
    """A new model of the job for this data. Raises JobError where the two do not fit."""
    return model_for(job, cropped(manifest.shape, crop_of(job)), len(manifest.classes))


def model_for(job: Job, shape: Shape, classes: int) -> Model:
    """A new model of the job for examples of this shape, as ``model_of``."""
    try:
        return build(job.model, shape, classes)
    except ValueError as fault:
        raise JobError(f"{job.name}: the model does not fit {job.data.source}: {fault}") from None


def open_loader(
    job: Job,
    manifest: Manifest,
    storage: Storage,
    split: str,
    shapes: Shapes,
    *,
    training: bool = False,
    batch_size: int | None = None,
    first: int = 0,
) -> Loader:
    """A loader of one split as the job reads it, through this node's cache.

    ``batch_size`` is the job's if not given; ``first`` as in ``ShardCache.open``.
    """
    cache = ShardCache(cache_folder(), int(job.cluster.cache_gb * 1e9))
    read = Split(cache, storage, manifest, split, first)
    return loader_of(job, read, shapes, training=training, batch_size=batch_size)


def loader_of(
    job: Job, split: Split, shapes: Shapes, *, training: bool = False, batch_size: int | None = None
) -> Loader:
    """A loader of these examples as the job reads them."""
    composer = getattr(job.data, "composer", None)
    return Loader(
        split,
        batch_size=batch_size or job.train.batch_size,
        seed=job.train.seed,
        binarisation=job.data.binarisation,
        shapes=shapes,
        training=training,
        crop=crop_of(job),
        compose=composer(split.name) if composer else None,
    )
