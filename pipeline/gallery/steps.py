"""How a drawing comes about: what single steps decide, chosen steps, two runs beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from draw_model import Draw, Pictures, noise
from pipeline.contact_sheet import (
    BACKGROUND,
    FRAME,
    GAP,
    TEXT,
    Colour,
    enlarged,
    framed,
    pixels_of,
    png,
    scale_of,
    sheet,
    spread,
    stacked,
    titled,
    with_legend,
)
from pipeline.errors import JobError
from pipeline.finished import Finished
from pipeline.gallery.codes import AT_ONCE, imagine, prior
from pipeline.pictures import WRITE, Geometry, sequence

VALUES = (-3.0, -1.5, 0.0, 1.5, 3.0)
"""Standard deviations along the direction in which the code of one step is varied."""
BRIGHTER: Colour = (255, 150, 40)
DARKER: Colour = (70, 150, 255)
CHANGED = 0.1
"""A pixel has changed where its mean moved by more than this."""
STRIP = 64
"""Height of the curves below a sequence, in pixels."""


def varied(z: Tensor, directions: Tensor, values: Tensor) -> Tensor:
    """Codes (T, Z) and unit directions (T, Z) → (T, n, T, Z): [t, i] has z_t moved by values[i].

    Nothing else differs: rows other than t of [t, i] are z.
    """
    steps = len(z)
    moves = torch.eye(steps)[:, None, :, None] * directions  # (T, 1, T, Z)
    return z + values[None, :, None, None] * moves


def effect_of_steps(run: Finished) -> dict[str, bytes]:
    """``effect_of_steps.png``: pictures with the code of one step varied, and what that changed.

    The code has no part along the direction where it is not varied, so that −3 … 3 are what the
    prior gives that part.
    """
    if not isinstance(run.model, Draw):
        return {}
    z = prior(run, 1)["z"][0]  # (T, Z)
    drawn = noise.normal(run.job.train.seed, "pictures/direction", 0, range(1), tuple(z.shape))[0]
    directions = drawn / drawn.norm(dim=1, keepdim=True)
    plain = z - (z * directions).sum(1, keepdim=True) * directions
    shown = spread(len(z), 10)
    every = varied(plain, directions, torch.tensor(VALUES))[shown]  # (R, n, T, Z)
    images = imagine(run, every.flatten(0, 1)).unflatten(0, every.shape[:2])  # (R, n, C, H, W)
    middle = VALUES.index(0.0)
    others = [i for i in range(len(VALUES)) if i != middle]
    changed = (images[:, others] - images[:, middle, None]).mean(2)  # (R, n − 1, H, W)
    most = float(changed.abs().max().clamp_min(1e-6))
    rows = []
    for row, differences in zip(images, changed, strict=True):
        pixels = pixels_of(row, "images", 4)
        scale = scale_of(pixels)
        changes = [_shade(difference / most) for difference in differences]
        rows.append([framed(enlarged(cell, scale)) for cell in (*pixels, *changes)])
    signed = [f"{value:+g}" if value else "0" for value in VALUES]
    headings = [*signed, *(f"change, {value}" for value in signed if value != "0")]
    labels = [f"t = {t + 1}" for t in shown]
    legend = {BRIGHTER: f"brighter by up to {most:.2g}", DARKER: "darker"}
    note = "where black is 0 and white is 1"
    whole = with_legend(sheet(rows, headings, labels, gap=3), legend, note)
    return {"effect_of_steps.png": png(whole)}


def chosen_steps(run: Finished, steps: Sequence[int]) -> dict[str, bytes]:
    """``steps.png``: samples at these steps, counted from 1. Raises JobError for others."""
    made = _samples(run, 6)
    last = made["canvases"].shape[1]
    if not steps or min(steps) < 1 or max(steps) > last:
        asked = ",".join(map(str, steps))
        raise JobError(f"--steps {asked}: {run.run} draws in {last} steps; write 1 to {last}")
    picture = sequence(
        made["canvases"],
        made.get("read_windows"),
        made.get("write_windows"),
        steps=[step - 1 for step in steps],
    )
    return {"steps.png": png(picture)}


def beside(run: Finished, other: Finished) -> dict[str, bytes]:
    """``beside.png``: three samples of either run in as many columns, and how they come about."""
    both = [(one, _samples(one, 3)) for one in (run, other)]
    columns = min(10, *(made["canvases"].shape[1] for _, made in both))
    windows = any("write_windows" in made for _, made in both)
    blocks = [_block(one, made, columns, windows) for one, made in both]
    colours = {DARKER: "share of pixels changed", BRIGHTER: "bits a pixel"}
    legend = {WRITE: "write window", **colours} if windows else colours
    return {"beside.png": png(with_legend(stacked(blocks, gap=3 * GAP), legend, ""))}


def _block(run: Finished, made: Pictures, columns: int, margin: bool) -> Image.Image:
    """The samples of one run over the curves of 100; ``margin`` leaves room for windows."""
    assert isinstance(run.model, Draw)
    pixels = pixels_of(made["canvases"], "canvases", 5)
    # Ten columns with their margins are as wide as a page.
    scale, room = scale_of(pixels, side=56), Geometry.of(pixels, margin).margin
    geometry, shown = Geometry(scale=scale, margin=room), spread(pixels.shape[1], columns)
    windows = {WRITE: made["write_windows"].numpy()} if "write_windows" in made else {}
    rows = [[geometry.cell(pixels[i, t], windows, i, t) for t in shown] for i in range(len(pixels))]
    whole = sheet(rows, headings=[f"t = {t + 1}" for t in shown])
    start = run.model.first_canvas.detach().sigmoid()
    progress = Progress.of(_samples(run, AT_ONCE)["canvases"], start)
    words = "with" if windows else "without"
    curves = _strip(progress, whole.width, columns)
    return titled(stacked([whole, curves], gap=2), f"{run.run}: writes {words} attention")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Of each step, means over pictures: ``changed`` share of pixels, ``bits`` of a pixel, (T,)."""

    changed: np.ndarray
    bits: np.ndarray

    @classmethod
    def of(cls, canvases: Tensor, start: Tensor) -> "Progress":
        """Canvases (n, T, C, H, W) of pixel means, and what they began with, (C, H, W).

        The bits are the entropy of a black or white pixel of that mean, log₂.
        """
        before = torch.cat([start.expand_as(canvases[:, :1]), canvases[:, :-1]], dim=1)
        changed = ((canvases - before).abs() > CHANGED).double().mean((0, 2, 3, 4))
        p = canvases.double().clamp(1e-12, 1 - 1e-12)
        bits = -(p * p.log2() + (1 - p) * (1 - p).log2()).mean((0, 2, 3, 4))
        return cls(changed=changed.numpy(), bits=bits.numpy())


