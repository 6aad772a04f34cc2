"""Quick, Draw!: categories mixed and shared out, the real sketches, and bad files."""

import resource
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from pipeline.datasets import verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources import DataConfig, dataset_id
from pipeline.sources.quickdraw import Quickdraw
from pipeline.storage import open_storage
from tests.test_sources import REAL, arrays

COUNTS = {"cat": 50, "hot air balloon": 30, "fish": 20}
BOTH = Quickdraw(categories=("fish", "hot air balloon"), val=7, test=3)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Small files, one of them in the other shape that such files come in."""
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    (tmp_path / "quickdraw").mkdir()
    rng = np.random.default_rng(0)
    made = {n: rng.integers(0, 256, (c, 784), dtype=np.uint8) for n, c in COUNTS.items()}
    for name, rows in made.items():
        np.save(tmp_path / "quickdraw" / f"{name}.npy", rows[:, None] if name == "fish" else rows)
    return made


def test_categories_are_mixed_and_every_sketch_is_in_one_split(files) -> None:  # type: ignore[no-untyped-def]
    assert BOTH.splits() == {"train": 40, "val": 7, "test": 3}
    x, y = (
        np.concatenate(all_)
        for all_ in zip(*(arrays(BOTH, s, 0, n) for s, n in BOTH.splits().items()), strict=True)
    )
    for label, name in enumerate(BOTH.categories):
        got = sorted(row.tobytes() for row in x[y == label])
        assert got == sorted(row.tobytes() for row in files[name])
    assert 0 < y[:10].sum() < 10
    assert BOTH.about().classes == ("fish", "hot air balloon")


def test_sketch_is_a_function_of_its_index() -> None:
    x, y = arrays(BOTH, "train", 0, 40)
    part = arrays(BOTH, "train", 13, 29)
    np.testing.assert_array_equal(part[0], x[13:29])
    np.testing.assert_array_equal(part[1], y[13:29])
    other = Quickdraw(categories=BOTH.categories, val=7, test=3, seed=1)
    assert not np.array_equal(arrays(other, "train", 0, 40)[0], x)


def test_a_tenth_is_set_aside_unless_said_otherwise() -> None:
    assert Quickdraw().splits() == {"train": 40, "val": 5, "test": 5}
    assert Quickdraw(test=30).splits() == {"train": 15, "val": 5, "test": 30}
    with pytest.raises(DataError, match="quickdraw: 50 examples, 5 for val and 45 for test leave"):
        Quickdraw(test=45).splits()


def test_job_file_gives_a_list_of_categories() -> None:
    text = '{"source": "quickdraw", "categories": ["cat", "fish"]}'
    assert TypeAdapter(DataConfig).validate_json(text) == Quickdraw(categories=("cat", "fish"))


def test_identity_follows_the_files(tmp_path: Path) -> None:
    before = dataset_id(BOTH)
    assert before == dataset_id(Quickdraw(**vars(BOTH) | {"binarisation": "threshold"}))
    np.save(tmp_path / "quickdraw" / "cat.npy", np.zeros((50, 784), np.uint8))
    assert dataset_id(BOTH) == before
    np.save(tmp_path / "quickdraw" / "fish.npy", np.zeros((21, 784), np.uint8))
    assert dataset_id(BOTH) != before


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 783), np.uint8), r"uint8 \(4, 783\), expected uint8 \(n, 784\)"),
        (np.zeros((4, 784)), r"float64 \(4, 784\)"),
        (np.zeros((0, 784), np.uint8), "no sketch"),
        (np.asfortranarray(np.zeros((4, 784), np.uint8)), "not row by row"),
        (np.zeros((4, 784), object), "not a whole .npy file"),
    ],
)
def test_other_content_is_one_line(tmp_path: Path, array: np.ndarray, words: str) -> None:
    path = tmp_path / "quickdraw" / "cat.npy"
    np.save(path, array)
    with pytest.raises(DataError, match=words) as error:
        Quickdraw().splits()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 60, 128, 5000])
def test_file_that_was_cut_off_is_one_line(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "quickdraw" / "cat.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"not a whole .npy file") as error:
        Quickdraw().splits()
    assert "\n" not in str(error.value)


def test_npz_in_place_of_npy_is_one_line(tmp_path: Path) -> None:
    with (tmp_path / "quickdraw" / "cat.npy").open("wb") as file:
        np.savez(file, x=np.zeros((3, 784), np.uint8))
    with pytest.raises(DataError, match=r"an .npz file where one"):
        Quickdraw().splits()


def test_missing_category_says_what_to_download() -> None:
    with pytest.raises(
        DataError, match=r"The Eiffel Tower.npy: not in .*/The%20Eiffel%20Tower.npy"
    ):
        Quickdraw(categories=("The Eiffel Tower",)).splits()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"categories": ()}, "categories: give one or more"),
        ({"categories": ("cat", "cat")}, "categories: give one or more, each once"),
        ({"categories": ("../cat",)}, r"categories: '../cat'; a name such as"),
        ({"val": 0}, "val: 0; takes 1 or more, or null"),
        ({"binarisation": "soft"}, "binarisation: 'soft'"),
    ],
)
def test_settings_out_of_range_are_named(settings, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        Quickdraw(**settings)


def test_large_file_costs_no_memory(tmp_path: Path) -> None:
    """2 GB that are not on the disk either: a file with a hole."""
    path = tmp_path / "quickdraw" / "cat.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (2_500_000, 784)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2_500_000 * 784)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert arrays(Quickdraw(), "train", 0, 20)[0].shape == (20, 1, 28, 28)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_sketches_at_hand_become_a_whole_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real sketches where they are at hand, else those above."""
    real = (REAL / "quickdraw" / "cat.npy").is_file()
    if real:
        monkeypatch.setenv("DRAW_DATA", str(REAL))
    source = Quickdraw(categories=("cat", "fish"), val=20, test=20)
    storage = open_storage(f"file://{tmp_path}/store")
    manifest = prepare(source, storage, processes=1)
    assert verify(storage, manifest) == []
    assert set(manifest.class_counts["val"]) == {"cat", "fish"}
    if real:  # white on black
        assert 0.05 < arrays(source, "val", 0, 20)[0].mean() / 255 < 0.4
