"""What prepare may know of a data source: settings in, numbered examples out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Binarisation = Literal["grey", "dynamic", "threshold"]
"""How a grey picture becomes a target: ``grey`` leaves the intensities, ``dynamic`` draws each
pixel anew at every step with its intensity as probability, ``threshold`` is intensity ≥ 0.5."""

Example = tuple[np.ndarray, int]
"""uint8 (C, H, W) and its class."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a manifest says of a source. ``shape`` is (C, H, W)."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    origin: str
    licence: str


class Source(Protocol):
    """A frozen dataclass: its fields are the ``data:`` section of a job file."""

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
