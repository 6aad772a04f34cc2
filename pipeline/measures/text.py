"""How many bits a character costs a model of text, and what it writes at several temperatures."""

from math import log
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from draw_model import CharRnn
from draw_model.char_rnn import ALPHABET, continue_text
from pipeline.measures.contract import (
    Advance,
    Finished,
    Found,
    Spread,
    Wanted,
    batches,
    examples,
    spread,
    unlike_default,
)
from pipeline.values import STRICT

TEMPERATURES = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
CHARACTERS = 500
"""Written at each temperature."""
PRIMER = "\n"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Text:
    """Bits per character, with their spread over the pieces of a split."""

    TITLE: ClassVar[str] = "Text"
    ABOUT: ClassVar[str] = (
        "Bits per character over whole pieces: the first characters of a piece are dearer, since "
        "nothing is known before them. Below, what the model writes after a newline; a low "
        "temperature keeps to what is likely, a high one strays."
    )

    split: str
    bits: Spread
    wrong: float
    """Share of the characters that were not the likeliest."""
    chance: float
    """Bits per character of a uniform guess."""
    temperatures: list[float]
    characters: int
    """Written at each temperature."""
    seed: int

    def rows(self) -> list[tuple[str, str]]:
        bits = self.bits
        return [
            (
                f"{self.split} bits per character",
                f"{bits.mean:.4f} ± {bits.stderr:.4f} over {bits.examples:,} pieces (a uniform "
                f"guess: {self.chance:.4f})",
            ),
            ("wrong characters", f"{self.wrong:.2%}"),
        ]


@torch.no_grad()
def text(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """Bits per character, and ``CHARACTERS`` of text at each temperature as ``text.txt``."""
    model = finished.model
    assert isinstance(model, CharRnn)  # measured only where it is one
    loader = finished.loader(wanted.split)
    count, bits, right = examples(loader, wanted.first), [], []
    for step, batch in batches(loader, finished.device, wanted.first):
        terms = model(batch)
        bits.append(terms["loss"][batch.mask].double() / model.length / log(2))
        right.append(terms["correct"][batch.mask].double())
        advance(min((step + 1) * loader.batch_size, count), count)
    written = [
        f"temperature {t}\n\n{continue_text(model, PRIMER, CHARACTERS, t, wanted.seed)}\n"
        for t in TEMPERATURES
    ]
    value = Text(
        split=wanted.split,
        bits=spread(torch.cat(bits)),
        wrong=1 - float(torch.cat(right).mean()),
        chance=log(len(ALPHABET)) / log(2),
        temperatures=list(TEMPERATURES),
        characters=CHARACTERS,
        seed=wanted.seed,
    )
    return Found(
        value=value,
        files={"txt": ("\n\n" + "-" * 40 + "\n\n").join(written).encode()},
        of=unlike_default(wanted, "split", "first", "seed"),
    )
