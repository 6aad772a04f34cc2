"""Cluttered MNIST: a whole digit somewhere on a canvas strewn with pieces of other digits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.sources.canvas import (
    Digits,
    add,
    check_files,
    check_settings,
    clipped,
    in_blocks,
    in_turn,
    integers,
)
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.mnist import CLASSES, LICENCE, ORIGIN, SIDE

MOST = 256
"""Distractors whose sum with a digit fits 16 bits: 257 × 255 = 65,535."""


@dataclass(frozen=True, kw_only=True)
class Cluttered:
    """MNIST digits among ``distractors`` pieces of ``patch`` × ``patch`` pixels of other digits.

    ``train`` pictures are made ``draws`` times, each time with other clutter and places.
    ``validation_digits`` of the 60,000 training digits, chosen by ``seed``, make the val pictures,
    as digit and as clutter, and no others; test pictures are made of test digits only. The digits
    of a split take turns: each comes once before any comes twice.
    """

    source: Literal["cluttered"] = "cluttered"
    size: int = 100
    distractors: int = 8
    patch: int = 8
    draws: int = 1
    train: int = 60_000
    val: int = 10_000
    test: int = 10_000
    validation_digits: int = 5000
    seed: int = 0
    binarisation: Binarisation = "grey"

    def __post_init__(self) -> None:
        check_settings(
            self.size,
            self.validation_digits,
            draws=self.draws,
            train=self.train,
            val=self.val,
            test=self.test,
        )
        if not 0 <= self.distractors <= MOST:
            raise ValueError(f"distractors: {self.distractors}; takes 0 to {MOST}")
        if not 1 <= self.patch <= SIDE:
            raise ValueError(f"patch: {self.patch}; takes 1 to {SIDE}")
        check_binarisation(self.binarisation)

    def about(self) -> About:
        return About(
            shape=(1, self.size, self.size),
            classes=CLASSES,
            origin=f"digits and clutter cut from {ORIGIN}",
            licence=LICENCE,
        )

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        check_files()
        return {"train": self.draws * self.train, "val": self.val, "test": self.test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, size, size) and the whole digit.

        Raises DataError when MNIST is missing and cannot be fetched, or is damaged.
        """
        return in_blocks(self, _made, split, start, stop)


def _made(
    source: Cluttered, known: Digits, stream: str, places: range
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 1, size, size) and labels (n,) of these places in a split.

    Per picture first row and column of the digit, then for each distractor the digit that it is
    cut from, where in it, and where it goes.
    """
    count = len(known.chosen)
    whole = known.chosen[in_turn(count, source.seed, f"{stream}/digit", places)]
    cuts, goals = SIDE - source.patch + 1, source.size - source.patch + 1
    below = 2 * [source.size - SIDE + 1] + source.distractors * [count, cuts, cuts, goals, goals]
    drawn = integers(source.seed, f"{stream}/place", places, below)
    pieces = sliding_window_view(known.images, (source.patch, source.patch), axis=(1, 2))
    canvas = np.zeros((len(places), source.size, source.size), dtype=np.uint16)
    for first in range(2, len(below), 5):
        which, top, left, row, column = drawn[:, first : first + 5].T
        add(canvas, pieces[known.chosen[which], top, left], row, column)
    add(canvas, known.images[whole], drawn[:, 0], drawn[:, 1])
    return clipped(canvas), known.labels[whole]
