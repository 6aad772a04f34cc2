"""Two digits on one canvas: equal to a slow loop, different digits, splits that share nothing."""

from pathlib import Path

import numpy as np
import pytest

from draw_model import noise
from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources.two_digits import TwoDigits
from pipeline.storage import open_storage
from tests.small_mnist import (
    HELD_OUT,
    TEST,
    TRAIN,
    assert_splits_are_disjoint,
    drawn,
    held_out,
    install,
)
from tests.test_sources import arrays

SMALL = TwoDigits(train=300, val=50, test=60, validation_digits=HELD_OUT)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch, tmp_path / "data")
    return tmp_path / "data"


def pair(index: int, size: int, known: list[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Both digits of a training example, and their places, from the recipe."""
    n = len(known)
    order = noise.generator(0, "two_digits/train/digit", index // n).permutation(n).tolist()
    numbers = noise.generator(0, "two_digits/train/place", 0, index // 32)
    a, b, c, d, other = numbers.integers(4 * [size - 27] + [n - 1], size=(32, 5))[index % 32]
    first = order[index % n]
    rest = known[:first] + known[first + 1 :]
    return [known[first], rest[other]], [(a, b), (c, d)]


@pytest.mark.parametrize("size", [60, 64, 30])
def test_pictures_equal_a_slow_loop_over_the_recipe(small: Path, size: int) -> None:
    source = TwoDigits(size=size, validation_digits=HELD_OUT)
    x, y = arrays(source, "train", 0, 600)
    assert x.shape == (600, 1, size, size)
    images, labels = drawn("train", TRAIN)
    known = [i for i in range(TRAIN) if i not in held_out()]
    for index in (0, 1, 31, 32, 69, 70, 300, 599):
        both, places = pair(index, size, known)
        assert both[0] != both[1]
        canvas = np.zeros((size, size))
        for digit, (row, column) in zip(both, places, strict=True):
            canvas[row : row + 28, column : column + 28] += images[digit] / 255
        np.testing.assert_array_equal(x[index, 0], np.rint(np.minimum(canvas, 1) * 255))
        low, high = sorted(labels[both].tolist())
        assert source.about().classes[y[index]] == f"{low}+{high}"


def test_example_is_a_function_of_its_index(small: Path) -> None:
    x, y = arrays(SMALL, "train", 0, 300)  # 291 pictures at once
    for start, stop in ((0, 1), (290, 293), (31, 33), (299, 300)):
        part = arrays(SMALL, "train", start, stop)
        np.testing.assert_array_equal(part[0], x[start:stop])
        np.testing.assert_array_equal(part[1], y[start:stop])
    other = TwoDigits(seed=1, validation_digits=HELD_OUT)
    assert not np.array_equal(arrays(other, "train", 0, 50)[0], x[:50])


def test_there_are_55_pairs_and_their_order_does_not_matter() -> None:
    classes = TwoDigits().about().classes
    assert len(set(classes)) == 55
    assert (classes[0], classes[1], classes[10], classes[54]) == ("0+0", "0+1", "1+1", "9+9")
    assert all(name[0] <= name[2] for name in classes)


def test_a_digit_is_never_paired_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One digit is grey all over, the others are blank: paired with itself it would be white."""
    images = np.zeros((TEST, 28, 28))
    images[7] = 128
    install(monkeypatch, tmp_path, test=images)
    x, _ = arrays(TwoDigits(size=28, validation_digits=HELD_OUT), "test", 0, 100 * TEST)
    assert set(np.unique(x).tolist()) == {0, 128}
    seen = int(x[:, 0, 0, 0].astype(bool).sum())
    assert 140 < seen < 260  # 100 times as the first, about as often as the second


def test_digits_of_the_splits_are_disjoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_splits_are_disjoint(SMALL, tmp_path, monkeypatch)


def test_prepared_data_set_is_whole_and_counts_its_pairs(small: Path, tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/store")
    manifest = prepare(SMALL, storage, shard_examples=100)
    assert manifest.splits == {"train": 300, "val": 50, "test": 60}
    assert len(manifest.class_counts["train"]) == 55
    assert verify(storage, manifest) == []


def test_missing_mnist_is_one_line_that_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DRAW_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "file" / "cache"))  # nothing can be fetched
    with pytest.raises(DataError, match=r"by hand into .*data/mnist$") as error:
        prepare(SMALL, open_storage(f"file://{tmp_path}/store"))
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").rglob("*.*"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 27}, "size: 27; takes 28 to 1024"),
        ({"test": 0}, "test: 0; takes 1 or more"),
        ({"validation_digits": 0}, "validation_digits: 0; takes 1 to 30000"),
        ({"validation_digits": 1}, "validation_digits: 1; two different digits need 2"),
        ({"binarisation": "fixed"}, "binarisation: 'fixed'; known are grey"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=words):
        TwoDigits(**settings)
