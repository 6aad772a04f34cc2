"""How a folder keeps the promises of a store: temporary names, then one atomic rename or link."""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.storage import (
    TEMPORARY,
    Entry,
    Names,
    Progress,
    Storage,
    checked,
    folder_prefix,
    local_errors,
)

STALE_SECONDS = 3600
CHUNK = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside ``path`` to write into, and its name, which is free again afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def settle(file: BinaryIO) -> None:
    """Brings the bytes to the disk, so that not even a power cut shows a name without content."""
    file.flush()
    os.fsync(file.fileno())


def copy(source: Path, target: Path, progress: Progress | None) -> None:
    """Copies a file so that ``target`` is seen whole or not at all."""
    with source.open("rb") as reader, whole_file(target) as (writer, temporary):
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            if progress is not None:
                progress(len(chunk))
        settle(writer)
        temporary.replace(target)


@dataclass(frozen=True, kw_only=True)
class FolderStorage(Storage):
    """Objects as files below a folder, which is made when it is first written to."""

    @property
    def root(self) -> Path:
        return Path(self.url.removeprefix("file://") or "/")

    def path(self, key: str) -> Path:
        return self.root / checked(key)

    def read(self, key: str) -> bytes:
        path = self.path(key)
        with local_errors(self.address(key)):
            return path.read_bytes()

    def write(self, key: str, data: bytes) -> None:
        path = self.path(key)
        with local_errors(self.address(key)), whole_file(path) as (file, temporary):
            file.write(data)
            settle(file)
            temporary.replace(path)

    def create(self, key: str, data: bytes) -> bool:
        path = self.path(key)
        with local_errors(self.address(key)), whole_file(path) as (file, temporary):
            file.write(data)
            settle(file)
            try:
                os.link(temporary, path)  # unlike a rename it fails where the name is taken
            except FileExistsError:
                return False
        return True

    def upload(self, key: str, path: Path, progress: Progress | None = None) -> None:
        target = self.path(key)
        with local_errors(f"{path} → {self.address(key)}"):
            copy(path, target, progress)

    def download(self, key: str, path: Path, progress: Progress | None = None) -> None:
        source = self.path(key)
        with local_errors(f"{self.address(key)} → {path}"):
            copy(source, path, progress)

    def folders(self, prefix: str = "") -> Names:
        top = self.root / folder_prefix(prefix)
        with local_errors(self.address(prefix)):
            inside = [path for path in top.iterdir() if path.is_dir()] if top.is_dir() else []
            return sorted(path.name for path in inside if any(self._entries(path)))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        top = self.root / folder_prefix(prefix)
        with local_errors(self.address(prefix)):
            found = sorted(self._entries(top), key=lambda entry: entry.key)
        yield from found

    def _entries(self, top: Path) -> Iterator[Entry]:
        """All files below ``top``; removes what a killed process left half-written on the way."""
        for folder, _, names in os.walk(top, onerror=_raise_unless_gone):
            for name in names:
                path = Path(folder, name)
                try:
                    status = path.stat()
                    if name.startswith(TEMPORARY):
                        if status.st_mtime < time.time() - STALE_SECONDS:
                            path.unlink(missing_ok=True)
                        continue
                except FileNotFoundError:
                    continue  # deleted since its folder was read
                key = path.relative_to(self.root).as_posix()
                yield Entry(key=key, bytes=status.st_size, modified=status.st_mtime)

    def exists(self, key: str) -> bool:
        path = self.path(key)
        with local_errors(self.address(key)):
            return path.is_file()

    def delete(self, *keys: str) -> None:
        for key in keys:
            path = self.path(key)
            with local_errors(self.address(key)), suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()

    def arrow(self) -> tuple[Any, str]:
        from pyarrow.fs import LocalFileSystem

        with local_errors(self.url):
            self.root.mkdir(parents=True, exist_ok=True)
        return LocalFileSystem(), str(self.root)


def _raise_unless_gone(fault: OSError) -> None:
    if not isinstance(fault, FileNotFoundError):
        raise fault
