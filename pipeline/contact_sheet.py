"""How cells of one size lie on a dark sheet: enlarged, framed, with headings and a legend."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def with_legend(picture: Image.Image, colours: Mapping[Colour, str], note: str) -> Image.Image:
    """The picture and below it a line that names the colours; the note where there is room."""
    if not colours:
        return picture
    longer = Image.new("RGB", (picture.width, picture.height + LINE), BACKGROUND)
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
