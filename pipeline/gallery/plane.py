"""A VAE's codes of two numbers: the picture of each, and where test images lie among them."""

from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from draw_model import Vae
from pipeline.contact_sheet import (
    BACKGROUND,
    FRAME,
    TEXT,
    enlarged,
    pixels_of,
    png,
    scale_of,
    sheet,
)
from pipeline.finished import Finished
from pipeline.gallery.codes import codes, imagine

SIDE = 15
"""Pictures along either number."""
DOTS = 2000
"""Most test images in the scatter: they are encoded on the spot."""
MARKERS = "osD^vP*Xhd"
COLOURS = ("#56b4e9", "#f0a848", "#3fc9a0", "#dd6fae", "#e8e05a", "#9fa8ff", "#ff7f5c",
           "#b7e07a", "#c8b39a", "#f4f4f4")  # fmt: skip


def quantiles(count: int) -> Tensor:
    """The middles (count,) of ``count`` equal shares of N(0, 1)."""
    return torch.special.ndtri((torch.arange(count) + 0.5) / count)


def latent_grid(run: Finished) -> dict[str, bytes]:
    """``latent_grid.png``: the first number grows to the right, the second upwards."""
    if not _is_plane(run):
        return {}
    values = quantiles(SIDE)
    z = torch.stack(torch.meshgrid(values, values.flip(0), indexing="xy"), dim=-1)  # (S, S, 2)
    pixels = pixels_of(imagine(run, z.flatten(0, 1)), "images", 4)
    scale = scale_of(pixels, side=48)
    cells = [enlarged(image, scale) for image in pixels]
    rows = [cells[i : i + SIDE] for i in range(0, len(cells), SIDE)]
    across = [f"{value:.1f}" for value in values.tolist()]
    return {"latent_grid.png": png(sheet(rows, headings=across, labels=across[::-1], gap=1))}


def latent_scatter(run: Finished) -> dict[str, bytes]:
    """``latent_scatter.png``: means of the posteriors of test images, by class."""
    if not _is_plane(run):
        return {}
    batch = run.first_tests(DOTS)
    assert batch.y is not None
    points, y = codes(run, DOTS).numpy(), batch.y.numpy()
    ink: dict[Any, str] = {
        f"{k}color": _hex(TEXT) for k in ("xtick.", "ytick.", "axes.label", "text.")
    }
    with mpl.rc_context({**ink, "axes.edgecolor": _hex(FRAME), "font.size": 10}):
        figure = Figure(figsize=(7.6, 6.2), dpi=100, facecolor=_hex(BACKGROUND))
        axes = figure.subplots(subplot_kw={"facecolor": _hex(BACKGROUND)})
        # 50 % and 95 % of a normal of two dimensions lie within √(−2 ln(1 − share)).
        for share in (0.5, 0.95):
            radius = float(np.sqrt(-2 * np.log(1 - share)))
            axes.add_patch(Circle((0, 0), radius, fill=False, color=_hex(TEXT), alpha=0.6))
        for k, name in enumerate(run.manifest.classes):
            axes.scatter(
                points[y == k, 0], points[y == k, 1], s=12, alpha=0.8, linewidths=0,
                color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)], label=name,
            )  # fmt: skip
        axes.set(xlabel="first number of the code", ylabel="second number", aspect="equal")
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="class",
            markerscale=2, labelcolor=_hex(TEXT),
        )  # fmt: skip
        out = BytesIO()
        figure.savefig(out, format="png", bbox_inches="tight", metadata={"Software": None})
        return {"latent_scatter.png": out.getvalue()}


def _is_plane(run: Finished) -> bool:
    return isinstance(run.model, Vae) and run.model.config.latent == 2


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
