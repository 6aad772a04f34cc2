"""Quick, Draw!: people's sketches as 28×28 bitmaps, one .npy file for each category."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.own_files import find, mapped, sha256_of
from pipeline.sources.shares import check_counts, shares, sizes
from pipeline.values import digest

SIDE = 28
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 '-]*")
ADDRESS = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap"


@dataclass(frozen=True, kw_only=True)
class Quickdraw:
    """Sketches of some categories, white on black, mixed; files from ``$DRAW_DATA/quickdraw``.

    ``val`` and ``test`` sketches are set aside by ``seed``, by default a tenth of all each. The
    classes are the categories in the order given.
    """

    source: Literal["quickdraw"] = "quickdraw"
    categories: tuple[str, ...] = ("cat",)
    val: int | None = None
    test: int | None = None
    seed: int = 0
    binarisation: Binarisation = "dynamic"

    def __post_init__(self) -> None:
        for name in self.categories:
            if not NAME.fullmatch(name):
                raise ValueError(f"categories: {name!r}; a name such as cat or hot air balloon")
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise ValueError("categories: give one or more, each once")
        check_counts(val=self.val, test=self.test)
        check_binarisation(self.binarisation)

    def about(self) -> About:
        return About(
            shape=(1, SIDE, SIDE),
            classes=self.categories,
            origin="The Quick, Draw! Dataset, Google",
            licence="CC BY 4.0",
        )

    def fingerprint(self) -> str:
        return digest([sha256_of(_located(name)) for name in self.categories])

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        total = sum(len(load(name)) for name in self.categories)
        return sizes(total, "quickdraw", val=self.val, test=self.test)

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, 28, 28) and the category's number.

        Raises DataError for a file that is missing or not rows of 784 bytes.
        """
        files = [load(name) for name in self.categories]
        ends = np.cumsum([len(file) for file in files])
        counts = sizes(int(ends[-1]), "quickdraw", val=self.val, test=self.test)
        parts = shares(
            int(ends[-1]), self.seed, "quickdraw", val=counts["val"], test=counts["test"]
        )
        for index in parts[split][start:stop]:
            label = int(np.searchsorted(ends, index, side="right"))
            yield files[label][index - ends[label]].copy(), label


def load(category: str) -> np.ndarray:
    """uint8 (n, 1, 28, 28), mapped. Raises DataError for files that are missing or others."""
    path = _located(category)
    array = mapped(path)
    if array.dtype != np.uint8 or array.shape[1:] not in ((784,), (1, 784), (28, 28)):
        found = f"{array.dtype} {array.shape}"
        raise DataError(f"{path}: {found}, expected uint8 (n, 784); get the numpy bitmap file")
    if not array.flags.c_contiguous or not len(array):
        raise DataError(f"{path}: no sketch, or not row by row; get the numpy bitmap file")
    return array.reshape(-1, 1, SIDE, SIDE)


def _located(category: str) -> Path:
    file = f"{category}.npy"
    address = f"{ADDRESS}/{file.replace(' ', '%20')}"
    return find("quickdraw", file, f"download {address} into $DRAW_DATA/quickdraw")
