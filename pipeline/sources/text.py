"""Text: any file of characters as ASCII codes, cut into pieces of one length."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.fetch import Remote, cache_folder, checksum_of, find_or_fetch
from pipeline.sources.contract import About, Binarisation, Example, check_binarisation
from pipeline.sources.own_files import find, sha256_of

TINY_SHAKESPEARE = Remote(
    address="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    md5="6fb458f1232090904fb40fe944165e91",
)
DEFAULT = "tinyshakespeare.txt"
MOST_BYTES = 1 << 27
CONTROL = bytes(c for c in range(128) if c != 10 and not 32 <= c <= 126)
PER_SPLIT = 20
"""Pieces of text of which val and test get one each."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text file, by default Tiny Shakespeare; ``file`` lies in ``$DRAW_DATA/text`` or anywhere.

    One example has ``length + 1`` characters, so that input and target, one character on, both
    have ``length``. The first 90 % of the text are train, the next 5 % val, the last 5 % test.
    """

    source: Literal["text"] = "text"
    file: str = DEFAULT
    length: int = 50
    binarisation: Binarisation = "grey"

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length: {self.length}; a piece of text needs 1 character or more")
        if not self.file:
            raise ValueError("file: give the name of a text file")
        check_binarisation(self.binarisation, "grey")

    def about(self) -> About:
        """Raises DataError as ``examples`` does: the origin counts what was left out."""
        path = _located(self.file)
        codes, dropped = load(path)
        own = "the user's own text"
        tiny = checksum_of(path, "md5") == TINY_SHAKESPEARE.md5
        return About(
            shape=(self.length + 1,),
            classes=("text",),
            origin=f"{'Tiny Shakespeare, from char-rnn' if tiny else own}: {len(codes):,} "
            f"characters; {dropped:,} others were left out, being neither ASCII nor made of it",
            licence="public domain (Shakespeare)" if tiny else f"as {own} is licensed",
        )

    def fingerprint(self) -> str:
        return sha256_of(_located(self.file))

    def splits(self) -> dict[str, int]:
        """Sizes of train, val and test; raises DataError as ``examples`` does, before any work."""
        return {split: len(part) for split, part in self._parts().items()}

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples ``start`` … ``stop − 1``: uint8 (length + 1,) ASCII codes, and class 0.

        Raises DataError when the file is missing, too large, too short, or not UTF-8.
        """
        for row in self._parts()[split][start:stop]:
            yield row, 0

    def _parts(self) -> dict[str, np.ndarray]:
        path = _located(self.file)
        codes, _ = load(path)
        width = self.length + 1
        count = len(codes) // width
        if count < PER_SPLIT:
            raise DataError(
                f"{path}: {len(codes)} characters, expected {PER_SPLIT * width} or more for pieces "
                f"of {self.length} + 1; lower length or give more text"
            )
        rows = codes[: count * width].reshape(count, width)
        aside = count // PER_SPLIT
        train = count - 2 * aside
        return {"train": rows[:train], "val": rows[train : train + aside], "test": rows[-aside:]}


def plain(text: str) -> tuple[str, int]:
    """The text in printable ASCII and newlines, and how many characters were left out.

    Unicode is decomposed (NFKD), so that é leaves e and ﬁ leaves fi; accents that fall away are not
    counted. Line ends become newlines and tabs spaces.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    apart = unicodedata.normalize("NFKD", text)
    ascii = apart.encode("ascii", "ignore")
    kept = ascii.translate(None, CONTROL)
    dropped = len(ascii) - len(kept)
    if len(ascii) < len(apart):
        dropped += sum(not c.isascii() and not unicodedata.combining(c) for c in apart)
    return kept.decode(), dropped


def load(path: Path) -> tuple[np.ndarray, int]:
    """ASCII codes uint8 (n,) of a text file, read once a process, and what ``plain`` left out.

    Raises DataError for a file that is too large, not UTF-8, or cannot be read.
    """
    return _load(path, sha256_of(path))


@lru_cache(maxsize=2)
def _load(path: Path, _sha256: str) -> tuple[np.ndarray, int]:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise DataError(f"{path}: {size} bytes, at most {MOST_BYTES}; take a part of it")
    try:
        kept, dropped = plain(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as fault:
        raise DataError(f"{path}: byte {fault.start} is not UTF-8; save it as UTF-8") from None
    return np.frombuffer(kept.encode("ascii"), dtype=np.uint8), dropped


def _located(file: str) -> Path:
    try:
        return find("text", file, "give the path of a UTF-8 text file")
    except DataError:
        if file != DEFAULT:
            raise
    try:
        return find_or_fetch(TINY_SHAKESPEARE, (), cache_folder("text"))
    except DataError as fault:
        raise DataError(f"{fault}, as {DEFAULT}") from None
