"""The gate: against numbers by hand, by simulation, and at its edges."""

import json
import math

import numpy as np
import pytest

from pipeline.gate import Gate, decide, interval, matched
from pipeline.values import to_plain


def test_the_paired_interval_is_the_one_computed_by_hand():
    # d = 1, 2, 3, 4: mean 2.5, s = 1.2910, s/√4 = 0.6455, t(3, 97.5 %) = 3.1824.
    found = interval(np.array([1.0, 2.0, 3.0, 4.0]), 0.95)
    assert found.mean == 2.5
    assert found.low == pytest.approx(2.5 - 3.1824 * 0.6455, abs=1e-3)
    assert found.high == pytest.approx(2.5 + 3.1824 * 0.6455, abs=1e-3)


def test_the_interval_of_matched_proportions_is_the_one_computed_by_hand():
    # 10 pairs, 4 better and 1 worse: b = 4.5, c = 1.5, N = 12; centre 3/12 = 0.25,
    # spread √(6 − 9/12)/12 = 0.19094, z = 1.95996.
    found = matched(np.array([1, 1, 1, 1, -1, 0, 0, 0, 0, 0]), 0.95)
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.25 - 1.95996 * 0.190941, abs=1e-5)
    assert found.high == pytest.approx(0.25 + 1.95996 * 0.190941, abs=1e-5)


def test_no_disagreement_at_all_still_leaves_doubt():
    found = matched(np.zeros(100), 0.95)
    assert found.low < 0 < found.high


@pytest.mark.parametrize(("true", "skew"), [(0.0, False), (0.3, False), (0.0, True)])
def test_95_of_100_intervals_hold_the_true_difference(true, skew):
    random = np.random.default_rng(5)
    draws = random.exponential(1, (2000, 200)) - 1 if skew else random.normal(0, 2, (2000, 200))
    held = [f.low <= true <= f.high for f in (interval(d + true, 0.95) for d in draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_95_of_100_intervals_hold_the_true_difference_of_proportions():
    random = np.random.default_rng(6)
    draws = random.choice([-1, 0, 1], p=[0.03, 0.92, 0.05], size=(2000, 300))
    held = [f.low <= 0.02 <= f.high for f in (matched(d, 0.95) for d in draws)]
    assert np.mean(held) == pytest.approx(0.955, abs=0.025)


def test_an_equal_challenger_is_promoted_no_more_than_once_in_forty():
    random = np.random.default_rng(7)
    better = 0
    for _ in range(2000):
        shared = random.normal(100, 10, 300)
        pair = shared + random.normal(0, 1, (2, 300))
        better += decide(Gate(), *pair).better
    assert better / 2000 == pytest.approx(0.025, abs=0.012)


def test_pairing_sees_what_two_separate_errors_would_not():
    random = np.random.default_rng(8)
    champion = random.normal(100, 30, 400)
    verdict = decide(Gate(), champion, champion - 0.5 + random.normal(0, 1, 400))
    assert verdict.better
    assert "lower by 0.5" in verdict.reason or "lower by 0.4" in verdict.reason
    assert 30 / math.sqrt(400) > 3 * verdict.difference.mean  # each mean's own error is far larger


def test_the_margin_must_be_below_the_whole_interval():
    champion, challenger = np.array([3.0, 3.1, 2.9, 3.0]), np.array([1.0, 1.1, 0.9, 1.1])
    assert decide(Gate(margin=1.5), champion, challenger).better
    refused = decide(Gate(margin=1.95), champion, challenger)
    assert not refused.better
    assert refused.reason.startswith("not shown to be better by more than 1.95: loss lower by 1.9")


def test_a_worse_challenger_is_called_worse():
    values = np.linspace(1, 2, 50)
    verdict = decide(Gate(), values, values + 0.1 + 0.01 * np.sin(np.arange(50)))
    assert verdict.reason.startswith("worse: loss higher by 0.1")


def test_a_class_that_gets_worse_stops_a_challenger_that_is_better_over_all():
    random = np.random.default_rng(9)
    classes = np.repeat([0, 1], [180, 20])
    champion = random.normal(10, 1, 200)
    challenger = champion - np.where(classes == 0, 1.0, -0.5) + random.normal(0, 0.1, 200)
    assert decide(Gate(), champion, challenger).better
    held = decide(Gate(worst_class=0.2), champion, challenger, classes, ("one", "two"))
    assert not held.better
    assert held.reason.startswith("class two is worse by 0.")
    assert "more than 0.2, though over all loss lower by 0." in held.reason
    assert set(held.classes) == {"one", "two"}
    assert decide(Gate(worst_class=0.8), champion, challenger, classes, ("one", "two")).better


def test_a_challenger_that_is_not_finite_is_never_better():
    verdict = decide(Gate(), np.ones(4), np.array([0, 0, math.nan, math.inf]))
    assert not verdict.better
    assert verdict.reason == "worse: its loss is not finite on 2 of 4 examples"
    json.dumps(to_plain(verdict), allow_nan=False)  # what a webhook's receiver can read


@pytest.mark.parametrize(
    ("champion", "challenger", "words"),
    [(np.ones(3), np.ones(4), "do not pair"), (np.ones(1), np.ones(1), "two examples or more"),
     (np.array([math.nan, 1]), np.ones(2), "champion cannot be measured")],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(champion, challenger, words):
    with pytest.raises(ValueError, match=words):
        decide(Gate(), champion, challenger)
