"""Fashion-MNIST: files of MNIST's form in a folder of their own, and the ones that are not."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources import dataset_id, mnist
from pipeline.sources.fashion_mnist import OFFICIAL, FashionMnist
from pipeline.sources.mnist import Mnist, Part
from pipeline.storage import open_storage
from tests.small_mnist import TEST, TRAIN, drawn, half, packed
from tests.test_sources import arrays, written


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``$DRAW_DATA/fashion_mnist`` with small files in place of the official ones."""
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "fashion_mnist"
    monkeypatch.setitem(OFFICIAL, "train", half(folder, "train", *drawn("train", TRAIN)))
    monkeypatch.setitem(OFFICIAL, "test", half(folder, "t10k", *drawn("test", TEST)))
    return folder


def test_data_set_holds_the_files_pictures_and_names_ten_kinds_of_clothing(
    folder: Path, tmp_path: Path
) -> None:
    storage = open_storage(f"file://{tmp_path}/store")
    manifest = prepare(FashionMnist(validation=10), storage)
    assert manifest.splits == {"train": TRAIN - 10, "val": 10, "test": TEST}
    assert len(manifest.classes) == 10
    assert (manifest.classes[0], manifest.classes[9]) == ("T-shirt/top", "Ankle boot")
    assert manifest.licence == "MIT"
    assert verify(storage, manifest) == []
    source, pictures = FashionMnist(validation=10), drawn("train", TRAIN)
    both = [
        arrays(source, split, 0, count) for split, count in (("train", TRAIN - 10), ("val", 10))
    ]
    found = sorted((x.tobytes(), y) for pair in both for x, y in zip(*pair, strict=True))
    assert found == sorted((x.tobytes(), y) for x, y in zip(*pictures, strict=True))


def test_official_files_of_the_two_sets_are_told_apart() -> None:
    for which in ("train", "test"):
        ours, theirs = OFFICIAL[which], mnist.OFFICIAL[which]
        assert (ours.images.name, ours.labels.name) == (theirs.images.name, theirs.labels.name)
        assert ours.images.md5 != theirs.images.md5
        assert ours.count == theirs.count
        assert ours.images.address.startswith("http://fashion-mnist.s3-website.")
    assert dataset_id(FashionMnist()) != dataset_id(Mnist())


def test_mnists_files_beside_the_folder_are_not_taken_for_fashion(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "fashion_mnist"
    cache.parent.mkdir()
    folder.rename(cache)
    for path in cache.iterdir():
        (tmp_path / path.name).write_bytes(b"MNIST's")
    assert FashionMnist(validation=10).splits()["test"] == TEST


def test_missing_folder_is_one_line_that_says_where_to_put_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DRAW_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "file" / "cache"))  # nothing can be fetched
    with pytest.raises(DataError, match=r"by hand into .*data/fashion_mnist$") as error:
        prepare(FashionMnist(), open_storage(f"file://{tmp_path}/store"))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").rglob("*.*"))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((TRAIN, 28, 27)), r"dimensions \(90, 28, 27\), expected \(90, 28, 28\)"),
        (np.zeros((TRAIN - 1, 28, 28)), r"dimensions \(89, 28, 28\), expected \(90, 28, 28\)"),
        (None, "ends after|damaged"),
    ],
)
def test_bad_files_are_one_line_and_leave_no_data_set(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    images: np.ndarray | None,
    words: str,
) -> None:
    part = OFFICIAL["train"]
    name = part.images.name
    cut_off = (folder / name).read_bytes()[:-40]
    remote = written(folder, name, cut_off) if images is None else packed(folder / name, images)
    bad = Part(images=remote, labels=part.labels, count=TRAIN, name=part.name)
    monkeypatch.setitem(OFFICIAL, "train", bad)
    with pytest.raises(DataError, match=words) as error:
        prepare(FashionMnist(validation=10), open_storage(f"file://{tmp_path}/store"))
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").rglob("manifest.json"))


def test_a_changed_file_is_named_and_not_replaced(folder: Path) -> None:
    path = folder / OFFICIAL["test"].labels.name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"t10k-labels.*md5 .*, expected .*; replace it by http"):
        FashionMnist(validation=10).splits()
    assert path.read_bytes().endswith(b"x")


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="validation: 0; takes 1 to 30000"):
        FashionMnist(validation=0)
    with pytest.raises(ValueError, match="binarisation: 'fixed'; known are grey"):
        FashionMnist(binarisation="fixed")