def _samples(run: Finished, count: int) -> Pictures:
    """Samples that come about in steps. Raises JobError for a model without."""
    if not isinstance(run.model, Draw):
        raise JobError(f"{run.run}: this model does not draw in steps; name a run of DRAW")
    return run.model.generate(prior(run, count))


def _shade(change: Tensor) -> np.ndarray:
    """Changes (H, W) of brightness in [−1, 1] → uint8 (H, W, 3): 0 is the background."""
    mean = change.numpy()[..., None]  # (H, W, 1)
    ground, brighter, darker = (np.array(c, np.float32) for c in (BACKGROUND, BRIGHTER, DARKER))
    shade = ground + np.abs(mean).clip(0, 1) * (np.where(mean > 0, brighter, darker) - ground)
    return shade.round().astype(np.uint8)


def _strip(progress: Progress, width: int, columns: int) -> Image.Image:
    """Both curves from 0 to 1 below columns of steps; first and last step under their columns."""
    fine = 3  # drawn larger and made small: lines without stairs
    image = Image.new("RGB", (width * fine, STRIP * fine), BACKGROUND)
    draw = ImageDraw.Draw(image)
    half = (width - GAP) / columns / 2
    left, right = GAP + half - GAP / 2, width - half - GAP / 2
    top, bottom = 6.0, STRIP - 6.0
    for height in (top, bottom):
        draw.line([(GAP * fine, height * fine), ((width - GAP) * fine, height * fine)], FRAME, 2)
    for values, colour, dashed in (
        (progress.changed, DARKER, False),
        (progress.bits, BRIGHTER, True),
    ):
        x = np.linspace(left, right, len(values))
        y = bottom - (bottom - top) * values
        dense = np.linspace(left, right, max(2, int((right - left) // 6)))
        heights = np.interp(dense, x, y)
        points = [(a * fine, b * fine) for a, b in zip(dense, heights, strict=True)]
        pieces = list(pairwise(points))[:: 2 if dashed else 1]
        for piece in pieces:
            draw.line(piece, colour, 2 * fine)
    small = image.resize((width, STRIP), Image.Resampling.LANCZOS)
    small_draw = ImageDraw.Draw(small)
    for text, height, anchor in (("1", top, "lt"), ("0", bottom, "ls")):
        small_draw.text((GAP, height + (2 if anchor == "lt" else -2)), text, TEXT, anchor=anchor)
    return small
