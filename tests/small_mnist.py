"""Small files in MNIST's form and under its names, with drawn digits as pictures."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from draw_model import noise
from pipeline.fetch import Remote
from pipeline.sources.contract import Source
from pipeline.sources.mnist import OFFICIAL, Part
from pipeline.sources.synthetic import Synthetic

TRAIN, TEST = 90, 40
HELD_OUT = 20
"""Validation digits, to be asked for with seed 0."""


def drawn(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (count, 28, 28) and labels (count,)."""
    images, labels = zip(*Synthetic().examples(split, 0, count), strict=True)
    return np.concatenate(images), np.array(labels)


def packed(path: Path, values: np.ndarray) -> Remote:
    """Writes a gzipped IDX file; how it is known."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    data = gzip.compress(header + values.astype(np.uint8).tobytes(), mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    address = f"http://127.0.0.1:9/{path.name}"
    return Remote(address=address, md5=hashlib.md5(data).hexdigest())


def half(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> Part:
    """One half as files in ``folder``, which is named like the data set."""
    return Part(
        images=packed(folder / f"{prefix}-images-idx3-ubyte.gz", images),
        labels=packed(folder / f"{prefix}-labels-idx1-ubyte.gz", labels),
        count=len(labels),
        name=folder.name,
    )


def install(
    patch: pytest.MonkeyPatch,
    root: Path,
    train: np.ndarray | None = None,
    test: np.ndarray | None = None,
) -> None:
    """Makes ``root`` the place of MNIST, with these pictures in place of the drawn ones."""
    patch.setenv("DRAW_DATA", str(root))
    for name, split, prefix, count, images in (
        ("train", "train", "train", TRAIN, train),
        ("test", "test", "t10k", TEST, test),
    ):
        pictures, labels = drawn(split, count)
        pictures = pictures if images is None else images
        patch.setitem(OFFICIAL, name, half(root / "mnist", prefix, pictures, labels))


def held_out() -> np.ndarray:
    """Indices of the validation digits."""
    return np.sort(noise.generator(0, "mnist/validation").permutation(TRAIN)[:HELD_OUT])


def assert_splits_are_disjoint(source: Source, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Blank digits of one split blank all of its own pictures, and change none of the others."""

    def pictures() -> dict[str, np.ndarray]:
        return {
            split: np.stack([image for image, _ in source.examples(split, 0, count)])
            for split, count in source.splits().items()
        }

    install(patch, root / "whole")
    before = pictures()
    train, val = drawn("train", TRAIN)[0], np.isin(np.arange(TRAIN), held_out())[:, None, None]
    blanks = {
        "train": {"train": train * val},
        "val": {"train": train * ~val},
        "test": {"test": np.zeros((TEST, 28, 28))},
    }
    for blank, changed in blanks.items():
        install(patch, root / blank, **changed)
        for split, images in pictures().items():
            expected = np.zeros_like(images) if split == blank else before[split]
            np.testing.assert_array_equal(images, expected)
