"""Which data sources there are, and the identity of the data set that one's settings make."""

from typing import Annotated

from pydantic import Field

from pipeline.sources.binarised_mnist import BinarisedMnist
from pipeline.sources.cifar10 import Cifar10
from pipeline.sources.cluttered import Cluttered
from pipeline.sources.contract import READING, OwnFiles, Source
from pipeline.sources.fashion_mnist import FashionMnist
from pipeline.sources.images import Images
from pipeline.sources.mnist import Mnist
from pipeline.sources.quickdraw import Quickdraw
from pipeline.sources.svhn import Svhn
from pipeline.sources.svhn_numbers import SvhnNumbers
from pipeline.sources.synthetic import Synthetic
from pipeline.sources.text import Text
from pipeline.sources.two_digits import TwoDigits
from pipeline.values import digest, to_plain

DataConfig = Annotated[
    Synthetic
    | Mnist
    | FashionMnist
    | BinarisedMnist
    | Cluttered
    | TwoDigits
    | Svhn
    | SvhnNumbers
    | Cifar10
    | Quickdraw
    | Images
    | Text,
    Field(discriminator="source"),
]

SOURCES: dict[str, type[Source]] = {
    "synthetic": Synthetic,
    "mnist": Mnist,
    "fashion_mnist": FashionMnist,
    "binarised_mnist": BinarisedMnist,
    "cluttered": Cluttered,
    "two_digits": TwoDigits,
    "svhn": Svhn,
    "svhn_numbers": SvhnNumbers,
    "cifar10": Cifar10,
    "quickdraw": Quickdraw,
    "images": Images,
    "text": Text,
}

SHARD_EXAMPLES = 10_000

FORMAT = 1
"""Raised when the same settings come to other bytes: another shard format."""

CODE = {
    "synthetic": 1,
    "mnist": 1,
    "fashion_mnist": 1,
    "binarised_mnist": 1,
    "cluttered": 1,
    "two_digits": 1,
    "svhn": 1,
    "svhn_numbers": 1,
    "cifar10": 1,
    "quickdraw": 1,
    "images": 1,
    "text": 1,
}
"""Raised per source when its code draws or reads other pictures from the same settings."""


def dataset_id(source: Source, shard_examples: int = SHARD_EXAMPLES) -> str:
    """12 hex digits over all that decides the shards' bytes; how they are read is no part of it.

    Reads a person's own files to the end. Raises DataError when they are missing.
    """
    settings = to_plain(source)
    for name in READING:
        settings.pop(name, None)
    identity = [FORMAT, CODE[source.source], shard_examples, settings]
    if isinstance(source, OwnFiles):
        for name in ("file", "folder"):
            settings.pop(name, None)
        identity.append(source.fingerprint())
    return digest(identity)[:12]
