"""What a window does to a picture: patches at three zooms, and the filters of a run's windows."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from draw_model import Classifier, Draw
from draw_model.attention import Window, filterbank, read, write
from pipeline.contact_sheet import (
    BACKGROUND,
    GAP,
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
from pipeline.finished import Finished
from pipeline.pictures import NAMES, READ, WRITE, Geometry

ZOOMS = (1.0, 0.5, 0.25)
"""Sides of the windows of the zoom picture, as shares of the image's."""
COLUMNS = 6


def window_size(run: Finished) -> int | None:
    """N of the windows that a model reads with, else writes with; None without attention."""
    if isinstance(run.model, Classifier):
        return run.model.reader.n
    if isinstance(run.model, Draw):
        attention = run.model.reader or run.model.writer
        return attention.n if attention else None
    return None


def filters(window: Window, height: int, width: int) -> tuple[Tensor, Tensor]:
    """F_Y (B, N, H) and F_X (B, N, W) of windows on images of this size."""
    offsets = torch.arange(window.n) - (window.n - 1) / 2
    return (
        filterbank(window.g_y, window.delta, window.sigma, offsets, torch.arange(height).float()),
        filterbank(window.g_x, window.delta, window.sigma, offsets, torch.arange(width).float()),
    )


def zooms(image: Tensor, n: int) -> Window:
    """Three windows (one each of ``ZOOMS``) for an image (C, H, W), around its ink.

    A window of the whole image lies in its middle; the smaller, the nearer its centre is to the
    mean place of what is brighter than the image's mean. σ is half a stride, γ is 1.
    """
    height, width = image.shape[1:]
    ink = (image.mean(0) - image.mean()).clamp_min(0) + 1e-6  # (H, W)
    share = torch.tensor(ZOOMS)
    centres = []
    for weights, size in ((ink.sum(1), height), (ink.sum(0), width)):
        mean = (weights * torch.arange(size)).sum() / weights.sum()
        middle = (size - 1) / 2
        centres.append(middle + (1 - share) / (1 - min(ZOOMS)) * (mean - middle))
    delta = (max(height, width) - 1) / (n - 1) * share
    return Window(
        n=n,
        g_x=centres[1],
        g_y=centres[0],
        sigma=delta / 2,
        delta=delta,
        gamma=torch.ones_like(delta),
    )


