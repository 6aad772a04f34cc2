"""One holder at a time: races, killed holders, stopped holders, and clocks that differ."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from pipeline.errors import DataError, LeaseError
from pipeline.lease import KEPT, hold
from pipeline.storage import Storage, open_storage

ROOT = Path(__file__).parents[1]
HOLDER = """
import sys, time
from pipeline.errors import LeaseError
from pipeline.lease import hold
from pipeline.storage import open_storage
url, name, seconds, wait = sys.argv[1:]
try:
    with hold(open_storage(url), "lease", holder=name, seconds=float(seconds), margin=0.2,
              wait=bool(int(wait))) as lease:
        print("held", lease.number, flush=True)
        if sys.stdin.readline() == "check\\n":
            lease.require()
        lease.lost.wait(20 if sys.stdin.readline() == "lost\\n" else 0)
        print("lost" if lease.lost.is_set() else "kept", flush=True)
except LeaseError as fault:
    print(fault, flush=True)
"""


@contextmanager
def process(
    storage: Storage, name: str, seconds: float, wait: bool = False
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, storage.url, name, str(seconds), str(int(wait))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], words: str) -> None:
    assert child.stdin is not None
    child.stdin.write(words)
    child.stdin.flush()


def names(storage: Storage) -> list[str]:
    return [entry.key for entry in storage.list("lease")]


def test_the_second_is_told_who_holds_it_and_gets_it_when_it_is_given_back(storage):
    with hold(storage, "lease", holder="the first") as lease:
        assert lease.held
        lease.require()
        with (
            pytest.raises(LeaseError, match=r"/lease: held by the first since 2.* UTC, at least "
                          r"until 2.* UTC; let it end") as refused,
            hold(storage, "lease"),
        ):  # fmt: skip
            raise AssertionError("two hold one lease")
        assert "\n" not in str(refused.value)
    assert not lease.held
    with hold(storage, "lease") as again:
        assert again.number == lease.number + 1
    assert refused.value.exit_code == 7


def test_of_16_racing_threads_one_holds_at_any_time(storage):
    racers, rounds = 16, 4
    start, winners, inside = Barrier(racers, timeout=60), [], []

    def race(racer: int) -> None:
        for turn in range(rounds):
            start.wait()
            with ExitStack() as stack:
                try:
                    lease = stack.enter_context(hold(storage, "lease", holder=f"racer {racer}"))
                except LeaseError:
                    lease = None
                else:
                    winners.append((turn, lease.number))
                    inside.append(racer)
                    assert inside == [racer]
                    assert lease.held
                    inside.remove(racer)
                start.wait()  # nobody gives it back before all have tried

    with ThreadPoolExecutor(racers) as threads:
        list(threads.map(race, range(racers)))
    assert [turn for turn, _ in winners] == list(range(rounds))


def test_of_racing_processes_one_wins_what_a_dead_one_left(storage):
    with process(storage, "dead", 1.0) as dead:
        assert line(dead) == "held 1"
    with ExitStack() as stack:
        racers = [
            stack.enter_context(process(storage, f"racer {n}", 60.0, wait=True)) for n in range(6)
        ]
        said = [line(child) for child in racers]
    assert sum(words.startswith("held") for words in said) == 1
    winner = next(f"racer {n}" for n, words in enumerate(said) if words.startswith("held"))
    assert sum(f"held by {winner} since" in words for words in said) == 5


def test_what_a_killed_holder_had_is_waited_for_but_a_living_one_is_not(storage):
    with process(storage, "killed", 2.0) as child:
        assert line(child).startswith("held")
        began = time.monotonic()
        with (
            pytest.raises(LeaseError, match="held by killed"),
            hold(storage, "lease", wait=True, margin=30),
        ):
            raise AssertionError("two hold one lease")
        assert time.monotonic() - began < 20  # long before two seconds and the margin are over
        child.send_signal(signal.SIGKILL)
        child.wait()
        with pytest.raises(LeaseError), hold(storage, "lease", margin=30):
            raise AssertionError("taken before it had run out")
        with hold(storage, "lease", wait=True, margin=0.2) as lease:
            assert lease.held


def test_a_stopped_holder_finds_out_that_it_was_replaced(storage):
    with process(storage, "asleep", 1.0) as child:
        assert line(child) == "held 1"
        child.send_signal(signal.SIGSTOP)
        with hold(storage, "lease", seconds=30, margin=0.2, wait=True) as lease:
            tell(child, "check\n")
            child.send_signal(signal.SIGCONT)
            assert "taken over by another process while this one (asleep)" in line(child)
            assert child.wait() == 0
            lease.renew()
            assert lease.held


def test_the_background_thread_notices_too_and_the_loser_leaves_in_peace(storage):
    with process(storage, "asleep", 1.0) as child:
        assert line(child) == "held 1"
        child.send_signal(signal.SIGSTOP)
        with hold(storage, "lease", seconds=30, margin=0.2, wait=True) as lease:
            tell(child, "go on\nlost\n")
            child.send_signal(signal.SIGCONT)
            assert line(child) == "lost"
            assert child.wait() == 0
            lease.require()


def test_renewals_go_on_in_the_background_and_clean_up(storage):
    with hold(storage, "lease", seconds=0.6, margin=0.2) as lease:
        began = time.monotonic()
        while lease.number < 8 and time.monotonic() - began < 60:
            time.sleep(0.05)
        assert lease.number >= 8
        lease.require()
    assert len(names(storage)) == KEPT
    assert names(storage)[-1] == f"lease/{lease.number:06d}.json"


class Watch:
    """A clock that is moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_hold_runs_out_only_after_the_margin_for_clocks_that_differ(tmp_path):
    storage, watch = open_storage(str(tmp_path)), Watch(1000)
    with hold(storage, "lease", seconds=30, margin=5, clock=watch) as first:
        watch.now = 1034.9
        assert not first.held
        with pytest.raises(LeaseError), hold(storage, "lease", margin=5, clock=watch):
            raise AssertionError("taken within the margin")
        first.require()  # nobody had taken it: it is renewed, and held again
        assert first.held
        watch.now = 1070
        with hold(storage, "lease", seconds=30, margin=5, clock=watch) as second:
            with pytest.raises(LeaseError, match="taken over"):
                first.require()
            assert first.lost.is_set()
            assert second.held
    assert storage.read(names(storage)[-1]).count(b'"until": 0.0')


