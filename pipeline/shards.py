"""A shard's bytes: numbered examples and labels in a plain WebDataset tar, written and read back.

Writing is deterministic. Reading trusts nothing: the file must be the one in the manifest, and even
then only regular members with the expected names, sizes and kinds of content are accepted, so that
a hostile shard with a manifest to match is refused before it costs memory. Nothing is unpickled.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from math import prod
from pathlib import Path
from tarfile import AREGTYPE, BLOCKSIZE, REGTYPE, TarError, TarInfo
from typing import BinaryIO

import numpy as np
from PIL import Image
from webdataset import TarWriter

from draw_model.char_rnn import ALPHABET
from pipeline.errors import DataError
from pipeline.manifest import Shard
from pipeline.sources.contract import Example

MOST_LABEL_BYTES = 10
LEAST_EXAMPLE_BYTES = 4 * BLOCKSIZE
"""Two members, each a header and at least one block."""

MOST_TRAILER_BYTES = 1 << 16
"""Zeros after the last member: tar writers fill up to their own record size."""

MODES = {1: "L", 3: "RGB"}
COLOUR_TYPES = {1: 0, 3: 2}
"""Channels → colour type in a PNG header."""

REPAIR = "delete the data set's manifest.json and prepare it again"

PRINTABLE = frozenset(ALPHABET.encode())
"""The characters of a text: a newline and printable ASCII."""

Shape = tuple[int, ...]


def key(index: int) -> str:
    """The name of an example in its shard: its index in the split."""
    return f"{index:06d}"


def write_shard(path: Path, examples: Iterable[Example], first: int) -> Counter[int]:
    """Writes examples ``first``, ``first`` + 1, … and says how many there are of each class.

    The same examples give the same bytes everywhere: no times, no owners. The pixels are stored
    without compression, because compressors differ in their output from one build to the next.
    """
    counts: Counter[int] = Counter()
    with (
        path.open("wb") as file,
        TarWriter(file, user="", group="", mode=0o644, mtime=0, encoder=False) as tar,
    ):
        for index, (image, label) in enumerate(examples, start=first):
            kind, data = ("txt", image.tobytes()) if image.ndim == 1 else ("png", _encoded(image))
            tar.write({"__key__": key(index), kind: data, "cls": str(label).encode()})
            counts[label] += 1
    return counts


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_shard(
    path: Path, shard: Shard, shape: Shape, classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A shard's pictures uint8 (n, C, H, W), or texts (n, L), and labels int64 (n,).

    ``path`` must be the file that the manifest describes as ``shard``: its size and sha256 are
    checked before it is parsed. With ``classes``, labels must lie below it.
    Raises DataError that names the shard, what was found and what was expected.
    """
    _check_file(path, shard, prod(shape))
    x = np.empty((shard.examples, *shape), dtype=np.uint8)
    y = np.empty(shard.examples, dtype=np.int64)
    most = 1024 + 2 * x[:1].size
    with path.open("rb") as file:
        for place in range(shard.examples):
            name = key(shard.first + place)
            label = _member(file, shard, f"{name}.cls", MOST_LABEL_BYTES)
            example = f"{name}.{'txt' if len(shape) == 1 else 'png'}"
            data = _member(file, shard, example, most)
            y[place] = _decoded_label(label, f"{shard.file}: {name}.cls", classes)
            x[place] = _decoded(data, f"{shard.file}: {example}", shape)
        rest = file.read(MOST_TRAILER_BYTES + 1)
    if len(rest) > MOST_TRAILER_BYTES or rest.strip(b"\0"):
        raise DataError(f"{shard.file}: more in it than the {shard.examples} examples expected")
    return x, y


