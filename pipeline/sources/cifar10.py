"""CIFAR-10: the official binary version, or an .npz file with a part of its pictures."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.fetch import Patience, Remote, cache_folder, find_or_fetch, own_folders
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.own_files import BROKEN, find, mapped, sha256_of
from pipeline.sources.shares import check_counts, shares, sizes
from pipeline.sources.unpacked import kept, members, write_array

SIDE, PIXELS = 32, 3 * 32 * 32
WHOLE = 60_000
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LAYOUTS = ((3, SIDE, SIDE), (SIDE, SIDE, 3))


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The official archive: five training files and a test file of ``batch`` pictures each.

    The better known python version of it holds pickles, which are never read here.
    """

    file: Remote
    batch: int

    @property
    def names(self) -> tuple[str, ...]:
        numbered = (f"data_batch_{number}" for number in range(1, 6))
        return tuple(f"cifar-10-batches-bin/{name}.bin" for name in (*numbered, "test_batch"))


OFFICIAL = Archive(
    file=Remote(
        address="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        most_bytes=1 << 28,
    ),
    batch=10_000,
)


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """CIFAR-10 in colour; ``validation`` pictures (by default a tenth) are set aside by ``seed``.

    ``file`` takes, instead of the official archive, an .npz file with x and y in
    ``$DRAW_DATA/cifar10``: it has no test split of its own, so as many pictures as for validation
    are set aside for testing, and its numbers are not those of CIFAR-10.
    """

    source: Literal["cifar10"] = "cifar10"
    file: str | None = None
    validation: int | None = None
    seed: int = 0
    binarisation: Binarisation = "grey"

    def __post_init__(self) -> None:
        check_counts(validation=self.validation)
        check_binarisation(self.binarisation)

    def about(self) -> About:
        """Raises DataError as ``examples`` does: the origin tells a part from the whole."""
        origin = "CIFAR-10, Krizhevsky 2009"
        if self.file is not None:
            count = len(self._load()[0])
            part = f"a part: {count:,} of the {WHOLE:,} pictures" if count < WHOLE else "all"
            origin += f", {part}, from {Path(self.file).name}"
        return About(
            shape=(3, SIDE, SIDE),
            classes=CLASSES,
            origin=origin,
            licence="none stated; its author asks to cite Krizhevsky 2009",
        )

    def fingerprint(self) -> str:
        return OFFICIAL.file.md5 if self.file is None else sha256_of(_located(self.file))

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        total = len(self._load()[0])
        if self.file is not None:
            return sizes(total, self.file, val=self.validation, test=self.validation)
        train, test = total - OFFICIAL.batch, OFFICIAL.batch
        return sizes(train, "cifar10", val=self.validation, test=0) | {"test": test}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (3, 32, 32), RGB, and the class.

        Raises DataError when the files are missing and cannot be fetched, or are other files.
        """
        images, labels = self._load()
        total, val = len(images), self.splits()["val"]
        if self.file is None:
            train = total - OFFICIAL.batch
            chosen = shares(train, self.seed, "cifar10", val=val)
            chosen["test"] = np.arange(train, total)
        else:
            chosen = shares(total, self.seed, "cifar10", val=val, test=val)
        for index in chosen[split][start:stop]:
            yield images[index].copy(), int(labels[index])

    def _load(self) -> tuple[np.ndarray, np.ndarray]:
        if self.file is None:
            return load(OFFICIAL)
        path = _located(self.file)
        return read_part(path, sha256_of(path))


def load(archive: Archive) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pictures (6 · batch, 3, 32, 32), mapped, the test pictures last, and labels.

    Raises DataError for an archive that is missing, damaged, or not what its name says.
    """
    return _load(archive, own_folders("cifar10"), cache_folder("cifar10"))


@lru_cache(maxsize=2)
def _load(archive: Archive, own: tuple[Path, ...], cache: Path) -> tuple[np.ndarray, np.ndarray]:
    path = find_or_fetch(archive.file, own, cache, patience=Patience(attempt=1800.0))
    folder = kept("cifar10", archive.file.md5, partial(_unpack, path, archive))
    return mapped(folder / "x.npy"), mapped(folder / "y.npy")


def _unpack(path: Path, archive: Archive, folder: Path) -> None:
    """A record is the class in one byte, then 1,024 bytes each of red, green and blue, by rows."""
    size = archive.batch * (1 + PIXELS)
    found = dict(members(path, lambda name: size if name in archive.names else 0))
    for name in archive.names:
        if len(found.get(name, b"")) != size:
            length = f"{len(found[name])} bytes" if name in found else "missing"
            raise DataError(f"{path}: {name}: {length}, expected {size}; get the official archive")
    records = [np.frombuffer(found[n], np.uint8).reshape(-1, 1 + PIXELS) for n in archive.names]
    labels = np.concatenate([record[:, 0] for record in records])
    _check_labels(labels, path)
    shape = (len(labels), 3, SIDE, SIDE)
    write_array(folder / "x.npy", shape, (record[:, 1:] for record in records))
    write_array(folder / "y.npy", labels.shape, [labels])


@lru_cache(maxsize=2)
def read_part(path: Path, sha256: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pictures (n, 3, 32, 32) and labels (n,) of an .npz file with x and y.

    The pictures may also be stored as (n, 32, 32, 3). Raises DataError for anything else; the
    arrays' headers are read before their values. ``sha256`` is that of the file as it is now.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            x, y = (_header(archive, name) for name in ("x.npy", "y.npy"))
        whole = 0 < x[0][0] <= WHOLE and x[0][1:] in LAYOUTS and x[1] == np.uint8
        if not whole or y[0] != x[0][:1] or y[1].kind not in "iu":
            raise DataError(
                f"{path}: x {x[1]} {x[0]} and y {y[1]} {y[0]}, expected uint8 (n, 32, 32, 3) and "
                f"whole numbers (n,), n at most {WHOLE}"
            )
        with np.load(path, allow_pickle=False) as content:
            images, labels = content["x.npy"], content["y.npy"]
    except BROKEN as fault:
        reason = " ".join(str(fault).split())[:120]
        raise DataError(f"{path}: not an .npz file with x and y ({reason}); get it again") from None
    _check_labels(labels, path)
    return images if images.shape[1:] == LAYOUTS[0] else images.transpose(0, 3, 1, 2), labels


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that an array in an .npz file says it has."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read(file)
        return shape, kind


def _check_labels(labels: np.ndarray, path: Path) -> None:
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise DataError(f"{path}: labels {labels.min()} to {labels.max()}, expected 0 to 9")


def _located(file: str) -> Path:
    return find("cifar10", file, "give an .npz file with x and y, or leave file out")
