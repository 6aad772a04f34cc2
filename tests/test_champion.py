"""Decisions: exactly one of any number of racers is written, and the last one is the champion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import champion, retrain_manual
from pipeline.champion import Champion, Damaged, Decision, State
from pipeline.errors import DataError, JobError, LeaseError, StorageError
from pipeline.records import RECORD, RunRecord, run_path
from pipeline.storage import Storage
from pipeline.values import to_json

ROOT = Path(__file__).parents[1]
RACER = """
import sys
from dataclasses import replace
from pipeline import champion, retrain_manual
from pipeline.errors import LeaseError
from pipeline.storage import open_storage
url, run = sys.argv[1:]
storage = open_storage(url)
upon = champion.latest(storage, "digits")
place = champion.Champion(run=run, weights_sha256="0", dataset="d", test="t", since=0)
print("ready", flush=True)
sys.stdin.readline()
try:
    made = champion.decide(storage, "digits", upon, "promotion", f"{run} is better",
                           after=replace(upon.after, champion=place))
    print("won", made.number, flush=True)
except LeaseError as fault:
    print(fault, flush=True)
"""


def finished(storage: Storage, run: str) -> Champion:
    """A run that says no more than that it is complete, and its place as a champion."""
    record = RunRecord(
        version=1, id=run, name="digits", job={}, dataset="datasets/d/1", manifest_content="c",
        parameters=1, weights_sha256=f"sha of {run}", steps=1, epochs=1.0, examples_seen=1,
        best_step=1, skipped_steps=0, results={}, workers=1, device="cpu", machine="", attempts=1,
        train_seconds=1.0, examples_per_second=1.0, started="", finished="", versions={},
    )  # fmt: skip
    storage.write(f"{run_path(run)}/{RECORD}", to_json(record))
    return Champion(run=run, weights_sha256=f"sha of {run}", dataset="d", test="t", since=0)


def promote(storage: Storage, run: str) -> Decision:
    upon = champion.latest(storage, "digits")
    place = finished(storage, run)
    after = State(champion=place, pinned=upon.after.pinned)
    return champion.decide(storage, "digits", upon, "promotion", f"{run} is better", after=after)


def who(storage: Storage) -> str | None:
    place = champion.latest(storage, "digits").after.champion
    return place and place.run


def test_of_16_processes_that_promote_at_once_one_wins_and_the_others_say_why(storage):
    promote(storage, "first")
    command = [sys.executable, "-c", RACER, storage.url]
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen([*command, f"run-{k}"], cwd=ROOT, stdin=pipe, stdout=pipe, text=True,
                         env=dict(os.environ, PYTHONPATH=str(ROOT)))
        for k in range(16)
    ]  # fmt: skip
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=120)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    (winner,) = (k for k, words in enumerate(said) if words == "won 2")
    others = [words for k, words in enumerate(said) if k != winner]
    assert all(f"decided first (promotion: run-{winner} is better)" in words for words in others)
    assert all("000002.json: process" in w and "nothing was changed" in w for w in others)
    assert [row.number for row in champion.history(storage, "digits")] == [1, 2]
    assert who(storage) == f"run-{winner}"


def test_the_last_promotion_is_the_champion_and_a_keep_changes_nothing(storage):
    assert who(storage) is None
    assert promote(storage, "one").after.champion.since == 1
    upon = champion.latest(storage, "digits")
    kept = champion.decide(storage, "digits", upon, "keep", "not better", challenger="x")
    assert kept.after == upon.after
    assert who(storage) == "one"
    assert promote(storage, "two").after.champion.since == 3
    assert who(storage) == "two"


def test_a_decision_made_upon_an_old_one_is_refused_and_changes_nothing(storage):
    old = promote(storage, "one")
    promote(storage, "two")
    with pytest.raises(LeaseError, match=r"000002\.json: process .* decided first \(promotion"):
        champion.decide(storage, "digits", old, "keep", "not better")
    assert who(storage) == "two"


def test_a_rollback_is_a_decision_too_and_can_be_rolled_back_by_number(storage):
    for run in ("one", "two", "three"):
        promote(storage, run)
    back = retrain_manual.rollback(storage, "digits", why="samples are grey")
    assert (back.kind, back.number) == ("rollback", 4)
    assert back.reason == "back to two of decision 2 from three: samples are grey"
    assert retrain_manual.rollback(storage, "digits", to=1).after.champion.run == "one"
    assert retrain_manual.rollback(storage, "digits", to=3).after.champion.run == "three"
    assert [row.kind for row in champion.history(storage, "digits")][-3:] == ["rollback"] * 3


def test_a_rollback_without_an_earlier_champion_is_refused(storage):
    promote(storage, "one")
    with pytest.raises(JobError, match="no earlier champion to go back to"):
        retrain_manual.rollback(storage, "digits")
    with pytest.raises(JobError, match=r"no earlier champion at decision 7 .*: 1$"):
        retrain_manual.rollback(storage, "digits", to=7)


def test_a_rollback_to_weights_that_are_gone_is_refused(storage):
    promote(storage, "one")
    promote(storage, "two")
    storage.delete(f"{run_path('one')}/{RECORD}")
    with pytest.raises(DataError, match=r"runs/one/run\.json: not there"):
        retrain_manual.rollback(storage, "digits")
    assert who(storage) == "two"


def test_a_pin_is_a_decision_and_stays_until_it_is_taken_away(storage):
    promote(storage, "one")
    assert retrain_manual.pin(storage, "digits", True, "an exhibition").after.pinned
    with pytest.raises(JobError, match="as asked already"):
        retrain_manual.pin(storage, "digits", True)
    assert not retrain_manual.pin(storage, "digits", False).after.pinned
    assert who(storage) == "one"


def test_a_damaged_newest_decision_is_named_and_no_champion_is_guessed(storage):
    promote(storage, "one")
    promote(storage, "two")
    storage.write(champion.key_of("digits", 2), b'{"version": 1,')
    with pytest.raises(DataError, match=r"000002\.json: .*nobody knows the champion: restore it"):
        champion.latest(storage, "digits")
    assert isinstance(champion.history(storage, "digits")[1], Damaged)
    storage.delete(champion.key_of("digits", 2))
    assert who(storage) == "one"


def test_a_damaged_or_missing_old_decision_is_a_row_and_the_champion_stays_known(storage):
    for run in ("one", "two", "three"):
        promote(storage, run)
    storage.write(champion.key_of("digits", 1), b"null")
    storage.delete(champion.key_of("digits", 2))
    faults = [row for row in champion.history(storage, "digits") if isinstance(row, Damaged)]
    assert [row.number for row in faults] == [1, 2]
    assert "000001.json" in faults[0].fault
    assert "000002.json: missing" in faults[1].fault
    assert who(storage) == "three"


def test_a_decision_of_another_champion_put_here_is_named(storage):
    promote(storage, "one")
    storage.write(champion.key_of("letters", 1), storage.read(champion.key_of("digits", 1)))
    with pytest.raises(DataError, match="decision 1 of 'digits'; it was put here by hand"):
        champion.latest(storage, "letters")


def test_an_unknown_champion_is_answered_with_those_there_are(storage):
    promote(storage, "one")
    with pytest.raises(StorageError, match="champions/letter: no decisions; there are: digits"):
        champion.known(storage, "letter")
