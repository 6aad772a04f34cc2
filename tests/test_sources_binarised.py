"""Binarised MNIST: small files in the form of the official ones, and every way to be another."""

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache import ShardCache
from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.fetch import Remote
from pipeline.loader import Loader, Split
from pipeline.prepare import prepare
from pipeline.sources.binarised_mnist import LINE, OFFICIAL, BinarisedMnist, File, read_lines
from pipeline.storage import open_storage
from tests.small_mnist import drawn
from tests.test_sources import arrays

COUNTS = {"train": 60, "val": 20, "test": 30}
NAMES = {split: file.remote.name for split, file in OFFICIAL.items()}


def pictures(split: str) -> np.ndarray:
    """0s and 1s, (n, 28, 28)."""
    first = 30 if split == "val" else 0
    images = drawn("test" if split == "test" else "train", first + COUNTS[split])[0][first:]
    return (images >= 128).astype(int)


def amat(images: np.ndarray) -> bytes:
    return "".join(" ".join(map(str, row)) + "\n" for row in images.reshape(-1, 784)).encode()


def install(patch: pytest.MonkeyPatch, folder: Path, split: str, data: bytes, count: int) -> None:
    """Puts a file into ``folder`` and makes it the one that is looked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAMES[split]).write_bytes(data)
    remote = Remote(
        address=f"http://127.0.0.1:9/{NAMES[split]}", sha256=hashlib.sha256(data).hexdigest()
    )
    patch.setitem(OFFICIAL, split, File(remote=remote, count=count))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``$DRAW_DATA/binarised_mnist`` with small files in place of the official ones."""
    folder = tmp_path / "data" / "binarised_mnist"
    monkeypatch.setenv("DRAW_DATA", str(folder.parent))
    for split, count in COUNTS.items():
        install(monkeypatch, folder, split, amat(pictures(split)), count)
    return folder


def test_pixels_are_those_of_the_file_as_0_and_255(folder: Path) -> None:
    for split, count in COUNTS.items():
        x, y = arrays(BinarisedMnist(), split, 0, count)
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x[:, 0], 255 * pictures(split))
        assert not y.any()
        np.testing.assert_array_equal(arrays(BinarisedMnist(), split, 7, 12)[0], x[7:12])


def test_model_is_given_zeros_and_ones_and_nothing_is_drawn(folder: Path, tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/store")
    source = BinarisedMnist()
    manifest = prepare(source, storage, shard_examples=25)
    assert verify(storage, manifest) == []
    assert manifest.splits == COUNTS
    assert manifest.class_counts["val"] == {"digit": 20}
    cache = ShardCache(tmp_path / "cache", 1 << 30)
    loader = Loader(
        Split(cache, storage, manifest, "val"),
        batch_size=20,
        seed=0,
        binarisation=source.binarisation,
        shapes={},
        training=False,
    )
    np.testing.assert_array_equal(loader.batch(0, range(20)).x.numpy()[:, 0], pictures("val"))


def test_official_files_are_50_000_10_000_and_10_000_lines_known_by_sha256() -> None:
    assert {split: file.count for split, file in OFFICIAL.items()} == {
        "train": 50_000,
        "val": 10_000,
        "test": 10_000,
    }
    for name, file in zip(("train", "valid", "test"), OFFICIAL.values(), strict=True):
        assert file.remote.name == f"binarized_mnist_{name}.amat"
        assert file.remote.checksum[0] == "sha256"
        assert len(file.remote.sha256) == 64
        assert file.remote.most_bytes == file.count * 1568


GOOD = amat(np.ones((3, 28, 28), dtype=int))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes, expected 4704: 3 lines of 784 values"),
        (GOOD[:LINE], "1568 bytes, expected 4704"),
        (GOOD[:-1], "4703 bytes, expected 4704"),
        (GOOD + GOOD[:LINE], "6272 bytes, expected 4704"),
        (GOOD.replace(b"1 1\n", b"1 1 1\n"), "4710 bytes, expected 4704"),
        (GOOD[:LINE] + b"2" + GOOD[LINE + 1 :], "line 2: b'2 ' at value 1, expected 784 values"),
        (GOOD[:-2] + b"x\n", r"line 3: b'x\\n' at value 784"),
        (GOOD[:-2] + b"1 ", "line 3: b'1 ' at value 784"),
        (GOOD.replace(b"1 1\n1", b"1\n1 1", 1), r"line 1: b'1\\n' at value 783"),
        (GOOD.replace(b" ", b",", 1), "line 1: b'1,' at value 1,"),
        (GOOD.replace(b"1 1", b"0.5", 1), "line 1: b'0.' at value 1,"),
        (bytes(3 * LINE), r"line 1: b'\\x00\\x00' at value 1,"),
    ],
)
def test_another_file_is_one_line_and_leaves_no_data_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str
) -> None:
    install(monkeypatch, folder, "test", data, 3)
    with pytest.raises(DataError, match=words) as error:
        prepare(BinarisedMnist(), open_storage(f"file://{tmp_path}/store"))
    assert str(folder / NAMES["test"]) in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").rglob("manifest.json"))


def test_file_of_another_checksum_is_named(folder: Path) -> None:
    path = folder / NAMES["val"]
    path.write_bytes(path.read_bytes()[:-LINE])
    with pytest.raises(DataError, match=r"valid.amat: sha256 \w{64}, expected \w{64}; replace"):
        BinarisedMnist().splits()


def test_missing_folder_is_one_line_that_says_where_to_put_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DRAW_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "file" / "cache"))  # nothing can be fetched
    with pytest.raises(DataError, match=r"train.amat: not in .* by hand into .*binarised_mnist$"):
        prepare(BinarisedMnist(), open_storage(f"file://{tmp_path}/store"))
    assert not list((tmp_path / "store").rglob("*.*"))


def test_file_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "large.amat"
    with path.open("wb") as file:
        file.truncate(50_000 * LINE)
        file.seek(49_990 * LINE)
        file.write(amat(np.ones((10, 28, 28), dtype=int)))
    tracemalloc.start()
    assert (read_lines(path, 49_990, 50_000) == 255).all()
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_fixed_pixels_are_read_in_no_other_way() -> None:
    with pytest.raises(ValueError, match="binarisation: 'dynamic'; known are fixed"):
        BinarisedMnist(binarisation="dynamic")
