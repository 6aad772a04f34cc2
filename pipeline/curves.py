"""How the rows that training and validation leave behind become curves.

Tables are named ``train`` and ``validation``; a column that is missing or holds no finite number is
left out, and a figure without any is not drawn.
"""

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator

from pipeline.curve_lines import (
    THIRD,
    TRAIN,
    VALIDATION,
    Tables,
    column_of,
    finish,
    finite,
    limit,
    line,
    time_of,
)

INK = "#010203"
"""Stands for the page's own text colour, which an inline SVG takes over as ``currentColor``."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "axes.linewidth": 0.7,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
    "figure.constrained_layout.use": True,
}
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")


def figures(tables: Tables) -> dict[str, str]:
    """Title → SVG element (no prologue, no references outwards), for those with something to show.

    The same tables give the same text.
    """
    drawn = {}
    for number, (title, draw) in enumerate(_FIGURES.items()):
        with mpl.rc_context({**style(INK), "svg.hashsalt": title}):
            figure = Figure(figsize=(5.0, 3.0))
            if draw(figure, tables):
                drawn[title] = _svg(figure, f"curve{number}")
    return drawn


def curves_png(tables: Tables) -> bytes:
    """The loss, its parts and right answers, as far as there are any, side by side; b"" if not."""
    with mpl.rc_context(style("#303438")):
        draws = [draw for draw in (_loss, _parts, _right) if draw(Figure(), tables)]
        if not draws:
            return b""
        figure = Figure(figsize=(5.0 * len(draws), 3.4), dpi=120, facecolor="white")
        places = figure.subfigures(1, len(draws), squeeze=False)[0]
        for draw, place in zip(draws, places, strict=True):
            draw(place, tables)
        out = BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
        return out.getvalue()


def style(ink: str) -> Any:
    """What Matplotlib's rc_context is given, for figures with text of this colour."""
    return {**_STYLE, "grid.color": ink, **dict.fromkeys(_INKED, ink)}


def _svg(figure: Figure, prefix: str) -> str:
    out = BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue().decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # HTML knows the namespaces; several figures on one page must not share an id.
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", text, count=1)


def _loss(figure: FigureBase, tables: Tables) -> bool:
    axes = figure.subplots()
    seen = line(axes, tables.get("train"), "loss", "train", TRAIN)
    table = tables.get("validation")
    values, error = column_of(table, "loss"), column_of(table, "stderr")
    if table is not None and values is not None:
        time, unit = time_of(table)
        label = "validation" if error is None else "validation ± stderr"
        axes.plot(time, values, color=VALIDATION, marker="o", markersize=2.5, label=label)
        if error is not None:
            band = (values - error, values + error)
            axes.fill_between(time, *band, color=VALIDATION, alpha=0.25, linewidth=0)
        axes.set_xlabel(unit)
        seen += values[np.isfinite(values)].tolist()
    return finish(axes, seen, "loss (nats per example)")


def _together(unit: str, names: Mapping[str, str]) -> "_Draw":
    """Columns of the training table that have one unit, with their names, on the same axes."""

    def draw(figure: FigureBase, tables: Tables) -> bool:
        axes, seen, train = figure.subplots(), list[float](), tables.get("train")
        for (column, name), colour in zip(names.items(), (TRAIN, VALIDATION, THIRD), strict=False):
            seen += line(axes, train, column, name, colour)
        return finish(axes, seen, unit)

    return draw


def _kl_rows(tables: Tables) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Times (rows,), KL per step (rows, T) and the unit of time, from training if it is there."""
    for name in ("train", "validation"):
        table = tables.get(name)
        if table is None or "kl_per_step" not in table.column_names:
            continue
        lists = [[finite(x) for x in v or ()] for v in table["kl_per_step"].to_pylist()]
        steps = max(map(len, lists), default=0)
        known = [i for i, v in enumerate(lists) if v and len(v) == steps and np.isfinite(v).all()]
        if known:
            time, unit = time_of(table)
            return time[known], np.array([lists[i] for i in known]), unit
    return None


def _kl_bars(figure: FigureBase, tables: Tables) -> bool:
    found = _kl_rows(tables)
    if found is None:
        return False
    _, values, _ = found
    last = values[-max(1, len(values) // 40) :].mean(axis=0)
    axes = figure.subplots()
    axes.bar(np.arange(1, len(last) + 1), last, color=TRAIN, width=0.75)
    axes.grid(False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step t of the drawing")
    axes.set_ylabel("KL (nats per image)")
    return True


def _kl_map(figure: FigureBase, tables: Tables) -> bool:
    found = _kl_rows(tables)
    if found is None or len(found[0]) < 2:
        return False
    time, values, unit = found
    parts = np.array_split(values, min(len(values), 160))
    rows = np.array([part.mean(axis=0) for part in parts])
    axes = figure.subplots()
    extent = (time[0], time[-1], 0.5, values.shape[1] + 0.5)
    image = axes.imshow(rows.T, aspect="auto", origin="lower", extent=extent, vmin=0)
    axes.grid(False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(unit)
    axes.set_ylabel("step t of the drawing")
    figure.colorbar(image, ax=axes, label="KL (nats per image)").outline.set_visible(False)
    return True


def _stacked(wanted: Mapping[str, str]) -> "_Draw":
    """Columns of the training table above each other, each with its own unit, over one time."""

    def draw(figure: FigureBase, tables: Tables) -> bool:
        table = tables.get("train")
        names = [name for name in wanted if column_of(table, name) is not None]
        if not names:
            return False
        column = np.ravel(figure.subplots(len(names), 1, sharex=True, squeeze=False))
        for axes, name, colour in zip(column, names, (TRAIN, THIRD), strict=False):
            limit(axes, line(axes, table, name, wanted[name], colour))
            axes.set_ylabel(wanted[name])
            axes.label_outer()
        return True

    return draw


_Draw = Callable[[FigureBase, Tables], bool]
_parts = _together("nats per image", {"reconstruction": "reconstruction", "kl": "KL"})
_right = _together("share of training examples", {"correct": "right answers"})
_FIGURES: dict[str, _Draw] = {
    "Loss": _loss,
    "Right answers": _right,
    "Reconstruction and KL": _parts,
    "Costs of the discriminator (real, made) and the generator": _together(
        "nats per image",
        {
            "discriminator_real": "real pictures",
            "discriminator_fake": "made pictures",
            "generator": "generator",
        },
    ),
    "Right answers of the discriminator": _together(
        "share of pictures", {"accuracy_real": "real pictures", "accuracy_fake": "made pictures"}
    ),
    "KL of each step at the end": _kl_bars,
    "KL of each step over training": _kl_map,
    "Gradient norm and learning rate": _stacked({"gradient_norm": "gradient norm", "lr": "lr"}),
    "Speed": _stacked({"examples_per_second": "examples/s", "data_wait": "data wait (share)"}),
}
