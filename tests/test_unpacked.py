"""The cache of unpacked sources: made once, by one process, and nothing left of one that died."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.sources.unpacked import kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path))
    return tmp_path / "some"


def _keep(seconds: float, log: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_bytes(bytes(1 << 16))
        with log.open("a") as file:
            file.write("made\n")
        time.sleep(seconds)
        (folder / "half").rename(folder / "whole")

    kept("some", "key", make)


def started(seconds: float, log: Path):  # type: ignore[no-untyped-def]
    process = multiprocessing.get_context("spawn").Process(target=_keep, args=(seconds, log))
    process.start()
    return process


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_a_killed_unpacking_is_invisible_and_its_bytes_go_with_the_next(
    cache: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = started(60, log)
    deadline = time.monotonic() + 30
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert names(cache) == ["half"]
    assert not (cache / "unpacked-key").exists()
    _keep(0, log)
    assert names(cache) == ["whole"]
    assert names(cache / "unpacked-key") == ["whole"]


def test_of_two_processes_one_unpacks_and_the_other_waits(cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [started(1.0, log) for _ in range(2)]
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert log.read_text() == "made\n"
    assert names(cache) == ["whole"]
