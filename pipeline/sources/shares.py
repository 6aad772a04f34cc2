"""Which examples of a whole go into train, val and test: by seed, mixed, each into one of them."""

import numpy as np

from draw_model import noise
from pipeline.errors import DataError


def check_counts(**counts: int | None) -> None:
    """Raises ValueError for a stated number of examples below 1; None is left to ``tenth``."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}: {count}; takes 1 or more, or null for a tenth of all")


def tenth(total: int, stated: int | None) -> int:
    """The stated number of examples, by default a tenth of all and at least one."""
    return max(1, total // 10) if stated is None else stated


def sizes(total: int, where: str, *, val: int | None, test: int | None) -> dict[str, int]:
    """Sizes of train, val and test that share ``total`` examples; None stands for a tenth.

    Raises DataError, which begins with ``where``, when nothing would be left for training.
    """
    aside = {"val": tenth(total, val), "test": tenth(total, test)}
    left = total - sum(aside.values())
    if left < 1:
        asked = f"{aside['val']} for val and {aside['test']} for test"
        raise DataError(f"{where}: {total} examples, {asked} leave none for train; lower them")
    return {"train": left, **aside}


def shares(total: int, seed: int, stream: str, *, val: int, test: int = 0) -> dict[str, np.ndarray]:
    """Split → indices below ``total``, in random order: disjoint, and together all of them.

    ``stream`` names what is shared out, so that two data sets with one seed are cut apart
    differently.
    """
    order = noise.generator(seed, stream).permutation(total)
    return {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
