"""Source files that are slow to open: unpacked into the cache, once for all processes."""

import fcntl
import gzip
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tarfile import AREGTYPE, BLOCKSIZE, NUL, REGTYPE, TarError, TarInfo
from typing import BinaryIO

import numpy as np

from pipeline.errors import DataError
from pipeline.fetch import cache_folder

CHUNK = 1 << 20


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """A folder in the cache of the data set ``name`` that ``make`` has filled.

    ``key`` must say all that decides its content. The folder appears whole or not at all; of two
    processes that need it, one makes it and the other waits; what a killed one left goes first.
    Raises DataError when the disk is full or the cache cannot be written.
    """
    folder = cache_folder(name) / f"unpacked-{key}"
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f".unpacking-{key}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel if this process dies
            if folder.is_dir():
                return folder
            for left in folder.parent.glob(".unpacking-*"):
                shutil.rmtree(left, ignore_errors=True)
            temporary.mkdir()
            try:
                make(temporary)
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as fault:
        raise DataError(
            f"{folder}: {fault.strerror}; free space or set DRAW_CACHE to another folder"
        ) from None
    return folder


def write_array(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """A .npy file of bytes from its parts, so that the whole never has to be in memory.

    Written and not mapped: a full disk is then an error, where a map would end the process.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=np.uint8).data)


def members(path: Path, most: Callable[[str], int]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the regular files in a .tar.gz for which ``most(name)`` is not 0.

    ``most`` is the largest size that a file of this name may have; what lies in between is skipped
    without being kept. Headers are read block by block, so that no claimed size is believed.
    Raises DataError for a file that is larger, and for an archive that is damaged or cut off.
    """
    with _archive(path) as file:
        while block := file.read(BLOCKSIZE):
            if block == NUL * BLOCKSIZE:
                return
            info = TarInfo.frombuf(block, "utf-8", "backslashreplace")
            limit = most(info.name) if info.type in (REGTYPE, AREGTYPE) else 0
            padded = -(-info.size // BLOCKSIZE) * BLOCKSIZE
            if limit == 0:
                _skip(file, padded)
            elif not 0 <= info.size <= limit:
                raise DataError(f"{path}: {info.name} of {info.size} bytes, at most {limit}")
            else:
                data = file.read(padded)
                if len(data) < padded:
                    raise EOFError(f"it ends inside {info.name}")
                yield info.name, data[: info.size]
    raise DataError(f"{path}: it ends without the end mark of a tar; get it again")


@contextmanager
def _archive(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file:
            yield file  # type: ignore[misc]  # it has what is used of a BinaryIO
    except (TarError, EOFError, zlib.error, gzip.BadGzipFile) as fault:
        reason = " ".join(str(fault).split())[:120]
        raise DataError(f"{path}: not a whole .tar.gz ({reason}); get it again") from None


def _skip(file: BinaryIO, size: int) -> None:
    while size > 0:
        done = len(file.read(min(size, CHUNK)))
        if not done:
            raise EOFError("it ends inside a file")
        size -= done
