"""One suite for every kind of store, and the faults that only a network has."""

import errno
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from pipeline import storage_s3
from pipeline.errors import StorageError
from pipeline.storage import NotFound, Storage, local_errors, open_storage

MB = 1 << 20


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [entry.key for entry in storage.list(prefix)]


# ---- every kind of store -------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", os.urandom(3 * MB)], ids=["empty", "small", "large"])
def test_what_was_written_is_read_back(storage: Storage, data: bytes) -> None:
    before = time.time()
    storage.write("runs/é 1/x.json", b"an older object")
    storage.write("runs/é 1/x.json", data)
    assert storage.read("runs/é 1/x.json") == data
    (entry,) = storage.list()
    assert (entry.key, entry.bytes) == ("runs/é 1/x.json", len(data))
    assert before - 2 < entry.modified < time.time() + 2


def test_what_is_not_there_is_said_to_be_missing(storage: Storage, tmp_path: Path) -> None:
    assert not storage.exists("no/thing")
    assert keys(storage, "no") == storage.folders("no") == []
    storage.delete("no/thing")
    with pytest.raises(NotFound, match=r"no/thing: no such object"):
        storage.read("no/thing")
    with pytest.raises(NotFound):
        storage.download("no/thing", tmp_path / "out" / "file")
    with pytest.raises(NotFound):
        storage.upload("key", tmp_path / "no-file")
    assert not list((tmp_path / "out").glob("*"))


def test_listings_are_sorted_and_follow_folders(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_s3, "PAGE", 4)
    names = ["a-b", "a.b", "a/1", "a/2/deep", "a/3/deep", "ab/1", "b", "ä/1", "z/1"]
    for name in reversed(names):
        storage.write(name, b"")
    assert keys(storage) == sorted(names)
    assert keys(storage, "a") == keys(storage, "a/") == ["a/1", "a/2/deep", "a/3/deep"]
    assert storage.folders() == ["a", "ab", "z", "ä"]
    assert storage.folders("a") == ["2", "3"]
    assert keys(storage.below("a/3")) == ["deep"]
    storage.delete(*names, "not there")
    assert keys(storage) == storage.folders() == []


BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "a/../../b",
    "./a",
    "a\\b",
    "a\0",
    "a\nb",
    ".tmp-x",
    "k" * 901,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_not_a_plain_name_is_refused(storage: Storage, key: str) -> None:
    for action in (storage.read, storage.exists, storage.delete):
        with pytest.raises(StorageError, match=r"^object key .* use relative names"):
            action(key)
    with pytest.raises(StorageError, match="object key"):
        storage.create(key, b"")


def test_of_racing_creators_exactly_one_wins(storage: Storage) -> None:
    racers, rounds = 16, 6
    start = Barrier(racers)

    def race(racer: int) -> list[bool]:
        wins = []
        for number in range(rounds):
            start.wait()
            wins.append(storage.create(f"lease/{number}", f"racer {racer}".encode()))
        return wins

    with ThreadPoolExecutor(racers) as threads:
        wins = list(threads.map(race, range(racers)))
    for number, column in enumerate(zip(*wins, strict=True)):
        assert sum(column) == 1
        assert storage.read(f"lease/{number}") == f"racer {column.index(True)}".encode()


def test_a_created_object_is_never_replaced_by_create(storage: Storage) -> None:
    assert storage.create("once", b"first")
    assert not storage.create("once", b"second")
    assert not storage.create("once", b"first")
    assert storage.read("once") == b"first"


def test_large_files_go_up_and_down_whole(storage: Storage, tmp_path: Path) -> None:
    data = os.urandom(40 * MB)
    (tmp_path / "up").write_bytes(data)
    sent: list[int] = []
    received: list[int] = []
    storage.upload("big", tmp_path / "up", sent.append)
    storage.download("big", tmp_path / "in" / "down", received.append)
    assert (tmp_path / "in" / "down").read_bytes() == data
    assert sum(sent) == sum(received) == len(data)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["down"]


