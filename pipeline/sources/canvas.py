"""MNIST digits on a larger canvas: which split may show which digit, how often, and how ink adds.

Everything here is a function of (seed, stream, index): an example does not depend on which others
are made with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from draw_model import noise
from pipeline.sources.contract import Example
from pipeline.sources.mnist import OFFICIAL, SIDE, TRAIN, load, locate, members

LARGEST = 1024
PIXELS = 1 << 20
"""Pixels of the canvases that are filled at once: enough for speed, few enough for the cache."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The digits of one split: ``chosen`` are their indices in ``images`` and ``labels``.

    ``images`` uint8 (n, 28, 28) and ``labels`` (n,) are a whole official half; what a split may
    show is ``chosen`` and nothing else.
    """

    images: np.ndarray
    labels: np.ndarray
    chosen: np.ndarray


Make = Callable[[Any, Digits, str, range], tuple[np.ndarray, np.ndarray]]


def digits(split: str, validation: int, seed: int) -> Digits:
    """The digits that a split may show; ``validation`` of the training digits are for val only.

    They are the ones that ``Mnist`` sets aside for the same number and seed. Raises DataError for
    files that are missing or damaged.
    """
    images, labels = load(OFFICIAL["test" if split == "test" else "train"])
    chosen = members(split, len(labels), validation, seed)
    return Digits(images=images, labels=labels, chosen=chosen)


def check_files() -> None:
    """Raises DataError when MNIST is neither there nor can be fetched."""
    for part in OFFICIAL.values():
        locate(part)


def check_settings(size: int, validation_digits: int, **counts: int) -> None:
    """Raises ValueError for the first setting out of range."""
    if not SIDE <= size <= LARGEST:
        raise ValueError(f"size: {size}; takes {SIDE} to {LARGEST}")
    if not 1 <= validation_digits <= TRAIN // 2:
        raise ValueError(f"validation_digits: {validation_digits}; takes 1 to {TRAIN // 2}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: {count}; takes 1 or more")


def blocks(start: int, stop: int, size: int) -> list[range]:
    """Examples ``start`` … ``stop − 1`` in runs of about ``PIXELS`` pixels."""
    step = max(1, PIXELS // size**2)
    return [range(first, min(first + step, stop)) for first in range(start, stop, step)]


def in_blocks(source: Any, make: Make, split: str, start: int, stop: int) -> Iterator[Example]:
    """Examples ``start`` … ``stop − 1`` of a source on a canvas, which ``make`` makes in blocks.

    ``make(source, digits, stream, places)`` gives uint8 (n, 1, size, size) and classes (n,).
    """
    known = digits(split, source.validation_digits, source.seed)
    for places in blocks(start, stop, source.size):
        images, labels = make(source, known, f"{source.source}/{split}", places)
        yield from zip(images, labels.tolist(), strict=True)


def in_turn(count: int, seed: int, stream: str, places: range) -> np.ndarray:
    """Which of ``count`` digits each example shows, (len(places),): example i has its turn in pass
    i ÷ ``count``, and every pass shows each digit once, in an order of its own.

    So no digit comes a second time before all have come once.
    """
    first, last = places.start // count, -(-places.stop // count)
    orders = [noise.generator(seed, stream, turn).permutation(count) for turn in range(first, last)]
    start = places.start - first * count
    return np.concatenate(orders)[start : start + len(places)]


def integers(seed: int, stream: str, places: range, below: list[int], step: int = 0) -> np.ndarray:
    """Uniform integers (len(places), len(below)): in each column from 0 to below what is given.

    Drawn exactly, not by scaling a 24-bit fraction, which would favour some of 55,000 digits.
    """
    first, last = places.start // noise.BLOCK, -(-places.stop // noise.BLOCK)
    shape, drawn = (noise.BLOCK, len(below)), [np.empty((0, len(below)), dtype=np.int64)]
    for block in range(first, last):
        drawn.append(noise.generator(seed, stream, step, block).integers(below, size=shape))
    start = places.start - first * noise.BLOCK
    return np.concatenate(drawn)[start : start + len(places)]


def add(canvas: np.ndarray, pieces: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Adds ``pieces`` (n, h, w) to ``canvas`` uint16 (n, H, W), each at its own row and column."""
    _, height, width = pieces.shape
    picture = np.arange(len(canvas))[:, None, None]
    down = rows[:, None, None] + np.arange(height)[:, None]
    across = columns[:, None, None] + np.arange(width)
    canvas[picture, down, across] += pieces


def clipped(canvas: np.ndarray) -> np.ndarray:
    """Sums of intensities, clipped at 1: uint16 (n, H, W) → uint8 (n, 1, H, W).

    Clipping once at the end is clipping after each addition, as nothing is ever taken away.
    """
    return np.minimum(canvas, 255).astype(np.uint8)[:, None]
