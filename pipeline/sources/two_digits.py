"""Two MNIST digits at any places of one canvas, over each other where it happens."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import ClassVar, Literal

import numpy as np

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
from pipeline.sources.mnist import LICENCE, ORIGIN, SIDE

PAIRS = tuple(combinations_with_replacement(range(10), 2))


@dataclass(frozen=True, kw_only=True)
class TwoDigits:
    """Two different MNIST pictures on one canvas, 60 × 60 in the paper.

    The class is the pair of digits without order, "0+0" … "9+9", 55 of them.
    ``validation_digits`` of the 60,000 training digits, chosen by ``seed``, make the val pictures
    and no others; test pictures are made of test digits only. The first digits of a split take
    turns, each once before any twice; the second is any other digit of the split.
    """

    endless: ClassVar[bool] = True
    source: Literal["two_digits"] = "two_digits"
    size: int = 60
    train: int = 60_000
    val: int = 10_000
    test: int = 10_000
    validation_digits: int = 5000
    seed: int = 0
    binarisation: Binarisation = "dynamic"

    def __post_init__(self) -> None:
        counts = {"train": self.train, "val": self.val, "test": self.test}
        check_settings(self.size, self.validation_digits, **counts)
        if self.validation_digits < 2:
            raise ValueError("validation_digits: 1; two different digits need 2 or more")
        check_binarisation(self.binarisation)

    def about(self) -> About:
        return About(
            shape=(1, self.size, self.size),
            classes=tuple(f"{low}+{high}" for low, high in PAIRS),
            origin=f"pairs of digits from {ORIGIN}",
            licence=LICENCE,
        )

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        check_files()
        return {"train": self.train, "val": self.val, "test": self.test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, size, size) and the pair's number.

        Raises DataError when MNIST is missing and cannot be fetched, or is damaged.
        """
        return in_blocks(self, _made, split, start, stop)


def _made(
    source: TwoDigits, known: Digits, stream: str, places: range
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 1, size, size) and pair numbers (n,) of these places in a split.

    Per picture row and column of both digits, then which of the others the second one is.
    """
    count = len(known.chosen)
    first = in_turn(count, source.seed, f"{stream}/digit", places)
    below = [*4 * [source.size - SIDE + 1], count - 1]
    drawn = integers(source.seed, f"{stream}/place", places, below)
    second = drawn[:, 4] + (drawn[:, 4] >= first)  # skips the first: a picture is not its own pair
    canvas = np.zeros((len(places), source.size, source.size), dtype=np.uint16)
    add(canvas, known.images[known.chosen[first]], drawn[:, 0], drawn[:, 1])
    add(canvas, known.images[known.chosen[second]], drawn[:, 2], drawn[:, 3])
    return clipped(canvas), _pair(*(known.labels[known.chosen[one]] for one in (first, second)))


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels (n,) of two digits → the pair's place in ``PAIRS``, (n,)."""
    number = np.zeros((10, 10), dtype=np.int64)
    for place, (low, high) in enumerate(PAIRS):
        number[low, high] = number[high, low] = place
    return number[first, second]
