"""CIFAR-10: a small archive in the official binary format, a part as .npz, and bad files."""

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources import cifar10, dataset_id
from pipeline.sources.cifar10 import OFFICIAL, Archive, Cifar10, load
from pipeline.storage import open_storage
from tests.test_sources import REAL, arrays, written

BATCH = 20
NAMES = OFFICIAL.names


def records(count: int = BATCH, seed: int = 0, classes: int = 10) -> bytes:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (count, 3073), dtype=np.uint8)
    rows[:, 0] = np.arange(count) % classes
    return rows.tobytes()


def tar(content: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A .tar.gz, with the members in this order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for other in others:
            archive.addfile(other)
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def whole() -> dict[str, bytes]:
    readme = {"cifar-10-batches-bin/readme.html": b"<html>" * 200}
    found = readme | {name: records(seed=k) for k, name in enumerate(NAMES)}
    return dict(reversed(found.items()))


def archive_of(folder: Path, data: bytes) -> Archive:
    return Archive(file=written(folder / "cifar10", "cifar.tar.gz", data), batch=BATCH)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))


def test_official_archive_keeps_its_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "OFFICIAL", archive_of(tmp_path, tar(whole())))
    source = Cifar10()
    assert source.splits() == {"train": 90, "val": 10, "test": 20}
    x, y = arrays(source, "test", 0, 20)
    test = np.frombuffer(records(seed=5), np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(x, test[:, 1:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(y, test[:, 0])
    seen = [
        i.tobytes()
        for split, n in (("train", 90), ("val", 10))
        for i in arrays(source, split, 0, n)[0]
    ]
    training = b"".join(records(seed=k) for k in range(5))
    rows = np.frombuffer(training, np.uint8).reshape(-1, 3073)
    assert sorted(seen) == sorted(row[1:].tobytes() for row in rows)
    assert "part" not in source.about().origin


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tar({n: records() for n in NAMES[:-1]}), "test_batch.bin: missing, expected 61460"),
        (tar(whole() | {NAMES[2]: records(19)}), "data_batch_3.bin: 58387 bytes, expected 61460"),
        (tar(whole() | {NAMES[2]: records(21)}), "data_batch_3.bin of 64533 bytes, at most 61460"),
        (tar(whole() | {NAMES[0]: records(classes=11)}), "labels 0 to 10, expected 0 to 9"),
        (tar(whole())[:-400], "not a whole .tar.gz"),
        (b"<html>not found</html>", "not a whole .tar.gz"),
        (gzip.compress(b"x" * 2000), "not a whole .tar.gz"),
        (
            gzip.compress(gzip.decompress(tar(whole()))[:70_000]),
            "not a whole .tar.gz .*ends inside",
        ),
        (gzip.compress(b""), "without the end mark"),
    ],
)
def test_bad_archive_is_one_line_and_leaves_nothing(
    tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(DataError, match=words) as error:
        load(archive_of(tmp_path, data))
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "cache" / "cifar10").iterdir()] == [".lock"]


def test_link_in_the_archive_is_not_followed(tmp_path: Path) -> None:
    link = tarfile.TarInfo(NAMES[0])
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    content = whole()
    del content[NAMES[0]]
    with pytest.raises(DataError, match=r"data_batch_1.bin: missing"):
        load(archive_of(tmp_path, tar(content, link)))


def test_full_disk_while_unpacking_is_one_line(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, tar(whole()))
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(DataError, match="set DRAW_CACHE to another folder"):
        load(archive)


def npz(folder: Path, name: str = "part.npz", **content: np.ndarray) -> Path:
    (folder / "cifar10").mkdir(exist_ok=True)
    path = folder / "cifar10" / name
    np.savez_compressed(path, **content)  # type: ignore[arg-type]
    return path


X = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
Y = np.arange(40) % 10


def test_part_says_what_it_is_and_sets_a_test_split_aside(tmp_path: Path) -> None:
    npz(tmp_path, x=X, y=Y)
    storage = open_storage(f"file://{tmp_path}/store")
    manifest = prepare(Cifar10(file="part.npz"), storage)
    assert manifest.splits == {"train": 32, "val": 4, "test": 4}
    assert "a part: 40 of the 60,000 pictures, from part.npz" in manifest.origin
    assert manifest.source["file"] == "part.npz"
    assert verify(storage, manifest) == []
    source = Cifar10(file="part.npz", validation=6)
    seen = [arrays(source, s, 0, n)[0] for s, n in source.splits().items()]
    images = np.concatenate(seen).transpose(0, 2, 3, 1)
    assert sorted(i.tobytes() for i in images) == sorted(i.tobytes() for i in X)


