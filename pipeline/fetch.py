"""Public files: where they may already lie, and how one is brought over HTTP, whole or not at all.

A file is accepted by its checksum only, wherever it was found.
"""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pipeline.errors import DataError

Progress = Callable[[str, int, int], None]
"""Called with the file's name, the bytes so far, and the bytes to come (0 where unknown)."""

log = logging.getLogger(__name__)

CHUNK = 1 << 16
RETRIED = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One public file: where it comes from, its md5, and a size that it cannot exceed.

    ``sha256`` is for a file of which no md5 was published.
    """

    address: str
    md5: str = ""
    sha256: str = ""
    most_bytes: int = 1 << 26

    @property
    def name(self) -> str:
        return self.address.rsplit("/", 1)[-1]

    @property
    def checksum(self) -> tuple[str, str]:
        """Its kind, "md5" or "sha256", and its hexadecimal digits."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to try: seconds for an answer, seconds for one attempt as a whole, attempts."""

    timeout: float = 20.0
    attempt: float = 600.0
    attempts: int = 4
    pause: float = 1.0
    """Seconds before the second attempt; doubled before each one after it."""


# Checksums against accidents: md5 too is one where it has been withdrawn from other uses.
_hash = partial(hashlib.new, usedforsecurity=False)


class _Failure(Exception):
    """One attempt that brought nothing; ``final`` if another one cannot do better."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def own_folders(name: str) -> tuple[Path, ...]:
    """Where a person may have put a data set's files: ``$DRAW_DATA/<name>``, ``$DRAW_DATA``."""
    given = os.environ.get("DRAW_DATA")
    return (Path(given).expanduser() / name, Path(given).expanduser()) if given else ()


def cache_folder(name: str) -> Path:
    """Where fetched files are kept: ``$DRAW_CACHE/<name>``, or a folder in the user's cache."""
    root = os.environ.get("DRAW_CACHE") or "~/.cache/draw-pipeline"
    return Path(root).expanduser() / name


def find_or_fetch(
    remote: Remote,
    folders: tuple[Path, ...],
    cache: Path,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """The file with the right checksum: from ``folders``, else ``cache``, else fetched into it.

    Raises DataError: a file in ``folders`` that is another one (it is named, never replaced), or a
    file that is nowhere and cannot be fetched.
    """
    kind, expected = remote.checksum
    for folder in folders:
        path = folder / remote.name
        if path.is_file():
            found = checksum_of(path, kind)
            if found != expected:
                raise DataError(
                    f"{path}: {kind} {found}, expected {expected}; replace it by {remote.address}, "
                    "or remove it and it will be fetched"
                )
            return path
    path = cache / remote.name
    if path.is_file() and checksum_of(path, kind) == expected:
        return path
    try:
        _fetch(remote, path, progress, patience or Patience())
    except _Failure as failure:
        looked = ", ".join(str(folder) for folder in (*folders, cache))
        by_hand = folders[0] if folders else f"a folder {cache.name}/ below $DRAW_DATA"
        raise DataError(
            f"{remote.name}: not in {looked}, and {remote.address} cannot be fetched: {failure}; "
            f"download it by hand into {by_hand}"
        ) from None
    return path


def _fetch(remote: Remote, path: Path, progress: Progress | None, patience: Patience) -> None:
    """Brings the file to ``path``, which appears only when its checksum is right.

    Raises _Failure with the reason of the last attempt.
    """
    log.info("fetching %s", remote.address)
    for attempt in range(1, patience.attempts + 1):
        try:
            return _attempt(remote, path, progress, patience)
        except _Failure as failure:
            if failure.final:
                raise
            if attempt == patience.attempts:
                raise _Failure(f"{failure} ({attempt} attempts)") from None
            log.warning("%s: %s; trying again", remote.address, failure)
        time.sleep(patience.pause * 2 ** (attempt - 1))


def _attempt(remote: Remote, path: Path, progress: Progress | None, patience: Patience) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as fault:
        raise _Failure(f"{path.parent}: {fault.strerror}; set DRAW_CACHE", final=True) from None
    try:
        with os.fdopen(handle, "wb") as file:
            found, first = _receive(remote, file.write, progress, patience)
        kind, expected = remote.checksum
        if found != expected:
            page = first.lstrip()[:1] == b"<"
            what = "an HTML page instead of the file" if page else f"{kind} {found}"
            raise _Failure(f"it answered with {what}, expected {kind} {expected}")
        os.replace(temporary, path)
    except OSError as fault:  # the network's own errors are told apart in _receive
        raise _Failure(f"{path.parent}: {fault.strerror}; set DRAW_CACHE", final=True) from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def _receive(
    remote: Remote,
    write: Callable[[bytes], int],
    progress: Progress | None,
    patience: Patience,
) -> tuple[str, bytes]:
    """Streams the answer into ``write``: its checksum and its first bytes."""
    digest, first, done = _hash(remote.checksum[0]), b"", 0
    deadline = time.monotonic() + patience.attempt
    with _answer(remote, patience) as answer:
        total = answer.length or 0
        while chunk := _read(answer):
            write(chunk)
            digest.update(chunk)
            first, done = first or chunk[:64], done + len(chunk)
            if done > remote.most_bytes:
                raise _Failure(f"more than {remote.most_bytes} bytes came", final=True)
            if time.monotonic() > deadline:
                raise _Failure(f"only {done} bytes in {patience.attempt:g} s")
            if progress:
                progress(remote.name, done, total)
    if done < total:
        raise _Failure(f"cut off after {done} of {total} bytes")
    return digest.hexdigest(), first


def _answer(remote: Remote, patience: Patience) -> HTTPResponse:
    request = Request(remote.address, headers={"User-Agent": "draw-pipeline"})
    try:
        return urlopen(request, timeout=patience.timeout)
    except HTTPError as fault:
        reason = " ".join(str(fault.reason).split())
        looped = 300 <= fault.code < 400
        fault.close()
        text = "it redirects in a loop" if looped else f"it answered {fault.code} {reason}"
        raise _Failure(text, final=fault.code not in RETRIED) from None
    except (URLError, HTTPException, OSError) as fault:
        raise _Failure(_reason(fault)) from None


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read1(CHUNK)  # what has come: ``read`` would wait for all of it
    except (HTTPException, OSError) as fault:
        raise _Failure(_reason(fault)) from None


def _reason(fault: Exception) -> str:
    """One line on what the network did."""
    cause = getattr(fault, "reason", fault)
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(f"no connection or a broken one ({text})".split())


def checksum_of(path: Path, kind: str) -> str:
    """A file's "md5" or "sha256", in hexadecimal. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: _hash(kind)).hexdigest()
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}; make it readable or remove it") from None
