"""Preparing: the same bytes however they were made, and nothing to be seen until all is there."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.datasets import find_dataset, load_manifest, verify
from pipeline.errors import DataError
from pipeline.prepare import prepare
from pipeline.sources.synthetic import Synthetic
from pipeline.storage import Storage, open_storage

SOURCE = Synthetic(train=400, val=90, test=60)

# Forks a prepare for each line (URL, seconds) and kills it after that time. The imports are paid
# for once.
NURSERY = """
import os, signal, sys, time
from pipeline.prepare import prepare
from pipeline.sources.synthetic import Synthetic
from pipeline.storage import open_storage
for line in sys.stdin:
    url, seconds = line.split()
    child = os.fork()
    if not child:
        source = Synthetic(train=250, val=25, test=25)
        prepare(source, open_storage(url), shard_examples=25)
        os._exit(0)
    time.sleep(float(seconds))
    os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1], flush=True)
"""

POOL = """
import sys
from pipeline.prepare import prepare
from pipeline.sources.synthetic import Synthetic
from pipeline.storage import open_storage
if __name__ == "__main__":
    print("on", flush=True)
    show = lambda done, total: print(done, flush=True)
    source = Synthetic(train=50_000, val=20, test=20)
    prepare(source, open_storage(sys.argv[1]), shard_examples=500, processes=2, progress=show)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/store")


def test_prepare_is_done_once_and_says_what_it_made(storage: Storage) -> None:
    steps: list[tuple[int, int]] = []
    manifest = prepare(SOURCE, storage, shard_examples=150, progress=lambda *s: steps.append(s))
    assert [(s.file, s.first, s.examples) for s in manifest.shards] == [
        ("train-000000.tar", 0, 150),
        ("train-000001.tar", 150, 150),
        ("train-000002.tar", 300, 100),
        ("val-000000.tar", 0, 90),
        ("test-000000.tar", 0, 60),
    ]
    assert manifest.splits == {"train": 400, "val": 90, "test": 60}
    labels = [label for _, label in SOURCE.examples("val", 0, 90)]
    assert manifest.class_counts["val"] == {str(d): labels.count(d) for d in range(10)}
    assert "binarisation" not in manifest.source
    assert steps[-1] == (550, 550)
    assert verify(storage, manifest) == []
    assert load_manifest(storage, manifest.name, manifest.id) == manifest
    assert prepare(SOURCE, storage, shard_examples=150, progress=lambda *s: 1 / 0) == manifest


def test_number_of_processes_changes_nothing(storage: Storage) -> None:
    one, two = (
        prepare(SOURCE, storage.below(str(n)), shard_examples=60, processes=n) for n in (1, 2)
    )
    assert one == two
    assert verify(storage.below("2"), two) == []


def test_two_prepares_at_once_make_one_data_set(storage: Storage) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: prepare(SOURCE, storage, shard_examples=60), range(4)))
    assert all(manifest == made[0] for manifest in made)
    assert verify(storage, made[0]) == []


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, float], int]]:
    """Runs prepare in a process of its own, kills it after some seconds; its exit status."""
    temporary = tmp_path_factory.mktemp("nursery")
    environment = os.environ | {"TMPDIR": str(temporary), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", NURSERY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        pipes = process.stdin, process.stdout

        def run(url: str, seconds: float) -> int:
            print(url, seconds, file=pipes[0], flush=True)
            return int(pipes[1].readline())

        yield run
        process.stdin.close()


def test_killed_prepare_is_invisible_and_the_next_one_completes(
    storage: Storage, nursery: Callable[[str, float], int]
) -> None:
    start = time.monotonic()
    source, key = Synthetic(train=250, val=25, test=25), "manifest.json"
    undisturbed = prepare(source, storage.below("straight"), shard_examples=25)
    seconds, rng, killed, half_made = time.monotonic() - start, random.Random(0), 0, 0
    for attempt in range(8):
        store = storage.below(f"killed-{attempt}")
        killed += nursery(store.url, rng.uniform(0, seconds)) == signal.SIGKILL
        present = {entry.key.rsplit("/", 1)[-1] for entry in store.list()}
        half_made += bool(present) and key not in present
        if key in present:
            assert verify(store, find_dataset(store, "synthetic")) == []
        assert prepare(source, store, shard_examples=25) == undisturbed
        assert verify(store, undisturbed) == []
        for name in present:
            path = f"{undisturbed.path}/{name}"
            assert store.read(path) == storage.read(f"straight/{path}")
    assert killed > 2
    assert half_made > 1


def test_processes_of_a_killed_prepare_end_too(storage: Storage, tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, str(script), storage.url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["on\n", "500\n"]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        assert len(children) >= 2
        deadline = time.monotonic() + 10
        while any(alive(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [child for child in children if alive(child)] == []


def alive(pid: str) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_disk_that_is_full_is_one_line_and_shows_no_data_set(storage: Storage) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError, match=r"train-000000.tar: File too large; free space, or"):
            prepare(SOURCE, storage)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(DataError, match="no such data set"):
        find_dataset(storage, "synthetic")


def test_prepare_that_came_to_other_bytes_at_the_same_time_is_noticed(storage: Storage) -> None:
    other = prepare(SOURCE, storage.below("other"))
    sha256 = other.shards[0].sha256
    key = f"{other.path}/manifest.json"
    theirs = storage.read(f"other/{key}").replace(sha256.encode(), sha256[::-1].encode())

    with pytest.raises(DataError, match=f"{other.id}: another prepare came to other bytes"):
        prepare(SOURCE, storage, progress=lambda *_: storage.write(key, theirs))
