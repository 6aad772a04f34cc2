"""Handwritten digits drawn by code: pen strokes, a hand's variation, and the ink they leave.

Nothing is read and nothing is fetched, so a job on this source runs anywhere. Every picture is a
function of (seed, split, index). All arithmetic is in float64, so that a last bit that differs
between processors does not reach the 8 bits of a pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from draw_model import noise
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation

SMALLEST, LARGEST = 12, 1024
BLOCK = 256
"""Pictures drawn at once: enough for speed, few enough for the processor's cache."""

POINTS = 80
"""Pen positions along one digit."""

WAVES = 5
"""Cosines along the pen's path: how its way wavers."""

HAND = 23
"""Normal numbers that make one example's handwriting."""

Stroke = tuple[tuple[float, float], ...]

# Pen ways per digit in a unit box, x to the right, y down. A point given twice is a corner.
STYLES: dict[int, tuple[tuple[Stroke, ...], ...]] = {
    0: (
        (((0.56, 0.0), (0.27, 0.14), (0.16, 0.52), (0.3, 0.92), (0.55, 1.0), (0.8, 0.82),
          (0.86, 0.45), (0.74, 0.1), (0.52, 0.01), (0.42, 0.06)),),
        (((0.6, 0.04), (0.3, 0.08), (0.1, 0.5), (0.28, 0.96), (0.62, 0.96), (0.9, 0.5),
          (0.72, 0.06), (0.55, 0.03)),),
    ),
    1: (
        (((0.5, 0.0), (0.5, 0.5), (0.5, 1.0)),),
        (((0.56, 0.0), (0.5, 0.4), (0.46, 1.0)),),
        (((0.3, 0.2), (0.52, 0.0), (0.52, 0.0), (0.52, 0.5), (0.52, 1.0)),),
    ),
    2: (
        (((0.18, 0.24), (0.3, 0.05), (0.58, 0.0), (0.78, 0.18), (0.7, 0.45), (0.44, 0.74),
          (0.16, 0.98), (0.16, 0.98), (0.5, 0.96), (0.88, 0.98)),),
        (((0.2, 0.2), (0.42, 0.01), (0.72, 0.1), (0.74, 0.4), (0.5, 0.78), (0.24, 0.98),
          (0.12, 0.86), (0.3, 0.76), (0.58, 0.92), (0.9, 0.94)),),
    ),
    3: (
        (((0.2, 0.12), (0.46, 0.0), (0.74, 0.12), (0.7, 0.36), (0.42, 0.48), (0.42, 0.48),
          (0.76, 0.58), (0.8, 0.84), (0.5, 1.0), (0.18, 0.9)),),
        (((0.22, 0.06), (0.5, 0.0), (0.72, 0.08), (0.62, 0.3), (0.44, 0.42), (0.44, 0.42),
          (0.72, 0.52), (0.78, 0.8), (0.52, 0.98), (0.16, 0.96)),),
    ),
    4: (
        (((0.26, 0.02), (0.16, 0.5), (0.16, 0.5), (0.5, 0.54), (0.84, 0.48)),
         ((0.74, 0.04), (0.68, 0.5), (0.64, 1.0))),
        (((0.64, 0.0), (0.38, 0.34), (0.12, 0.62), (0.12, 0.62), (0.5, 0.62), (0.9, 0.6)),
         ((0.64, 0.0), (0.64, 0.5), (0.62, 1.0))),
    ),
    5: (
        (((0.82, 0.0), (0.34, 0.03), (0.34, 0.03), (0.27, 0.42), (0.27, 0.42), (0.58, 0.4),
          (0.78, 0.62), (0.66, 0.92), (0.4, 1.0), (0.14, 0.92)),),
        (((0.32, 0.04), (0.25, 0.4), (0.25, 0.4), (0.6, 0.46), (0.76, 0.7), (0.6, 0.94),
          (0.3, 1.0), (0.16, 0.94)),
         ((0.32, 0.04), (0.56, 0.03), (0.86, 0.0))),
    ),
    6: (
        (((0.66, 0.0), (0.4, 0.22), (0.22, 0.6), (0.3, 0.94), (0.58, 1.0), (0.78, 0.8),
          (0.66, 0.58), (0.4, 0.6), (0.24, 0.78)),),
        (((0.5, 0.0), (0.3, 0.3), (0.22, 0.7), (0.4, 0.98), (0.68, 0.92), (0.74, 0.68),
          (0.54, 0.55), (0.28, 0.7)),),
    ),
    7: (
        (((0.14, 0.06), (0.5, 0.06), (0.82, 0.03), (0.82, 0.03), (0.6, 0.48), (0.44, 1.0)),),
        (((0.16, 0.16), (0.2, 0.04), (0.52, 0.05), (0.84, 0.02), (0.84, 0.02), (0.6, 0.5),
          (0.52, 1.0)),),
        (((0.14, 0.06), (0.5, 0.06), (0.82, 0.03), (0.82, 0.03), (0.58, 0.5), (0.42, 1.0)),
         ((0.36, 0.52), (0.6, 0.5), (0.82, 0.48))),
    ),
    8: (
        (((0.76, 0.14), (0.5, 0.0), (0.25, 0.15), (0.36, 0.38), (0.62, 0.56), (0.76, 0.82),
          (0.5, 1.0), (0.25, 0.83), (0.42, 0.54), (0.68, 0.34), (0.76, 0.14)),),
        (((0.5, 0.46), (0.26, 0.28), (0.36, 0.04), (0.62, 0.03), (0.74, 0.24), (0.5, 0.46),
          (0.24, 0.72), (0.34, 0.98), (0.64, 0.98), (0.76, 0.74), (0.5, 0.46)),),
    ),
    9: (
        (((0.74, 0.18), (0.5, 0.02), (0.26, 0.16), (0.28, 0.42), (0.54, 0.46), (0.75, 0.2),
          (0.75, 0.2), (0.7, 0.6), (0.62, 1.0)),),
        (((0.72, 0.14), (0.46, 0.02), (0.24, 0.22), (0.38, 0.46), (0.64, 0.38), (0.74, 0.12),
          (0.74, 0.12), (0.74, 0.58), (0.58, 0.94), (0.3, 0.98)),),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Digits 0 to 9 drawn by code, with about the statistics of MNIST; ``size`` is the side."""

    endless: ClassVar[bool] = True
    source: Literal["synthetic"] = "synthetic"
    size: int = 28
    train: int = 4096
    val: int = 512
    test: int = 512
    seed: int = 0
    binarisation: Binarisation = "dynamic"

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= LARGEST:
            raise ValueError(
                f"size: {self.size}; a digit needs {SMALLEST} pixels or more, at most {LARGEST}"
            )
        for name, count in self.splits().items():
            if count < 1:
                raise ValueError(f"{name}: {count}; every split needs an example or more")
        check_binarisation(self.binarisation)

    def about(self) -> About:
        return About(
            shape=(1, self.size, self.size),
            classes=tuple(str(digit) for digit in STYLES),
            origin="drawn by draw-pipeline's own code",
            licence="CC0-1.0",
        )

    def splits(self) -> dict[str, int]:
        return {"train": self.train, "val": self.val, "test": self.test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (1, size, size) and the digit."""
        block = max(1, BLOCK * 28**2 // self.size**2)
        for first in range(start, stop, block):
            images, digits = _draw(self, split, range(first, min(first + block, stop)))
            yield from zip(images, digits.tolist(), strict=True)


def _draw(source: Synthetic, split: str, places: range) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, 1, size, size) and int64 (n,) of these places in the split."""
    stream = f"synthetic/{split}"
    chance = noise.uniform(source.seed, f"{stream}/choice", 0, places, (2,)).numpy().astype("f8")
    hand = noise.normal(source.seed, f"{stream}/hand", 0, places, (HAND,)).numpy().astype("f8")
    digits = (chance[:, 0] * len(STYLES)).astype(np.int64)
    first_row, count, ways, pen_down = _templates()
    rows = first_row[digits] + (chance[:, 1] * count[digits]).astype(np.int64)
    points = _handwriting(ways[rows], hand)
    thickness = 1.0 * np.exp(0.2 * np.clip(hand[:, 22], -2, 1.7))
    ink = _ink(points * source.size / 28, pen_down[rows], thickness * source.size / 28, source.size)
    return (ink * 255 + 0.5).astype(np.uint8)[:, None], digits


def _handwriting(ways: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Pen ways (n, POINTS, 2) in the unit box → in pixels of a 28 × 28 picture around its centre.

    ``hand`` (n, HAND) is standard normal: the writer's slant, width, wavering and place.
    """
    waver = hand[:, : 2 * WAVES].reshape(-1, WAVES, 2)
    length = np.linalg.norm(np.diff(ways, axis=1), axis=2).sum(axis=1)
    points = ways - 0.5 + _cosines() @ (waver * length[:, None, None])
    x, y = points[..., 0], points[..., 1]
    bend = 0.2 * hand[:, 10:16, None]
    x, y = (
        x + bend[:, 0] * x * y + bend[:, 1] * x * x + bend[:, 2] * y * y,
        y + bend[:, 3] * x * y + 0.6 * bend[:, 4] * x * x + 0.6 * bend[:, 5] * y * y,
    )
    x = x * np.exp(0.18 * hand[:, 16, None])
    x = x - y * (0.16 + 0.24 * hand[:, 17, None])
    turn = 0.1 * hand[:, 18, None]
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    points = np.stack([x, y], axis=-1)
    span = np.ptp(points, axis=1).max(axis=1)
    side = np.clip(17.8 + 0.9 * hand[:, 19], 14.5, 19)
    points = points * (side / span)[:, None, None]
    # The middle of the ink is the middle of the picture, as in MNIST, but for a small remainder.
    points -= points.mean(axis=1, keepdims=True)
    return points + np.clip(0.5 * hand[:, None, 20:22], -1.2, 1.2)


def _ink(points: np.ndarray, pen_down: np.ndarray, thickness: np.ndarray, size: int) -> np.ndarray:
    """Grey pictures (n, size, size) in [0, 1] of pen ways (n, POINTS, 2), in pixels.

    The pen leaves a Gaussian spot at each position, weighted by the way it went, so that a long
    straight line has the profile exp(−d²/2σ²) at distance d, whatever the spacing of the points.
    A spot is a product over x and y, so a picture is one matrix product. Cutting the profile at
    two levels gives full strokes with soft edges.
    """
    pixels = np.arange(size) - (size - 1) / 2
    sigma = thickness[:, None, None]
    spots = np.exp(-0.5 * ((pixels - points[..., None]) / sigma[..., None]) ** 2)
    way = np.linalg.norm(np.diff(points, axis=1), axis=2) * pen_down
    weight = np.zeros(points.shape[:2])
    weight[:, :-1] += way / 2
    weight[:, 1:] += way / 2
    weight /= thickness[:, None] * np.sqrt(2 * np.pi)
    field = (spots[:, :, 1] * weight[..., None]).transpose(0, 2, 1) @ spots[:, :, 0]
    return np.clip((field - 0.2) / 0.5, 0, 1)


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """(POINTS, WAVES): slow waves along the pen's way, the slower the larger."""
    place = (np.arange(POINTS) + 0.5) / POINTS
    wave = np.arange(1, WAVES + 1)
    return 0.022 * np.cos(np.pi * place[:, None] * wave) / np.sqrt(wave)


@lru_cache(maxsize=1)
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First row and number of rows per digit, pen ways (rows, POINTS, 2), pen down (rows, −1)."""
    count = np.array([len(styles) for styles in STYLES.values()])
    ways, pen_down = zip(*(_way(s) for styles in STYLES.values() for s in styles), strict=True)
    return count.cumsum() - count, count, np.stack(ways), np.stack(pen_down)


def _way(strokes: tuple[Stroke, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced pen positions (POINTS, 2), and (POINTS − 1,) whether ink flows between them."""
    smooth = [_catmull_rom(np.array(stroke)) for stroke in strokes]
    lengths = [np.linalg.norm(np.diff(s, axis=0), axis=1).sum() for s in smooth]
    ends = np.rint(np.cumsum(lengths) / np.sum(lengths) * POINTS).astype(int)
    parts = [_even(s, n) for s, n in zip(smooth, np.diff(ends, prepend=0).tolist(), strict=True)]
    pen_down = np.ones(POINTS - 1)
    pen_down[ends[:-1] - 1] = 0
    return np.concatenate(parts), pen_down


def _even(points: np.ndarray, count: int) -> np.ndarray:
    """``count`` points at equal distances along a polyline."""
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, way[-1], count)
    return np.stack([np.interp(at, way, points[:, axis]) for axis in (0, 1)], axis=1)


def _catmull_rom(points: np.ndarray, steps: int = 16) -> np.ndarray:
    """A smooth curve through the points: cubic, with the neighbours' chord as tangent."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = [
        b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False)
    ]
    return np.concatenate([*pieces, points[-1:]])
