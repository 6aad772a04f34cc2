"""How cells of one size lie on a dark sheet: enlarged, framed, with headings and a legend."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Array = Tensor | np.ndarray
Colour = tuple[int, int, int]

BACKGROUND: Colour = (30, 32, 35)
FRAME: Colour = (66, 70, 75)
TEXT: Colour = (196, 200, 205)
GAP = 6
LINE = 20
"""Height of a line of text with its space, in pixels of the finished picture."""


def enlarged(pixels: np.ndarray, scale: int) -> Image.Image:
    """uint8 (H, W, 3) with every pixel ``scale`` × ``scale`` large."""
    return Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))


def framed(image: Image.Image, colour: Colour = FRAME) -> Image.Image:
    """The image with a line of one pixel around it."""
    larger = Image.new("RGB", (image.width + 2, image.height + 2), colour)
    larger.paste(image, (1, 1))
    return larger


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    headings: Sequence[str] = (),
    labels: Sequence[str] = (),
    gap: int = GAP,
) -> Image.Image:
    """Cells of one size with even gaps; a heading above each column, a label before each row."""
    width, height = rows[0][0].size
    left = gap
    if labels:
        left += GAP + 8 + max(round(_font().getlength(label)) for label in labels)
    top = gap + (LINE if headings else 0)
    size = (left + len(rows[0]) * (width + gap), top + len(rows) * (height + gap))
    whole = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(whole)
    for column, heading in enumerate(headings):
        place = (left + column * (width + gap) + width // 2, gap // 2 + LINE // 2 + 1)
        draw.text(place, heading, TEXT, _font(), anchor="mm")
    for r, row in enumerate(rows):
        y = top + r * (height + gap)
        if labels:
            draw.text((left - 8, y + height // 2), labels[r], TEXT, _font(), anchor="rm")
        for c, cell in enumerate(row):
            whole.paste(cell, (left + c * (width + gap), y))
    return whole


def stacked(pictures: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Pictures of any size below each other, their left edges in one line."""
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (max(p.width for p in pictures), height), BACKGROUND)
    y = 0
    for picture in pictures:
        whole.paste(picture, (0, y))
        y += picture.height + gap
    return whole


def titled(picture: Image.Image, title: str) -> Image.Image:
    """The picture and above it a line of text; it grows wider where the text needs it."""
    width = max(picture.width, round(_font().getlength(title)) + 3 * GAP)
    larger = Image.new("RGB", (width, picture.height + LINE), BACKGROUND)
    larger.paste(picture, (0, LINE))
    ImageDraw.Draw(larger).text((GAP, GAP // 2 + LINE // 2), title, TEXT, _font(), anchor="lm")
    return larger


def with_legend(picture: Image.Image, colours: Mapping[Colour, str], note: str) -> Image.Image:
    """The picture and below it a line that names the colours; the note where there is room."""
    if not colours:
        return picture
    needed = GAP + 1 + sum(33 + round(_font().getlength(name)) for name in colours.values())
    width = max(picture.width, needed)
    longer = Image.new("RGB", (width, picture.height + LINE), BACKGROUND)
    longer.paste(picture, (0, 0))
    draw = ImageDraw.Draw(longer)
    x, middle = GAP + 1, picture.height + LINE // 2 - 2
    for colour, name in colours.items():
        draw.rectangle((x, middle - 5, x + 10, middle + 5), outline=colour, width=2)
        draw.text((x + 17, middle), name, TEXT, _font(), anchor="lm")
        x += 33 + round(_font().getlength(name))
    if x + _font().getlength(note) < longer.width:
        draw.text((x, middle), note, TEXT, _font(), anchor="lm")
    return longer


def pixels_of(images: Array, name: str, dimensions: int) -> np.ndarray:
    """uint8 (…, H, W, 3), or ValueError."""
    array = images.detach().float().cpu().numpy() if isinstance(images, Tensor) else images
    if array.ndim != dimensions or array.shape[-3] not in (1, 3) or 0 in array.shape:
        axes = "(n, C, H, W)" if dimensions == 4 else "(n, T, C, H, W)"
        raise ValueError(f"{name} must be {axes} with C = 1 or 3 and none empty: {array.shape}")
    levels = (np.nan_to_num(array).clip(0, 1) * 255).round().astype(np.uint8)
    levels = np.moveaxis(levels, -3, -1)
    return np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:-1], 3)))


def at_least_one(**numbers: int) -> None:
    """Raises ValueError, in one line, for a number below 1."""
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1: {value}")


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of 0 … count − 1, evenly spaced, with the first and the last."""
    at_least_one(steps=most)
    if most == 1:
        return [count - 1]
    return sorted({round(i) for i in np.linspace(0, count - 1, min(most, count))})


def scale_of(pixels: np.ndarray, side: int = 84) -> int:
    """What makes the longer side of (…, H, W, 3) at least ``side`` pixels, in whole steps."""
    return -(-side // max(pixels.shape[-3:-1]))


def png(picture: Image.Image) -> bytes:
    """The picture as an optimised PNG; the same picture gives the same bytes."""
    out = BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return out.getvalue()


def gif(frames: Sequence[Image.Image], durations: Sequence[int], colours: int = 256) -> bytes:
    """Frames of one size as a GIF that loops, those of mode L as they are; milliseconds each."""
    out = BytesIO()
    first, *rest = [
        frame if frame.mode == "L" else frame.quantize(colours, dither=Image.Dither.NONE)
        for frame in frames
    ]
    first.save(out, "GIF", save_all=True, append_images=rest, duration=list(durations), loop=0)
    return out.getvalue()
