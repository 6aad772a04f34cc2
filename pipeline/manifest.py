"""A data set's table of contents: which shards there are, what is in them, where they come from.

The manifest is written after the last shard; a data set without one does not exist.
"""

from dataclasses import field
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from pipeline.values import STRICT, digest

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Shard:
    """One tar: examples ``first`` … ``first + examples − 1`` of its split, in order."""

    file: str
    split: str
    first: int
    examples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Manifest:
    """``datasets/<name>/<id>/manifest.json``. ``shape`` is (C, H, W), or (L,) of a text."""

    VERSION: ClassVar[int] = 1

    version: int
    name: str
    id: str
    source: dict[str, Any]
    """The source's settings: with the code they decide every byte of every shard."""
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    splits: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    shards: tuple[Shard, ...]
    origin: str
    licence: str
    code_version: str = field(default="")

    @property
    def path(self) -> str:
        """The data set's folder below the storage's root."""
        return dataset_path(self.name, self.id)

    @property
    def content(self) -> str:
        """sha256 over what the data is: splits and the shards' own sha256, nothing else."""
        return digest([[s.split, s.first, s.examples, s.sha256] for s in self.shards])

    def of(self, split: str) -> tuple[Shard, ...]:
        """The shards of one split, in order."""
        return tuple(s for s in self.shards if s.split == split)


def dataset_path(name: str, id: str) -> str:
    return f"datasets/{name}/{id}"
