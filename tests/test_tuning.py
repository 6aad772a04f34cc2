"""When a trial stops, and that a search which was cut off judges as one that was not."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import StorageError
from pipeline.study import Clock, Report, TrialRecord
from pipeline.tuning import Ledger, Rule
from pipeline.values import to_plain
from tests.test_space import searching

FULL = 90.0


def report(examples: int, value: float | None, seconds: float = 0.0, at: float = 0.0) -> Report:
    return Report(
        step=examples, epoch=examples / 10, examples=examples, seconds=seconds, value=value, time=at
    )


def trial(number: int) -> TrialRecord:
    return TrialRecord(
        number=number, values={"model.steps": 1}, seed=0, run=f"run-{number}", status="waiting",
        clock=Clock(decided=0.0),
    )  # fmt: skip


def rule(**scheduler: object) -> Rule:
    wanted = {"kind": "asha", "first_rung": 10, "reduction": 3, **scheduler}
    return Rule(searching(scheduler=wanted).search, FULL)


class ByHand:
    """Successive halving written out: the limit of a rung is a quantile of what came there."""

    def __init__(self, rungs: list[float], reduction: float) -> None:
        self.rungs, self.reduction = rungs, reduction
        self.there: dict[float, dict[int, float]] = {rung: {} for rung in rungs}

    def judge(self, number: int, examples: int, value: float) -> bool:
        for rung in sorted(self.rungs, reverse=True):
            if examples >= rung and number not in self.there[rung]:
                before = list(self.there[rung].values())
                self.there[rung][number] = value
                return bool(before) and value > np.quantile(before, 1 / self.reduction)
        return False


def course(seed: int) -> list[tuple[int, int, float]]:
    """Reports of twelve trials as they might arrive: (trial, examples, value), out of step."""
    source = random.Random(seed)
    level = [source.random() for _ in range(12)]
    at, order = [0] * 12, []
    while any(a < FULL for a in at):
        number = source.choice([n for n in range(12) if at[n] < FULL])
        at[number] += 5
        order.append((number, at[number], level[number] + 1 / at[number]))
    return order


@pytest.mark.parametrize("seed", range(5))
def test_asha_stops_what_the_rule_written_out_stops(seed):
    ours, theirs, gone = rule(), ByHand([10, 30], 3), set()
    for number, examples, value in course(seed):
        if number in gone or examples >= FULL:
            continue
        stopped = bool(ours.judge(number, report(examples, value)))
        assert stopped == theirs.judge(number, examples, value), (number, examples)
        gone |= {number} if stopped else set()
    assert 3 <= len(gone) <= 11


@pytest.mark.parametrize("kind", ["asha", "median"])
@pytest.mark.parametrize("cut", [5, 20, 60])
def test_after_a_restart_all_decisions_are_those_of_a_search_that_was_never_cut_off(kind, cut):
    scheduler = {"kind": kind, "first_rung": 10} | ({} if kind == "asha" else {"min_trials": 3})
    wanted = searching(scheduler=scheduler).search
    decided: list[list[tuple[int, int]]] = []
    for restart in (False, True):
        kept: dict[int, TrialRecord] = {}
        ledger = Ledger(
            [], Rule(wanted, FULL), lambda one, kept=kept: kept.update({one.number: one})
        )
        for number in range(12):
            ledger.put(trial(number))
        stops = []
        for turn, (number, examples, value) in enumerate(course(7)):
            if restart and turn == cut:  # all that is left is what was written down
                ledger = Ledger(kept.values(), Rule(wanted, FULL), ledger.write)
            if ledger.trials[number].settled:
                continue
            said = {"report": to_plain(report(examples, value, at=float(turn)))}
            if ledger.heard(number, said):
                stops.append((number, examples))
        decided.append(stops)
    assert decided[0] == decided[1]
    assert len(decided[0]) > 2


def test_a_value_that_is_not_finite_is_the_worst_there_is():
    one = rule()
    for number, value in enumerate([0.5, 0.6, 0.7, 0.8]):
        one.judge(number, report(10, value))
    assert "place 5 of 5" in one.judge(9, report(10, None))


def test_by_seconds_a_trial_is_over_when_its_time_is_and_not_before():
    seconds = Rule(
        searching(
            scheduler={"kind": "asha", "unit": "seconds", "full": 90.0, "first_rung": 10.0}
        ).search,
        FULL,
    )
    assert seconds.judge(0, report(1_000_000, 0.5, seconds=9)) == ""
    assert seconds.judge(0, report(2_000_000, 0.5, seconds=11)) == ""
    assert seconds.judge(0, report(3_000_000, 0.5, seconds=90.5)) == "full seconds"


def test_by_examples_the_last_report_stops_nobody_since_training_ends_there_itself():
    one = rule()
    for number, value in enumerate([0.1, 0.2, 0.9]):
        assert one.judge(number, report(90, value)) == ""


def test_without_a_scheduler_nothing_stops():
    one = rule_none()
    for number in range(9):
        assert one.judge(number, report(10, float(number))) == ""


def rule_none() -> Rule:
    return Rule(searching(scheduler={"kind": "none"}).search, FULL)


def test_the_mode_max_keeps_the_highest():
    one = Rule(searching(scheduler={"kind": "asha", "first_rung": 10}, mode="max").search, FULL)
    assert [bool(one.judge(n, report(10, v))) for n, v in enumerate([0.5, 0.9, 0.4, 0.95])] == [
        False, False, True, False,
    ]  # fmt: skip


def test_a_validation_that_comes_again_after_a_crash_is_neither_judged_nor_kept_twice():
    written: list[TrialRecord] = []
    ledger = Ledger([], rule(), written.append)
    ledger.put(trial(0))
    ledger.put(trial(1))
    for number, value in ((0, 0.1), (1, 0.2)):
        ledger.heard(number, {"report": to_plain(report(5, value))})
    ledger.heard(0, {"report": to_plain(report(10, 0.1))})
    first = ledger.heard(1, {"report": to_plain(report(10, 0.9))})
    assert "place 2 of 2" in first
    again = ledger.heard(0, {"report": to_plain(report(5, 0.1, seconds=77))})
    assert again == ""
    assert [r.examples for r in ledger.trials[0].reports] == [5]
    ledger.heard(0, {"report": to_plain(report(10, 0.1))})
    assert [r.examples for r in ledger.trials[0].reports] == [5, 10]


def test_endings_are_written_down_with_their_reasons_and_times():
    ledger = Ledger([], rule(), lambda one: None)
    for number, said in enumerate(
        [{"failed": "loss is not finite"}, {"finished": True, "test": 0.1, "test_stderr": 0.01},
         {"unfinished": True}]
    ):  # fmt: skip
        ledger.put(trial(number))
        ledger.heard(number, said)
    assert [ledger.trials[n].status for n in range(3)] == ["failed", "finished", "unfinished"]
    assert ledger.trials[0].reason == "loss is not finite"
    assert ledger.trials[1].test == 0.1
    assert abs(time.time() - (ledger.trials[1].clock.over or 0)) < 5


def test_a_record_that_cannot_be_written_ends_the_search_and_not_ray_tune():
    def refuse(one: TrialRecord) -> None:
        raise StorageError(f"trial {one.number}: the store is gone")

    ledger = Ledger([], rule(), refuse)
    ledger.put(trial(0))
    ledger.heard(0, {"report": to_plain(report(5, 0.1))})
    assert str(ledger.fault) == "trial 0: the store is gone"


def test_a_validation_that_was_stored_but_not_judged_before_the_kill_is_judged_at_the_next_start():
    known = [
        replace(trial(n), reports=[report(10, v, at=n)]) for n, v in enumerate([0.1, 0.2, 0.9])
    ]
    known[0] = replace(known[0], status="finished")
    ledger = Ledger(known, rule(), lambda one: None)
    assert [ledger.trials[n].status for n in range(3)] == ["finished", "stopped", "stopped"]
    assert "place 3 of 3" in ledger.trials[2].reason