def test_a_clock_far_ahead_does_not_hold_for_longer_than_a_dead_holder_is_watched(tmp_path):
    storage = open_storage(str(tmp_path))
    ahead = Watch(time.time() + 10**6)
    stack = ExitStack()
    stack.enter_context(hold(storage, "lease", seconds=9e5, clock=ahead))
    left = storage.read("lease/000001.json").replace(b'"seconds": 900000.0', b'"seconds": 0.5')
    storage.write("lease/000001.json", left)  # as if it had been meant for half a second
    with pytest.raises(LeaseError), hold(storage, "lease", margin=0.1):
        raise AssertionError("taken at once")
    with hold(storage, "lease", margin=0.1, wait=True) as lease:
        assert lease.number == 2
        stack.close()  # the first one finds out when it gives back
        lease.require()


def test_who_slept_while_numbers_were_cleaned_up_does_not_win_with_an_old_one(tmp_path):
    storage, watch = open_storage(str(tmp_path)), Watch(1000)
    with hold(storage, "lease", seconds=1e4, margin=5, clock=watch) as sleeper:
        watch.now = 2e4
        with hold(storage, "lease", seconds=1e4, margin=5, clock=watch) as other:
            for _ in range(6):
                other.renew()
            assert not storage.exists("lease/000002.json")
            with pytest.raises(LeaseError, match="taken over"):
                sleeper.require()
            assert not storage.exists("lease/000002.json")
            assert len(names(storage)) == KEPT
            other.require()


def test_a_renewal_whose_reply_was_lost_counts_as_ours(storage):
    with hold(storage, "lease") as lease:
        storage.write("lease/000002.json", storage.read("lease/000001.json"))
        lease.renew()
        assert lease.number == 3
        lease.require()


def test_a_damaged_number_is_named_and_nothing_is_taken(tmp_path):
    storage = open_storage(str(tmp_path))
    storage.write("lease/notes.txt", b"not a number")
    for data in (b"", b"[]", b'{"holder": "x", "until": 1e400}', b"\xff"):
        storage.write("lease/000007.json", data)
        with (
            pytest.raises(DataError, match=r"/lease/000007.json: .*; remove it if nobody is"),
            hold(storage, "lease"),
        ):
            raise AssertionError("taken over what cannot be read")
    assert names(storage) == ["lease/000007.json", "lease/notes.txt"]


def test_a_store_that_is_gone_for_a_while_costs_nothing(tmp_path):
    storage = open_storage(str(tmp_path / "store"))
    with hold(storage, "lease", seconds=0.8, margin=30) as lease:
        (tmp_path / "store").rename(tmp_path / "away")
        (tmp_path / "store").touch()  # every access fails
        deadline = time.monotonic() + 20
        while lease.held and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not lease.held
        os.unlink(tmp_path / "store")
        (tmp_path / "away").rename(tmp_path / "store")
        while not lease.held and time.monotonic() < deadline:
            time.sleep(0.05)
        lease.require()
        assert not lease.lost.is_set()
