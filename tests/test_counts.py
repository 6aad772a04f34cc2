"""Statistics of counts against scipy's own, and against numbers that were printed before."""

import pytest
from scipy import stats

from pipeline.measures.counts import chi_square, mcnemar, wilson

DIGITS = [1035, 1076, 987, 1027, 935, 958, 1033, 1061, 871, 1017]
"""Classes of 10,000 generated digits in source 004."""
MNIST = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
"""Of MNIST's training digits."""


@pytest.mark.parametrize(("count", "total"), [(0, 1), (0, 50), (50, 50), (395, 10_000), (1, 3)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilsons_interval_equals_scipys(count: int, total: int, confidence: float) -> None:
    expected = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    assert wilson(count, total, confidence) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_no_errors_at_all_still_leave_some_doubt() -> None:
    assert wilson(0, 100) == (0.0, pytest.approx(0.037, abs=1e-3))


@pytest.mark.parametrize(("count", "total"), [(1, 0), (0, 0), (3, 2), (-1, 4)])
def test_what_is_no_proportion_is_said_so(count: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{count} of {total} is no proportion"):
        wilson(count, total)


@pytest.mark.parametrize(("here", "there"), [(0, 1), (3, 3), (4, 3), (48, 218), (0, 9)])
def test_mcnemars_p_is_that_of_the_exact_binomial_test(here: int, there: int) -> None:
    expected = stats.binomtest(here, here + there, 0.5).pvalue
    assert mcnemar(here, there) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(there, here) == mcnemar(here, there)


def test_models_that_are_wrong_alike_do_not_differ() -> None:
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(("shares", "printed"), [([1.0] * 10, 35.6), (MNIST, 23.5)])
def test_chi_square_equals_scipys_and_what_source_004_comes_to(shares, printed: float) -> None:
    expected = [10_000 * share / sum(shares) for share in shares]
    wanted = stats.chisquare(DIGITS, expected)
    value, p = chi_square(DIGITS, shares)
    assert value == pytest.approx(wanted.statistic)
    assert p == pytest.approx(wanted.pvalue)
    assert round(value, 1) == printed


@pytest.mark.parametrize("shares", [[1.0, 0.0], [1.0], [1.0, 1.0, 1.0]])
def test_shares_that_no_test_can_take_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="2 counts against"):
        chi_square([3, 4], shares)
