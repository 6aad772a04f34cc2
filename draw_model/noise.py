"""Random numbers that depend on what they are for, never on which process draws them.

Every draw is named by (seed, stream, step, place): the same example at the same step gets the same
numbers on one worker or on eight, before and after a restart. The generator is Philox, which is
counter-based: any place can be drawn without drawing those before it.
"""

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

BLOCK = 32
"""Places that share one counter stream; a worker draws whole blocks and keeps its own rows."""

Shapes = Mapping[str, tuple[int, ...]]


def generator(seed: int, stream: str, step: int = 0, block: int = 0) -> np.random.Generator:
    """The generator of one block of places; ``stream`` names what the numbers are for."""
    digest = blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, block]))


def _rows(kind: str, seed: int, stream: str, step: int, places: range, width: int) -> np.ndarray:
    """(len(places), width) float32; ``places`` are positions in the global batch."""
    rows = np.empty((len(places), width), dtype=np.float32)
    first = places.start // BLOCK
    for block in range(first, -(-places.stop // BLOCK)):
        draw = generator(seed, stream, step, block)
        values = (draw.standard_normal if kind == "normal" else draw.random)(
            (BLOCK, width), dtype=np.float32
        )
        start, stop = block * BLOCK, (block + 1) * BLOCK
        low, high = max(start, places.start), min(stop, places.stop)
        rows[low - places.start : high - places.start] = values[low - start : high - start]
    return rows


def normal(seed: int, stream: str, step: int, places: range, shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws, (len(places), *shape) float32, at these places of a global batch."""
    width = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy(
        _rows("normal", seed, stream, step, places, width).reshape(len(places), *shape)
    )


def uniform(seed: int, stream: str, step: int, places: range, shape: tuple[int, ...]) -> Tensor:
    """Uniform draws in [0, 1), (len(places), *shape) float32, for these places."""
    width = int(np.prod(shape, dtype=np.int64))
    return torch.from_numpy(
        _rows("uniform", seed, stream, step, places, width).reshape(len(places), *shape)
    )


def draw(shapes: Shapes, seed: int, purpose: str, step: int, places: range) -> dict[str, Tensor]:
    """All the noise that a model asks for (``Model.noise_shapes``) at one step, by name."""
    return {
        name: normal(seed, f"{purpose}/{name}", step, places, shape)
        for name, shape in shapes.items()
    }
