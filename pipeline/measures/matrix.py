"""How counts of answers by true class become a picture with the numbers in it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.contact_sheet import BACKGROUND, TEXT, Colour

CELL = 46
"""Side of a cell in pixels: room for five figures."""
SPACE = 34
RIGHT: Colour = (52, 150, 90)
WRONG: Colour = (214, 66, 60)
EMPTY: Colour = (44, 47, 51)
LETTERS = 10
"""Longer names of classes are cut."""


def matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Image.Image:
    """(K, K) counts, rows the true class and columns the answer, each shaded by its row's share."""
    table, font = np.asarray(counts), ImageFont.load_default(size=13)
    labels = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    wide = max(round(font.getlength(label)) for label in labels)
    cell = max(CELL, wide + 10, round(font.getlength(f"{table.max():,}")) + 10)
    left, top, side = SPACE + wide, 2 * SPACE - 8, cell * len(table)
    picture = Image.new("RGB", (left + side + 10, top + side + 10), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((left + side / 2, 16), "answer", TEXT, font, anchor="mm")
    draw.text((10, top / 2 + 16), "true", TEXT, font, anchor="lm")
    for i, label in enumerate(labels):
        middle = i * cell + cell / 2
        draw.text((left + middle, top - 14), label, TEXT, font, anchor="mm")
        draw.text((left - 10, top + middle), label, TEXT, font, anchor="rm")
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    for i, row in enumerate(table):
        for j, count in enumerate(row):
            box = (left + j * cell, top + i * cell)
            colour = _shade(RIGHT if i == j else WRONG, shares[i, j])
            draw.rectangle((*box, box[0] + cell - 2, box[1] + cell - 2), colour)
            if count:
                inside = (box[0] + cell / 2 - 1, box[1] + cell / 2 - 1)
                draw.text(inside, f"{count:,}", (255, 255, 255), font, anchor="mm")
    return picture


def _shade(full: Colour, share: float) -> Colour:
    """From ``EMPTY`` at 0 to ``full`` at 1; the root lifts the few mistakes of a good one."""
    weight = float(share) ** 0.5
    red, green, blue = (
        round(low + weight * (high - low)) for low, high in zip(EMPTY, full, strict=True)
    )
    return red, green, blue
