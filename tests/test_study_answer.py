from dataclasses import replace

import pytest

from pipeline.space import Values
from pipeline.study import Clock, Report, TrialRecord
from pipeline.study_answer import answer, compare
from pipeline.study_header import header, spared, stopping
from pipeline.study_rows import page_data
from pipeline.study_view import StudyView, labels
from tests.made_study import made_job, made_view

TWO = {"model.steps": {"choice": [2, 4]}, "model.read_n": {"choice": [4, 8, 12]}}


def trial(number: int, steps: int, read_n: int, value: float, stderr: float | None) -> TrialRecord:
    report = Report(
        step=1, epoch=1.0, examples=100, seconds=1.0, value=value, stderr=stderr, time=0.0
    )
    return TrialRecord(
        number=number, values={"model.steps": steps, "model.read_n": read_n}, seed=0,
        run=f"r-{number}", status="finished", reports=[report], clock=Clock(decided=0.0),
    )  # fmt: skip


def study(*rows: tuple[int, int, float], stderr: float | None = 0.01, **search) -> StudyView:
    """A study without stopping of trials (steps, read_n, value) after 100 examples."""
    settings = {"space": TWO, "metric": "loss", "scheduler": {"kind": "none"}, **search}
    return StudyView(
        id="study", job=made_job(**settings), full=100,
        trials=[trial(i, *row, stderr) for i, row in enumerate(rows)],
    )  # fmt: skip


def test_three_sentences_name_the_best_and_what_either_key_brings():
    view = study((2, 4, 5.0), (2, 8, 4.0), (2, 12, 3.9), (4, 4, 4.0), (4, 8, 2.5), (4, 12, 2.6))
    best, steps, window = answer(view)
    assert best == (
        "The best trial has glimpses T = 4 with read window N = 8: loss 2.5 (95 % interval 2.48 to "
        "2.52) on validation, trial 4, after 100 examples; next comes glimpses T = 4 with read "
        "window N = 12 with 2.6 (the intervals lie apart)."
    )
    # Pairs −1.0, −1.5, −1.3: mean −1.267, s = 0.2517, t(2) = 4.303, so ± 0.625.
    assert steps == (
        "Going from 2 to 4 in glimpses T lowers the loss by 1.27 (95 % interval −1.89 to −0.642); "
        "mean over 3 levels of read window N, the best trial of each, after 100 examples."
    )
    # From 4 to 12: −1.1, −1.4; from 8 to 12: −0.1, +0.1.
    assert window.startswith("Going from 4 to 12 in read window N lowers the loss by 1.25, ")
    assert "its last step, 8 to 12, leaves the loss as it is, which may be chance" in window


def test_trials_that_still_run_do_not_tell_what_a_key_brings():
    view = study((2, 4, 5.0), (4, 4, 4.0), (4, 4, 1.0))
    running = replace(view.trials[2], status="running", reports=[replace(
        view.trials[2].reports[0], examples=50)])  # fmt: skip
    found = answer(replace(view, trials=[*view.trials[:2], running]))
    assert "trial 2" in found[0]
    assert found[1].startswith("Going from 2 to 4 in glimpses T lowers the loss by 1, ")


def test_close_trials_are_not_told_apart_and_unknown_errors_are_said():
    close = study((2, 4, 5.0), (4, 4, 5.01))
    assert "(too close to tell them apart)" in answer(close)[0]
    assert "the uncertainty is not known; mean over 1 level of" in answer(close)[1]
    unknown = study((2, 4, 5.0), (4, 4, 4.0), stderr=None)
    assert "(interval not known)" in answer(unknown)[0]
    assert "(their intervals are not known)" in answer(unknown)[0]


def test_too_few_trials_are_said_to_be_too_few():
    assert answer(study()) == ["No trial has a value yet."]
    best, steps, _ = answer(study((2, 4, 5.0)))
    assert best.endswith("no other setting of these has a value yet.")
    assert steps.startswith("What glimpses T brings cannot be told yet")
    assert answer(study((2, 4, 5.0), (4, 8, 4.0)))[1] == steps, "no pair shares its window"


