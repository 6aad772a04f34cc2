"""What a search tries: a function of the search alone, checked before anything starts."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.job_file import check_job
from pipeline.retrain_values import Start
from pipeline.space import Search, corners, drawn
from pipeline.study import read_starts, study_id, trial_job
from pipeline.study_progress import Progress
from pipeline.study_run import Study, check_models, check_space
from pipeline.terminal import Terminal
from pipeline.values import digest, to_plain
from tests.tiny import PLAIN, prepared

SPACE = {
    "model.steps": {"grid": [1, 2, 4]},
    "model.read_n": {"grid": [2, 3]},
    "train.lr": {"log_uniform": [1e-4, 1e-2]},
}


def searching(space: dict | None = None, **search: object) -> Job:
    """The tiny job with a search."""
    plain = {**PLAIN, "search": {"space": space or SPACE, "trials": 12, **search}}
    return check_job(plain, "tiny")


def values_of(search: Search, count: int) -> list[dict]:
    return [drawn(search, number) for number in range(count)]


def test_every_cell_of_the_grids_is_tried_once_in_each_round():
    tried = values_of(searching().search, 18)
    cells = [(one["model.steps"], one["model.read_n"]) for one in tried]
    for turn in range(3):
        assert len(set(cells[6 * turn : 6 * turn + 6])) == 6
    assert cells[:6] != cells[6:12], "each round has an order of its own"


def test_what_a_trial_tries_depends_on_nothing_but_the_search_and_its_number():
    search = searching().search
    forwards = values_of(search, 10)
    assert [drawn(search, number) for number in reversed(range(10))] == forwards[::-1]
    assert values_of(searching(trials=400).search, 10) == forwards
    assert values_of(searching(seed=1).search, 10) != forwards


def test_a_log_uniform_draw_is_uniform_in_its_logarithm():
    search = searching({"train.lr": {"log_uniform": [1e-4, 1e-2]}}).search
    logs = [math.log10(one["train.lr"]) for one in values_of(search, 4000)]
    assert min(logs) >= -4
    assert max(logs) <= -2
    assert sum(logs) / len(logs) == pytest.approx(-3, abs=0.03)
    assert sum(log < -3 for log in logs) / len(logs) == pytest.approx(0.5, abs=0.03)


def test_whole_numbers_come_from_both_ends_and_all_between():
    search = searching({"model.latent": {"int_range": [2, 5]}}).search
    counts = Counter(one["model.latent"] for one in values_of(search, 400))
    assert sorted(counts) == [2, 3, 4, 5]
    assert min(counts.values()) > 60


def test_a_grid_of_everything_says_itself_how_many_trials_there_are():
    space = {"model.steps": {"grid": [1, 2, 4]}, "model.read_n": {"choice": [2, 3]}}
    search = searching(space, searcher="grid", trials=None, repeats=2).search
    assert search.total == 12
    tried = [tuple(drawn(search, search.setting(n)).values()) for n in range(12)]
    assert Counter(tried) == {(t, n): 2 for t in (1, 2, 4) for n in (2, 3)}
    assert [search.seed_of(n, 5) for n in range(4)] == [5, 6, 5, 6]


def test_the_rungs_of_asha_are_multiples_below_a_full_trial():
    assert searching(scheduler={"kind": "asha", "first_rung": 10}).search.scheduler.rungs(270) == [
        10, 30, 90,
    ]  # fmt: skip
    assert searching(scheduler={"kind": "asha", "reduction": 2}).search.scheduler.rungs(64) == [
        8, 16, 32,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ({"model.read_n": {"grid": [1, 3]}}, "model.read_n = 1.*read_n is 1.*write 2 or more"),
        ({"model.reed_n": {"grid": [2]}}, "model.reed_n: unknown key; did you mean model.read_n"),
        ({"model.steps": {"choice": [2, "two"]}}, "model.steps: expected integer, found the text"),
        ({"train.lr": {"uniform": [-1.0, 1.0]}}, "train.lr: expected"),
        ({"train.batch_size": {"int_range": [0, 4]}}, "train.batch_size: expected"),
        ({"model.steps.more": {"grid": [2]}}, "steps is no section"),
    ],
)
def test_a_key_or_value_that_no_job_may_have_is_one_line_before_anything_starts(space, line):
    with pytest.raises(JobError, match=line) as caught:
        check_space(searching(space))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ({"space": {"cluster.workers": {"grid": [1]}}}, "is no key of data, model, train"),
        ({"space": {"train.seed": {"grid": [1]}}}, "search.repeats varies it"),
        ({"space": {"data.binarisation": {"grid": ["grey"]}}}, "not compared"),
        ({"space": {"model.kind": {"grid": ["draw"]}}}, "a study of its own"),
        ({"space": {"data.train": {"int_range": [1, 2]}}}, "each value is a data set"),
        ({"space": {"train.lr": {}}}, "give one of grid, choice"),
        ({"space": {"train.lr": {"uniform": [2.0, 1.0]}}}, "the lower end, then the higher"),
        ({"space": {"train.lr": {"log_uniform": [0.0, 1.0]}}}, "above 0"),
        ({"trials": None}, "trials: missing"),
        ({"searcher": "grid"}, "train.lr is a range; list its values"),
        ({"scheduler": {"kind": "asha", "unit": "seconds"}}, "full: missing"),
        ({"scheduler": {"kind": "asha", "full": 9.0}}, "train.total_epochs; leave it out"),
    ],
)
def test_a_search_that_says_nothing_sensible_is_one_line(search, line):
    with pytest.raises(JobError, match=line):
        check_job({**PLAIN, "search": {"space": SPACE, "trials": 4, **search}}, "tiny")


def test_corners_are_all_combinations_or_a_sample_of_them():
    search = searching().search
    assert len(list(corners(search))) == 3 * 2 * 2
    assert len(list(corners(search, limit=5))) == 5


def test_a_trial_is_the_job_with_its_values_and_no_search():
    job = trial_job(searching(), {"model.steps": 2, "train.optimizer": {"kind": "sgd"}}, seed=3)
    assert (job.model.steps, job.train.optimizer.kind, job.train.seed) == (2, "sgd", 3)
    assert job.search is None


def test_a_study_is_named_by_what_its_trials_do_and_not_by_how_many_there_are():
    one = study_id(searching(), ["a"])
    assert one == "tiny-d006657302"  # as before average, weight_decay and windows' values
    assert one == study_id(searching(trials=99, retries=0, budget_hours=1.0, at_once=1), ["a"])
    others = [
        study_id(searching(), ["b"]),
        study_id(searching(seed=1), ["a"]),
        study_id(searching(metric="kl"), ["a"]),
        study_id(searching({"model.steps": {"grid": [1]}}), ["a"]),
        study_id(replace(searching(), start=Start(run="r", weights_sha256="a")), ["a"]),
        study_id(replace(searching(), start=Start(run="r", weights_sha256="b")), ["a"]),
    ]
    assert len({one, *others}) == 7


def study(folder: Path, **search: object) -> Study:
    plain = {**PLAIN, "storage": f"file://{folder}", "search": {"trials": 2, **search}}
    job = check_job(plain, "tiny")
    manifest, storage = prepared(job)
    return Study(job, {digest(to_plain(job.data)): manifest}, storage)


def test_models_that_measure_different_things_and_unknown_metrics_are_one_line(tmp_path):
    with pytest.raises(JobError, match=r"gaussian.*cannot be compared; search them in two"):
        check_models(
            study(tmp_path, space={"model.likelihood": {"grid": ["bernoulli", "gaussian"]}})
        )
    with pytest.raises(JobError, match=r"search.metric: error is not measured by this model"):
        check_models(study(tmp_path, space=SPACE, metric="error"))
    check_models(study(tmp_path, space=SPACE, metric="kl"))


def test_a_start_counts_from_its_first_moment(tmp_path):
    """One that is killed before it has written a page has still been one."""
    for starts in (1, 2):
        searched = study(tmp_path, space=SPACE)
        with Progress(searched, {}, Terminal(quiet=True)):
            assert len(read_starts(searched.home)) == starts
