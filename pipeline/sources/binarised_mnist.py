"""The binarised MNIST that published bounds were measured on: fixed 0s and 1s, in text files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.fetch import Remote, cache_folder, find_or_fetch, own_folders
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation

NAME, SIDE = "binarised_mnist", 28
ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
LINE = 2 * SIDE * SIDE
"""Bytes of a picture's line: each value is one digit and one space, after the last a line's end."""

BLOCK = 1000
"""Lines that are read at once."""


@dataclass(frozen=True, kw_only=True)
class File:
    """The file of one split, and how many pictures it holds."""

    remote: Remote
    count: int


def _official(name: str, sha256: str, count: int) -> File:
    address = f"{ADDRESS}/binarized_mnist_{name}.amat"
    return File(remote=Remote(address=address, sha256=sha256, most_bytes=count * LINE), count=count)


# Checksums as TensorFlow Datasets publishes them.
OFFICIAL = {
    "train": _official(
        "train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d", 50_000
    ),
    "val": _official(
        "valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2", 10_000
    ),
    "test": _official(
        "test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c", 10_000
    ),
}


@dataclass(frozen=True, kw_only=True)
class BinarisedMnist:
    """MNIST binarised once and for all: pixels 0 or 255, official splits, one class, no labels."""

    source: Literal["binarised_mnist"] = "binarised_mnist"
    binarisation: Binarisation = "fixed"

    def __post_init__(self) -> None:
        check_binarisation(self.binarisation, "fixed")

    def about(self) -> About:
        return About(
            shape=(1, SIDE, SIDE),
            classes=("digit",),
            origin="MNIST as binarised by Salakhutdinov and Murray (2008), in Larochelle's files",
            licence="none stated with these files; MNIST's distributors state CC BY-SA 3.0",
        )

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        for file in OFFICIAL.values():
            locate(file)
        return {split: file.count for split, file in OFFICIAL.items()}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, 28, 28) of 0 and 255, and class 0.

        Raises DataError when the files are missing and cannot be fetched, or are other files.
        """
        path = locate(OFFICIAL[split])
        for first in range(start, stop, BLOCK):
            for image in read_lines(path, first, min(first + BLOCK, stop)):
                yield image, 0


def locate(file: File) -> Path:
    """The split's file, fetched if it is nowhere.

    Raises DataError when it cannot be fetched or has not the size of its number of lines.
    """
    path = find_or_fetch(file.remote, own_folders(NAME), cache_folder(NAME))
    found, expected = path.stat().st_size, file.count * LINE
    if found != expected:
        raise DataError(
            f"{path}: {found} bytes, expected {expected}: {file.count} lines of {SIDE * SIDE} "
            "values; get the official file"
        )
    return path


def read_lines(path: Path, start: int, stop: int) -> np.ndarray:
    """Lines ``start`` … ``stop − 1`` as uint8 (n, 1, 28, 28) of 0 and 255.

    Raises DataError for a line that is not 784 values, 0 or 1, with one space between them.
    """
    bytes_ = np.fromfile(path, np.uint8, count=(stop - start) * LINE, offset=start * LINE)
    if bytes_.size != (stop - start) * LINE:
        raise DataError(f"{path}: ends before line {stop}; get the official file")
    lines = bytes_.reshape(-1, LINE)
    digits, ends = lines[:, ::2], np.full(LINE // 2, ord(" "), dtype=np.uint8)
    ends[-1] = ord("\n")
    right = ((digits == ord("0")) | (digits == ord("1"))) & (lines[:, 1::2] == ends)
    if not right.all():
        line, value = np.argwhere(~right)[0].tolist()
        found = lines[line, 2 * value : 2 * value + 2].tobytes()
        raise DataError(
            f"{path}: line {start + line + 1}: {found!r} at value {value + 1}, expected "
            f"{SIDE * SIDE} values 0 or 1, a space between them; get the official file"
        )
    return ((digits - ord("0")) * 255).reshape(-1, 1, SIDE, SIDE)
