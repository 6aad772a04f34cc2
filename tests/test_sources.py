"""The sources' examples: what they are, that they are functions of their index, and bad files."""

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import DataError
from pipeline.fetch import Remote
from pipeline.sources import SOURCES, DataConfig, dataset_id
from pipeline.sources.contract import Source
from pipeline.sources.mnist import OFFICIAL, Mnist, Part, cut, load, read_idx
from pipeline.sources.synthetic import Synthetic

REAL = Path(os.environ.get("DRAW_DATA") or Path(__file__).parents[2] / "shared" / "data")


def arrays(source: Source, split: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*source.examples(split, start, stop), strict=True)
    return np.stack(images), np.array(labels)


def linear_error(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    """Test error of a linear softmax classifier after a few epochs of Adam."""
    inputs = [torch.from_numpy(a.reshape(len(a), -1)).float() / 255 for a in (x, x_test)]
    labels = [torch.from_numpy(a) for a in (y, y_test)]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    layer = torch.nn.Linear(inputs[0].shape[1], 10)
    optimizer = torch.optim.Adam(layer.parameters(), 5e-3)
    for _ in range(10):
        for rows in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(inputs[0][rows]), labels[0][rows]).backward()
            optimizer.step()
    return (layer(inputs[1]).argmax(1) != labels[1]).float().mean().item()


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return header + values.astype(np.uint8).tobytes()


def written(folder: Path, name: str, data: bytes) -> Remote:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return Remote(address=f"http://127.0.0.1:9/{name}", md5=hashlib.md5(data).hexdigest())


def small_part(folder: Path, count: int = 120, highest: int = 9) -> Part:
    images = np.repeat(np.arange(count), 28 * 28).reshape(count, 28, 28)
    labels = np.append(np.arange(count - 1) % 10, highest)
    return Part(
        images=written(folder, "images.gz", gzip.compress(idx(images))),
        labels=written(folder, "labels.gz", gzip.compress(idx(labels))),
        count=count,
    )


@pytest.fixture
def train_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """MNIST's training files where they are at hand, else small files of the same format."""
    at_hand = [REAL / "mnist" / r.name for p in OFFICIAL.values() for r in (p.images, p.labels)]
    if all(path.is_file() for path in at_hand):
        monkeypatch.setenv("DRAW_DATA", str(REAL))
        return OFFICIAL["train"]
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    return small_part(tmp_path / "mnist")


def test_synthetic_example_is_a_function_of_its_index() -> None:
    source = Synthetic(train=700)
    x, y = arrays(source, "train", 0, 700)
    for start, stop in ((0, 1), (250, 700), (31, 33), (699, 700)):
        part = arrays(source, "train", start, stop)
        np.testing.assert_array_equal(part[0], x[start:stop])
        np.testing.assert_array_equal(part[1], y[start:stop])
    longer = arrays(Synthetic(train=9), "train", 0, 9)[0]
    np.testing.assert_array_equal(longer, x[:9])
    assert not np.array_equal(arrays(source, "val", 0, 64)[0], x[:64])
    assert not np.array_equal(arrays(Synthetic(seed=1), "train", 0, 64)[0], x[:64])


def test_synthetic_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from pipeline.sources.synthetic import Synthetic\n"
        "data = b''.join(i.tobytes() + bytes([y]) for i, y in Synthetic().examples('val', 5, 90))\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    pairs = Synthetic().examples("val", 5, 90)
    here = hashlib.sha256(b"".join(i.tobytes() + bytes([y]) for i, y in pairs)).hexdigest()
    assert there.stdout.strip() == here


@pytest.mark.parametrize("size", [12, 28, 61])
def test_synthetic_pictures_fill_the_middle(size: int) -> None:
    x, y = arrays(Synthetic(size=size), "test", 0, 300)
    assert x.shape == (300, 1, size, size)
    assert x.dtype == np.uint8
    assert set(y.tolist()) == set(range(10))
    assert 0.10 < x.mean() / 255 < 0.17
    assert x.max(axis=(1, 2, 3)).min() > 200
    edge = np.concatenate([x[:, 0, 0], x[:, 0, -1], x[:, 0, :, 0], x[:, 0, :, -1]])
    assert edge.mean() / 255 < 0.01


