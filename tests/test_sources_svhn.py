"""SVHN's cropped digits, from small MATLAB files in the official format, and from bad ones."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources import dataset_id
from pipeline.sources.svhn import OFFICIAL, Part, Svhn, load, read_mat
from pipeline.storage import open_storage
from tests.test_sources import arrays, written

COUNTS = {"train": 30, "test": 12, "extra": 20}


def x_and_y(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    return {"X": x, "y": (np.arange(count, dtype=np.uint8)[:, None] % 10) + 1}


def mat(path: Path, **content: np.ndarray) -> Path:
    savemat(path, content, do_compression=True)
    return path


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, np.ndarray]]:
    """Small files in place of the official ones; what is in them, by part."""
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    content = {}
    for seed, (name, count) in enumerate(COUNTS.items()):
        content[name] = x_and_y(count, seed)
        data = mat(tmp_path / "made.mat", **content[name]).read_bytes()
        remote = written(tmp_path / "svhn", f"{name}_32x32.mat", data)
        monkeypatch.setitem(OFFICIAL, name, Part(file=remote, count=count))
    return content


def test_pictures_are_turned_to_channel_row_column_and_ten_means_zero(small) -> None:  # type: ignore[no-untyped-def]
    x, y = arrays(Svhn(validation=5), "test", 0, 12)
    assert x.dtype == np.uint8
    assert y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    for n, channel, row, column in ((0, 0, 0, 0), (3, 2, 31, 0), (11, 1, 5, 30)):
        assert x[n, channel, row, column] == small["test"]["X"][row, column, channel, n]


@pytest.mark.parametrize("extra", [False, True])
def test_train_and_val_are_disjoint_and_together_all_training_pictures(small, extra: bool) -> None:  # type: ignore[no-untyped-def]
    source = Svhn(validation=7, extra=extra)
    total = 50 if extra else 30
    assert source.splits() == {"train": total - 7, "val": 7, "test": 12}
    x, y = (
        np.concatenate(both)
        for both in zip(
            arrays(source, "train", 0, total - 7), arrays(source, "val", 0, 7), strict=True
        )
    )
    parts = [small["train"], *([small["extra"]] if extra else [])]
    expected = {
        (part["X"][..., n].transpose(2, 0, 1).tobytes(), int(part["y"][n, 0]) % 10)
        for part in parts
        for n in range(part["X"].shape[-1])
    }
    assert {(image.tobytes(), int(label)) for image, label in zip(x, y, strict=True)} == expected
    part = arrays(source, "train", 11, 14)
    np.testing.assert_array_equal(part[0], arrays(source, "train", 0, 20)[0][11:14])
    other = Svhn(validation=7, extra=extra, seed=1)
    assert not np.array_equal(arrays(other, "val", 0, 7)[0], arrays(source, "val", 0, 7)[0])


def test_small_set_is_prepared_and_its_pictures_are_mapped(small, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    storage = open_storage(f"file://{tmp_path}/store")
    manifest = prepare(Svhn(validation=5), storage, shard_examples=10)
    assert verify(storage, manifest) == []
    assert manifest.shape == (3, 32, 32)
    assert "non-commercial" in manifest.licence
    images, _ = load(OFFICIAL["train"])
    assert isinstance(images.base, np.memmap) or isinstance(images, np.memmap)


def test_extra_is_part_of_the_identity_and_reading_is_not() -> None:
    assert dataset_id(Svhn()) == dataset_id(Svhn(binarisation="dynamic"))
    assert dataset_id(Svhn()) != dataset_id(Svhn(extra=True))


GOOD = x_and_y(4)
CELLS = np.empty((4, 1), dtype=object)
CELLS[:] = [["a"], ["b"], ["c"], ["d"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"X": GOOD["X"]}, "holds X, expected X and y"),
        (GOOD | {"z": np.zeros(2)}, "holds 'z', double"),
        (GOOD | {"X": x_and_y(5)["X"]}, r"holds 'X', uint8 \(32, 32, 3, 5\), expected X uint8"),
        (GOOD | {"X": GOOD["X"].astype(np.float64)}, "holds 'X', double"),
        (GOOD | {"X": GOOD["X"][:, :31]}, r"\(32, 31, 3, 4\)"),
        (GOOD | {"y": CELLS}, r"holds 'y', cell \(4, 1\)"),
        (GOOD | {"y": {"a": 1}}, "holds 'y', struct"),
        (GOOD | {"y": np.array([[0], [1], [2], [3]], np.uint8)}, "labels 0 to 3, expected 1 to 10"),
        (GOOD | {"y": np.array([[1], [11], [2], [3]], np.uint8)}, "labels 1 to 11"),
        (GOOD | {"y": np.array([[1.5], [1], [2], [3]])}, "labels 1.0 to 3.0"),
    ],
)
def test_other_content_is_one_line(tmp_path: Path, content, words: str) -> None:  # type: ignore[no-untyped-def]
    path = mat(tmp_path / "bad.mat", **content)
    with pytest.raises(DataError, match=words) as error:
        read_mat(path, 4)
    assert "\n" not in str(error.value)


def test_labels_stored_as_floating_point_are_read(tmp_path: Path) -> None:
    path = mat(tmp_path / "double.mat", X=GOOD["X"], y=GOOD["y"].astype(np.float64))
    np.testing.assert_array_equal(read_mat(path, 4)[1], GOOD["y"])


def test_damaged_file_is_one_line_wherever_the_damage_is(tmp_path: Path) -> None:
    whole, rng = mat(tmp_path / "good.mat", **GOOD).read_bytes(), random.Random(0)
    path, lines = tmp_path / "damaged.mat", list[str]()
    for attempt in range(120):
        data = bytearray(whole)
        if attempt % 3 == 0:
            del data[rng.randrange(len(data)) :]
        else:
            near = 300 if attempt % 3 == 1 else len(data)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(near)] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_mat(path, 4)
        except DataError as error:
            lines.append(str(error))
    assert len(lines) > 60
    assert "\n" not in "".join(lines)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="validation: 0; takes 1 to 36628"):
        Svhn(validation=0)
    with pytest.raises(ValueError, match="binarisation: 'fixed'; known are grey, dynamic"):
        Svhn(binarisation="fixed")  # type: ignore[arg-type]
