"""Decoded shards on this node: fetched, checked and decoded once, then mapped by all its workers.

One file a shard, named by the shard's sha256 and the CRC of the decoded data, so that a file says
by itself what it must contain. It appears by one rename and may be removed at any time: what is
mapped stays readable until it is unmapped.
"""

import fcntl
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.manifest import Manifest, Shard
from pipeline.shards import read_shard
from pipeline.storage import Storage

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$DRAW_CACHE/shards``, or a folder in the user's cache."""
    root = os.environ.get("DRAW_CACHE") or "~/.cache/draw-pipeline"
    return Path(root).expanduser() / "shards"


class ShardCache:
    """The node's cache in one folder, at most ``limit`` bytes of decoded data."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise _unwritable(folder, fault) from None

    def open(
        self, storage: Storage, manifest: Manifest, split: str, first: int = 0
    ) -> list[np.ndarray]:
        """The decoded shards of a split, in order: memory maps with fields ``x`` and ``y``.

        Workers of a node pass different ``first`` so that each starts to fill another shard.
        Raises DataError for a shard that is not what the manifest says, a split larger than the
        cache, and a full or unwritable disk.
        """
        shards = manifest.of(split)
        layout = np.dtype([("x", "u1", manifest.shape), ("y", "<i8")])
        needed = sum(s.examples for s in manifest.shards) * layout.itemsize
        if needed > self.limit:
            raise DataError(
                f"{manifest.path}: {needed / 1e9:.2f} GB decoded, the cache is limited to "
                f"{self.limit / 1e9:.2f} GB; raise cluster.cache_gb"
            )
        opened: dict[int, np.ndarray] = {}
        for k in range(len(shards)):
            place = (k + first) % len(shards)
            opened[place] = self._one(storage, manifest, shards[place], layout)
        return [opened[place] for place in range(len(shards))]

    def _one(
        self, storage: Storage, manifest: Manifest, shard: Shard, layout: np.dtype
    ) -> np.ndarray:
        with self._lock(shard.sha256):
            for path in self.folder.glob(f"{shard.sha256}-*.npy"):
                array = _mapped(path, layout, shard.examples)
                if array is not None:
                    with suppress(OSError):  # another user's file may be read, not touched
                        os.utime(path)  # newest use, for eviction
                    return array
                log.warning("%s: damaged; decoding the shard again", path)
                path.unlink(missing_ok=True)
            return self._fill(storage, manifest, shard, layout)

    def _fill(
        self, storage: Storage, manifest: Manifest, shard: Shard, layout: np.dtype
    ) -> np.ndarray:
        self._evict(shard.examples * layout.itemsize, manifest)
        try:
            with self._own_folder(shard) as folder:
                tar = folder / "shard.tar"
                storage.download(f"{manifest.path}/{shard.file}", tar)
                x, y = read_shard(tar, shard, manifest.shape, len(manifest.classes))
                array = np.empty(shard.examples, dtype=layout)
                array["x"], array["y"] = x, y
                decoded = folder / "decoded.npy"
                np.save(decoded, array, allow_pickle=False)
                path = (
                    self.folder / f"{shard.sha256}-{zlib.crc32(array.view(np.uint8).data):08x}.npy"
                )
                os.replace(decoded, path)
        except OSError as fault:
            raise DataError(
                f"{self.folder}: {fault.strerror}; free space or set DRAW_CACHE to another folder"
            ) from None
        mapped = _mapped(path, layout, shard.examples)
        if mapped is None:
            raise DataError(f"{path}: reads back other bytes than were written; check this disk")
        return mapped

    def _evict(self, coming: int, manifest: Manifest) -> None:
        """Removes the files used longest ago, never those of this data set."""
        mine = {shard.sha256 for shard in manifest.shards}
        files = []
        for path in self.folder.glob("*.npy"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another process evicted it just now
                continue
            files.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in files) + coming
        for _, size, path in sorted(files):
            if total <= self.limit:
                break
            if path.name.split("-")[0] not in mine:
                path.unlink(missing_ok=True)
                total -= size

    @contextmanager
    def _own_folder(self, shard: Shard) -> Iterator[Path]:
        """A folder to fill in; one that a killed process left behind goes first."""
        folder = self.folder / f"filling-{shard.sha256}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        try:
            file = open(self.folder / f"{name}.lock", "w")  # noqa: SIM115
        except OSError as fault:
            raise _unwritable(self.folder, fault) from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)  # freed by the kernel if this process dies
            yield


def _unwritable(folder: Path, fault: OSError) -> DataError:
    return DataError(f"{folder}: {fault.strerror}; set DRAW_CACHE to a folder that can be written")


def _mapped(path: Path, layout: np.dtype, examples: int) -> np.ndarray | None:
    """The file as an array, or None if it is not whole."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    whole = array.dtype == layout and array.shape == (examples,)
    crc = path.stem.rsplit("-", 1)[-1]
    if not whole or f"{zlib.crc32(array.view(np.uint8).data):08x}" != crc:
        return None
    return array