def test_a_space_of_one_key_lists_its_levels():
    view = study((2, 4, 5.0), (4, 4, 3.0), (4, 4, 2.0), space={"model.steps": {"choice": [2, 4]}})
    assert answer(view)[1] == "The best loss at each glimpses T, after 100 examples: 2: 5, 4: 2."


def test_the_higher_value_is_the_better_one_where_the_job_says_so():
    view = study((2, 4, 0.5), (4, 4, 0.9), mode="max", metric="correct")
    assert "glimpses T = 4 with read window N = 4: correct 0.9" in answer(view)[0]
    (data,) = page_data([view])["studies"]
    assert data["fronts"][0]["examples"] == [1]


def test_studies_are_compared_by_their_best_trials():
    one, other = study((2, 4, 5.0)), study((2, 4, 4.0))
    assert compare([one, other]) == (
        "The best of made has loss 4, the best of made 5: the intervals lie apart."
    )
    assert "nothing to compare yet" in compare([one, study()])


def test_how_trials_were_stopped_is_said_with_what_it_means_for_fairness():
    by_examples = stopping(made_view(3))
    assert "after 600, 1,800 and 5,400 training examples" in by_examples
    assert "costlier settings got more time" in by_examples
    seconds = {"kind": "asha", "unit": "seconds", "full": 90.0}
    view = replace(made_view(3), job=made_job(scheduler=seconds), full=90.0)
    assert "after 3, 10 and 30 training seconds" in stopping(view)
    assert "cheaper settings saw more examples" in stopping(view)
    assert "worse than the median" in stopping(made_view(3, scheduler={"kind": "median"}))
    assert stopping(study()).startswith("No trial was stopped early")
    assert "each rung (not known yet)" in stopping(replace(made_view(3), full=None))


def test_what_stopping_spared_is_a_share_of_full_trials():
    one, other = (trial(i, 2, 4, 1.0, None) for i in range(2))
    stopped = replace(other, status="stopped", reports=[replace(other.reports[0], examples=25)])
    view = replace(study(), trials=[one, stopped])
    assert spared(view) == "Stopping spared 38 % of the examples of 2 full trials."
    assert spared(study((2, 4, 1.0))) == ""


def test_a_head_counts_every_status():
    waiting = replace(trial(1, 2, 4, 1.0, None), status="waiting", reports=[])
    found = header(replace(study(trials=5), trials=[trial(0, 2, 4, 1.0, None), waiting]))
    assert found["progress"] == "1 of 5 trials settled"
    assert found["counts"] == "1 finished, 1 waiting"
    assert not found["done"]


def test_keys_that_would_be_called_the_same_keep_their_paths():
    assert labels(["model.steps", "a.depth", "b.depth"]) == {
        "model.steps": "glimpses T", "a.depth": "a.depth", "b.depth": "b.depth",
    }  # fmt: skip


def test_a_very_large_study_brings_the_curves_of_its_best_trials_only(monkeypatch):
    view = made_view(50)
    reports = sum(len(t.reports) for t in view.trials)
    monkeypatch.setattr("pipeline.study_rows.MOST_REPORTS", reports // 2)
    rows = page_data([view])["trials"]
    drawn = {row["number"] for row in rows if row["curve"] is not None}
    assert drawn == {t.number for t in view.ranked()[: len(drawn)]}
    assert 0 < len(drawn) < 50
    assert all(row["examples"] > 0 for row in rows), "all else is there of every trial"


@pytest.mark.parametrize("second", [{"uniform": [1.0, 2.0]}, {"choice": [1.0, 4.0]}])
def test_studies_share_axes_that_hold_the_values_of_both(second):
    one = study(space={"train.lr": {"choice": [0.5, 1.0]}})
    other = study(space={"train.lr": second})
    (key,) = page_data([one, other])["keys"]
    assert (key["edges"] or [0.5])[0] == 0.5
    assert Values(**second).corners[-1] <= (key["edges"] or [4.0])[-1]
