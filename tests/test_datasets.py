"""Data sets in storage: every fault of one is named, and each is found by what a person types."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets import find_dataset, load_manifest, sample_sheet, verify
from pipeline.errors import DataError
from pipeline.manifest import Manifest
from pipeline.prepare import prepare
from pipeline.sources import dataset_id
from pipeline.sources.synthetic import Synthetic
from pipeline.storage import Storage, open_storage

SOURCE = Synthetic(train=400, val=90, test=60)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/store")


def file_of(storage: Storage, manifest: Manifest, name: str) -> Path:
    return Path(storage.address(f"{manifest.path}/{name}").removeprefix("file://"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def swap(first: Path, second: Path) -> None:
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


A, B = "train-000000.tar", "train-000001.tar"
DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda f: (f / A).unlink(), [f"{A}: missing"]),
    "cut": (lambda f: os.truncate(f / B, 10240), [f"{B}: 10240 bytes, expected 522240"]),
    "emptied": (lambda f: os.truncate(f / B, 0), [f"{B}: 0 bytes"]),
    "header": (lambda f: flip(f / A, 3), [f"{A}: sha256"]),
    "label": (lambda f: flip(f / A, 512), [f"{A}: sha256"]),
    "pixels": (lambda f: flip(f / A, 2000), [f"{A}: sha256"]),
    "swapped": (
        lambda f: swap(f / A, f / B),
        [f"{A}: holds the bytes of {B}", f"{B}: holds the bytes of {A}"],
    ),
    "extra": (
        lambda f: (f / "train-000009.tar").write_bytes(b"x"),
        ["train-000009.tar: not in the manifest"],
    ),
    "several": (
        lambda f: ((f / A).unlink(), flip(f / B, 2000), (f / "x.tar").write_bytes(b"")),
        ["x.tar: not in", f"{A}: missing", f"{B}: sha256"],
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_verify_names_every_fault(storage: Storage, kind: str) -> None:
    manifest = prepare(SOURCE, storage, shard_examples=200)
    damage, expected = DAMAGE[kind]
    damage(file_of(storage, manifest, A).parent)
    faults = verify(storage, manifest)
    assert len(faults) == len(expected)
    for fault, words in zip(faults, expected, strict=True):
        assert fault.startswith(storage.address(manifest.path))
        assert words in fault
        assert "\n" not in fault
    repair(storage, manifest)


def repair(storage: Storage, manifest: Manifest) -> None:
    """Does what the messages tell a person to do."""
    expected = {f"{manifest.path}/{shard.file}" for shard in manifest.shards}
    storage.delete(*({entry.key for entry in storage.list(manifest.path)} - expected))
    assert prepare(SOURCE, storage, shard_examples=200) == manifest
    assert verify(storage, manifest) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "newer draw-pipeline"),
        ({"id": "abc"}, "says it is synthetic/abc"),
        ({"shape": [2, 28, 28]}, "expected 1 or 3 channels"),
        ({"splits": {"train": 400, "val": 90, "test": 61}}, "60 examples in the shards of test"),
        ({"splits": {"train": 400, "val": 90}}, "splits"),
        ({"shards": []}, "0 examples in the shards of train, 400 stated"),
        ({"class_counts": {}}, "class counts of train"),
        ({"extra": 1}, "extra"),
        ({"classes": []}, "no classes"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    storage: Storage, change: dict[str, object], words: str
) -> None:
    manifest = prepare(SOURCE, storage)
    path = file_of(storage, manifest, "manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=words) as error:
        prepare(SOURCE, storage)
    assert "manifest.json" in str(error.value)


@pytest.mark.parametrize("data", ["{", "[" * 200_000, '{"version": ' + "9" * 5000 + "}", "\udcff"])
def test_manifest_that_is_no_json_is_one_line(storage: Storage, data: str) -> None:
    manifest = prepare(SOURCE, storage)
    path = file_of(storage, manifest, "manifest.json")
    path.write_text(data, errors="surrogateescape")
    with pytest.raises(
        DataError, match=r"manifest.json: not JSON \(.*\); the object is dam"
    ) as error:
        load_manifest(storage, manifest.name, manifest.id)
    assert "\n" not in str(error.value)


def test_shard_file_name_in_a_manifest_cannot_lead_elsewhere(storage: Storage) -> None:
    manifest = prepare(SOURCE, storage)
    path = file_of(storage, manifest, "manifest.json")
    path.write_text(path.read_text().replace(A, "../../../other.tar"))
    with pytest.raises(DataError, match=r"\.\./\.\./\.\./other.tar from example 0"):
        load_manifest(storage, manifest.name, manifest.id)


def test_data_set_is_found_by_name_id_and_prefix(storage: Storage) -> None:
    with pytest.raises(DataError, match=r"synthetic: no such data set .* there is: none; run"):
        find_dataset(storage, "synthetic")
    old, new = (prepare(Synthetic(train=20, val=5, test=5, seed=s), storage) for s in (0, 1))
    os.utime(file_of(storage, old, "manifest.json"), (1e9, 1e9))
    assert find_dataset(storage, "synthetic") == new
    assert find_dataset(storage, f"synthetic/{old.id}") == old
    assert find_dataset(storage, f"synthetic/{old.id[:4]}") == old
    for text in ("mnist", "synthetic/zzz", "", "../synthetic"):
        with pytest.raises(DataError, match=f"there is: synthetic/{old.id}, synthetic/{new.id}"):
            find_dataset(storage, text)


def test_ambiguous_prefix_lists_what_it_could_mean(storage: Storage) -> None:
    seeds = [
        s for s in range(40) if dataset_id(Synthetic(train=5, val=5, test=5, seed=s))[0] == "a"
    ]
    for seed in seeds[:2]:
        prepare(Synthetic(train=5, val=5, test=5, seed=seed), storage)
    with pytest.raises(DataError, match=r"means more than one data set .*synthetic/a.*synthetic/a"):
        find_dataset(storage, "synthetic/a")


def test_sample_sheet_shows_every_class_of_every_split(storage: Storage) -> None:
    manifest = prepare(SOURCE, storage)
    sheet = sample_sheet(storage, manifest)
    assert sheet.size == (643, 348)
    dark = [
        sheet.convert("L").crop((left, top, left + 28, top + 28)).getextrema()[0]
        for left in (19, 227, 435)
        for top in range(24, 344, 32)
    ]
    assert dark == [0] * 30  # nothing of the white ground is left where a picture stands
