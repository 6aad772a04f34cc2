"""SVHN, full numbers: the official pictures, each cut to the box around its digits."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipeline.errors import DataError
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.own_files import find, mapped, picture, sha256_of
from pipeline.sources.shares import shares
from pipeline.sources.unpacked import kept, members
from pipeline.values import digest

log = logging.getLogger(__name__)

SIDE, GROWN = 64, 1.3
MOST_DIGITS = 5
WHOLE, VALIDATION = 235_754, 4_701
"""Numbers in train and extra, and how many of them Goodfellow et al. (2013) and the paper keep for
validation: 33,402 + 202,353 pictures, less the one number of six digits."""

BOXES = "digitStruct.mat"
LARGEST = {".png": 1 << 24, ".mat": 1 << 30}
ADDRESS = "http://ufldl.stanford.edu/housenumbers"


@dataclass(frozen=True, kw_only=True)
class SvhnNumbers:
    """House numbers of one to five digits, cut out and scaled to 64×64, in colour.

    Prepared as by Goodfellow et al. (2013), arXiv 1312.6082, section 5.1: the box around all digits
    is grown by 30 % in both directions, cut at the picture's edges, and scaled (bilinear) without
    keeping its proportions. The class is the number of digits. Longer numbers are left out.
    Validation pictures are chosen by ``seed`` from train and extra: 4,701 of all 235,754, and the
    same share when there are more or fewer. ``crop`` is the side that training cuts out of the 64
    at random and evaluation in the middle; null takes them whole.
    The files lie in ``$DRAW_DATA/svhn_numbers``: train, test and, with ``extra``, extra, each as
    the archive or as its unpacked folder.
    """

    source: Literal["svhn_numbers"] = "svhn_numbers"
    extra: bool = True
    crop: int | None = 54
    seed: int = 0
    binarisation: Binarisation = "grey"

    def __post_init__(self) -> None:
        if self.crop is not None and not 1 <= self.crop <= SIDE:
            raise ValueError(f"crop: {self.crop}; takes 1 to {SIDE}, or null for no crop")
        check_binarisation(self.binarisation)

    def about(self) -> About:
        return About(
            shape=(3, SIDE, SIDE),
            classes=tuple(str(count) for count in range(1, MOST_DIGITS + 1)),
            origin="SVHN, full numbers, Netzer et al. 2011; the class is the number of digits",
            licence="for non-commercial use only, as its authors state",
        )

    def fingerprint(self) -> str:
        """Over the boxes, and the size in bytes of every picture; not over the pictures' bytes."""
        parts: list[Any] = []
        for folder in map(located, (*self._training(), "test")):
            numbers = load(folder)[:, 0].astype(int).tolist()
            parts.append([sha256_of(folder / BOXES), [_bytes(folder, n) for n in numbers]])
        return digest(parts)

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        total = sum(len(load(located(part))) for part in self._training())
        val = validation_size(total)
        return {"train": total - val, "val": val, "test": len(load(located("test")))}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (3, 64, 64), RGB, and the digits less one.

        Raises DataError when a file is missing, damaged, or not what its name says.
        """
        folders = [located(part) for part in (["test"] if split == "test" else self._training())]
        tables = [load(folder) for folder in folders]
        ends = np.cumsum([len(table) for table in tables])
        total = int(ends[-1])
        chosen = np.arange(total)
        if split != "test":
            chosen = shares(total, self.seed, "svhn_numbers", val=validation_size(total))[split]
        for index in chosen[start:stop]:
            part = int(np.searchsorted(ends, index, side="right"))
            number, *box, digits = tables[part][index - ends[part]].tolist()
            path = folders[part] / f"{int(number)}.png"
            yield cut_out(path, (box[0], box[1], box[2], box[3])), int(digits) - 1

    def _training(self) -> tuple[str, ...]:
        return ("train", "extra") if self.extra else ("train",)


def validation_size(total: int) -> int:
    """4,701 of the whole set, and the same share of any other."""
    return max(1, round(total * VALIDATION / WHOLE))


def cut_out(path: Path, box: tuple[float, float, float, float]) -> np.ndarray:
    """uint8 (3, 64, 64) of what the grown box (left, top, right, bottom) shows of a picture.

    Raises DataError for a broken picture, and a box that lies outside it.
    """
    with picture(path, formats=("PNG",)) as image:
        (left, right), (top, bottom) = grown(box[0], box[2]), grown(box[1], box[3])
        left, top = max(left, 0.0), max(top, 0.0)
        right, bottom = min(right, float(image.width)), min(bottom, float(image.height))
        if right <= left or bottom <= top:
            raise DataError(f"{path}: its digits lie outside of it; get the archive again")
        square = image.convert("RGB").resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
        )
    return np.asarray(square).transpose(2, 0, 1)


def grown(low: float, high: float) -> tuple[float, float]:
    """An interval with the same middle that is 30 % longer."""
    aside = (GROWN - 1) / 2 * (high - low)
    return low - aside, high + aside


def located(part: str) -> Path:
    """The folder of ``train``, ``test`` or ``extra``; an archive is unpacked into the cache.

    Raises DataError when there is neither.
    """
    advice = f"download {ADDRESS}/{part}.tar.gz into $DRAW_DATA/svhn_numbers"
    try:
        return find("svhn_numbers", f"{part}/{BOXES}", advice).parent
    except DataError:
        archive = find("svhn_numbers", f"{part}.tar.gz", advice)
    key = f"{part}-{sha256_of(archive)[:32]}"
    return kept("svhn_numbers", key, partial(_unpack, archive, part))


def _unpack(archive: Path, part: str, folder: Path) -> None:
    wanted = re.compile(rf"(?:\./)?{part}/(\d{{1,7}}\.png|digitStruct\.mat)")

    def most(name: str) -> int:
        return LARGEST[name[-4:]] if wanted.fullmatch(name) else 0

    for name, data in members(archive, most):
        (folder / name.rsplit("/", 1)[1]).write_bytes(data)
    if not (folder / BOXES).exists():
        raise DataError(f"{archive}: no {part}/{BOXES} in it; get the archive again")


def _bytes(folder: Path, number: int) -> int:
    path = folder / f"{number}.png"
    try:
        return path.stat().st_size
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}; get the archive again") from None


def load(folder: Path) -> np.ndarray:
    """float64 (n, 6), mapped: picture number, left, top, right, bottom, digits; one row a number.

    The boxes are collected once and kept in the cache. Raises DataError.
    """
    path = folder / BOXES
    return _table(path, sha256_of(path))


@lru_cache(maxsize=8)
def _table(path: Path, sha256: str) -> np.ndarray:
    def make(folder: Path) -> None:
        from pipeline.sources.digit_struct import read_boxes  # only here: HDF5 is slow to import

        log.info("collecting the boxes of %s, once; minutes for the whole set", path)
        rows = [row for row in read_boxes(path) if row[5] <= MOST_DIGITS]
        if not rows:
            raise DataError(f"{path}: no number of 1 to {MOST_DIGITS} digits; get it again")
        np.save(folder / "boxes.npy", np.array(rows, dtype=np.float64), allow_pickle=False)

    return mapped(kept("svhn_numbers", f"boxes-{sha256[:32]}", make) / "boxes.npy")
