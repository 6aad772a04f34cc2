"""SVHN's full numbers, from small folders and archives in the official format, and bad ones."""

import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources import dataset_id
from pipeline.sources.digit_struct import FIELDS, read_boxes
from pipeline.sources.svhn_numbers import (
    VALIDATION,
    WHOLE,
    SvhnNumbers,
    cut_out,
    grown,
    validation_size,
)
from pipeline.storage import open_storage
from tests.test_sources import arrays
from tests.test_sources_images import bomb

Box = tuple[float, float, float, float, float]
"""left, top, width, height, label of one digit."""


def digits(count: int, left: float = 10, top: float = 8) -> list[Box]:
    return [(left + 6 * k, top + k, 5, 12, k % 10 + 1) for k in range(count)]


def write_boxes(path: Path, numbers: dict[str, list[Box]]) -> None:
    """As MATLAB 7.3 does: a lone box holds its values, several hold references to them."""
    with h5py.File(path, "w") as file:
        kept, top = file.create_group("#refs#"), file.create_group("digitStruct")
        names, boxes = [], []
        for place, (name, digits) in enumerate(numbers.items()):
            codes = np.array([[ord(c)] for c in name], np.uint16)
            names.append([kept.create_dataset(f"name{place}", data=codes).ref])
            group = kept.create_group(f"bbox{place}")
            for column, field in enumerate(FIELDS):
                values = [np.array([[digit[column]]], np.float64) for digit in digits]
                if len(values) == 1:
                    group[field] = values[0]
                else:
                    made = [
                        [kept.create_dataset(f"{field}{place}-{k}", data=value).ref]
                        for k, value in enumerate(values)
                    ]
                    group.create_dataset(field, data=np.array(made, h5py.ref_dtype))
            boxes.append([group.ref])
        top.create_dataset("name", data=np.array(names, h5py.ref_dtype))
        top.create_dataset("bbox", data=np.array(boxes, h5py.ref_dtype))


