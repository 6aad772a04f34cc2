"""Wilson's interval of a share, of which all intervals of errors here are made."""

import math


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """The interval of a share of n examples (E. B. Wilson, JASA 22, 1927), ``z`` a normal quantile.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n).
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half, centre + half)
