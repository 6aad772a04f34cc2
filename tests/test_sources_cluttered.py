"""Cluttered MNIST: equal to a slow loop, splits that share nothing, and digits that take turns."""

import gzip
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draw_model import noise
from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.job_file import check_job
from pipeline.loader import Loader, open_loader
from pipeline.prepare import prepare
from pipeline.sources import dataset_id
from pipeline.sources.affine import Affine
from pipeline.sources.canvas import in_turn, integers
from pipeline.sources.cluttered import Cluttered
from pipeline.sources.mnist import OFFICIAL, Mnist
from pipeline.storage import open_storage
from pipeline.train import train
from pipeline.values import to_plain
from pipeline.worker import Worker
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
from tests.tiny import home_of, prepared, same, weights

SMALL = Cluttered(size=40, train=150, val=50, test=60, validation_digits=HELD_OUT)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(monkeypatch, tmp_path / "data")
    return tmp_path / "data"


def slow(source: Cluttered, split: str, index: int) -> tuple[np.ndarray, int]:
    """One example from the recipe, pixel by pixel in exact fractions, clipped at each step."""
    images, labels = drawn("test", TEST) if split == "test" else drawn("train", TRAIN)
    val = held_out()
    known = {
        "train": [i for i in range(TRAIN) if i not in val],
        "val": val.tolist(),
        "test": list(range(TEST)),
    }[split]
    n, w, p = len(known), source.size, source.patch
    canvas = [[Fraction(0)] * w for _ in range(w)]

    def add(piece: np.ndarray, row: int, column: int) -> None:
        for r, line in enumerate(piece.tolist()):
            for c, value in enumerate(line):
                total = canvas[row + r][column + c] + Fraction(value, 255)
                canvas[row + r][column + c] = min(total, Fraction(1))

    below = [w - 27, w - 27] + [n, 29 - p, 29 - p, w - p + 1, w - p + 1] * source.distractors
    numbers = noise.generator(source.seed, f"cluttered/{split}/place", 0, index // 32)
    row, column, *rest = numbers.integers(below, size=(32, len(below)))[index % 32].tolist()
    for k in range(source.distractors):
        which, top, left, down, across = rest[5 * k : 5 * k + 5]
        add(images[known[which]][top : top + p, left : left + p], down, across)
    order = noise.generator(source.seed, f"cluttered/{split}/digit", index // n).permutation(n)
    whole = known[order[index % n]]
    add(images[whole], row, column)
    return np.array([[[int(255 * value) for value in line] for line in canvas]]), labels[whole]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pictures_equal_a_slow_loop_over_the_recipe(small: Path, split: str) -> None:
    source = Cluttered(size=40, distractors=12, validation_digits=HELD_OUT)
    x, y = arrays(source, split, 0, 130)
    for index in (0, 1, 31, 32, 77, 129):
        image, label = slow(source, split, index)
        np.testing.assert_array_equal(x[index], image)
        assert y[index] == label


def test_example_is_a_function_of_its_index(small: Path) -> None:
    source = Cluttered(train=260, validation_digits=HELD_OUT)  # 104 pictures at once
    x, y = arrays(source, "train", 0, 260)
    for start, stop in ((0, 1), (103, 106), (31, 33), (200, 260), (259, 260)):
        part = arrays(source, "train", start, stop)
        np.testing.assert_array_equal(part[0], x[start:stop])
        np.testing.assert_array_equal(part[1], y[start:stop])
    assert list(source.examples("train", 7, 7)) == []
    for other in (Cluttered(seed=1, validation_digits=HELD_OUT), SMALL):
        assert not np.array_equal(arrays(other, "train", 0, 50)[0], x[:50])
    assert not np.array_equal(arrays(source, "test", 0, 40)[0], x[:40])


def test_digits_and_clutter_of_the_splits_are_disjoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_splits_are_disjoint(SMALL, tmp_path, monkeypatch)


def test_validation_digits_are_those_that_mnist_sets_aside(small: Path) -> None:
    source = Cluttered(size=28, distractors=0, val=HELD_OUT, validation_digits=HELD_OUT)
    ours = arrays(source, "val", 0, HELD_OUT)[0]
    theirs = arrays(Mnist(validation=HELD_OUT), "val", 0, HELD_OUT)[0]
    assert sorted(map(np.ndarray.tobytes, ours)) == sorted(map(np.ndarray.tobytes, theirs))


def test_official_counts_use_each_digit_once_or_twice() -> None:
    assert Cluttered().validation_digits == 5000
    assert (Cluttered().train, Cluttered().val, Cluttered().test) == (60_000, 10_000, 10_000)
    for digits, examples, expected in (
        (55_000, 60_000, {1: 50_000, 2: 5_000}),
        (5_000, 10_000, {2: 5_000}),
        (10_000, 10_000, {1: 10_000}),
    ):
        turns = in_turn(digits, 0, "train", range(examples))
        assert Counter(np.bincount(turns, minlength=digits).tolist()) == expected
        np.testing.assert_array_equal(
            turns[4990:5010], in_turn(digits, 0, "train", range(4990, 5010))
        )


def test_another_draw_has_other_clutter_and_places(small: Path) -> None:
    twice = Cluttered(size=40, draws=2, train=70, validation_digits=HELD_OUT)
    assert twice.splits()["train"] == 140
    x, y = arrays(twice, "train", 0, 140)
    once = Cluttered(size=40, train=70, validation_digits=HELD_OUT)
    np.testing.assert_array_equal(arrays(once, "train", 0, 70)[0], x[:70])
    assert len({image.tobytes() for image in x}) == 140
    assert Counter(y[:70].tolist()) == Counter(y[70:].tolist())  # 70 training digits, a pass each


def test_places_are_uniform_and_reach_the_edges() -> None:
    below = [1, 21, 73, 55_000]
    drawn = integers(0, "places", range(10, 40_010), below)
    assert drawn.shape == (40_000, 4)
    for column, size in zip(drawn.T, below, strict=True):
        assert column.min() >= 0
        assert column.max() < size
        counts = np.bincount(column * min(size, 73) // size, minlength=min(size, 73))
        expected = 40_000 / len(counts)
        assert np.abs(counts - expected).max() <= 5 * np.sqrt(expected)
    np.testing.assert_array_equal(integers(0, "places", range(45, 47), below), drawn[35:37])


def test_sums_are_clipped_and_never_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, train=np.full((TRAIN, 28, 28), 255))
    source = Cluttered(size=28, distractors=256, patch=28, validation_digits=HELD_OUT)
    assert (arrays(source, "train", 0, 3)[0] == 255).all()


def test_prepared_data_set_is_whole_and_counts_its_digits(small: Path, tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}/store")
    manifest = prepare(SMALL, storage, shard_examples=40)
    assert manifest.splits == {"train": 150, "val": 50, "test": 60}
    assert manifest.shape == (1, 40, 40)
    labels = arrays(SMALL, "val", 0, 50)[1]
    assert manifest.class_counts["val"] == {str(d): int((labels == d).sum()) for d in range(10)}
    assert verify(storage, manifest) == []


def test_damaged_mnist_is_one_line_and_leaves_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "data", train=np.zeros((TRAIN, 28, 27)))
    store = open_storage(f"file://{tmp_path}/store")
    with pytest.raises(DataError, match=r"train-images.*\(90, 28, 27\), expected \(90, 28, 28\)"):
        prepare(SMALL, store)
    path = tmp_path / "data" / "mnist" / OFFICIAL["test"].labels.name
    path.write_bytes(gzip.compress(b"cut"))
    with pytest.raises(DataError, match=r"t10k-labels.*md5 .*, expected .*; replace it"):
        prepare(SMALL, store)
    assert not list((tmp_path / "store").rglob("manifest.json"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 27}, "size: 27; takes 28 to 1024"),
        ({"size": 100_000}, "size: 100000; takes 28 to 1024"),
        ({"distractors": -1}, "distractors: -1; takes 0 to 256"),
        ({"distractors": 257}, "distractors: 257; takes 0 to 256"),
        ({"patch": 0}, "patch: 0; takes 1 to 28"),
        ({"patch": 29}, "patch: 29; takes 1 to 28"),
        ({"draws": 0}, "draws: 0; takes 1 or more"),
        ({"val": 0}, "val: 0; takes 1 or more"),
        ({"affine": Affine()}, "affine: takes draws: fresh, not draws: 1; write null"),
        ({"validation_digits": 30_001}, "validation_digits: 30001; takes 1 to 30000"),
        ({"binarisation": "fixed"}, "binarisation: 'fixed'; known are grey"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=words):
        Cluttered(**settings)


def test_every_setting_but_the_reading_makes_another_data_set() -> None:
    changes = [
        {"size": 60},
        {"distractors": 4},
        {"patch": 9},
        {"draws": 2},
        {"draws": "fresh"},
        {"train": 9},
        {"val": 9},
        {"test": 9},
        {"validation_digits": 9},
        {"seed": 1},
    ]
    ids = {dataset_id(Cluttered(**change)) for change in changes}  # type: ignore[arg-type]
    assert len(ids | {dataset_id(Cluttered())}) == len(changes) + 1
    assert dataset_id(Cluttered(binarisation="dynamic")) == dataset_id(Cluttered())


FRESH = replace(SMALL, draws="fresh", train=100)


def fresh_job(tmp_path: Path, **data: Any) -> Job:
    plain = {
        "name": "fresh",
        "storage": f"file://{tmp_path}/store",
        "data": {**to_plain(FRESH), **data},
        "model": {"kind": "classifier", "steps": 2, "hidden": 8, "read_n": 3},
        "train": {"total_epochs": 2, "batch_size": 48, "seed": 3},
    }
    return check_job(plain, "fresh")


def loader_of(job: Job, split: str, **options: Any) -> Loader:
    storage = open_storage(job.storage)
    return open_loader(job, prepare(job.data, storage), storage, split, {}, **options)


@pytest.fixture
def fresh(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_fresh_pictures_equal_a_slow_loop_over_the_recipe(fresh: Path) -> None:
    """Step 4 lies in the second epoch: what is drawn is of the step and the place in its batch."""
    loader = loader_of(fresh_job(fresh), "train", training=True)
    digits, _ = arrays(FRESH, "train", 0, 100)
    w, p = FRESH.size, FRESH.patch
    below = [w - 27, w - 27] + [100, 29 - p, 29 - p, w - p + 1, w - p + 1] * FRESH.distractors
    batch, ids = loader.batch(4, range(48)), loader.ids(4)
    for place in (0, 31, 32, 47):
        numbers = noise.generator(3, "train/compose", 4, place // 32)
        row, column, *rest = numbers.integers(below, size=(32, len(below)))[place % 32].tolist()
        canvas = np.zeros((w, w))
        for k in range(FRESH.distractors):
            which, top, left, down, across = rest[5 * k : 5 * k + 5]
            piece = digits[which, 0, top : top + p, left : left + p]
            canvas[down : down + p, across : across + p] += piece
        canvas[row : row + 28, column : column + 28] += digits[ids[place], 0, :28, :28]
        wanted = np.minimum(canvas, 255) / 255
        np.testing.assert_allclose(batch.x[place, 0].numpy(), wanted, atol=1e-6)


def test_fresh_pictures_are_new_at_every_step_and_equal_on_any_worker(fresh: Path) -> None:
    loader = loader_of(fresh_job(fresh), "train", training=True)
    whole = loader.batch(0, range(48)).x
    parts = [loader.batch(0, places).x for places in (range(17), range(17, 48))]
    np.testing.assert_array_equal(whole.numpy(), np.concatenate(parts))
    again = {int(i): place for place, i in enumerate(loader.ids(3))}  # the next epoch
    pairs = [(place, again[int(i)]) for place, i in enumerate(loader.ids(0)) if int(i) in again]
    later = loader.batch(3, range(48))
    assert len(pairs) > 5
    for before, after in pairs:
        assert not np.array_equal(whole[before], later.x[after])
        assert loader.batch(0, range(48)).y[before] == later.y[after]
    seen = loader_of(fresh_job(fresh), "train").batch(0, range(48)).x  # evaluated: strewn, too
    assert (seen > 0).sum() > 1.5 * (arrays(FRESH, "train", 0, 48)[0] > 0).sum()
    other = replace(fresh_job(fresh), train=replace(fresh_job(fresh).train, seed=4))
    assert not np.array_equal(loader_of(other, "train", training=True).batch(0, range(48)).x, whole)


@pytest.mark.parametrize("places", [range(0), range(32, 32), range(40, 40)])
def test_a_part_without_examples_is_an_empty_batch(fresh: Path, places: range) -> None:
    """As where a batch is cut into more parts than it has examples."""
    for affine in (None, {}):
        job = fresh_job(fresh, affine=affine)
        batch = loader_of(job, "train", training=True).batch(0, places)
        assert (tuple(batch.x.shape), len(batch.y)) == ((0, 1, 40, 40), 0)
    assert integers(0, "places", places, [3, 4]).shape == (0, 2)
    assert integers(0, "places", places, [3, 4]).dtype == np.int64


def test_fresh_draws_change_no_picture_that_is_not_trained_on(fresh: Path) -> None:
    for split in ("val", "test"):
        for one, other in zip(
            arrays(FRESH, split, 0, 50), arrays(SMALL, split, 0, 50), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        loader = loader_of(fresh_job(fresh), split)
        stored = arrays(FRESH, split, 0, 48)[0] / 255
        np.testing.assert_allclose(loader.batch(0, range(48)).x.numpy(), stored, atol=1e-6)


def test_a_run_on_fresh_draws_that_is_stopped_goes_on_to_the_same_weights(fresh: Path) -> None:
    one, two = fresh_job(fresh), fresh_job(fresh)
    two = replace(two, storage=f"file://{fresh}/other")
    (manifest, storage), (same_manifest, other) = prepared(one), prepared(two)
    train(one, manifest, storage, Worker())
    asked: list[int] = []
    stopping = Worker(progress=lambda row: asked.append(row["step"]), stop=lambda: bool(asked))
    assert not train(two, same_manifest, other, stopping).finished
    assert train(two, same_manifest, other, Worker()).finished
    assert same(weights(home_of(one, manifest, storage)), weights(home_of(two, manifest, other)))
