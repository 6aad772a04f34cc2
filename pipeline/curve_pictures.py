"""Pictures of how validations went: one run on its way to a target, several beside each other."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pipeline.curve_lines import THIRD, TRAIN, VALIDATION
from pipeline.curves import style

COLOURS = (TRAIN, VALIDATION, THIRD, "#8b6bbd", "#b8485f", "#6f7a86", "#b59a2d", "#2f9aa6")
DASHES = ("-", "--", ":", "-.")
"""The next one for every further eight runs."""


class Racer(NamedTuple):
    """A run's validations: training examples seen, hours in steps, and how good it was then."""

    run: str
    examples: np.ndarray
    hours: np.ndarray
    values: np.ndarray


def reach_png(hours: np.ndarray, losses: np.ndarray, target: float, fits: Sequence[Any]) -> bytes:
    """Validation loss over hours of training, and where fitted curves (``measures.reach.Fit``)
    take it: to ten times as many hours."""
    with mpl.rc_context(style("#303438")):
        figure = Figure(figsize=(7.0, 3.4), dpi=120, facecolor="white")
        axes = figure.subplots()
        axes.plot(hours, losses, "o", color=VALIDATION, markersize=3, label="validation")
        for number, fit in enumerate(fits):
            later = np.geomspace(fit.since, 10 * hours[-1], 200)
            label = "curves through it" if number == 0 else None
            axes.plot(later, fit.loss(later), color=TRAIN, linewidth=0.9, alpha=0.7, label=label)
        axes.axhline(target, color=THIRD, linestyle="--", label=f"{target:g} nats")
        axes.set_xscale("log")
        axes.set_xlabel("hours in steps")
        axes.set_ylabel("loss (nats per example)")
        axes.set_ylim(min(target, losses.min()) - 1, np.quantile(losses, 0.9))
        axes.legend()
        return _png(figure)


def race_png(racers: Sequence[Racer], unit: str) -> bytes:
    """Validations of several runs over the examples and over the minutes they trained; ``unit``
    is that of their values, less being better."""
    with mpl.rc_context(style("#303438")):
        figure = Figure(figsize=(10.0, 3.9), dpi=120, facecolor="white")
        left, right = figure.subplots(1, 2, sharey=True)
        for number, one in enumerate(racers):
            look: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
                "marker": "o" if len(one.values) < 40 else "",
                "markersize": 2.5,
            }
            left.plot(one.examples / 1e6, one.values, label=one.run, **look)
            right.plot(one.hours * 60, one.values, **look)
        left.set_xlabel("training examples (millions)")
        right.set_xlabel("minutes of training steps")
        left.set_ylabel(unit)
        ends = [one.values[-1] for one in racers]
        most = max(np.quantile(one.values, 0.9) for one in racers)
        low = min(one.values.min() for one in racers)
        pad = 0.06 * (max(most, *ends) - low) or max(0.01, abs(low) * 0.01)
        left.set_ylim(low - pad, max(most, *ends) + pad)
        figure.legend(loc="outside lower center", ncols=min(3, len(racers)))
        return _png(figure)


def _png(figure: Figure) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
