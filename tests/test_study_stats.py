import math

import pytest

from pipeline.space import Values
from pipeline.study import Clock, Report, TrialRecord
from pipeline.study_stats import (
    Cell,
    axes,
    cells,
    effect,
    front,
    importance,
    interval,
    reached,
)

NAN = float("nan")


def trial(number: int, values: list[float | None], **changes) -> TrialRecord:
    """One report for every 100 examples, which take 10 seconds."""
    reports = [
        Report(step=i, epoch=float(i), examples=100 * i, seconds=10.0 * i, value=value, time=0.0)
        for i, value in enumerate(values, 1)
    ]
    plain = {"values": {}, "seed": 0, "run": f"r-{number}", "status": "finished"}
    return TrialRecord(
        number=number, reports=reports, clock=Clock(decided=0.0), **{**plain, **changes}
    )


def test_an_error_has_wilsons_interval():
    # 10 of 100: (0.1 + z²/200 ± z √(0.0009 + z²/40000)) / (1 + z²/100), by hand with z = 1.96
    low, high = interval(0.1, math.sqrt(0.1 * 0.9 / 100), "error")
    assert low == pytest.approx(0.05523, abs=1e-5)
    assert high == pytest.approx(0.17437, abs=1e-5)


def test_other_metrics_have_their_standard_error_on_both_sides():
    assert interval(90.0, 0.5, "loss") == pytest.approx((90 - 0.98, 90 + 0.98), abs=1e-4)


@pytest.mark.parametrize(
    ("value", "stderr"), [(0.0, 0.1), (0.2, None), (None, 0.1), (0.2, NAN), (0.2, 0.0)]
)
def test_an_interval_that_cannot_be_known_is_none(value, stderr):
    assert interval(value, stderr, "error") is None


def test_levels_of_lists_are_their_values_ascending_and_of_ranges_equal_parts():
    listed, log, whole, few = axes(
        {
            "model.steps": Values(choice=[8, 2, 4]),
            "train.lr": Values(log_uniform=[1e-5, 1.0]),
            "model.hidden": Values(int_range=[1, 100]),
            "model.read_n": Values(int_range=[2, 4]),
        },
        {"model.steps": "steps"},
    )
    assert listed.names == ("2", "4", "8")
    assert [listed.level(v) for v in (2, 8, 3)] == [0, 2, None]
    assert log.edges == pytest.approx((1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0))
    assert [log.level(v) for v in (1e-5, 2e-4, 1.0, None)] == [0, 1, 4, None]
    assert whole.names == ("1–20", "21–40", "41–60", "61–80", "81–100")
    assert [whole.level(v) for v in (1, 20, 21, 100)] == [0, 0, 1, 4]
    assert few.names == ("2", "3", "4")


def test_levels_may_be_texts_truths_lists_and_nothing():
    (axis,) = axes({"model.sees": Values(choice=["both", True, [1, 2], None])}, {})
    assert axis.names == ("both", "true", "[1, 2]", "null")
    assert [axis.level(v) for v in ("both", True, [1, 2], None, 1)] == [0, 1, 2, 3, None]


def test_a_trial_is_compared_by_its_best_report_or_by_its_best_value_until_a_rung():
    one = trial(1, [3.0, NAN, 1.0, 2.0])
    at_the_end = reached(one, 400, "examples", "min")
    assert (at_the_end.examples, at_the_end.value) == (400, 1.0)
    assert reached(one, None, "examples", "min").examples == 300
    assert reached(one, None, "examples", "max").examples == 100
    assert reached(one, 250, "examples", "min").examples == 300
    assert reached(one, 20, "seconds", "min").value == 3.0, "there it is no number"
    assert reached(trial(3, [NAN, 1.0]), 10, "seconds", "min") is None
    assert reached(one, 401, "examples", "min") is None, "it never came there"
    assert reached(trial(2, [None]), None, "examples", "min") is None


def test_a_cell_knows_its_best_trial_count_and_range():
    rows = [(0, 0, 0, 3.0), (1, 0, 0, 1.0), (2, 0, 0, 2.0), (3, 1, 0, 5.0), (4, None, 0, 0.0)]
    assert cells(rows, "min") == {
        (0, 0): Cell(best=1, value=1.0, count=3, low=1.0, high=3.0),
        (1, 0): Cell(best=3, value=5.0, count=1, low=5.0, high=5.0),
    }
    assert cells(rows, "max")[0, 0].best == 0


def test_the_front_is_what_nothing_beats_in_both():
    points = [(0, 1.0, 9.0), (1, 2.0, 5.0), (2, 2.0, 4.0), (3, 3.0, 4.0), (4, 4.0, 1.0)]
    assert front(points, "min") == [0, 2, 4]
    assert front(points, "max") == [0]
    assert front([], "min") == []


def test_importance_is_the_adjusted_share_of_the_variance_of_ranks():
    # Ranks 1 2 | 3 4: SST 5, SSW 1, MSW ½, SSB 4: (4 − ½) / 5.
    assert importance([0, 0, 1, 1], [10.0, 20.0, 30.0, 1e9]) == pytest.approx(0.7)
    # Ranks 1 4 | 2 3: SSB 0 is less than expected of levels without effect, so 0.
    assert importance([0, 1, 1, 0], [1.0, 2.0, 3.0, 4.0]) == 0.0
    # Equal values share a rank: 1.5 1.5 | 3 4, SST 4.5, SSW ½, MSW ¼, SSB 4.
    assert importance([0, 0, 1, 1], [1.0, 1.0, 2.0, 3.0]) == pytest.approx(3.75 / 4.5)


def test_importance_that_cannot_be_known_is_none():
    assert importance([0, 0, 0], [1.0, 2.0, 3.0]) is None
    assert importance([0, 1], [1.0, 2.0]) is None
    assert importance([], []) is None


def test_an_effect_is_the_mean_over_pairs_that_differ_in_this_key_only():
    values = {(0, 0): 5.0, (0, 1): 7.0, (0, 2): 9.0, (2, 0): 4.0, (2, 1): 5.0, (1, 0): 1.0,
              (3, 0): 0.0}  # fmt: skip
    table = cells([(i, *place, v) for i, (place, v) in enumerate(values.items())], "min")
    found = effect(table)
    # Level 3 has one pair with level 0, level 2 has two: −1 and −2, so −1.5 ± 12.706 · 0.5.
    assert (found.first, found.last, found.pairs) == (0, 2, 2)
    assert found.change == -1.5
    assert found.interval == pytest.approx((-1.5 - 6.3531, -1.5 + 6.3531), abs=1e-3)


def test_one_pair_tells_an_effect_without_an_interval_and_none_tells_nothing():
    found = effect(cells([(0, 0, 0, 2.0), (1, 1, 0, 1.5)], "min"))
    assert (found.change, found.interval, found.pairs) == (-0.5, None, 1)
    assert effect(cells([(0, 0, 0, 2.0), (1, 1, 1, 1.5)], "min")) is None
