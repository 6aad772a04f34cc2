"""The cache of unpacked sources: made once for all that need it, and nothing left of what died."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.sources.unpacked import kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path))
    return tmp_path / "some"


def fill(folder: Path) -> None:
    (folder / "whole").write_bytes(bytes(1 << 16))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("left", ["key", "another", "1a2b3c"])
def test_what_a_killed_unpacking_left_goes_with_the_next(cache: Path, left: str) -> None:
    (cache / f".unpacking-{left}").mkdir(parents=True)
    (cache / f".unpacking-{left}" / "half").write_bytes(bytes(1 << 16))
    assert names(kept("some", "key", fill)) == ["whole"]
    assert names(cache) == [".lock", "unpacked-key", "unpacked-key/whole"]


def test_of_several_that_need_it_one_unpacks_and_the_others_wait(cache: Path) -> None:
    made = []

    def slowly(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        fill(folder)

    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: kept("some", "key", slowly), range(3)))
    assert folders == [cache / "unpacked-key"] * 3
    assert len(made) == 1
    assert names(cache) == [".lock", "unpacked-key", "unpacked-key/whole"]