def write_part(folder: Path, counts: list[int], seed: int = 0) -> None:
    """Pictures 1.png, 2.png, … with so many digits each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number, _ in enumerate(counts, start=1):
        pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    write_boxes(
        folder / "digitStruct.mat", {f"{k + 1}.png": digits(n) for k, n in enumerate(counts)}
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "svhn_numbers"
    for seed, (name, counts) in enumerate(
        {"train": [1, 2, 3, 6], "test": [5, 1, 4], "extra": [2, 2, 1]}.items()
    ):
        write_part(root / name, counts, seed)
    return root


def test_class_is_the_number_of_digits_and_six_are_left_out(root: Path) -> None:
    source = SvhnNumbers()
    assert source.splits() == {"train": 5, "val": 1, "test": 3}
    assert SvhnNumbers(extra=False).splits() == {"train": 2, "val": 1, "test": 3}
    x, y = arrays(source, "test", 0, 3)
    assert x.shape == (3, 3, 64, 64)
    assert [source.about().classes[label] for label in y] == ["5", "1", "4"]
    labels = [*arrays(source, "train", 0, 5)[1], *arrays(source, "val", 0, 1)[1]]
    assert sorted(labels) == [0, 0, 1, 1, 1, 2]
    np.testing.assert_array_equal(arrays(source, "test", 1, 3)[0], x[1:])


def test_share_of_validation_is_that_of_the_whole_set() -> None:
    assert WHOLE == 33_402 + 202_353 - 1
    assert validation_size(WHOLE) == VALIDATION
    assert WHOLE - VALIDATION == 231_053
    assert validation_size(33_401) == 666


def test_box_goes_around_all_digits(tmp_path: Path) -> None:
    lone, three = digits(1), digits(3)
    write_boxes(tmp_path / "digitStruct.mat", {"7.png": lone, "12.png": three})
    assert read_boxes(tmp_path / "digitStruct.mat") == [
        (7, 10, 8, 15, 20, 1),
        (12, 10, 8, 27, 22, 3),
    ]
    assert grown(10, 20) == pytest.approx((8.5, 21.5))


def test_grown_box_fills_the_picture(tmp_path: Path) -> None:
    """A box of 40×20 grows to 52×26: white there, and nothing of the black around it."""
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[17:43, 24:76] = (255, 255, 255)
    pixels[20:40, 30:70] = (200, 100, 50)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    got = cut_out(tmp_path / "1.png", (30, 20, 70, 40))
    assert got.shape == (3, 64, 64)
    assert got.min() > 30
    np.testing.assert_array_equal(got[:, 32, 32], (200, 100, 50))
    np.testing.assert_array_equal(got[:, 2, 2], (255, 255, 255))
    inside = (got[2] < 150).mean()
    assert inside == pytest.approx(1 / 1.3**2, abs=0.03)
    at_the_edge = cut_out(tmp_path / "1.png", (-5, 20, 20, 70))
    assert not at_the_edge[:, :, :40].any()
    with pytest.raises(DataError, match=r"1.png: its digits lie outside of it"):
        cut_out(tmp_path / "1.png", (200, 20, 220, 40))


def test_archive_is_the_same_data_set_as_its_folder(root: Path, tmp_path: Path) -> None:
    source = SvhnNumbers()
    id, expected = dataset_id(source), arrays(source, "train", 0, 5)
    for part in ("train", "test", "extra"):
        with tarfile.open(root / f"{part}.tar.gz", "w:gz") as archive:
            archive.add(root / part, part)
            archive.add(__file__, f"{part}/see_bboxes.m")
        shutil.rmtree(root / part)
    assert dataset_id(source) == id
    for a, b in zip(arrays(source, "train", 0, 5), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    storage = open_storage(f"file://{tmp_path}/store")
    assert verify(storage, prepare(source, storage)) == []
    unpacked = {p.name for p in (tmp_path / "cache").rglob("*.*") if p.is_file()} - {".lock"}
    assert unpacked == {f"{k}.png" for k in range(1, 5)} | {"digitStruct.mat", "boxes.npy"}


def test_identity_follows_boxes_and_pictures_but_not_the_crop(root: Path) -> None:
    before = dataset_id(SvhnNumbers())
    assert dataset_id(SvhnNumbers(crop=None)) == before
    assert dataset_id(SvhnNumbers(extra=False)) != before
    picture = root / "extra" / "2.png"
    picture.write_bytes(picture.read_bytes() + b" ")
    changed = dataset_id(SvhnNumbers())
    assert changed != before
    counts = {f"{k + 1}.png": digits(n, left=11) for k, n in enumerate([1, 2, 3, 6])}
    write_boxes(root / "train" / "digitStruct.mat", counts)
    assert dataset_id(SvhnNumbers()) not in (before, changed)


def test_missing_parts_and_pictures_are_one_line(root: Path) -> None:
    (root / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=r"train/2.png: No such file.*; get the archive again"):
        dataset_id(SvhnNumbers())
    shutil.rmtree(root / "extra")
    with pytest.raises(DataError, match=r"extra.tar.gz: not in .*download http://.*/extra.tar.gz"):
        SvhnNumbers().splits()


@pytest.mark.parametrize(
    ("name", "words"),
    [("../1.png", "no train/digitStruct.mat"), ("train/../../1.png", "no train/digitStruct.mat")],
)
def test_member_that_leads_elsewhere_is_not_unpacked(root: Path, name: str, words: str) -> None:
    with tarfile.open(root / "train.tar.gz", "w:gz") as archive:
        archive.add(root / "train" / "1.png", name)
    shutil.rmtree(root / "train")
    with pytest.raises(DataError, match=words):
        SvhnNumbers().splits()
    assert not list(root.glob("*.png"))
    assert not list((root.parent / "cache").rglob("*.png"))


def test_bad_picture_is_one_line(root: Path) -> None:
    for data, words in (
        (bomb(30_000, 30_000), "test/2.png: 900000000 pixels, at most"),
        ((root / "test" / "2.png").read_bytes()[:900], "test/2.png: not a whole picture"),
        (b"GIF89a" + bytes(50), "test/2.png: not a whole picture"),
    ):
        (root / "test" / "2.png").write_bytes(data)
        with pytest.raises(DataError, match=words) as error:
            arrays(SvhnNumbers(), "test", 0, 3)
        assert "\n" not in str(error.value)


def replaced(path: str, value: Any) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        del file[path]
        file[path] = value

    return spoil


def outside(file: h5py.File) -> None:
    folder = Path(file.filename).parent
    (folder / "secret").write_bytes(bytes(64))
    del file["#refs#/bbox0/left"]
    file["#refs#/bbox0"].create_dataset(
        "left", (1, 1), np.float64, external=[(str(folder / "secret"), 0, 8)]
    )


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((1, 1), np.float64)
    layout[:] = h5py.VirtualSource(str(Path(file.filename)), "#refs#/bbox0/top", (1, 1))
    del file["#refs#/bbox0/left"]
    file["#refs#/bbox0"].create_virtual_dataset("left", layout)


def huge(file: h5py.File) -> None:
    del file["digitStruct/name"]
    file["digitStruct"].create_dataset("name", (1 << 40, 1), h5py.ref_dtype, chunks=(1024, 1))


def aimed(at: str) -> Callable[[h5py.File], None]:
    """Lets the first name's reference lead to something else."""

    def spoil(file: h5py.File) -> None:
        file["digitStruct/name"][0, 0] = file[at].ref if at else h5py.Reference()

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.pop("digitStruct"), "the top: digitStruct is missing or a link"),
        (replaced("digitStruct", h5py.SoftLink("/#refs#")), "digitStruct is missing or a link"),
        (
            replaced("digitStruct/name", h5py.ExternalLink("x.mat", "/a")),
            "name is missing or a lin",
        ),
        (replaced("digitStruct/name", np.zeros((2, 1))), "float64 .*expected a column of ref"),
        (replaced("#refs#/bbox0/left", h5py.SoftLink("/#refs#/bbox0/top")), "left is missing or a"),
        (
            replaced("#refs#/bbox0/left", np.zeros((2, 1))),
            r"entry 1: float64 \(2, 1\), expected a column of 1 to 1",
        ),
        (
            replaced("#refs#/bbox0/left", np.array([[b"abc"]])),
            "entry 1: .*expected a column of 1 to 1 of kind f",
        ),
        (replaced("#refs#/bbox0/left", np.array([[np.nan]])), "entry 1: a box that is not finite"),
        (replaced("#refs#/bbox0/width", np.array([[0.0]])), "entry 1: a box without area"),
        (replaced("#refs#/bbox0/label", np.array([[11.0]])), r"labels \[11.0\], expected 1 to 10"),
        (
            replaced("#refs#/name1", np.array([[46], [46], [47]], np.uint16)),
            "named '../', expected",
        ),
        (replaced("#refs#/name0", np.zeros((33, 1), np.uint16)), "entry 1: an empty ref|uint16"),
        (outside, "entry 1: values that lie in another file; refused"),
        (virtual, "entry 1: values that lie in another file; refused"),
        (huge, "1099511627776, 1.*expected a column of 1 to 1048576"),
        (aimed("#refs#/bbox0"), "a reference leads to a GroupID, expected DatasetID"),
        (aimed(""), "entry 1: an empty reference"),
    ],
)
def test_hostile_boxes_are_one_line(tmp_path: Path, spoil, words: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "digitStruct.mat"
    write_boxes(path, {"1.png": digits(1), "2.png": digits(2)})
    with h5py.File(path, "r+") as file:
        spoil(file)
        if "#refs#/name1" in file and len(file["#refs#/name1"]) == 3:
            file["digitStruct/name"][1, 0] = file["#refs#/name1"].ref
        if "#refs#/name0" in file and len(file["#refs#/name0"]) == 33:
            file["digitStruct/name"][0, 0] = file["#refs#/name0"].ref
    with pytest.raises(DataError, match=words) as error:
        read_boxes(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_boxes_are_one_line_wherever_the_damage_is(tmp_path: Path) -> None:
    path, rng, lines = tmp_path / "digitStruct.mat", random.Random(0), []
    write_boxes(path, {"1.png": digits(1), "2.png": digits(2)})
    whole = path.read_bytes()
    for attempt in range(60):
        data = bytearray(whole)
        if attempt % 2:
            del data[rng.randrange(len(data)) :]
        else:
            data[rng.randrange(3000)] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            read_boxes(path)
        except DataError as error:
            lines.append(str(error))
    assert len(lines) >= 30
    assert "\n" not in "".join(lines)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="crop: 65; takes 1 to 64, or null"):
        SvhnNumbers(crop=65)
    with pytest.raises(ValueError, match="binarisation: 'soft'"):
        SvhnNumbers(binarisation="soft")  # type: ignore[arg-type]
