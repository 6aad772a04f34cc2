"""How one column of a table becomes a curve: its time, its smoothed line, its limits."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

Tables = Mapping[str, pa.Table]

TRAIN, VALIDATION, THIRD = "#3a86d0", "#e07b39", "#4a9d6f"
POINTS = 600
"""Most points of one curve: as many as there are pixels to show them."""


def column_of(table: pa.Table | None, name: str) -> np.ndarray | None:
    """float64 with NaN for what is missing, or None where nothing finite is left."""
    if table is None or name not in table.column_names:
        return None
    values = np.array([finite(v) for v in table[name].to_pylist()], dtype=float)
    return values if np.isfinite(values).any() else None


def finite(value: object) -> float:
    """The value, or NaN for what is no finite number."""
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else float("nan")


def time_of(table: pa.Table) -> tuple[np.ndarray, str]:
    """Where the rows stand, and what that is: epochs where they are known, else steps."""
    for name in ("epoch", "step"):
        values = column_of(table, name)
        if values is not None:
            return values, name
    return np.arange(table.num_rows, dtype=float), "row"


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a moving window of one fortieth of the run; NaN counts for nothing."""
    known = np.isfinite(values)
    window = np.ones(max(1, len(values) // 40))
    total = np.convolve(np.where(known, values, 0.0), window, "same")[: len(values)]
    count = np.convolve(known.astype(float), window, "same")[: len(values)]
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


def _thin(*columns: np.ndarray) -> list[np.ndarray]:
    count = len(columns[0])
    keep = np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))
    return [column[keep] for column in columns]


def line(axes: Axes, table: pa.Table | None, name: str, label: str, colour: str) -> list[float]:
    """A smoothed curve over its raw values; the finite values that should be in sight."""
    values = column_of(table, name)
    if table is None or values is None:
        return []
    time, unit = time_of(table)
    # A learning rate has no noise, and its corners are what one looks for.
    smooth = values if name == "lr" else _smooth(values)
    at, raw, mean = _thin(time, values, smooth)
    if len(values) >= 80:
        axes.plot(at, raw, color=colour, alpha=0.3, linewidth=0.5)
    axes.plot(at, mean, color=colour, label=label, marker="." if len(values) == 1 else "")
    axes.set_xlabel(unit)
    spread = np.nanpercentile(values, [2, 90]) if len(values) >= 80 else []
    return [*smooth[np.isfinite(smooth)], *spread]


def limit(axes: Axes, values: list[float]) -> None:
    """Keeps the huge values of the first steps from flattening all that follows."""
    low, most, high = np.min(values), np.percentile(values, 90), np.max(values)
    if high - low > 3 * (most - low) > 0:
        high = most + (most - low)
    pad = 0.06 * (high - low) or max(0.01, abs(high) * 0.01)
    axes.set_ylim(low - pad, high + pad)


def finish(axes: Axes, seen: list[float], label: str) -> bool:
    """Limits, label and legend; False where no value is to be seen."""
    if not seen:
        return False
    limit(axes, seen)
    axes.set_ylabel(label)
    axes.legend()
    return True
