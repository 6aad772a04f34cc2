"""Cluttered MNIST: a whole digit somewhere on a canvas strewn with pieces of other digits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.sources.affine import CHANCES, GRAINS, Affine
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
from pipeline.sources.contract import (
    About,
    Binarisation,
    Compose,
    Draw,
    Example,
    Others,
    check_binarisation,
)
from pipeline.sources.mnist import CLASSES, LICENCE, ORIGIN, SIDE

MOST = 256
"""Distractors whose sum with a digit fits 16 bits: 257 × 255 = 65,535."""


@dataclass(frozen=True, kw_only=True)
class Cluttered:
    """MNIST digits among ``distractors`` pieces of ``patch`` × ``patch`` pixels of other digits.

    ``train`` pictures are made ``draws`` times, each time with other clutter and places. With
    ``fresh`` draws the shards have the digits alone, in a corner, and a training picture is strewn
    anew whenever it is read: as the recipe's authors did, none is ever seen twice. With ``affine``
    its digit, not the clutter, is turned, sheared and scaled by chance before.
    ``validation_digits`` of the 60,000 training digits, chosen by ``seed``, make the val pictures,
    as digit and as clutter, and no others; test pictures are made of test digits only. The digits
    of a split take turns: each comes once before any comes twice.
    """

    endless: ClassVar[bool] = True
    source: Literal["cluttered"] = "cluttered"
    size: int = 100
    distractors: int = 8
    patch: int = 8
    draws: int | Literal["fresh"] = 1
    train: int = 60_000
    val: int = 10_000
    test: int = 10_000
    validation_digits: int = 5000
    seed: int = 0
    binarisation: Binarisation = "grey"
    affine: Affine | None = None

    def __post_init__(self) -> None:
        check_settings(
            self.size,
            self.validation_digits,
            draws=self._stored,
            train=self.train,
            val=self.val,
            test=self.test,
        )
        if not 0 <= self.distractors <= MOST:
            raise ValueError(f"distractors: {self.distractors}; takes 0 to {MOST}")
        if not 1 <= self.patch <= SIDE:
            raise ValueError(f"patch: {self.patch}; takes 1 to {SIDE}")
        check_binarisation(self.binarisation)
        if self.affine and self.draws != "fresh":
            raise ValueError(f"affine: takes draws: fresh, not draws: {self.draws}; write null")

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
        return {"train": self._stored * self.train, "val": self.val, "test": self.test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, size, size) and the whole digit.

        Raises DataError when MNIST is missing and cannot be fetched, or is damaged.
        """
        make = _alone if split == "train" and self.draws == "fresh" else _made
        return in_blocks(self, make, split, start, stop)

    @property
    def _stored(self) -> int:
        return 1 if self.draws == "fresh" else self.draws

    def composer(self, split: str) -> Compose | None:
        """What makes pictures of the split's stored ones as they are read; None: they are whole."""
        return self._strew if split == "train" and self.draws == "fresh" else None

    def _strew(self, stored: np.ndarray, others: Others, count: int, draw: Draw) -> np.ndarray:
        """uint8 (n, 1, size, size) with digits in the corner → with each in its place, strewn."""

        def cut_from(which: np.ndarray) -> np.ndarray:
            return others(which, SIDE)[:, 0]

        digits, below = stored[:, 0, :SIDE, :SIDE], _below(self, count)
        drawn = draw(below + (CHANCES * [GRAINS] if self.affine else []))
        if self.affine:
            digits = self.affine(digits, drawn[:, len(below) :])
        return _strewn(self, digits, cut_from, drawn[:, : len(below)])


def _below(source: Cluttered, count: int) -> list[int]:
    """What is drawn for a picture lies below these: first row and column of the digit, then for
    each distractor which of ``count`` digits it is cut from, where in it, and where it goes."""
    cuts, goals = SIDE - source.patch + 1, source.size - source.patch + 1
    return 2 * [source.size - SIDE + 1] + source.distractors * [count, cuts, cuts, goals, goals]


def _alone(
    source: Cluttered, known: Digits, stream: str, places: range
) -> tuple[np.ndarray, np.ndarray]:
    """As ``_made``, but the digits alone, at the first row and column."""
    whole = known.chosen[in_turn(len(known.chosen), source.seed, f"{stream}/digit", places)]
    canvas = np.zeros((len(places), 1, source.size, source.size), dtype=np.uint8)
    canvas[:, 0, :SIDE, :SIDE] = known.images[whole]
    return canvas, known.labels[whole]


def _made(
    source: Cluttered, known: Digits, stream: str, places: range
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 1, size, size) and labels (n,) of these places in a split."""
    count = len(known.chosen)
    whole = known.chosen[in_turn(count, source.seed, f"{stream}/digit", places)]
    drawn = integers(source.seed, f"{stream}/place", places, _below(source, count))

    def cut_from(which: np.ndarray) -> np.ndarray:
        return known.images[known.chosen[which]]

    return _strewn(source, known.images[whole], cut_from, drawn), known.labels[whole]


def _strewn(
    source: Cluttered,
    digits: np.ndarray,
    cut_from: Callable[[np.ndarray], np.ndarray],
    drawn: np.ndarray,
) -> np.ndarray:
    """Digits (n, 28, 28) on a canvas with pieces of others, as ``drawn`` below ``_below`` says."""
    table = drawn[:, 2:].reshape(len(digits), source.distractors, 5)
    which, top, left = table[:, :, :3].reshape(-1, 3).T
    windows = sliding_window_view(cut_from(which), (source.patch, source.patch), axis=(1, 2))
    cuts = windows[np.arange(len(which)), top, left]  # (n · distractors, patch, patch)
    cuts = cuts.reshape(*table.shape[:2], source.patch, source.patch)
    canvas = np.zeros((len(digits), source.size, source.size), dtype=np.uint16)
    for k in range(source.distractors):
        add(canvas, cuts[:, k], table[:, k, 3], table[:, k, 4])
    add(canvas, digits, drawn[:, 0], drawn[:, 1])
    return clipped(canvas)
