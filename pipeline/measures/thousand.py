"""Plain bounds of a thousand test images and of a thousand of the model's own samples."""

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from draw_model import Batch, noise
from pipeline.measures.contract import (
    Advance,
    Finished,
    Found,
    Spread,
    Wanted,
    batches,
    pixels,
    spread,
    unlike_default,
)
from pipeline.values import STRICT

THOUSAND = 1000
MEANS = "means of the pixels, without their noise"
DRAWS = "Bernoulli draws of the pixels"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OwnSamples:
    """In nats per example. Source 001 gives one such row and leaves open which images it means."""

    TITLE: ClassVar[str] = "Bounds of test images and of the model's own samples"
    ABOUT: ClassVar[str] = (
        "The plain bound of images that were not trained on, and of images that the model imagined "
        "itself. The second tells how surprised the model is by its own pictures, not how good "
        "these are: a model that draws nothing is not surprised."
    )

    test: Spread
    target: str
    sampled: Spread
    drawn: str
    """How a sample became an image."""
    seed: int

    def rows(self) -> list[tuple[str, str]]:
        def told(s: Spread) -> str:
            average = f"{s.mean:.2f} nats on average (standard error {s.stderr:.2f})"
            return f"{average}, σ {s.sigma:.2f}, at most {s.most:.2f}"

        return [
            (f"{self.test.examples:,} test images", f"{told(self.test)} (target: {self.target})"),
            (f"{self.sampled.examples:,} own samples", f"{told(self.sampled)} ({self.drawn})"),
        ]


@torch.no_grad()
def thousand(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """The bound of the first 1,000 test images, and of 1,000 samples that are encoded again."""
    loader, measure = finished.loader("test"), finished.model.measure()
    test = []
    for _, batch in batches(loader, finished.device, THOUSAND):
        test.append(_bound(finished, batch))
        advance(sum(map(len, test)), 2 * THOUSAND)
    bernoulli = measure.likelihood.startswith("bernoulli")
    own, first = [], 0
    for images in finished.images(THOUSAND, wanted.seed):
        places = range(first, first + len(images))
        own.append(_bound(finished, _as_batch(finished, images, wanted.seed, places, bernoulli)))
        first += len(images)
        advance(THOUSAND + first, 2 * THOUSAND)
    return Found(
        value=OwnSamples(
            test=spread(torch.cat(test)),
            target=pixels(measure, loader.binarisation),
            sampled=spread(torch.cat(own)),
            drawn=DRAWS if bernoulli else MEANS,
            seed=wanted.seed,
        ),
        of=unlike_default(wanted, "seed"),
    )


def drawn(images: torch.Tensor, seed: int, places: range) -> torch.Tensor:
    """Bernoulli draws of pixel means (n, C, H, W); the same place gives the same draw."""
    chance = noise.uniform(seed, "sample/binarise", 0, places, tuple(images.shape[1:]))
    return (chance.to(images.device) < images).float()


def _as_batch(
    finished: Finished, images: torch.Tensor, seed: int, places: range, bernoulli: bool
) -> Batch:
    """Samples (n, C, H, W) as a batch that the model encodes, with noise of its own."""
    draws = noise.draw(finished.model.noise_shapes(), seed, "sample/encode", 0, places)
    return Batch(
        x=drawn(images, seed, places) if bernoulli else images,
        y=None,
        mask=torch.ones(len(images), dtype=torch.bool, device=finished.device),
        noise={name: value.to(finished.device) for name, value in draws.items()},
    )


def _bound(finished: Finished, batch: Batch) -> torch.Tensor:
    """(real examples,) in nats."""
    with finished.precision():
        return finished.model.weigh(batch)["bound"][batch.mask].double().cpu()
