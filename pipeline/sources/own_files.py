"""Files that a person brings and no checksum knows: where they lie, and what they hold."""

import hashlib
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError

import numpy as np
from PIL import Image

from pipeline.errors import DataError
from pipeline.fetch import own_folders

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
MOST_PIXELS = 1 << 26
MOST_BYTES = 1 << 28
"""Of one picture file."""

BROKEN = (ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
          TypeError, ValueError, TokenError, struct.error, zlib.error,
          zipfile.BadZipFile)  # fmt: skip
"""What readers of files raise, each in its own way, when the bytes are not what they should be."""


def find(name: str, file: str, advice: str) -> Path:
    """``file`` in the folders where a person puts the data set ``name``; may be absolute too.

    Raises DataError that ends in ``advice`` when it is in none of them.
    """
    given = Path(file).expanduser()
    folders = own_folders(name)
    for folder in folders:
        if (folder / given).exists():
            return folder / given
    if given.is_absolute() and given.exists():
        return given
    looked = ", ".join(map(str, folders)) or "any folder (DRAW_DATA is not set)"
    if given.exists():  # where this process happens to stand, which no other machine knows
        advice = f"write its whole path, {given.absolute()}"
    raise DataError(f"{file}: not in {looked}; {advice}")


def sha256_of(path: Path) -> str:
    """sha256 of a file, read once a process for as long as the file does not change.

    Raises DataError when it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would be read for ever
            raise DataError(f"{path}: no regular file; put the file itself there or remove it")
        return _sha256(path, status.st_size, status.st_mtime_ns)
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}; make it readable or remove it") from None


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mapped(path: Path) -> np.ndarray:
    """A .npy file as a read-only array in the file itself: costs no memory, unpickles nothing.

    Raises DataError for a file that is none, cut off, or of objects.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as fault:
        reason = " ".join(str(fault).split())[:120]
        raise DataError(f"{path}: not a whole .npy file ({reason}); get it again") from None
    if not isinstance(array, np.ndarray):  # np.load opens an .npz whatever its name is
        array.close()
        raise DataError(f"{path}: an .npz file where one .npy array is expected; get it again")
    return array


@contextmanager
def picture(
    path: Path, name: str = "", formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """A picture file, open; its size is known from its header, its pixels are not decoded yet.

    ``name`` is what the messages call it, by default its path.

    Raises DataError when it has too many pixels, and when it turns out in the ``with`` block to be
    no picture of these formats, damaged or cut off.
    """
    name = name or str(path)
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise DataError(f"{name}: {size} bytes, at most {MOST_BYTES}; make it smaller")
        with warnings.catch_warnings():  # of a size that is refused below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=formats)
        with opened as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(f"{name}: {width}×{height} pixels, {_TOO_MANY}")
            yield image
    except Image.DecompressionBombError as fault:
        pixels = "".join(c for c in str(fault).split(" pixels")[0] if c.isdigit())
        raise DataError(f"{name}: {pixels} pixels, {_TOO_MANY}") from None
    except BROKEN as fault:
        reason = " ".join(str(fault).replace(f" {str(path)!r}", "").split())[:120]
        raise DataError(f"{name}: not a whole picture ({reason}); replace or remove it") from None


_TOO_MANY = f"at most {MOST_PIXELS}; scale it down"
