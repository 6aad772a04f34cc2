"""How pictures change between two codes: in a straight line, along an arc, and on a long walk."""

from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor

from pipeline.contact_sheet import enlarged, framed, gif, pixels_of, png, scale_of, sheet
from pipeline.finished import Finished
from pipeline.gallery.codes import codes, has_codes, imagine

COLUMNS = 10
PAIRS = 3
POINTS = 10
LEG = 100
"""Steps of a walk from one point to the next, as in source 004."""
FRAME_MS = 40
GREYS = [8 * (level // 8) for level in range(256)]
"""Which of 32 greys stands for each of 256."""


def linear(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """(1 − s) a + s b for every s of ``shares`` (n,): codes of one shape (…) → (n, …)."""
    s = shares.view(-1, *[1] * a.dim())
    return (1 - s) * a + s * b


def spherical(a: Tensor, b: Tensor, shares: Tensor) -> Tensor:
    """Along the arc from ``a`` to ``b``, (…) → (n, …); the length goes evenly from |a| to |b|.

    Shoemake 1985: directions (sin((1 − s)θ) a + sin(sθ) b) / sin θ. Codes that lie in one line
    have no arc between them, or many: they are joined by that line.
    """
    lengths = linear(a.norm(), b.norm(), shares)
    if min(a.norm(), b.norm()) == 0:
        return linear(a, b, shares)
    u, v = a / a.norm(), b / b.norm()
    theta = (u * v).sum().clamp(-1, 1).acos()
    if theta.sin() < 1e-4:
        return linear(a, b, shares)
    s = shares.view(-1, *[1] * a.dim())
    way = (((1 - s) * theta).sin() * u + (s * theta).sin() * v) / theta.sin()
    return lengths.view(-1, *[1] * a.dim()) * way


def walk(points: Tensor, leg: int) -> Tensor:
    """Codes (n, …) joined by straight lines of ``leg`` steps, ((n − 1) · leg + 1, …)."""
    shares = torch.arange(leg) / leg
    legs = [linear(a, b, shares) for a, b in pairwise(points)]
    return torch.cat([*legs, points[-1:]])


def interpolation(run: Finished) -> dict[str, bytes]:
    """``interpolation.png``: a pair of rows for each pair of codes, straight and along an arc."""
    if not has_codes(run) or len(points := codes(run, 2 * PAIRS)) < 2:
        return {}
    shares = torch.linspace(0, 1, COLUMNS)
    ways = {"straight": linear, "arc": spherical}
    pairs = list(zip(points[::2], points[1::2], strict=False))
    z = torch.cat([way(a, b, shares) for a, b in pairs for way in ways.values()])
    headings = [f"{share:.0%}" for share in shares.tolist()]
    rows = _rows(imagine(run, z), COLUMNS)
    return {"interpolation.png": png(sheet(rows, headings, list(ways) * len(pairs), gap=3))}


def latent_walk(run: Finished) -> dict[str, bytes]:
    """``walk.gif`` with every picture of the walk, ``walk.png`` with every tenth."""
    if not has_codes(run) or len(points := codes(run, POINTS)) < 2:
        return {}
    images = imagine(run, walk(points, LEG))
    legs, tenth = len(points) - 1, LEG // 10
    shown = torch.cat([images[LEG * i : LEG * (i + 1) + 1 : tenth] for i in range(legs)])
    labels = [f"{i + 1} to {i + 2}" for i in range(legs)]
    headings = [str(tenth * i) for i in range(11)]
    return {
        "walk.gif": _animated(images, legs),
        "walk.png": png(sheet(_rows(shown, 11), headings, labels, gap=3)),
    }


def _rows(images: Tensor, columns: int) -> list[list[Image.Image]]:
    pixels = pixels_of(images, "images", 4)
    scale = scale_of(pixels, side=56)
    cells = [framed(enlarged(image, scale)) for image in pixels]
    return [cells[i : i + columns] for i in range(0, len(cells), columns)]


def _animated(images: Tensor, legs: int) -> bytes:
    """The pictures one after the other, each named by the two points that it lies between."""
    pixels = pixels_of(images, "images", 4)
    grey = images.shape[1] == 1
    scale = scale_of(pixels) if grey else scale_of(pixels, side=56)
    frames = []
    for i, image in enumerate(pixels):
        leg = min(i // LEG, legs - 1)
        heading = f"{leg + 1} to {leg + 2}: {i - LEG * leg}"
        frame = sheet([[framed(enlarged(image, scale))]], headings=[heading])
        # Choosing colours for 900 grey frames takes most of the time, and 32 greys half the bytes.
        frames.append(frame.convert("L").point(GREYS) if grey else frame)
    return gif(frames, [FRAME_MS] * len(frames), colours=64)
