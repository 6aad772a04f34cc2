"""A person's own pictures: folders and buckets, kinds of pictures, and what is refused."""

import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import sample_sheet, verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources import dataset_id
from pipeline.sources.images import Images, classes_in, decoded
from pipeline.storage import Storage, open_storage
from tests.test_sources import arrays

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 pictures, three classes, formats and shapes; beside them what is passed over."""
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "images"
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for k, (suffix, size) in enumerate(
            [("png", (16, 16)), ("JPG", (40, 20)), ("webp", (20, 41)), ("bmp", (9, 9))]
        ):
            Image.new("RGB", size, colour).save(root / label / f"{k}.{suffix}")
    (root / "README.txt").write_text("not a picture")
    (root / "red" / "Thumbs.db").write_text("not a picture")
    (root / "red" / ".hidden.png").write_text("not a picture")
    (root / ".git").mkdir()
    return root


def read(path: Path, size: int = 16, colour: bool = True, fit: str = "crop") -> np.ndarray:
    return decoded(path, str(path), size, colour, fit)


def test_classes_are_the_sub_folders_in_order(root: Path) -> None:
    source = Images(size=16, val=2, test=1)
    assert source.about().classes == ("blue", "green", "red")
    assert source.splits() == {"train": 9, "val": 2, "test": 1}
    seen = [arrays(source, split, 0, n) for split, n in source.splits().items()]
    x, y = (np.concatenate(both) for both in zip(*seen, strict=True))
    assert sorted(y.tolist()) == [0] * 4 + [1] * 4 + [2] * 4
    for image, label in zip(x, y, strict=True):
        pixel = image.mean(axis=(1, 2))
        np.testing.assert_allclose(pixel, list(COLOURS.values())[label], atol=6)  # JPEG, WebP
    part = arrays(source, "train", 4, 7)
    np.testing.assert_array_equal(part[0], seen[0][0][4:7])


def test_folder_becomes_a_whole_data_set(root: Path, tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/store")
    for colour in (True, False):
        manifest = prepare(Images(folder=str(root), size=16, colour=colour), storage)
        assert verify(storage, manifest) == []
        assert manifest.shape == (3 if colour else 1, 16, 16)
        assert manifest.origin == "own pictures, 12 from images"
        assert sample_sheet(storage, manifest).size[0] > 100


def test_class_order_does_not_depend_on_how_a_slash_sorts(root: Path) -> None:
    (root / "red").rename(root / "blue bird")
    assert Images().about().classes == ("blue", "blue bird", "green")


def test_middle_square_is_taken_and_scaled(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        np.testing.assert_array_equal(read(tmp_path / name), np.full((3, 16, 16), 200, np.uint8))
    assert read(tmp_path / "wide.png", size=8).shape == (3, 8, 8)


def test_picture_of_the_right_size_keeps_every_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for fit in ("crop", "refuse"):
        got = read(tmp_path / "a.png", fit=fit)
        np.testing.assert_array_equal(got, pixels.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"a.png: 16×16 pixels, expected 8×8; scale it, or set"):
        read(tmp_path / "a.png", size=8, fit="refuse")


def test_kinds_of_pixels_become_eight_bits_on_white(tmp_path: Path) -> None:
    def first(image: Image.Image, colour: bool, **more: object) -> list[int]:
        image.save(tmp_path / "a.png", **more)
        return read(tmp_path / "a.png", colour=colour)[:, 0, 0].tolist()

    size = (16, 16)
    assert first(Image.new("RGBA", size, (255, 0, 0, 0)), True) == [255, 255, 255]
    assert first(Image.new("RGBA", size, (255, 0, 0, 255)), True) == [255, 0, 0]
    assert first(Image.new("LA", size, (0, 128)), False) == [127]
    assert first(Image.new("P", size, 0), True, transparency=0) == [255, 255, 255]
    assert first(Image.new("1", size, 1), True) == [255, 255, 255]
    assert first(Image.fromarray(np.full(size, 0x80FF, np.uint16)), False) == [0x80]
    assert first(Image.new("RGB", size, (255, 0, 0)), False) == [76]
    Image.new("CMYK", size, (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg")[0, 0, 0] > 200 > 60 > read(tmp_path / "a.jpg")[1, 0, 0]


def test_picture_is_turned_as_its_exif_note_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 16))
    image.paste((255, 255, 255), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: the upper half comes to the right
    image.save(tmp_path / "a.png", exif=exif)
    turned = read(tmp_path / "a.png")
    assert (turned[:, :, 8:] == 255).all()
    assert not turned[:, :, :8].any()


def test_identity_follows_what_the_pictures_hold_and_their_names(root: Path) -> None:
    before = dataset_id(Images(size=16))
    root.rename(root.with_name("moved"))
    moved = Images(folder="moved", size=16)
    assert dataset_id(moved) == before
    (root.with_name("moved") / "README.txt").write_text("changed, but no picture")
    assert dataset_id(moved) == before
    picture = root.with_name("moved") / "red" / "0.png"
    Image.new("RGB", (16, 16), (254, 0, 0)).save(picture)
    changed = dataset_id(moved)
    assert changed != before
    picture.rename(picture.with_name("00.png"))
    assert dataset_id(moved) not in (before, changed)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims this size, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 16)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bomb(30_000, 30_000), "900000000 pixels, at most 67108864; scale it down"),
        (bomb(10_000, 10_000), "10000×10000 pixels, at most"),
        (bomb(9_000, 9_000), "9000×9000 pixels, at most 67108864; scale it down"),
        (bomb(300, 300), "not a whole picture"),
        (b"", "not a whole picture"),
        (b"<html>not found</html>", "not a whole picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a whole picture"),
        (b"II*\0" + bytes(99), "not a whole picture"),
    ],
)
def test_bad_picture_is_named_in_one_line(root: Path, data: bytes, words: str) -> None:
    (root / "red" / "0.png").write_bytes(data)
    source = Images(size=16, val=1, test=1)
    with pytest.raises(DataError, match=words) as error:
        [arrays(source, split, 0, count) for split, count in source.splits().items()]
    assert str(error.value).startswith("images/red/0.png: ")
    assert "\n" not in str(error.value)


def test_damaged_picture_is_one_line_wherever_the_damage_is(tmp_path: Path) -> None:
    rng, lines, pixels = (
        random.Random(0),
        [],
        np.random.default_rng(0).integers(0, 256, (24, 24, 3)),
    )
    for suffix in ("png", "jpg", "webp", "bmp", "gif", "ppm"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        whole = path.read_bytes()
        for attempt in range(40):
            data = bytearray(whole)
            if attempt % 2:
                del data[rng.randrange(len(data)) :]
            else:
                data[rng.randrange(min(100, len(data)))] ^= rng.randrange(1, 256)
            path.write_bytes(data)
            try:
                assert read(path).shape == (3, 16, 16)
            except DataError as error:
                lines.append(str(error))
    assert len(lines) > 80
    assert "\n" not in "".join(lines)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: os.rename(r, r / ".." / "gone"), "images: not in .*give a folder with a sub"),
        (lambda r: (r / "empty").mkdir(), "images/empty: no picture in it; add some or remove it"),
        (lambda r: (r / "red" / "0.png").rename(r / "0.png"), "images/0.png: not in a class; pic"),
        (
            lambda r: (r / "red" / "x").mkdir(),
            "red/x: a folder inside the class red; pictures must",
        ),
        (lambda r: (r / "red").rename(r / "re\ncd"), "the class 're.*unprintable"),
    ],
)
def test_folder_that_is_not_sorted_into_classes_is_one_line(root: Path, spoil, words: str) -> None:  # type: ignore[no-untyped-def]
    spoil(root)
    with pytest.raises(DataError, match=words) as error:
        Images().splits()
    assert "\n" not in str(error.value)


def test_folder_beside_this_process_is_not_taken_but_its_whole_path_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAW_DATA", str(root / "elsewhere"))
    monkeypatch.chdir(root.parent)
    with pytest.raises(DataError, match=f"images: not in .*; write its whole path, {root}$"):
        Images().splits()


def test_what_is_no_file_is_one_line_and_is_not_waited_for(root: Path) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        odd = root / "red" / "x.png"
        make(odd)
        with pytest.raises(DataError, match=r"red/x.png: no regular file; put the file itself"):
            dataset_id(Images(size=16))
        odd.unlink()


@pytest.mark.parametrize("name", [b"\xff.png", b"a\nb.png", b"a\x1b[31m.png"])
def test_picture_whose_name_would_break_a_line_is_one_line(root: Path, name: bytes) -> None:
    (root / "red" / "0.png").rename(root / "red" / os.fsdecode(name))
    with pytest.raises(DataError, match=r"images/red: '.*rename the picture") as error:
        dataset_id(Images(size=16))
    assert str(error.value).isprintable()


def test_empty_folder_and_too_few_pictures_are_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing: nothing in it; put pictures into a sub-folder"):
        Images(folder="nothing").splits()
    with pytest.raises(DataError, match="images: 12 examples, 6 for val and 6 for test leave none"):
        Images(val=6, test=6).splits()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: Not a directory; give a folder"):
        Images(folder="file").splits()


def test_own_files_are_never_changed(root: Path) -> None:
    odd = root / "red" / ".tmp-0"  # what a store of our own would take for half-written
    odd.write_text("keep me")
    os.utime(odd, (0, 0))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    dataset_id(Images(folder=f"file://{root}"))
    arrays(Images(), "train", 0, 10)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_bucket_gives_the_same_data_set_as_the_folder(root: Path, s3_storage: Storage) -> None:
    for path in root.rglob("*.*"):
        if path.is_file():
            s3_storage.upload(path.relative_to(root).as_posix(), path)
    here, there = Images(size=16), Images(folder=s3_storage.url, size=16)
    assert dataset_id(there) == dataset_id(here)
    assert there.about().classes == here.about().classes
    for a, b in zip(arrays(there, "train", 0, 10), arrays(here, "train", 0, 10), strict=True):
        np.testing.assert_array_equal(a, b)
    fetched = {p: p.stat().st_mtime_ns for p in map(Path, classes_in(there.folder)["red"].values())}
    s3_storage.delete("red/0.png")
    s3_storage.write("red/1.JPG", b"broken, and longer or shorter than it was")
    assert len(classes_in(there.folder)["red"]) == 3
    assert sum(p.stat().st_mtime_ns == t for p, t in fetched.items() if p.exists()) >= 3
    with pytest.raises(DataError, match=f"{s3_storage.url}/red/1.JPG: not a whole picture"):
        arrays(Images(folder=s3_storage.url, size=16, val=1, test=1), "train", 0, 9)
    s3_storage.write("red/deep/2.png", b"")
    with pytest.raises(DataError, match=f"{s3_storage.url}/red/deep/2.png: too deep; pictures"):
        there.splits()


def test_settings_out_of_range_are_named() -> None:
    for settings, words in (
        ({"size": 1}, "size: 1; takes 2 to 1024"),
        ({"fit": "squash"}, "fit: 'squash'; known are crop, refuse"),
        ({"folder": ""}, "folder: give a folder"),
        ({"test": 0}, "test: 0; takes 1 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            Images(**settings)  # type: ignore[arg-type]
