"""The importance-weighted bound of a finished run, beside the plain one from the same draws."""

import math
from collections.abc import Iterator
from dataclasses import replace
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
    examples,
    pixels,
    spread,
    unlike_default,
)
from pipeline.values import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Importance:
    """In nats per example; ``tighter`` is plain minus weighted."""

    TITLE: ClassVar[str] = "Importance-weighted bound"
    ABOUT: ClassVar[str] = (
        "An upper bound on −log p(x) that comes closer the more draws of the latents it weighs "
        "(Burda, Grosse and Salakhutdinov 2016). Only numbers with the same number of draws and "
        "the same target compare."
    )

    split: str
    samples: int
    """K: draws of the latents for each example."""
    seed: int
    """Of the job: it decides the draws."""
    weighted: Spread
    plain: Spread
    """The mean over the same K draws of the bound with its KL in closed form."""
    tighter: Spread
    effective_samples: float
    """Mean over the examples of (Σ w)² / Σ w²: near 1, one draw decides and more would help."""
    target: str
    dimensions: int
    chance: float | None

    def rows(self) -> list[tuple[str, str]]:
        w = self.weighted
        chance = "" if self.chance is None else f" (a uniform guess: {self.chance:.1f} an example)"
        return [
            (
                f"{self.split} bound, K = {self.samples:,}",
                f"{w} nats over {w.examples:,} examples (target: {self.target})",
            ),
            ("plain bound, same draws", f"{self.plain} nats"),
            ("tighter by", f"{self.tighter} nats"),
            ("effective draws", f"{self.effective_samples:.1f} of {self.samples:,} on average"),
            ("per dimension", f"{w.mean / self.dimensions:.4f} nats{chance}"),
        ]


def importance(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """−log (1/K) Σ_k p(x, z_k)/q(z_k | x) of each example, with K = ``wanted.samples``.

    It never exceeds the plain bound in expectation and falls with K. For grey targets of Bernoulli
    pixels, log p is the mean over draws of the pixels, and both bound the mean of −log p(draw).
    """
    loader = finished.loader(wanted.split)
    count, measure = examples(loader, wanted.first), finished.model.measure()
    weighted, plain, equal = [], [], []
    for step, batch in batches(loader, finished.device, wanted.first):
        drawn = list(_drawn(finished, batch, step, wanted.samples))
        log_weights = torch.stack([weight for weight, _ in drawn])[:, batch.mask]  # (K, n)
        weighted.append(log_mean_bound(log_weights))
        equal.append(effective(log_weights))
        plain.append(torch.stack([bound for _, bound in drawn]).mean(0)[batch.mask])
        advance(min((step + 1) * loader.batch_size, count), count)
    bounds, plain_bounds = torch.cat(weighted), torch.cat(plain)  # (n,), nats
    return Found(
        value=Importance(
            split=wanted.split,
            samples=wanted.samples,
            seed=finished.job.train.seed,
            weighted=spread(bounds),
            plain=spread(plain_bounds),
            tighter=spread(plain_bounds - bounds),
            effective_samples=float(torch.cat(equal).mean()),
            target=pixels(measure, loader.binarisation),
            dimensions=measure.dimensions,
            chance=measure.chance,
        ),
        of=unlike_default(wanted, "split", "first", "samples"),
    )


def log_mean_bound(log_weights: torch.Tensor) -> torch.Tensor:
    """−log of the mean weight in nats, (K, n) → (n,), in float64 so that no digit is lost."""
    weights = log_weights.double()
    return math.log(len(weights)) - weights.logsumexp(0)


def effective(log_weights: torch.Tensor) -> torch.Tensor:
    """How many equal weights would vary as these do, (K, n) → (n,): (Σ w)² / Σ w²."""
    weights = log_weights.double()
    return (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp()


@torch.no_grad()
def _drawn(
    finished: Finished, batch: Batch, step: int, samples: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Log weight and plain bound (B,), float64, of each of K draws of the latents."""
    shapes, seed = finished.model.noise_shapes(), finished.job.train.seed
    for k in range(samples):
        draws = noise.draw(shapes, seed, f"importance/{k}", step, range(len(batch.mask)))
        draws = {name: value.to(finished.device) for name, value in draws.items()}
        with finished.precision():
            terms = finished.model.weigh(replace(batch, noise=draws))
        yield terms["log_weight"].double(), terms["bound"].double()
