"""Objects under a URL (file://, s3://): the only door to object storage.

What every store promises: an object is seen whole or not at all, ``create`` has exactly one winner,
and no credentials are kept here. They come from each process's own environment or profile files,
so a ``Storage`` may be sent to another machine.
"""

import errno
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pipeline.errors import StorageError

TEMPORARY = ".tmp-"
"""Names that begin so are half-written files of a folder store; no key may hold one."""

PREFLIGHT = "preflight"
"""Where stores are tried out; nothing stays there."""
Names = list[str]
Progress = Callable[[int], None]
"""Called with the number of bytes that have gone over since the last call."""


class NotFound(StorageError):
    """There is no object under this key."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object of a listing. ``modified`` is in seconds since the epoch."""

    key: str
    bytes: int
    modified: float


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What a store was found able to do; that it can be written, read and listed is a given."""

    url: str
    create_once: bool

    def require_create_once(self) -> None:
        """Raises StorageError where leases and promotions would not be safe."""
        if not self.create_once:
            raise StorageError(
                f"{self.url}: two create-once writes of one key both succeeded (If-None-Match is "
                "ignored), so leases and promotion are unsafe here; use a store that honours it"
            )


@dataclass(frozen=True, kw_only=True)
class Storage(ABC):
    """Objects below ``url``. Keys are relative POSIX names; a bad one raises StorageError.

    Every method raises StorageError, one line that names the object, when the store cannot be
    reached, refuses, or fails more often than the bounded retries allow.
    """

    url: str

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The whole object. Raises NotFound."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Makes or replaces the object; a reader sees the old bytes or the new, never a mixture."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Makes the object if there is none: True for exactly one of any number of racers.

        When the reply to our write was lost, equal bytes under the key count as our success: so
        ``data`` must tell the racers apart.
        """

    @abstractmethod
    def upload(self, key: str, path: Path, progress: Progress | None = None) -> None:
        """``write`` of a file, streamed."""

    @abstractmethod
    def download(self, key: str, path: Path, progress: Progress | None = None) -> None:
        """``read`` into a file, streamed; ``path`` appears only when it is whole."""

    @abstractmethod
    def folders(self, prefix: str = "") -> Names:
        """Names of the folders directly inside the folder ``prefix`` that hold objects, sorted."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below the folder ``prefix``, however deep, sorted by key."""

    @abstractmethod
    def exists(self, key: str) -> bool: ...

    @abstractmethod
    def delete(self, *keys: str) -> None:
        """Removes the objects; those that are not there are no error."""

    @abstractmethod
    def arrow(self) -> tuple[Any, str]:
        """The pyarrow filesystem and the path in it that ``url`` stands for."""

    def address(self, key: str) -> str:
        """The full URL of a key, for messages."""
        return f"{self.url}/{key}"

    def below(self, prefix: str) -> Self:
        """The same store with ``prefix`` as its root."""
        return replace(self, url=self.address(checked(prefix.removesuffix("/"))))

    def preflight(self) -> Preflight:
        """Tries every kind of access on a probe object, which is removed again."""
        probe, name = self.below(PREFLIGHT), uuid.uuid4().hex
        kept, once = f"{name}-probe", f"{name}-once"
        try:
            probe.write(kept, b"old")
            probe.write(kept, b"new")
            if probe.read(kept) != b"new" or kept not in [e.key for e in probe.list()]:
                raise StorageError(
                    f"{self.url}: a probe was written but does not read and list as written; "
                    "use a store with strong consistency"
                )
            probe.create(once, b"first")
            create_once = not probe.create(once, b"second") and probe.read(once) == b"first"
        finally:
            probe.delete(kept, once)
        return Preflight(url=self.url, create_once=create_once)


def checked(key: str) -> str:
    """The key itself, if it names something strictly below the root on every kind of store."""
    parts = key.split("/")
    if any(part in ("", ".", "..") or part.startswith(TEMPORARY) for part in parts):
        fault = "empty, '.', '..' and '.tmp-' parts are refused"
    elif "\\" in key or not key.isprintable() or len(key.encode()) > 900:
        fault = "at most 900 bytes of printable characters without backslash are allowed"
    else:
        return key
    raise StorageError(f"object key {key[:80]!r}: {fault}; use relative names such as runs/x.json")


def folder_prefix(prefix: str) -> str:
    """``""`` for the root, otherwise the checked name with one final slash."""
    return checked(prefix.removesuffix("/")) + "/" if prefix else ""


LOCAL_FAULTS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EACCES: "permission denied; check the owner and mode of the folder",
    errno.EPERM: "not permitted; check the owner, mode and kind of the file system",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "no such object",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EISDIR: "this is a folder, not an object",
}


@contextmanager
def local_errors(address: str) -> Iterator[None]:
    """Turns the operating system's errors about files into StorageError."""
    try:
        yield
    except OSError as fault:
        missing = fault.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
        reason = LOCAL_FAULTS.get(fault.errno or 0) or fault.strerror or type(fault).__name__
        raise (NotFound if missing else StorageError)(f"{address}: {reason}") from None


def open_storage(url: str, endpoint: str | None = None) -> Storage:
    """The store at ``file:///absolute/path``, ``file://~/path``, ``s3://bucket/prefix`` or a path.

    ``endpoint`` is the address of an S3 server that is not AWS; by default AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL at the time of this call. Nothing is contacted yet. Raises StorageError for a
    URL of another form, or one that carries credentials (which the message does not repeat).
    """
    scheme, separator, rest = url.partition("://")
    if not separator and re.match(r"[A-Za-z0-9+]+:", url):
        raise StorageError("the storage URL has a scheme without //; write s3://bucket/path")
    if not separator:
        scheme, rest = "file", os.path.abspath(os.path.expanduser(url)) if url else ""
    elif "@" in rest.split("/")[0] or (":" in rest.split("/")[0] and "@" in rest):
        raise StorageError(
            f"the storage URL ({scheme}://…) carries a user name or password; take it out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if scheme == "file":
        return _open_folder(rest)
    if scheme == "s3":
        return _open_s3(rest, endpoint)
    raise StorageError(f"storage URL {scheme}://…: unknown scheme; use file:// or s3://")


def _open_folder(rest: str) -> Storage:
    from pipeline.storage_file import FolderStorage

    path = os.path.expanduser(rest)
    if not os.path.isabs(path) or not path.isprintable():
        raise StorageError(f"storage URL file://{rest!r}: use file:///absolute/path or file://~/x")
    return FolderStorage(url=f"file://{os.path.abspath(path)}".rstrip("/"))


def _open_s3(rest: str, endpoint: str | None) -> Storage:
    from pipeline.storage_s3 import Clients, S3Storage

    bucket, _, prefix = rest.rstrip("/").partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
        raise StorageError(f"storage URL s3://{bucket!r}…: not a bucket name; use s3://bucket/path")
    if prefix:
        checked(prefix)
    if endpoint is None:
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        endpoint = next(filter(None, map(os.environ.get, names)), None)
    if endpoint:
        _check_endpoint(endpoint)
    return S3Storage(url=f"s3://{rest.rstrip('/')}", clients=Clients(endpoint or None))


def _check_endpoint(endpoint: str) -> None:
    """Says nothing of the endpoint that it found, since that may hold a secret."""
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in endpoint or parts.query or parts.fragment:
        raise StorageError(
            "the S3 endpoint (AWS_ENDPOINT_URL) must be http://host:port or https://host without "
            "user, password or query; credentials go into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
