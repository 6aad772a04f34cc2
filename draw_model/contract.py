"""What the pipeline may know of a model, and a model of the pipeline: Batch in, Terms out.

A model answers two questions: what does this batch cost each example, and what do you imagine?
It never takes a mean over the batch (the caller divides by the global count of real examples) and
draws no random numbers in ``forward`` (they arrive in the batch), so a loss is a pure function of
weights and batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import log, prod
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from draw_model import noise

Terms = dict[str, Tensor]
"""Per-example tensors, (B,) or (B, T). ``loss`` (B,) is minimised; the others are reported. A
classifier adds ``correct`` (B,), 1 where its answer is right."""

Shape = tuple[int, ...]
"""Of one example: (C, H, W) of a picture, (L,) of a text."""

Pictures = dict[str, Tensor]
"""What a picture needs, by name. A model that makes pictures gives ``images`` (B, C, H, W) in
[0, 1]; one that draws or looks in steps adds ``canvases`` (B, T, C, H, W) in [0, 1], and with
attention ``read_windows`` and ``write_windows`` (B, T, 4): centre x, centre y, side (N − 1)δ and
σ, all in pixels, where 0 is the centre of the first pixel. A classifier with windows gives what it
looked at as ``canvases``; a model of text gives ``codes`` (B, L), int64. A model that imagines
nothing gives none of them."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a loss is a measure of, so that only equals are compared.

    ``likelihood`` names the distribution of the target: bernoulli, gaussian, class, characters, or
    adversarial (no likelihood at all). ``dimensions`` is the number of values it is a distribution
    of. ``chance`` is the loss, in nats an example, of a uniform guess, where there is one.
    """

    likelihood: str
    dimensions: int
    chance: float | None


def coin(shape: Shape) -> Measure:
    """Bernoulli pixels: a fair coin costs ln 2 for each value."""
    return Measure(likelihood="bernoulli", dimensions=prod(shape), chance=prod(shape) * log(2))


def dice(classes: int) -> Measure:
    """One of ``classes`` answers."""
    return Measure(likelihood="class", dimensions=1, chance=log(classes))


def check_choices(config: Any) -> None:
    """Raises ValueError, in one line, for a value that its field of a dataclass does not offer."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            known = ", ".join(str(one) for one in get_args(hint))
            raise ValueError(f"{name} is {value!r}; write one of {known}")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's part of a global batch.

    x: (B, C, H, W) float32 in [0, 1], or (B, L) int64 characters. y: (B,) int64 classes, or None.
    mask: (B,) bool, False for padding. noise: name → (B, *shape) float32 standard normal, shapes
    as ``Model.noise_shapes``.
    """

    x: Tensor
    y: Tensor | None
    mask: Tensor
    noise: Mapping[str, Tensor]

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        return Batch(
            x=self.x.to(device, non_blocking=True),
            y=None if self.y is None else self.y.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            noise={k: v.to(device, non_blocking=True) for k, v in self.noise.items()},
        )


class Model(nn.Module, ABC):
    """Base of all models. ``shape`` is that of one example, ``classes`` how many kinds there are.

    A model with two players (a GAN) is one model: its ``loss`` is the sum of theirs, and each cuts
    the gradient that is not its own, so that one backward pass teaches both.
    """

    AXES: ClassVar[int] = 3
    """Of an example that this model reads: 3 for pictures (C, H, W), 1 for texts (L,)."""

    shape: Shape
    classes: int = 1

    @abstractmethod
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the standard normal noise that one example needs."""

    @abstractmethod
    def forward(self, batch: Batch) -> Terms:
        """Cost of each example, in nats where the model has a likelihood."""

    def measure(self) -> Measure:
        """What ``loss`` measures."""
        return coin(self.shape)

    def weigh(self, batch: Batch) -> Terms:
        """What an importance-weighted bound needs of one draw of the latents; else nothing.

        ``log_weight`` (B,) is log p(x, z) − log q(z | x) in nats at the z of ``batch.noise``, and
        ``bound`` (B,) the plain bound at the same z, with its KL in closed form.
        """
        return {}

    def classify(self, batch: Batch) -> Tensor | None:
        """Logits (B, classes) of the answers to ``batch.x``, of a model that classifies."""
        return None

    def generate(self, draws: Mapping[str, Tensor]) -> Pictures:
        """Imagine one picture for each row of ``draws`` (as ``noise_shapes``), if it can."""
        return {}

    def reconstruct(self, batch: Batch) -> Pictures:
        """What the model makes of these examples, in the same form as ``generate``."""
        return {}

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Pictures:
        """``count`` imagined pictures; the same seed gives the same pictures."""
        device = next(self.parameters()).device
        draws = noise.draw(self.noise_shapes(), seed, "sample", 0, range(count))
        return self.generate({name: value.to(device) for name, value in draws.items()})

    def fake_batch(self, count: int, seed: int = 0) -> Batch:
        """A batch of random pictures that fits this model, for tests and benchmarks."""
        x = noise.uniform(seed, "fake/x", 0, range(count), self.shape)
        y = noise.uniform(seed, "fake/y", 0, range(count), (1,))[:, 0]
        return Batch(
            x=(x < 0.5).float(),
            y=(y * self.classes).long(),
            mask=torch.ones(count, dtype=torch.bool),
            noise=noise.draw(self.noise_shapes(), seed, "fake", 0, range(count)),
        )
