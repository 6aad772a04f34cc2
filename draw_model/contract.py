"""What the pipeline may know of a model, and a model of the pipeline: Batch in, Terms out.

A model answers two questions: what does this batch cost each example, and what do you imagine?
It never takes a mean over the batch (the caller divides by the global count of real examples) and
draws no random numbers in ``forward`` (they arrive in the batch), so a loss is a pure function of
weights and batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from draw_model import noise

Terms = dict[str, Tensor]
"""Per-example tensors, (B,) or (B, T). ``loss`` (B,) is minimised; the others are reported."""

Pictures = dict[str, Tensor]
"""What a picture needs, by name. ``images`` (B, C, H, W) in [0, 1] is always there; a model that
draws in steps adds ``canvases`` (B, T, C, H, W) in [0, 1], and with attention ``read_windows`` and
``write_windows`` (B, T, 4): centre x, centre y, side (N − 1)δ and σ, all in pixels, where 0 is
the centre of the first pixel."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's part of a global batch.

    x: (B, C, H, W) float32 in [0, 1]. y: (B,) int64 classes, or None. mask: (B,) bool, False for
    padding. noise: name → (B, *shape) float32 standard normal, shapes as ``Model.noise_shapes``.
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
    """Base of all models. ``shape`` is (C, H, W) of one image."""

    shape: tuple[int, int, int]

    @abstractmethod
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the standard normal noise that one example needs."""

    @abstractmethod
    def forward(self, batch: Batch) -> Terms:
        """Cost of each example, in nats where the model has a likelihood."""

    @abstractmethod
    def generate(self, draws: Mapping[str, Tensor]) -> Pictures:
        """Imagine one picture for each row of ``draws`` (as ``noise_shapes``)."""

    @abstractmethod
    def reconstruct(self, batch: Batch) -> Pictures:
        """What the model makes of these images, in the same form as ``generate``."""

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Pictures:
        """``count`` imagined pictures; the same seed gives the same pictures."""
        device = next(self.parameters()).device
        draws = noise.draw(self.noise_shapes(), seed, "sample", 0, range(count))
        return self.generate({name: value.to(device) for name, value in draws.items()})

    def fake_batch(self, count: int, seed: int = 0) -> Batch:
        """A batch of random pictures that fits this model, for tests and benchmarks."""
        x = noise.uniform(seed, "fake/x", 0, range(count), self.shape)
        return Batch(
            x=(x < 0.5).float(),
            y=(x.flatten(1)[:, 0] * 10).long(),
            mask=torch.ones(count, dtype=torch.bool),
            noise=noise.draw(self.noise_shapes(), seed, "fake", 0, range(count)),
        )