def test_synthetic_is_about_as_hard_as_mnist() -> None:
    """A linear classifier errs in 10 % of MNIST when it has seen 4,096 of its pictures."""
    source = Synthetic(test=2000)
    error = linear_error(*arrays(source, "train", 0, 4096), *arrays(source, "test", 0, 2000))
    assert 0.05 < error < 0.2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Synthetic(size=11), "size: 11; a digit needs 12"),
        (lambda: Synthetic(size=1025), "size: 1025; a digit needs 12 pixels or more, at most 1024"),
        (lambda: Synthetic(val=0), "val: 0; every split"),
        (lambda: Synthetic(binarisation="soft"), "binarisation: 'soft'; known are grey"),
        (lambda: Mnist(validation=60_000), "validation: 60000; takes 1 to 30000"),
        (lambda: Mnist(binarisation="soft"), "binarisation: 'soft'"),
    ],
)
def test_settings_out_of_range_are_named(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        make()


def test_source_is_chosen_by_its_name() -> None:
    adapter = TypeAdapter(DataConfig)
    for name, kind in SOURCES.items():
        assert adapter.validate_python({"source": name}) == kind()
    with pytest.raises(ValidationError, match="mnits"):
        adapter.validate_python({"source": "mnits"})


def test_identity_covers_what_decides_the_bytes_and_no_more() -> None:
    assert dataset_id(Mnist()) == dataset_id(Mnist(binarisation="grey"))
    ids = [
        dataset_id(Mnist()),
        dataset_id(Mnist(), shard_examples=500),
        dataset_id(Mnist(seed=1)),
        dataset_id(Mnist(validation=10_000)),
        dataset_id(Synthetic()),
        dataset_id(Synthetic(train=4097)),
    ]
    assert len(set(ids)) == len(ids)
    assert all(len(id) == 12 for id in ids)


def test_train_and_val_are_disjoint_and_together_the_training_files(train_part: Part) -> None:
    images, labels = load(train_part)
    halves = cut(train_part.count, train_part.count // 12, seed=0)
    both = np.concatenate([halves["train"], halves["val"]])
    np.testing.assert_array_equal(np.sort(both), np.arange(train_part.count))
    assert not np.array_equal(
        halves["val"], cut(train_part.count, train_part.count // 12, 1)["val"]
    )
    assert images.shape == (train_part.count, 28, 28)
    assert not images.flags.writeable
    if train_part is OFFICIAL["train"]:
        source = Mnist()
        assert source.splits() == {"train": 55_000, "val": 5_000, "test": 10_000}
        x, y = arrays(source, "val", 100, 120)
        np.testing.assert_array_equal(x[:, 0], images[halves["val"][100:120]])
        np.testing.assert_array_equal(y, labels[halves["val"][100:120]])
        assert arrays(source, "test", 0, 5)[1].tolist() == [7, 2, 1, 0, 4]


def test_files_are_found_in_the_folder_itself_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    assert load(small_part(tmp_path))[0].shape == (120, 28, 28)


def test_label_above_nine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"labels.gz: label 10, expected 0 to 9"):
        load(small_part(tmp_path, highest=10))


GOOD = idx(np.zeros((3, 28, 28)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD, "not gzip, or damaged"),
        (gzip.compress(GOOD)[:-30], "ends after|damaged"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "damaged .*incorrect data check"),
        (gzip.compress(GOOD[:-1]), "2351 values, expected 2352; it is cut off"),
        (gzip.compress(GOOD + b"x"), "unpacks to more than the 2368 bytes"),
        (gzip.compress(bytes(1 << 26)), "unpacks to more than the 2368 bytes"),
        (gzip.compress(GOOD[:9]), r"dimensions \(\)|dimensions .*expected \(3, 28, 28\)"),
        (gzip.compress(b""), "starts with , expected 00000803"),
        (gzip.compress(bytes([0, 0, 9]) + GOOD[3:]), "starts with 00000903, expected 00000803"),
        (gzip.compress(idx(np.zeros((2, 28, 28)))), r"\(2, 28, 28\), expected \(3, 28, 28\)"),
        (gzip.compress(idx(np.zeros((3, 28, 27)))), r"\(3, 28, 27\), expected \(3, 28, 28\)"),
    ],
)
def test_bad_idx_is_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=words) as error:
        read_idx(path, (3, 28, 28))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
