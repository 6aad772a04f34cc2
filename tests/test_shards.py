"""Shards: anybody's WebDataset reader can read them, and ours refuses everything else."""

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from pipeline.errors import DataError
from pipeline.manifest import Shard
from pipeline.shards import read_shard, sha256_of, write_shard
from pipeline.sources.contract import Example

GREY, COLOUR = (1, 28, 28), (3, 5, 7)
Member = tuple[tarfile.TarInfo, bytes]


def examples(count: int, shape: tuple[int, int, int]) -> list[Example]:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    return [(image, place % 10) for place, image in enumerate(x)]


def described(path: Path, count: int, first: int = 0) -> Shard:
    """The manifest's entry that fits these bytes, so that only the parser can refuse them."""
    return Shard(
        file=path.name,
        split="train",
        first=first,
        examples=count,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it open
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_shard_reads_back_as_written_here_and_in_webdataset(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    path, wanted = tmp_path / "train-000001.tar", examples(12, shape)
    counts = write_shard(path, wanted, first=17)
    assert counts == {0: 2, 1: 2, **dict.fromkeys(range(2, 10), 1)}
    x, y = read_shard(path, described(path, 12, first=17), shape, classes=10)
    assert (x.dtype, y.dtype) == (np.uint8, np.int64)
    theirs = webdataset.WebDataset(str(path), shardshuffle=False).to_tuple("__key__", "png", "cls")
    for place, (key, png, label) in enumerate(theirs):
        assert key == f"{place + 17:06d}"
        pixels = np.asarray(Image.open(io.BytesIO(png)))
        pixels = pixels[None] if shape[0] == 1 else pixels.transpose(2, 0, 1)
        for image in (x[place], pixels):
            np.testing.assert_array_equal(image, wanted[place][0])
        assert y[place] == int(label) == wanted[place][1]


def test_shard_bytes_never_change(tmp_path: Path) -> None:
    """The same job gives the same sha256 anywhere; if it must change, FORMAT has to be raised."""
    path = tmp_path / "a.tar"
    ramp = np.arange(784, dtype=np.uint8).reshape(1, 28, 28)
    write_shard(path, [(ramp, 3), (ramp.transpose(0, 2, 1), 9)], first=0)
    assert sha256_of(path) == "7da20ced8672bd7a541e66c9252f77ebcbceb646045a8c09fc6ac19d3927497b"
    with tarfile.open(path, "r:") as tar:
        assert [m.name for m in tar] == ["000000.cls", "000000.png", "000001.cls", "000001.png"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {
            (0, 0, 0, "", "", 0o644)
        }


def test_another_file_than_the_manifest_says_is_refused_unparsed(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    write_shard(path, examples(5, GREY), first=0)
    shard, whole = described(path, 5), path.read_bytes()
    for place in (0, 156, 515, 2000, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=rf"000000.tar: sha256 \w+, expected {shard.sha256}"):
            read_shard(path, shard, GREY)
    path.write_bytes(whole[:-512])
    with pytest.raises(DataError, match=f"{len(whole) - 512} bytes, expected {len(whole)}"):
        read_shard(path, shard, GREY)


def png(image: np.ndarray | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((28, 28), np.uint8) if image is None else image).save(buffer, "PNG")
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


END = bytes(10240)  # tar writers fill up to a record
SIGNATURE = png()[:8]
BOMB = SIGNATURE + header(13_000, 13_000) + chunk(b"IDAT", zlib.compress(bytes(1 << 24)))


def member(name: str, data: bytes = b"", **changes: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, data


def tar_of(*members: Member, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """Headers and data as given, even where they do not fit together; padded with zeros."""
    parts = []
    for info, data in members:
        parts.append(info.tobuf(tar_format) + data + bytes(-len(data) % 512))
    return b"".join(parts) + END


def first_picture(data: bytes) -> bytes:
    return tar_of(member("000000.cls", b"1"), member("000000.png", data))


def with_size(size: int) -> bytes:
    info, data = member("000000.cls", b"1")
    info.size = size
    return tar_of((info, data), tar_format=tarfile.GNU_FORMAT)


WHOLE = first_picture(png())
LABEL = member("000000.cls", b"1")
EVIL = pickle.dumps(print)

HOSTILE: dict[str, tuple[bytes, str]] = {
    "pickle": (tar_of(member("000000.pyd", EVIL)), "'000000.pyd' where 000000.cls"),
    "pickle as picture": (first_picture(EVIL), "no PNG .* expected 28×28"),
    "traversal": (tar_of(member("../../etc/evil.cls", b"1")), "'../../etc/evil.cls' where"),
    "absolute": (tar_of(member("/abs/evil.cls", b"1")), "'/abs/evil.cls' where"),
    "other number": (tar_of(member("000001.cls", b"1")), "'000001.cls' where 000000.cls"),
    "picture first": (tar_of(member("000000.png", png())), "'000000.png' where 000000.cls"),
    "extra member": (
        tar_of(LABEL, member("000000.png", png()), member("000000.json", b"{}")),
        "more in it than the 1 examples",
    ),
    "zeros without end": (WHOLE + bytes(1 << 20), "more in it than the 1 examples"),
    "gzip": (
        gzip.compress(WHOLE) + bytes(2048),
        "checksum|invalid header where 000000.cls is expected",
    ),
    "empty": (bytes(10240), "end of file header where 000000.cls"),
    "cut at a member": (tar_of(LABEL), "end of file header where"),
    "cut in a header": ((tar_of(LABEL)[:1024] * 4)[:-100], "'000000.cls' where 000000.png"),
    "link": (
        tar_of(member("000000.cls", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
        "type b'2' named '000000.cls' where the regular file",
    ),
    "hard link": (tar_of(member("000000.cls", type=tarfile.LNKTYPE, linkname="x")), "type b'1'"),
    "device": (tar_of(member("000000.cls", type=tarfile.CHRTYPE, devmajor=1)), "type b'3'"),
    "pipe": (tar_of(member("000000.cls", type=tarfile.FIFOTYPE)), "type b'6'"),
    "folder": (tar_of(member("000000.cls", type=tarfile.DIRTYPE)), "type b'5'"),
    "sparse": (tar_of(member("000000.cls", b"1", type=tarfile.GNUTYPE_SPARSE)), "type b'S'"),
    "extended header": (
        tar_of(member("000000.cls", b"1", pax_headers={"GNU.sparse.size": "3000000000"})),
        "type b'x'",
    ),
    "long name": (tar_of(member("a" * 300, b"1"), tar_format=tarfile.GNU_FORMAT), "type b'L'"),
    "claims 8 GiB": (with_size(8 << 30), "000000.cls of 8589934592 bytes, at most 10"),
    "claims less than nothing": (with_size(-512), "000000.cls of -512 bytes"),
    "empty label": (tar_of(member("000000.cls")), "000000.cls of 0 bytes"),
    "label 10": (tar_of(member("000000.cls", b"10"), member("000000.png", png())), "expected 0 to"),
    "label -1": (tar_of(member("000000.cls", b"-1"), member("000000.png", png())), "label b'-1'"),
    "label word": (tar_of(member("000000.cls", b"cat"), member("000000.png", png())), "b'cat'"),
    "bomb": (first_picture(BOMB[:2500]), "13000×13000 pixels of 8 bits.* expected 28×28"),
    "large bomb": (first_picture(BOMB), "000000.png of .* bytes, at most 2592"),
    "second header": (
        first_picture(png()[:33] + header(13_000, 13_000) + png()[33:]),
        "two headers|exceeds limit",
    ),
    "16 bits": (
        first_picture(SIGNATURE + header(28, 28, depth=16) + png()[33:]),
        "28×28 pixels of 16 bits",
    ),
    "colour for grey": (first_picture(png(np.zeros((28, 28, 3), np.uint8))), "colour type 2"),
    "picture cut off": (first_picture(png()[:50]), "not a whole PNG"),
    "picture without data": (first_picture(png()[:33] + chunk(b"IEND", b"")), "not a whole PNG"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_shard_is_refused_by_name_and_costs_no_memory(tmp_path: Path, kind: str) -> None:
    data, words = HOSTILE[kind]
    path = tmp_path / "train-000000.tar"
    path.write_bytes(data)
    shard = described(path, 1)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=words) as error:
            read_shard(path, shard, GREY, classes=10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith("train-000000.tar: ")
    assert "\n" not in str(error.value)
    assert peak < 4 << 20
    assert [p.name for p in tmp_path.iterdir()] == ["train-000000.tar"]


def test_a_hundred_thousand_members_too_many_are_not_even_counted(tmp_path: Path) -> None:
    path = tmp_path / "train-000000.tar"
    with path.open("wb") as file:
        file.write(WHOLE[: -len(END)])
        for _ in range(100):
            file.write(member("x")[0].tobuf() * 1000)
    shard = described(path, 1)
    tracemalloc.start()
    with pytest.raises(DataError, match="more in it than the 1 examples"):
        read_shard(path, shard, GREY)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    path.unlink()


def test_hand_made_tar_of_the_right_form_is_read(tmp_path: Path) -> None:
    """The frame in which the hostile ones are made is itself accepted, in either tar format."""
    for tar_format in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"train-{tar_format:06d}.tar"
        path.write_bytes(tar_of(LABEL, member("000000.png", png()), tar_format=tar_format))
        x, y = read_shard(path, described(path, 1), GREY, classes=10)
        assert (x.sum(), y.tolist()) == (0, [1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: replace(s, examples=4), "more in it than the 4 examples"),
        (lambda s: replace(s, examples=6), "end of file header where 000005.cls"),
        (lambda s: replace(s, examples=10**9), "cannot hold 1000000000 examples"),
        (lambda s: replace(s, first=3), "'000000.cls' where 000003.cls"),
    ],
)
def test_wrong_manifest_is_noticed(
    tmp_path: Path, change: Callable[[Shard], Shard], words: str
) -> None:
    path = tmp_path / "train-000000.tar"
    write_shard(path, examples(5, GREY), first=0)
    path.write_bytes(path.read_bytes() + bytes(4096))
    with pytest.raises(DataError, match=words):
        read_shard(path, change(described(path, 5)), GREY)


@pytest.mark.parametrize("shape", [(1, 10**5, 10**5), (3, 10**10, 10**10), (10**12,)])
def test_a_shape_that_the_shard_is_too_small_for_costs_no_memory(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "train-000000.tar"
    write_shard(path, examples(5, GREY), first=0)
    with pytest.raises(DataError, match=r"cannot hold 5 examples of \d+ values; the manifest"):
        read_shard(path, described(path, 5), shape)