def test_pyarrow_and_this_storage_see_the_same_objects(storage: Storage) -> None:
    filesystem, root = storage.arrow()
    storage.write("ours/x", b"ours")
    with filesystem.open_input_stream(f"{root}/ours/x") as file:
        assert file.read() == b"ours"
    filesystem.create_dir(f"{root}/theirs", recursive=True)
    with filesystem.open_output_stream(f"{root}/theirs/y") as file:
        file.write(b"theirs")
    assert storage.read("theirs/y") == b"theirs"
    assert keys(storage) == ["ours/x", "theirs/y"]


def test_a_pickled_storage_works_and_holds_no_credentials(storage: Storage) -> None:
    storage.write("x", b"1")
    pickled = pickle.dumps((storage, storage.arrow()))
    copy, _ = pickle.loads(pickled)  # noqa: S301 (what Ray does with it)
    assert copy.url == storage.url
    assert copy.read("x") == b"1"
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        assert os.environ.get(name, "unset").encode() not in pickled
        assert os.environ.get(name, "unset") not in repr(storage)


def test_preflight_passes_and_leaves_nothing(storage: Storage) -> None:
    report = storage.preflight()
    report.require_create_once()
    assert report.create_once
    assert keys(storage) == []


# ---- URLs ----------------------------------------------------------------------------------------


def test_urls_of_folders_may_be_paths_or_start_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for url in ("file://~/x", "~/x", "x", f"{tmp_path}/x/", f"file://{tmp_path}/x"):
        assert open_storage(url).url == f"file://{tmp_path}/x"
    assert open_storage("x").address("a/b") == f"file://{tmp_path}/x/a/b"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://user:hunter2@bucket/x", None),
        ("s3://user:hunt/hunter2@bucket/x", None),
        ("s3:user:hunter2@bucket", None),
        ("gs://user:hunter2@bucket/x", None),
        ("gs://bucket/x", None),
        ("s3://", None),
        ("s3://bucket/a/../b", None),
        ("file://relative/x", None),
        ("", None),
        ("s3://bucket", "http://user:hunter2@host:9000"),
        ("s3://bucket", "http://host:9000?secret=hunter2"),
        ("s3://bucket", "host:9000"),
        ("s3://bucket", "http://host:port"),
    ],
)
def test_a_wrong_url_is_one_line_that_repeats_no_secret(url: str, endpoint: str | None) -> None:
    with pytest.raises(StorageError) as fault:
        open_storage(url, endpoint)
    assert "hunter2" not in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_user_of_folders_loads_neither_boto3_nor_pyarrow(tmp_path: Path) -> None:
    program = (
        "import sys; from pipeline.storage import open_storage; open_storage('x').preflight()\n"
        "sys.exit(bool({'boto3', 'botocore', 'pyarrow'} & set(sys.modules)))"
    )
    paths = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)


# ---- folders -------------------------------------------------------------------------------------


def test_half_written_files_are_invisible_and_go_after_an_hour(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    fresh, stale = tmp_path / ".tmp-fresh", tmp_path / ".tmp-stale"
    for path in (fresh, stale):
        path.touch()
    os.utime(stale, (time.time() - 4000,) * 2)
    assert keys(storage) == []
    assert fresh.exists()
    assert not stale.exists()


def test_a_killed_writer_leaves_one_whole_object(tmp_path: Path) -> None:
    program = (
        "import itertools, sys; from pipeline.storage import open_storage\n"
        "s = open_storage(sys.argv[1])\n"
        "for i in itertools.count(): s.write('x', bytes([i % 256]) * 3_000_000)"
    )
    storage = open_storage(str(tmp_path))
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as writer:
            while not storage.exists("x"):
                time.sleep(0.01)
            time.sleep(0.05)
            writer.kill()
        data = storage.read("x")
        assert data == data[:1] * 3_000_000
        assert keys(storage) == ["x"]
        storage.delete("x")


def test_what_a_file_system_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"/file/x: .* a file, not a folder$"):
        open_storage(str(tmp_path / "file")).write("x", b"")
    storage = open_storage(str(tmp_path))
    storage.write("folder/x", b"")
    with pytest.raises(StorageError, match="this is a folder"):
        storage.write("folder", b"")
    assert keys(storage) == ["file", "folder/x"]
    for number, words in ((errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied")):
        with pytest.raises(StorageError, match=words), local_errors("file:///x"):
            raise OSError(number, os.strerror(number))
