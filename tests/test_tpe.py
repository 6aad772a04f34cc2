"""What Optuna is told of a study, and that it asks for better values the more it is told."""

import random

import pytest

from pipeline.space import Search
from pipeline.study import Clock, Report, TrialRecord
from pipeline.tpe import ask, frozen
from tests.test_space import searching

SPACE = {
    "model.steps": {"grid": [1, 2, 4]},
    "train.lr": {"log_uniform": [1e-4, 1e-2]},
    "model.latent": {"int_range": [2, 20]},
    "train.optimizer": {"choice": [{"kind": "adam"}, {"kind": "sgd", "momentum": 0.9}]},
}


def search() -> Search:
    return searching(SPACE, searcher="tpe", trials=99).search


def record(number: int, values: dict, value: float | None, status: str = "finished") -> TrialRecord:
    report = Report(step=7, epoch=1.0, examples=70, seconds=1.0, value=value, time=0.0)
    return TrialRecord(
        number=number, values=values, seed=0, run="run", status=status, reports=[report],
        clock=Clock(decided=0.0),
    )  # fmt: skip


def cost(values: dict) -> float:
    """Lowest for four steps, many latents, and Adam; the rate does not matter."""
    adam = values["train.optimizer"]["kind"] == "adam"
    return 10 - values["model.steps"] - 0.2 * values["model.latent"] + (0 if adam else 3)


def test_what_is_asked_for_lies_in_the_space_and_gets_better_with_what_is_known():
    wanted, trials = search(), []
    for number in range(60):
        values = ask(wanted, trials, number)
        assert values["model.steps"] in (1, 2, 4)
        assert 1e-4 <= values["train.lr"] <= 1e-2
        assert 2 <= values["model.latent"] <= 20
        assert values["train.optimizer"] in SPACE["train.optimizer"]["choice"]
        trials.append(record(number, values, cost(values)))
    costs = [cost(trial.values) for trial in trials]
    assert sum(costs[-20:]) / 20 < sum(costs[:10]) / 10 - 2


def test_the_same_records_lead_to_the_same_question_whoever_asks():
    wanted, source = search(), random.Random(0)
    trials = []
    for number in range(20):
        values = ask(wanted, trials, number)
        trials.append(record(number, values, source.random()))
    assert ask(wanted, trials, 20) == ask(wanted, list(trials), 20)
    assert ask(wanted, trials, 20) != ask(wanted, trials, 21)


@pytest.mark.parametrize(
    ("status", "value", "state"),
    [
        ("finished", 1.0, "COMPLETE"),
        ("finished", None, "FAIL"),
        ("stopped", 1.0, "PRUNED"),
        ("failed", None, "FAIL"),
        ("running", 1.0, "RUNNING"),
        ("unfinished", 1.0, "RUNNING"),
    ],
)
def test_every_ending_has_its_state(status, value, state):
    values = ask(search(), [], 0)
    assert frozen(search(), record(0, values, value, status)).state.name == state
