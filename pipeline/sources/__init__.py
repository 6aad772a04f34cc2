"""Which data sources there are, and the identity of the data set that one's settings make."""

from typing import Annotated

from pydantic import Field

from pipeline.sources.contract import Source
from pipeline.sources.mnist import Mnist
from pipeline.sources.synthetic import Synthetic
from pipeline.values import digest, to_plain

DataConfig = Annotated[Synthetic | Mnist, Field(discriminator="source")]

SOURCES: dict[str, type[Synthetic] | type[Mnist]] = {"synthetic": Synthetic, "mnist": Mnist}

SHARD_EXAMPLES = 10_000

FORMAT = 1
"""Raised when the same settings come to other bytes: another shard format."""

CODE = {"synthetic": 1, "mnist": 1}
"""Raised per source when its code draws or reads other pictures from the same settings."""


def dataset_id(source: Source, shard_examples: int = SHARD_EXAMPLES) -> str:
    """12 hex digits over all that decides the shards' bytes; how they are read is no part of it."""
    settings = to_plain(source)
    del settings["binarisation"]
    return digest([FORMAT, CODE[source.source], shard_examples, settings])[:12]
