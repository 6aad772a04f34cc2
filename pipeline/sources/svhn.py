"""SVHN, cropped digits: the official 32×32 MATLAB files, checked before they are parsed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.fetch import Patience, Remote, cache_folder, find_or_fetch, own_folders
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.own_files import BROKEN, mapped
from pipeline.sources.shares import shares
from pipeline.sources.unpacked import kept, write_array

TRAIN, TEST, EXTRA, SIDE = 73_257, 26_032, 531_131, 32
CLASSES = tuple(str(digit) for digit in range(10))
BLOCK = 4096
PATIENCE = Patience(attempt=7200.0)
"""The largest file has 1.3 GB."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One official file, and how many pictures it holds."""

    file: Remote
    count: int


def _part(name: str, md5: str, count: int) -> Part:
    address = f"http://ufldl.stanford.edu/housenumbers/{name}"
    return Part(file=Remote(address=address, md5=md5, most_bytes=1 << 31), count=count)


OFFICIAL = {
    "train": _part("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", TRAIN),
    "test": _part("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", TEST),
    "extra": _part("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", EXTRA),
}


@dataclass(frozen=True, kw_only=True)
class Svhn:
    """Cropped house-number digits in colour, with what stands beside them.

    ``validation`` of the training pictures are set aside, chosen by ``seed``. ``extra`` adds the
    531,131 easier pictures to those that are trained on and chosen from.
    """

    source: Literal["svhn"] = "svhn"
    extra: bool = False
    validation: int = 5000
    seed: int = 0
    binarisation: Binarisation = "grey"

    def __post_init__(self) -> None:
        if not 1 <= self.validation <= TRAIN // 2:
            raise ValueError(f"validation: {self.validation}; takes 1 to {TRAIN // 2}")
        check_binarisation(self.binarisation)

    def about(self) -> About:
        return About(
            shape=(3, SIDE, SIDE),
            classes=CLASSES,
            origin="SVHN, cropped digits, Netzer et al. 2011"
            + (", train and extra" if self.extra else ""),
            licence="for non-commercial use only, as its authors state",
        )

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        for part in (*self._training(), OFFICIAL["test"]):
            load(part)
        total = sum(part.count for part in self._training())
        train, test = total - self.validation, OFFICIAL["test"].count
        return {"train": train, "val": self.validation, "test": test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (3, 32, 32), RGB, and the digit.

        Raises DataError when the files are missing and cannot be fetched, or are other files.
        """
        parts = [OFFICIAL["test"]] if split == "test" else self._training()
        files = [load(part) for part in parts]
        ends = np.cumsum([part.count for part in parts])
        chosen = np.arange(ends[-1])
        if split != "test":
            chosen = shares(int(ends[-1]), self.seed, "svhn", val=self.validation)[split]
        for index in chosen[start:stop]:
            part = int(np.searchsorted(ends, index, side="right"))
            images, labels = files[part]
            place = index - ends[part]  # negative: counted from the part's end
            yield images[place].copy(), int(labels[place])

    def _training(self) -> list[Part]:
        return [OFFICIAL["train"], *([OFFICIAL["extra"]] if self.extra else [])]


def load(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pictures (count, 3, 32, 32), mapped, and labels (count,); found or fetched.

    Raises DataError for a file that is missing, damaged, or not what its name says.
    """
    return _load(part, own_folders("svhn"), cache_folder("svhn"))


@lru_cache(maxsize=8)
def _load(part: Part, own: tuple[Path, ...], cache: Path) -> tuple[np.ndarray, np.ndarray]:
    path = find_or_fetch(part.file, own, cache, patience=PATIENCE)
    folder = kept("svhn", part.file.md5, partial(_unpack, path, part.count))
    return mapped(folder / "x.npy"), mapped(folder / "y.npy")


def _unpack(path: Path, count: int, folder: Path) -> None:
    x, y = read_mat(path, count)
    blocks = (x[..., first : first + BLOCK] for first in range(0, count, BLOCK))
    pictures = (block.transpose(3, 2, 0, 1) for block in blocks)
    write_array(folder / "x.npy", (count, 3, SIDE, SIDE), pictures)
    write_array(folder / "y.npy", (count,), [y[:, 0] % 10])  # label 10 stands for the digit 0


def read_mat(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """X uint8 (32, 32, 3, count) and y (count, 1), 1 to 10, of a MATLAB file with just these.

    The file's own table of contents is compared first, so that no cell, struct or object is built
    and no memory spent on anything else. Raises DataError that says what was found.
    """
    from scipy.io import loadmat, whosmat  # takes half a second: only who reads such a file pays
    from scipy.io.matlab import MatReadError

    expected = {"X": (SIDE, SIDE, 3, count), "y": (count, 1)}
    try:
        found = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        for name, (shape, kind) in found.items():
            known = ("uint8",) if name == "X" else ("uint8", "double")
            if shape != expected.get(name) or kind not in known:
                raise DataError(
                    f"{path}: holds {name!r}, {kind} {shape}, expected X uint8 {expected['X']} and "
                    f"y {expected['y']}; get the official file"
                )
        if found.keys() != expected.keys():
            names = ", ".join(sorted(found)) or "nothing"
            raise DataError(f"{path}: holds {names}, expected X and y; get the official file")
        content = loadmat(path, verify_compressed_data_integrity=True)
    except (*BROKEN, MatReadError) as fault:
        reason = " ".join(str(fault).split())[:120]
        raise DataError(f"{path}: not a whole MATLAB 5 file ({reason}); fetch it again") from None
    x, y = content["X"], content["y"]
    if x.dtype != np.uint8 or x.shape != expected["X"] or y.shape != expected["y"]:
        raise DataError(f"{path}: other arrays than its table of contents says; fetch it again")
    if not np.isin(y, np.arange(1, 11)).all():
        raise DataError(f"{path}: labels {y.min()} to {y.max()}, expected 1 to 10; fetch it again")
    return x, y
