"""What prepare may know of a data source: settings in, numbered examples out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

Binarisation = Literal["grey", "dynamic", "threshold", "fixed"]
"""How a grey picture becomes a target: ``grey`` leaves the intensities, ``dynamic`` draws each
pixel anew at every step with its intensity as probability, ``threshold`` is intensity ≥ 0.5,
``fixed`` says that pixels are 0 or 1 in the file already."""

Example = tuple[np.ndarray, int]
"""uint8 (C, H, W), or (L,) ASCII codes for text, and its class."""

READING = ("binarisation", "crop", "affine")
"""Settings that say how the shards are read, not what is in them. ``crop`` is the side of the
square that a picture is cut to: anywhere in training, the middle in evaluation. ``affine`` says
how training pictures are turned, sheared and scaled; others are not."""


Others = Callable[[np.ndarray, int], np.ndarray]
"""(Ids (n,) of examples of the same split, side) → their first rows and columns, uint8
(n, C, side, side)."""
Draw = Callable[[list[int]], np.ndarray]
"""Bounds → uniform integers (n, len(bounds)) below them, for this seed, purpose, step and place."""
Compose = Callable[[np.ndarray, Others, int, Draw], np.ndarray]
"""(Stored pictures uint8 (n, C, H, W), others, how many there are, draw) → what is seen of them, of
the same shape. A source that has a method ``composer(split)`` gives one, or None."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a manifest says of a source. ``shape`` is (C, H, W), or (L,) for text."""

    shape: tuple[int, int, int] | tuple[int]
    classes: tuple[str, ...]
    origin: str
    licence: str


class Source(Protocol):
    """A frozen dataclass: its fields are the ``data:`` section of a job file.

    One that has ``endless`` makes examples of a split as far beyond its end as it is asked for.
    """

    @property
    def source(self) -> str:
        """Literal name of the kind, also the data set's name in storage."""

    @property
    def binarisation(self) -> Binarisation:
        """Belongs to the reading, not to the bytes: not part of the data set's identity."""

    def about(self) -> About: ...

    def splits(self) -> dict[str, int]:
        """Split → number of examples, for train, val and test.

        Raises DataError when files are needed that are neither there nor can be fetched.
        """

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``, each a function of (settings, split, index) only."""


@runtime_checkable
class OwnFiles(Protocol):
    """A source on files that no checksum in the code knows: its settings alone say too little.

    Its fields ``file`` and ``folder`` say where the files lie, which is no part of their identity.
    """

    def fingerprint(self) -> str:
        """A hash over what the files hold, read anew at each call. Raises DataError."""


def check_binarisation(found: str, *known: str) -> None:
    """Raises ValueError when a source cannot be read as this kind; by default none but fixed."""
    known = known or ("grey", "dynamic", "threshold")
    if found not in known:
        raise ValueError(f"binarisation: {found!r}; known are {', '.join(known)}")