def _check_file(path: Path, shard: Shard, values: int) -> None:
    """``values`` is what one example decodes to, in bytes: pixels are stored as they are."""
    size = path.stat().st_size
    if size != shard.bytes:
        raise DataError(f"{shard.file}: {size} bytes, expected {shard.bytes}; {REPAIR}")
    found = sha256_of(path)
    if found != shard.sha256:
        raise DataError(
            f"{shard.file}: sha256 {found}, expected {shard.sha256}; it is damaged or another "
            f"shard; {REPAIR}"
        )
    if shard.examples * max(LEAST_EXAMPLE_BYTES, values) > size:
        raise DataError(
            f"{shard.file}: {size} bytes cannot hold {shard.examples} examples of {values} values; "
            f"the manifest is wrong; {REPAIR}"
        )


def _member(file: BinaryIO, shard: Shard, name: str, most: int) -> bytes:
    """The bytes of the next member, which must be the regular file ``name``.

    Headers are read one block at a time, not through ``tarfile.open``: that would follow extended
    headers, sparse maps and long names to whatever size they claim.
    """
    try:
        info = TarInfo.frombuf(file.read(BLOCKSIZE), "ascii", "backslashreplace")
    except TarError as fault:
        raise DataError(f"{shard.file}: {fault} where {name} is expected; not its tar") from None
    if info.type not in (REGTYPE, AREGTYPE):
        raise DataError(
            f"{shard.file}: a member of type {info.type!r} named {info.name!r} where the regular "
            f"file {name} is expected; refused"
        )
    if info.name != name:
        raise DataError(f"{shard.file}: member {info.name!r} where {name} is expected; refused")
    if not 0 < info.size <= most:
        raise DataError(f"{shard.file}: {name} of {info.size} bytes, at most {most}; refused")
    padded = -(-info.size // BLOCKSIZE) * BLOCKSIZE
    data = file.read(padded)
    if len(data) < padded:
        raise DataError(f"{shard.file}: ends inside {name}; it is cut off")
    return data[: info.size]


def _decoded_label(data: bytes, where: str, classes: int | None) -> int:
    if not data.isdigit() or (classes is not None and int(data) >= classes):
        expected = "a number" if classes is None else f"0 to {classes - 1}"
        raise DataError(f"{where}: label {data!r}, expected {expected}; refused")
    return int(data)


def _encoded(image: np.ndarray) -> bytes:
    """uint8 (C, H, W) as PNG."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _decoded(data: bytes, where: str, shape: Shape) -> np.ndarray:
    """PNG → uint8 (C, H, W), ASCII → (L,)."""
    if len(shape) == 1:
        if len(data) != shape[0] or not PRINTABLE.issuperset(data):
            raise DataError(f"{where}: not {shape[0]} characters of printable ASCII; refused")
        return np.frombuffer(data, np.uint8)
    channels, height, width = shape
    return _decoded_png(data, where, channels, height, width)


def _decoded_png(data: bytes, where: str, channels: int, height: int, width: int) -> np.ndarray:
    """The header is compared before any pixel is decoded."""
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBB", 13, b"IHDR", width, height, 8, COLOUR_TYPES[channels]
    )
    if data[: len(header)] != header:
        expected = _words(channels, height, width)
        raise DataError(f"{where}: {_described(data)}, expected {expected}; refused")
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            # A second header further on could still have changed these.
            if (image.mode, image.size) != (MODES[channels], (width, height)):
                raise DataError(f"{where}: two headers in one PNG; refused")
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, _Bomb, _BombWarning) as fault:
        raise DataError(f"{where}: not a whole PNG ({fault}); refused") from None
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


_Bomb, _BombWarning = Image.DecompressionBombError, Image.DecompressionBombWarning


def _words(channels: int, height: int, width: int) -> str:
    return f"{width}×{height} pixels of 8 bits, {MODES[channels]}"


def _described(data: bytes) -> str:
    """What a PNG header says, for messages."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 26:
        return f"no PNG (starts with {data[:8]!r})"
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    return f"{width}×{height} pixels of {depth} bits, colour type {colour}"
