"""Which training image lies closest to each sample: whether a model imagines or remembers."""

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from pipeline.contact_sheet import enlarged, framed, png, sheet
from pipeline.errors import JobError
from pipeline.loader import Loader
from pipeline.measures.cells import pixels, scale_of
from pipeline.measures.contract import Advance, Finished, Found, Wanted, unlike_default
from pipeline.values import STRICT

SHOWN = 30
COLUMNS = 10
ROWS = 1024
"""Training images that are compared at once: 25 MB in float64 for 32 × 32 × 3, whatever there are
in all; with their copy in float32 and the products, a search takes below 100 MB."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Nearest:
    """Distances are roots of the mean squared difference of pixels in [0, 1]."""

    TITLE: ClassVar[str] = "Nearest training images"
    ABOUT: ClassVar[str] = (
        "Above, samples of the model (the means of their pixels), none left out; below each, of "
        "all training images the one with the smallest squared difference of pixels. A copy would "
        "look the same, and lie far closer than images that were not trained on do."
    )

    seed: int
    searched: int
    """Training images."""
    cut: int | None
    """The side of the middle to which they were cut, as in evaluation."""
    places: list[int]
    """Of the nearest image in the training split, one for each sample."""
    distances: list[float]
    test_distances: list[float]
    """Of as many test images, each to its nearest training image."""

    def rows(self) -> list[tuple[str, str]]:
        def told(values: list[float]) -> str:
            mean = sum(values) / len(values)
            return f"{mean:.4f} on average, {min(values):.4f} at least ({len(values)} images)"

        middles = "" if self.cut is None else f", the middle {self.cut} × {self.cut} of each"
        return [
            ("searched", f"{self.searched:,} training images{middles}"),
            ("samples", f"{told(self.distances)}, root mean square of pixels in [0, 1]"),
            ("test images", told(self.test_distances)),
        ]


def nearest(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """The nearest of all training images to the first samples, as means, and to test images.

    Raises JobError for training images that are made anew at every step.
    """
    loader = _grey(finished, "train", ROWS)
    samples = torch.cat(list(finished.images(SHOWN, wanted.seed))).cpu()
    count = min(SHOWN, finished.manifest.splits["test"])
    test = _grey(finished, "test", count).batch(0, range(count)).x
    places, squares, found = search(torch.cat([samples, test]), loader, advance)
    roots = (squares / samples[0].numel()).sqrt().tolist()
    value = Nearest(
        seed=wanted.seed,
        searched=loader.split.examples,
        cut=loader.crop,
        places=places[:SHOWN].tolist(),
        distances=roots[:SHOWN],
        test_distances=roots[SHOWN:],
    )
    picture = pairs(samples, found[:SHOWN])
    return Found(value=value, files={"png": picture}, of=unlike_default(wanted, "seed"))


def search(wanted: Tensor, loader: Loader, advance: Advance) -> tuple[Tensor, Tensor, Tensor]:
    """For images (n, C, H, W): places (n,), squared distances (n,) float64, and what lies there.

    ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b by products of blocks, in float64: what cancels between an image
    and its copy leaves an error far below one step of one grey level. The first of equals counts.
    """
    rows = wanted.flatten(1).double()
    own = rows.square().sum(1)  # (n,)
    best = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    places, images = torch.zeros(len(rows), dtype=torch.int64), torch.zeros_like(wanted)
    for step in range(loader.steps):
        batch = loader.batch(step, range(loader.batch_size))
        block = batch.x[batch.mask]
        flat = block.flatten(1).double()
        squares = own[:, None] + flat.square().sum(1) - 2 * rows @ flat.T  # (n, b)
        least, column = squares.clamp_min(0).min(1)
        closer = least < best
        best[closer] = least[closer]
        places[closer] = step * loader.batch_size + column[closer]
        images[closer] = block[column[closer]]
        advance(min((step + 1) * loader.batch_size, loader.split.examples), loader.split.examples)
    return places, best, images


def pairs(samples: Tensor, found: Tensor) -> bytes:
    """A PNG of samples (n, C, H, W) and below each what was found for it, in blocks of two rows."""
    scale, blocks = scale_of(samples, least=70), []
    for start in range(0, len(samples), COLUMNS):
        rows = [
            [framed(enlarged(image, scale)) for image in pixels(half[start : start + COLUMNS])]
            for half in (samples, found)
        ]
        blocks.append([sheet(rows, labels=["sample", "nearest"], gap=3)])
    return png(sheet(blocks, gap=0))


def _grey(finished: Finished, split: str, batch_size: int) -> Loader:
    """A split with its intensities as they are: what was drawn of them is nobody's image."""
    loader = finished.loader(split, batch_size=batch_size)
    if loader.compose is not None:
        raise JobError(
            f"{finished.run}: its {split} pictures are made anew whenever they are read, so none "
            "is the nearest; write the other measures by name"
        )
    return Loader(
        loader.split, batch_size=batch_size, seed=loader.seed, binarisation="grey", shapes={},
        training=False, crop=loader.crop,
    )  # fmt: skip