def test_both_layouts_of_a_part_are_the_same_pictures(tmp_path: Path) -> None:
    npz(tmp_path, "last.npz", x=X, y=Y)
    npz(tmp_path, "first.npz", x=X.transpose(0, 3, 1, 2), y=Y.astype(np.uint8))
    last, first = (arrays(Cifar10(file=f), "train", 0, 32) for f in ("last.npz", "first.npz"))
    np.testing.assert_array_equal(last[0], first[0])
    np.testing.assert_array_equal(last[1], first[1])


def test_identity_follows_the_content_not_the_name(tmp_path: Path) -> None:
    one = npz(tmp_path, "one.npz", x=X, y=Y)
    one.with_name("two.npz").write_bytes(one.read_bytes())
    npz(tmp_path, "three.npz", x=X[:30], y=Y[:30])
    ids = [dataset_id(Cifar10(file=f"{name}.npz")) for name in ("one", "two", "three")]
    assert ids[0] == ids[1] != ids[2]
    assert dataset_id(Cifar10()) not in ids


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"x": X}, "not an .npz file with x and y .*y.npy"),
        ({"x": X[:, :31], "y": Y}, r"x uint8 \(40, 31, 32, 3\)"),
        ({"x": X.astype(float), "y": Y}, "x float64"),
        ({"x": X, "y": Y[:39]}, r"y int64 \(39,\)"),
        ({"x": X, "y": Y.astype(object)}, r"y object \(40,\)"),
        ({"x": X, "y": Y + 1}, "labels 1 to 10, expected 0 to 9"),
        ({"x": X[:0], "y": Y[:0]}, r"x uint8 \(0, 32, 32, 3\)"),
        ({"x": np.zeros((), np.uint8), "y": Y}, "not an .npz file|expected uint8"),
    ],
)
def test_bad_part_is_one_line(tmp_path: Path, content, words: str) -> None:  # type: ignore[no-untyped-def]
    npz(tmp_path, **content)
    with pytest.raises(DataError, match=words) as error:
        Cifar10(file="part.npz").splits()
    assert "\n" not in str(error.value)


def test_size_that_a_header_claims_is_refused_before_memory_is_spent(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    with zipfile.ZipFile(tmp_path / "cifar10" / "part.npz", "w") as archive:
        for name, shape, kind in (("x", (10**9, 32, 32, 3), "|u1"), ("y", (10**9,), "|u1")):
            buffer = io.BytesIO()
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(buffer, header)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(DataError, match=r"1000000000.* n at most 60000"):
        Cifar10(file="part.npz").splits()


def test_a_second_member_with_nearly_the_name_of_the_pictures_is_not_taken(tmp_path: Path) -> None:
    path = npz(tmp_path, x=X, y=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", b"neither pictures nor an array")
    assert Cifar10(file="part.npz").splits() == {"train": 32, "val": 4, "test": 4}


def test_damaged_part_is_one_line_wherever_the_damage_is(tmp_path: Path) -> None:
    data, rng = npz(tmp_path, x=X[:6], y=Y[:6]).read_bytes(), random.Random(0)
    lines = []
    for attempt in range(100):
        damaged = bytearray(data)
        if attempt % 2:
            del damaged[rng.randrange(len(data)) :]
        else:
            damaged[rng.choice([rng.randrange(300), rng.randrange(-300, 0)])] ^= rng.randrange(
                1, 256
            )
        (tmp_path / "cifar10" / f"{attempt}.npz").write_bytes(damaged)
        try:
            Cifar10(file=f"{attempt}.npz").splits()
        except DataError as error:
            lines.append(str(error))
    assert len(lines) > 60
    assert "\n" not in "".join(lines)


def test_missing_part_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no.npz: not in {tmp_path}/cifar10, {tmp_path}; give an"):
        Cifar10(file="no.npz").splits()


def test_part_at_hand_has_pictures_of_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first 4,000 real pictures where they are at hand, else those above."""
    real = REAL / "cifar10" / "cifar10_first4000_lossless.npz"
    source = Cifar10(file=str(real if real.is_file() else npz(tmp_path, x=X, y=Y)))
    x, y = arrays(source, "train", 0, source.splits()["train"])
    assert set(y.tolist()) == set(range(10))
    if real.is_file():
        assert source.splits() == {"train": 3200, "val": 400, "test": 400}
        # Skies: the upper edge of ships and planes is bluer than it is red.
        edge = x[(y == 0) | (y == 8)][:, :, :4].mean(axis=(0, 2, 3))
        assert edge[2] > edge[0]
