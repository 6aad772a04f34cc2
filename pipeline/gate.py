"""Whether a challenger is better than the champion: pure statistics on paired examples.

Both models are measured on the same examples with the same noise, so the difference of each pair
has far less spread than either loss. Lower values are better throughout.
"""

import math
from dataclasses import field
from statistics import NormalDist
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.values import STRICT

CONFIG = ConfigDict(**STRICT, use_attribute_docstrings=True)
ERROR = "error"
"""The metric of right and wrong answers: 1 for a wrong one, 0 for a right one."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Gate:
    """What a challenger has to show on the test examples before it is promoted."""

    metric: Annotated[str, Field(pattern="^[a-z][a-z_]*$")] = "loss"
    """``loss``, ``error`` (share of wrong answers), or a term of the model; lower is better."""
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """By how much, in the metric's unit, the lower end of the interval has to be better."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the two-sided interval of the mean difference."""
    worst_class: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """By how much the mean of any one class may be worse; null looks at no classes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Interval:
    """A mean difference, champion minus challenger: above 0 the challenger is better."""

    examples: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Verdict:
    """What the gate found, and its reason in words."""

    better: bool
    reason: str
    metric: str
    champion: float | None
    """Mean over the test examples; None where it is not finite, which JSON cannot say."""
    challenger: float | None
    difference: Interval
    classes: dict[str, Interval] = field(default_factory=dict)
    """Of the classes that have two test examples or more; only with ``worst_class``."""
    method: Literal["paired t", "matched proportions"] = "paired t"


def interval(differences: np.ndarray, confidence: float) -> Interval:
    """The paired t interval of the mean of (n,) differences, n ≥ 2: d̄ ± t(n−1) · s/√n.

    Raises ValueError for fewer than two, or where one is not finite.
    """
    from scipy import special  # a third of a second, which those who only read a job go without

    d = _checked(differences)
    mean, spread = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))
    half = float(special.stdtrit(len(d) - 1, (1 + confidence) / 2)) * spread
    return Interval(examples=len(d), mean=mean, low=mean - half, high=mean + half)


def matched(differences: np.ndarray, confidence: float) -> Interval:
    """The interval of the difference of two paired proportions, (n,) of −1, 0 and 1.

    Wald's, with half an example added to each of the four cells (A. Agresti and Y. Min, Statistics
    in Medicine 24, 2005: "Wald+2"), so that no disagreement at all still leaves some doubt.
    ``mean`` is the plain difference; the interval is around the adjusted one.
    """
    d = _checked(differences)
    total = len(d) + 2
    up, down = float((d > 0).sum()) + 0.5, float((d < 0).sum()) + 0.5
    centre = (up - down) / total
    spread = math.sqrt((up + down) - (up - down) ** 2 / total) / total
    half = NormalDist().inv_cdf((1 + confidence) / 2) * spread
    return Interval(
        examples=len(d), mean=float(d.mean()), low=max(-1.0, centre - half),
        high=min(1.0, centre + half),
    )  # fmt: skip


def decide(
    gate: Gate,
    champion: np.ndarray,
    challenger: np.ndarray,
    classes: np.ndarray | None = None,
    names: tuple[str, ...] = (),
) -> Verdict:
    """The verdict on (n,) values of each model, the same example at the same place.

    ``classes`` (n,) are places in ``names``. A challenger with a value that is not finite is never
    better. Raises ValueError where the two do not pair.
    """
    if champion.shape != challenger.shape or champion.ndim != 1:
        raise ValueError(f"{champion.shape} and {challenger.shape} values do not pair")
    whole = champion.astype(np.float64), challenger.astype(np.float64)
    if not_finite(gate.metric, whole[1]):
        return _never_better(gate, *whole)
    method = matched if gate.metric == ERROR else interval
    difference = method(whole[0] - whole[1], gate.confidence)
    per_class = {}
    if gate.worst_class is not None and classes is not None:
        for place, name in enumerate(names):
            here = classes == place
            if here.sum() >= 2:
                per_class[name] = method((whole[0] - whole[1])[here], gate.confidence)
    better, reason = _judged(gate, difference, per_class)
    return Verdict(
        better=better,
        reason=reason,
        metric=gate.metric,
        champion=float(whole[0].mean()),
        challenger=float(whole[1].mean()),
        difference=difference,
        classes=per_class,
        method="matched proportions" if gate.metric == ERROR else "paired t",
    )


def _judged(gate: Gate, d: Interval, classes: dict[str, Interval]) -> tuple[bool, str]:
    """Whether it is promoted, and why."""
    share = f"{100 * gate.confidence:g} %"
    found = f"{gate.metric} {_signed(d)} ({share} interval {d.low:.4g} to {d.high:.4g}, n = "
    found += f"{d.examples})"
    if d.high < 0:
        return False, f"worse: {found}"
    if d.low <= gate.margin:
        return False, f"not shown to be better by more than {gate.margin:g}: {found}"
    limit = gate.worst_class
    worst = min(classes.items(), key=lambda item: item[1].mean, default=None)
    # The mean decides, not the interval: a class with few examples could never be shown worse.
    if limit is not None and worst is not None and -worst[1].mean > limit:
        return False, (
            f"class {worst[0]} is worse by {-worst[1].mean:.4g}, more than {limit:g}, though over "
            f"all {found}"
        )
    return True, f"better: {found}"


def _signed(d: Interval) -> str:
    return f"{'lower' if d.mean >= 0 else 'higher'} by {abs(d.mean):.4g}"


def not_finite(metric: str, values: np.ndarray) -> str:
    """How many of (n,) values are not finite, in words; nothing where all are."""
    count = int((~np.isfinite(values)).sum())
    return f"{metric} is not finite on {count} of {len(values)} examples" if count else ""


def _never_better(gate: Gate, champion: np.ndarray, challenger: np.ndarray) -> Verdict:
    nothing = Interval(examples=len(challenger), mean=0.0, low=0.0, high=0.0)
    return Verdict(
        better=False,
        reason=f"worse: its {not_finite(gate.metric, challenger)}",
        metric=gate.metric,
        champion=float(champion.mean()) if np.isfinite(champion).all() else None,
        challenger=None,
        difference=nothing,
    )


def _checked(differences: np.ndarray) -> np.ndarray:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2:
        raise ValueError(f"{d.shape} differences; an interval needs two examples or more")
    if not np.isfinite(d).all():
        raise ValueError("a difference is not finite: the champion cannot be measured here")
    return d
