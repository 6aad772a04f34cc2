"""MNIST: the four official files, their IDX format, and how a validation set is cut from them.

Fashion-MNIST comes in the same form, under the same file names.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from draw_model import noise
from pipeline.errors import DataError
from pipeline.fetch import Progress, Remote, cache_folder, find_or_fetch, own_folders
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation

TRAIN, TEST, SIDE = 60_000, 10_000, 28
CLASSES = tuple(str(digit) for digit in range(10))
ORIGIN = "MNIST, LeCun, Cortes and Burges, from NIST Special Databases 1 and 3"
LICENCE = "CC BY-SA 3.0, as its distributors state; no licence came with the originals"


@dataclass(frozen=True, kw_only=True)
class Part:
    """The pictures and the labels of one official half, and how many there are.

    ``name`` is the data set's: the folder below ``$DRAW_DATA`` where the files may lie.
    """

    images: Remote
    labels: Remote
    count: int
    name: str = "mnist"


Parts = dict[str, Part]


def official(name: str, address: str, train: tuple[str, str], test: tuple[str, str]) -> Parts:
    """Both halves under one address; ``train`` and ``test`` are the md5 of pictures and labels."""

    def part(prefix: str, md5: tuple[str, str], count: int) -> Part:
        images = Remote(address=f"{address}/{prefix}-images-idx3-ubyte.gz", md5=md5[0])
        labels = Remote(address=f"{address}/{prefix}-labels-idx1-ubyte.gz", md5=md5[1])
        return Part(images=images, labels=labels, count=count, name=name)

    return {"train": part("train", train, TRAIN), "test": part("t10k", test, TEST)}


OFFICIAL = official(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    train=("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
    test=("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
)


@dataclass(frozen=True, kw_only=True)
class InMnistsForm:
    """``validation`` of the 60,000 training pictures are set aside, chosen by ``seed``."""

    parts: ClassVar[Parts]
    source: str
    validation: int = 5000
    seed: int = 0
    binarisation: Binarisation = "dynamic"

    def __post_init__(self) -> None:
        if not 1 <= self.validation <= TRAIN // 2:
            raise ValueError(f"validation: {self.validation}; takes 1 to {TRAIN // 2}")
        check_binarisation(self.binarisation)

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        for part in self.parts.values():
            locate(part)
        train, test = self.parts["train"].count, self.parts["test"].count
        return {"train": train - self.validation, "val": self.validation, "test": test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, 28, 28) and the class.

        Raises DataError when the files are missing and cannot be fetched, or are other files.
        """
        images, labels = load(self.parts["test" if split == "test" else "train"])
        for index in members(split, len(labels), self.validation, self.seed)[start:stop]:
            yield images[index][None], int(labels[index])


@dataclass(frozen=True, kw_only=True)
class Mnist(InMnistsForm):
    """MNIST; ``validation`` of the 60,000 training pictures are set aside, chosen by ``seed``."""

    parts = OFFICIAL
    source: Literal["mnist"] = "mnist"

    def about(self) -> About:
        return About(shape=(1, SIDE, SIDE), classes=CLASSES, origin=ORIGIN, licence=LICENCE)


def members(split: str, count: int, validation: int, seed: int) -> np.ndarray:
    """Which of the ``count`` pictures of its half belong to a split: their indices, ascending."""
    return np.arange(count) if split == "test" else cut(count, validation, seed)[split]


def cut(count: int, validation: int, seed: int) -> dict[str, np.ndarray]:
    """Indices of ``train`` and ``val``: a random choice by seed, each kept in the files' order."""
    order = noise.generator(seed, "mnist/validation").permutation(count)
    return {"train": np.sort(order[validation:]), "val": np.sort(order[:validation])}


def load(part: Part, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pictures (count, 28, 28) and labels (count,), found or fetched, read once a process.

    Raises DataError for files that are missing, damaged, or not what the names say.
    """
    images_path, labels_path = locate(part, progress)
    images = read_idx(images_path, (part.count, SIDE, SIDE))
    labels = read_idx(labels_path, (part.count,))
    if labels.max(initial=0) >= len(CLASSES):
        raise DataError(f"{labels_path}: label {labels.max()}, expected 0 to 9; fetch it again")
    return images, labels


def locate(part: Part, progress: Progress | None = None) -> tuple[Path, Path]:
    """The files of the pictures and the labels, fetched if they are nowhere; see ``load``."""
    own, cache = own_folders(part.name), cache_folder(part.name)
    if part.name != "mnist":
        own = own[:1]  # what lies in $DRAW_DATA itself is MNIST's, which has the same file names
    images, labels = (
        find_or_fetch(remote, own, cache, progress) for remote in (part.images, part.labels)
    )
    return images, labels


@lru_cache(maxsize=4)
def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A gzipped IDX file of bytes with exactly these dimensions; the array is read-only.

    IDX: two zero bytes, type 8 (unsigned byte), the number of dimensions, each dimension as a
    big-endian 32-bit number, the values. Raises DataError for anything else.
    """
    data = _unpack(path, 4 + 4 * len(shape) + math.prod(shape))
    magic, header = bytes([0, 0, 8, len(shape)]), data[4 : 4 + 4 * len(shape)]
    if data[:4] != magic:
        raise DataError(f"{path}: starts with {data[:4].hex()}, expected {magic.hex()}; not IDX")
    found = tuple(np.frombuffer(header, dtype=">u4").tolist()) if len(header) % 4 == 0 else ()
    if found != shape:
        raise DataError(f"{path}: dimensions {found}, expected {shape}; get the official file")
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + len(header))
    if values.size != math.prod(shape):
        raise DataError(f"{path}: {values.size} values, expected {math.prod(shape)}; it is cut off")
    return values.reshape(shape)


def _unpack(path: Path, expected: int) -> bytes:
    """The unpacked bytes; never makes more than ``expected`` + 1 of them."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(path.read_bytes(), expected + 1)
    except zlib.error as fault:
        raise DataError(f"{path}: not gzip, or damaged ({fault}); fetch it again") from None
    if len(data) > expected:
        raise DataError(f"{path}: unpacks to more than the {expected} bytes expected; refused")
    if not unpacker.eof:
        raise DataError(f"{path}: ends after {len(data)} of {expected} bytes; fetch it again")
    return data
