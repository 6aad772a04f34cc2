"""How images, canvases and attention windows become pictures that explain themselves.

Everything here is a function of arrays: images (…, C, H, W) in [0, 1] with C = 1 or 3, windows
(…, 4) as ``draw_model.contract.Pictures`` gives them. Nothing is read or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from pipeline.contact_sheet import (
    BACKGROUND,
    FRAME,
    Array,
    Colour,
    at_least_one,
    enlarged,
    framed,
    gif,
    pixels_of,
    png,
    scale_of,
    sheet,
    spread,
    with_legend,
)

READ: Colour = (52, 199, 105)
WRITE: Colour = (240, 72, 66)
NAMES = {READ: "read", WRITE: "write"}


def grid(
    images: Array, columns: int, scale: int = 2, gap: int = 2, border: Colour = FRAME
) -> Image.Image:
    """Images (n, C, H, W) row by row, each enlarged ``scale`` times with a thin border."""
    pixels = pixels_of(images, "images", 4)
    at_least_one(columns=columns, scale=scale)
    cells = [framed(enlarged(image, scale), border) for image in pixels]
    return sheet([cells[i : i + columns] for i in range(0, len(cells), columns)], gap=gap)


def sequence(
    canvases: Array,
    read_windows: Array | None = None,
    write_windows: Array | None = None,
    originals: Array | None = None,
    steps: int | Sequence[int] = 10,
) -> Image.Image:
    """One row for each of the canvases (n, T, C, H, W), one column for each step shown.

    At most ``steps`` steps are shown, evenly spaced, the last always; or exactly those of a list,
    counted from 0. Windows are (n, T, 4); originals (n, C, H, W) stand in front. Raises ValueError
    where shapes do not fit.
    """
    pixels = pixels_of(canvases, "canvases", 5)
    windows = _windows(pixels, read_windows, write_windows)
    shown = spread(pixels.shape[1], steps) if isinstance(steps, int) else steps
    geometry = Geometry.of(pixels, bool(windows))
    rows = [[geometry.cell(pixels[i, t], windows, i, t) for t in shown] for i in range(len(pixels))]
    headings = [f"t = {t + 1}" for t in shown]
    if originals is not None:
        first = pixels_of(originals, "originals", 4)
        if first.shape != pixels[:, 0].shape:
            raise ValueError(f"originals {first.shape} do not fit canvases {pixels.shape}")
        rows = [[geometry.cell(first[i], {}, i, 0), *row] for i, row in enumerate(rows)]
        headings = ["original", *headings]
    return _with_windows(sheet(rows, headings=headings), windows)


def reconstructions(
    originals: Array,
    means: Array,
    columns: int = 10,
    labels: Sequence[str] = ("original", "model"),
) -> Image.Image:
    """Originals (n, C, H, W) and below each what the model made of it, in blocks of two rows."""
    above, below = pixels_of(originals, "originals", 4), pixels_of(means, "means", 4)
    if above.shape != below.shape:
        raise ValueError(f"originals {above.shape} and means {below.shape} differ in shape")
    at_least_one(columns=columns)
    scale = scale_of(above)
    blocks = []
    for start in range(0, len(above), columns):
        part = slice(start, start + columns)
        rows = [[framed(enlarged(i, scale)) for i in half[part]] for half in (above, below)]
        blocks.append([sheet(rows, labels=labels, gap=3)])
    return sheet(blocks, gap=0)


def canvas_gif(
    canvases: Array,
    read_windows: Array | None = None,
    write_windows: Array | None = None,
    columns: int = 4,
    milliseconds: int = 160,
) -> bytes:
    """Canvases (n, T, C, H, W) as a grid that is drawn in T frames; holds the last, and loops."""
    pixels = pixels_of(canvases, "canvases", 5)
    at_least_one(columns=columns, milliseconds=milliseconds)
    windows = _windows(pixels, read_windows, write_windows)
    geometry = Geometry.of(pixels, bool(windows))
    frames = []
    for t in range(pixels.shape[1]):
        cells = [geometry.cell(pixels[i, t], windows, i, t) for i in range(len(pixels))]
        rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
        # The heading differs from frame to frame, so equal canvases are not merged into one frame.
        headings = [f"t = {t + 1} of {pixels.shape[1]}"]
        frames.append(_with_windows(sheet(rows, headings=headings), windows))
    durations = [milliseconds] * (len(frames) - 1) + [max(1500, 10 * milliseconds)]
    return gif(frames, durations)


def of_model(
    samples: Mapping[str, Tensor], originals: Array | None, made: Mapping[str, Tensor] | None
) -> dict[str, bytes]:
    """All pictures of a run by file name, from ``Model.sample`` and ``Model.reconstruct``.

    A model without steps gives samples and reconstructions only, a classifier its glimpses.
    """
    files = {}
    if "images" in samples:
        shown = samples["images"]
        files["samples.png"] = png(grid(shown, columns=_columns(len(shown))))
    if "canvases" in samples:
        files["generation.png"] = png(sequence(*_drawn(samples, 6)))
        files["generation.gif"] = canvas_gif(*_drawn(samples, 16))
    if made and "images" not in made and "canvases" in made:
        files["glimpses.png"] = png(sequence(*_drawn(made, 6)))
        files["glimpses.gif"] = canvas_gif(*_drawn(made, 16), milliseconds=400)
    if originals is not None and made and "images" in made:
        files["reconstructions.png"] = png(reconstructions(originals[:30], made["images"][:30]))
        if "canvases" in made:
            steps = sequence(*_drawn(made, 6), originals=originals[:6])
            files["reconstruction.png"] = png(steps)
    return files


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a canvas lies in its cell: enlarged ``scale`` times, ``margin`` image pixels around."""

    scale: int
    margin: int

    @classmethod
    def of(cls, pixels: np.ndarray, windows: bool) -> "Geometry":
        margin = -(-max(pixels.shape[-3:-1]) // 6) if windows else 0
        return cls(scale=scale_of(pixels), margin=margin)

    def cell(
        self, image: np.ndarray, windows: Mapping[Colour, np.ndarray], i: int, t: int
    ) -> Image.Image:
        """The picture of example i at step t, with a margin in which windows can stick out."""
        canvas = framed(enlarged(image, self.scale))
        pad = self.margin * self.scale
        cell = Image.new("RGB", (canvas.width + 2 * pad, canvas.height + 2 * pad), BACKGROUND)
        cell.paste(canvas, (pad, pad))
        for colour, values in windows.items():
            self._draw(cell, values[i, t], colour)
        return cell

    def _draw(self, cell: Image.Image, window: np.ndarray, colour: Colour) -> None:
        """The rectangle of one window; its line is centred on the edge and σ/2 image pixels wide.

        An edge beyond the cell is drawn along the cell's border in a darker shade, so that a
        window that left the picture is still seen.
        """
        if not np.isfinite(window).all():
            return
        x, y, side, sigma = window.tolist()
        width = int(np.clip(round(sigma * self.scale / 2), 1, 2 * self.scale))
        across = self._span(x, side, cell.width, width)
        down = self._span(y, side, cell.height, width)
        (left, _), (right, _) = across
        (top, _), (bottom, _) = down
        last = width - 1
        bars = [(pulled, (at, top, at + last, bottom + last)) for at, pulled in across]
        bars += [(pulled, (left, at, right + last, at + last)) for at, pulled in down]
        # Pulled edges first: where lines cross, the true edge stays on top.
        for pulled, bar in sorted(bars, reverse=True):
            ImageDraw.Draw(cell).rectangle(bar, _darker(colour) if pulled else colour)

    def _span(self, centre: float, side: float, size: int, width: int) -> list[tuple[int, bool]]:
        """First pixel of the two lines along one axis, and whether each had to be pulled in."""
        span = []
        for edge in (centre - side / 2, centre + side / 2):
            # Pixel 0 has its centre at ½ of an enlarged pixel; the frame takes one pixel more.
            wanted = 1 + floor((edge + 0.5 + self.margin) * self.scale - width / 2 + 0.5)
            at = min(max(wanted, 0), size - width)
            span.append((at, at != wanted))
        return span


def _windows(
    pixels: np.ndarray, read: Array | None, write: Array | None
) -> dict[Colour, np.ndarray]:
    windows = {}
    for name, colour, values in (("read", READ, read), ("write", WRITE, write)):
        if values is None:
            continue
        array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else values
        if array.shape != (*pixels.shape[:2], 4):
            wanted = (*pixels.shape[:2], 4)
            raise ValueError(f"{name}_windows must be {wanted} for these canvases: {array.shape}")
        windows[colour] = array
    return windows


def _drawn(made: Mapping[str, Tensor], count: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Canvases, read windows and write windows of the first ``count`` pictures."""
    read, write = made.get("read_windows"), made.get("write_windows")
    return (
        made["canvases"][:count],
        None if read is None else read[:count],
        None if write is None else write[:count],
    )


def _darker(colour: Colour) -> Colour:
    return colour[0] // 2, colour[1] // 2, colour[2] // 2


def _with_windows(picture: Image.Image, windows: Mapping[Colour, np.ndarray]) -> Image.Image:
    note = "line width: sigma of the filters"
    return with_legend(picture, {colour: NAMES[colour] for colour in windows}, note)


def _columns(count: int) -> int:
    return max(1, round(count**0.5))
