"""What can be said of counts: pure statistics, with their intervals and p values."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from pipeline import wilson as of_shares


def wilson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion, 0 ≤ count ≤ total; it says something also of no errors
    at all. Raises ValueError for other counts, and a total of 0."""
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"{count} of {total} is no proportion")
    z = float(special.ndtri((1 + confidence) / 2))
    low, high = of_shares.wilson(count / total, total, z)
    # At the ends the formula gives 0 and 1 but for rounding.
    return (0.0 if count == 0 else low), (1.0 if count == total else high)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p value of McNemar's test (Psychometrika 12, 1947).

    Of the examples on which one of two models is wrong and the other right, each is as likely to
    be the one as the other if the two are equally good: twice the smaller tail of a fair coin, at
    most 1.
    """
    total = only_first + only_second
    if total == 0:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), total, 0.5)))


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> tuple[float, float]:
    """Pearson's χ² of counts against given shares, and its p value with one degree less than cells.

    Shares need not sum to 1: they are weights. Raises ValueError where the two do not pair, there
    are fewer than two cells, or a share is 0, for which χ² is not defined.
    """
    found, wanted = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    if found.shape != wanted.shape or len(found) < 2 or not (wanted > 0).all():
        raise ValueError(f"{len(found)} counts against {len(wanted)} shares: no χ² test")
    expected = found.sum() * wanted / wanted.sum()
    value = float((np.square(found - expected) / expected).sum())
    return value, float(special.chdtrc(len(found) - 1, value))


def told(p: float) -> str:
    """A p value in words; the smallest ones are below what a number can hold."""
    return f"p = {p:.3g}" if p > 0 else "p below 1e-300"
