"""A person's own pictures: a folder or bucket prefix with a sub-folder for each class."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Literal
from unicodedata import category

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import DataError
from pipeline.fetch import cache_folder
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.own_files import MOST_BYTES, find, picture, sha256_of
from pipeline.sources.shares import check_counts, shares, sizes
from pipeline.storage import Entry, Storage, open_storage
from pipeline.values import digest

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm"}
LARGEST = 1024
FETCHERS = 8
"""Pictures of a bucket that are fetched at once."""

Classes = dict[str, dict[str, Path]]
"""Class → name of a picture in its folder → file on this machine; all in order of names."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Pictures in ``folder``: a path, one below ``$DRAW_DATA``, or s3://bucket/prefix.

    The classes are the names of its sub-folders, in order. ``fit`` says what becomes of a picture
    that is not ``size`` × ``size``: ``crop`` takes the largest square from its middle and scales
    that, ``refuse`` ends with the picture's name. Transparency becomes white, a picture is turned
    as its EXIF note says, of an animation the first frame is taken. ``val`` and ``test`` pictures
    are set aside by ``seed``, by default a tenth of all each.
    """

    source: Literal["images"] = "images"
    folder: str = "images"
    size: int = 64
    colour: bool = True
    fit: Literal["crop", "refuse"] = "crop"
    val: int | None = None
    test: int | None = None
    seed: int = 0
    binarisation: Binarisation = "grey"

    def __post_init__(self) -> None:
        if not 2 <= self.size <= LARGEST:
            raise ValueError(f"size: {self.size}; takes 2 to {LARGEST}")
        if self.fit not in ("crop", "refuse"):
            raise ValueError(f"fit: {self.fit!r}; known are crop, refuse")
        if not self.folder:
            raise ValueError("folder: give a folder with a sub-folder for each class")
        check_counts(val=self.val, test=self.test)
        check_binarisation(self.binarisation)

    def about(self) -> About:
        """Raises DataError as ``splits`` does: the classes are what the folder holds."""
        classes = classes_in(self.folder)
        count = sum(map(len, classes.values()))
        return About(
            shape=(3 if self.colour else 1, self.size, self.size),
            classes=tuple(classes),
            origin=f"own pictures, {count:,} from {PurePosixPath(self.folder).name}",
            licence="not stated; that of the pictures' owner",
        )

    def fingerprint(self) -> str:
        classes = classes_in(self.folder)
        return digest(
            [[c, n, sha256_of(path)] for c, files in classes.items() for n, path in files.items()]
        )

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test.

        Raises DataError for a folder that is missing, empty or not sorted into classes,
        StorageError for a bucket that cannot be read.
        """
        total = sum(map(len, classes_in(self.folder).values()))
        return sizes(total, self.folder, val=self.val, test=self.test)

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (C, size, size), RGB or grey, and the class.

        Raises DataError that names the picture which is broken, too large, or not of this size.
        """
        classes = classes_in(self.folder)
        pictures = [
            (path, f"{self.folder}/{label}/{name}", number)
            for number, (label, files) in enumerate(classes.items())
            for name, path in files.items()
        ]
        total = len(pictures)
        counts = sizes(total, self.folder, val=self.val, test=self.test)
        parts = shares(total, self.seed, "images", val=counts["val"], test=counts["test"])
        for index in parts[split][start:stop]:
            path, name, label = pictures[index]
            yield decoded(path, name, self.size, self.colour, self.fit), label


def decoded(path: Path, name: str, size: int, colour: bool, fit: str) -> np.ndarray:
    """uint8 (3, size, size), or (1, size, size) without ``colour``, of a picture file.

    Raises DataError; what the header tells is refused before any pixel is decoded.
    """
    with picture(path, name) as image:
        if fit == "refuse" and image.size != (size, size):
            width, height = image.size
            expected = f"expected {size}×{size}; scale it, or set fit: crop"
            raise DataError(f"{name}: {width}×{height} pixels, {expected}")
        square = _square(_eight_bits(ImageOps.exif_transpose(image)), size)
        if square.mode == "RGBA":
            white = Image.new("RGBA", square.size, "white")
            square = Image.alpha_composite(white, square).convert("RGB")
        pixels = np.asarray(square.convert("RGB" if colour else "L"))
    return pixels.transpose(2, 0, 1) if colour else pixels[None]


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGBA if anything is transparent, else L or RGB; 16 bits are scaled, not cut off at 255."""
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.int64).clip(0, 65535) >> 8
        return Image.fromarray(high.astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def classes_in(folder: str) -> Classes:
    """The pictures of a folder or a bucket prefix; those of a bucket are fetched to this machine.

    Hidden files and files that are not named as pictures are passed over. Raises DataError when it
    is empty or not sorted into classes, StorageError when the bucket cannot be read.
    """
    if "://" in folder and not folder.startswith("file://"):
        found: Iterable[tuple[str, Path]] = _fetched(open_storage(folder))
    else:
        advice = "give a folder with a sub-folder for each class"
        found = _names(find("images", folder.removeprefix("file://"), advice))
    classes: Classes = {}
    for name, path in sorted(found, key=lambda pair: pair[0].split("/")):
        label, _, file = name.partition("/")
        if not label.isprintable():
            raise DataError(f"{folder}: the class {label!r} has unprintable characters; rename it")
        if any(category(character) in ("Cc", "Cs") for character in file):
            raise DataError(f"{folder}/{label}: {file!r}: control characters, or no UTF-8; {_NAME}")
        files = classes.setdefault(label, {})
        if file:
            files[file] = path
    if not classes:
        raise DataError(f"{folder}: nothing in it; put pictures into a sub-folder for each class")
    for label, files in classes.items():
        if not files:
            raise DataError(f"{folder}/{label}: no picture in it; add some or remove it")
    return classes


def _names(root: Path) -> Iterator[tuple[str, Path]]:
    """``class/file`` of the pictures, and ``class/`` of every folder."""
    try:
        inside = [path for path in root.iterdir() if not path.name.startswith(".")]
        _check_depth((p.name for p in inside if not p.is_dir()), 1, root)
        for label in (path for path in inside if path.is_dir()):
            yield f"{label.name}/", label
            for path in label.iterdir():
                if path.is_dir() and not path.name.startswith("."):
                    raise DataError(f"{path}: a folder inside the class {label.name}; {_FLAT}")
                if _is_picture(path.name):
                    yield f"{label.name}/{path.name}", path
    except OSError as fault:
        reason = f"{fault.strerror}; give a folder with a sub-folder for each class"
        raise DataError(f"{root}: {reason}") from None


_NAME = "rename the picture"
_FLAT = "pictures must lie in folder/class/picture"


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def _check_depth(names: Iterable[str], depth: int, where: object) -> None:
    for name in names:
        if _is_picture(name):
            fault = "not in a class" if depth == 1 else "too deep"
            raise DataError(f"{where}/{name}: {fault}; {_FLAT}")


def _fetched(storage: Storage) -> list[tuple[str, Path]]:
    """The pictures below a bucket prefix, as files in the cache; only changed ones are fetched.

    Files are named by a hash of the key, so that no key can lead out of the cache.
    """
    home = cache_folder("images") / sha256(storage.url.encode()).hexdigest()[:16]
    entries, labels = [], {}
    for entry in storage.list():
        parts = entry.key.split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) != 2:
            _check_depth([parts[-1]], len(parts), storage.address("/".join(parts[:-1])))
        else:
            labels[f"{parts[0]}/"] = home
            entries += [entry] if _is_picture(parts[1]) else []
    paths = [home / sha256(entry.key.encode()).hexdigest()[:32] for entry in entries]
    with ThreadPoolExecutor(FETCHERS) as pool:
        list(pool.map(_fetch, [storage] * len(paths), entries, paths))
    return [*labels.items(), *((e.key, path) for e, path in zip(entries, paths, strict=True))]


def _fetch(storage: Storage, entry: Entry, path: Path) -> None:
    if entry.bytes > MOST_BYTES:
        where = storage.address(entry.key)
        raise DataError(f"{where}: {entry.bytes} bytes, at most {MOST_BYTES}; make it smaller")
    if path.exists():
        status = path.stat()
        if status.st_size == entry.bytes and abs(status.st_mtime - entry.modified) < 1e-3:
            return
    storage.download(entry.key, path)
    os.utime(path, (entry.modified, entry.modified))