def zoom(run: Finished) -> dict[str, bytes]:
    """``zoom.png``: image with window, the patch, and the patch written back, at three zooms."""
    n = window_size(run)
    if n is None:
        return {}
    image = run.first_tests(1).x[0]  # (C, H, W)
    window = zooms(image, n)
    f_y, f_x = filters(window, *image.shape[1:])
    patches = read(f_y, f_x, window.gamma, image.expand(len(ZOOMS), -1, -1, -1))
    # 1/γ̂ = δ²: F_Yᵀ … F_X spreads each number over about one stride, that is 1/δ² of its height.
    back = write(f_y, f_x, window.delta.pow(-2), patches)
    whole = pixels_of(image[None], "images", 4)
    geometry = Geometry.of(whole, windows=True)
    boxes = {READ: window.as_picture()[:, None].numpy()}
    rows = []
    for i in range(len(ZOOMS)):
        first = geometry.cell(whole[0], boxes, i, 0)
        patch = pixels_of(patches[i : i + 1], "patch", 4)[0]
        other = pixels_of(back[i : i + 1], "image", 4)[0]
        cells = [patch.repeat(max(1, whole.shape[1] * geometry.scale // n), 0), other]
        cells[0] = cells[0].repeat(max(1, whole.shape[2] * geometry.scale // n), 1)
        cells[1] = cells[1].repeat(geometry.scale, 0).repeat(geometry.scale, 1)
        rows.append([first, *(_centred(framed(Image.fromarray(c)), first.size) for c in cells)])
    headings = ["window", f"read: {n} by {n}", "written back"]
    labels = ["the whole image", "half its side", "a quarter of it"]
    return {"zoom.png": png(with_legend(sheet(rows, headings, labels), {READ: "window"}, ""))}


def filter_picture(run: Finished) -> dict[str, bytes]:
    """``filters.png``: filterbanks and filter centres of the windows of the first test image."""
    n = window_size(run)
    if n is None:
        return {}
    batch = run.first_tests(1)
    made = run.model.reconstruct(batch)
    steps = spread(made["canvases"].shape[1], COLUMNS)
    blocks = []
    for name, colour in (("read_windows", READ), ("write_windows", WRITE)):
        if name not in made:
            continue
        size = _side(run, name)
        # What is read is the image; what is written goes to the canvas.
        under = made["canvases"][0] if name == "write_windows" else batch.x.expand(
            made["canvases"].shape[1], -1, -1, -1
        )  # fmt: skip
        cells = [_tile(under[t], _as_window(made[name][0, t], size), colour) for t in steps]
        headings = [f"t = {t + 1}" for t in steps]
        words = f"{NAMES[colour]} window, N = {size}"
        blocks.append(titled(sheet([cells], headings=headings), words))
    return {"filters.png": png(stacked(blocks, gap=2 * GAP))}


def _side(run: Finished, name: str) -> int:
    assert isinstance(run.model, Classifier | Draw)
    attention = run.model.reader
    if name == "write_windows" and isinstance(run.model, Draw):
        attention = run.model.writer
    assert attention is not None, "a model that gives such windows has them"
    return attention.n


def _as_window(shown: Tensor, n: int) -> Window:
    """One window from what ``contract.Pictures`` tells of it, (4,): all but γ, which is 1 here."""
    x, y, side, sigma = shown[:, None]
    return Window(n=n, g_x=x, g_y=y, sigma=sigma, delta=side / (n - 1), gamma=torch.ones(1))


def _tile(image: Tensor, window: Window, colour: Colour) -> Image.Image:
    """The image (C, H, W) with the filter centres; F_Y to its right, F_X below, pixel by pixel."""
    pixels = pixels_of(image[None], "images", 4)
    height, width = pixels.shape[1:3]
    scale, thick = scale_of(pixels), max(3, 48 // window.n)
    f_y, f_x = filters(window, height, width)
    shown = enlarged(pixels[0], scale)
    _dots(shown, window, scale, colour)
    # Of each filter by itself: one beyond the border puts all its weight on the last pixel.
    f_y, f_x = (f[0] / f[0].amax(1, keepdim=True) for f in (f_y, f_x))
    down = f_y.T.numpy().repeat(scale, 0).repeat(thick, 1)  # (H, N) enlarged
    across = f_x.numpy().repeat(thick, 0).repeat(scale, 1)  # (N, W) enlarged
    parts = [framed(shown), *(framed(Image.fromarray(_grey(f))) for f in (down, across))]
    size = (parts[0].width + parts[1].width + 2, parts[0].height + parts[2].height + 2)
    tile = Image.new("RGB", size, BACKGROUND)
    places = ((0, 0), (parts[0].width + 2, 0), (0, parts[0].height + 2))
    for part, place in zip(parts, places, strict=True):
        tile.paste(part, place)
    return tile


def _dots(shown: Image.Image, window: Window, scale: int, colour: Colour) -> None:
    offsets = np.arange(window.n) - (window.n - 1) / 2
    draw, radius = ImageDraw.Draw(shown), 1.5 if window.n < 9 else 1.0
    for j in window.g_y.item() + offsets * window.delta.item():
        for i in window.g_x.item() + offsets * window.delta.item():
            x, y = (i + 0.5) * scale, (j + 0.5) * scale
            if 0 <= x < shown.width and 0 <= y < shown.height:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _grey(share: np.ndarray) -> np.ndarray:
    """Shares (H, W) of 1 → uint8 (H, W, 3)."""
    return np.repeat((share.clip(0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def _centred(cell: Image.Image, size: tuple[int, int]) -> Image.Image:
    whole = Image.new("RGB", size, BACKGROUND)
    whole.paste(cell, ((size[0] - cell.width) // 2, (size[1] - cell.height) // 2))
    return whole
