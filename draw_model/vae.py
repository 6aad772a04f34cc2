"""The convolutional variational autoencoder that source 004 compares with its GAN.

Legend: B batch · C channels · H, W image height, width · Z latent size. The layers are those of the
source's figures 13 and 14; what these leave open is said where it is decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, prod
from typing import Literal

import torch
from torch import Tensor, nn

from draw_model.batch_norm import BatchNorm, real_part, settled, spread
from draw_model.contract import Batch, Measure, Model, Pictures, Shape, Terms, check_choices, coin
from draw_model.dcgan_players import start
from draw_model.draw import FIRST_SIGMA
from draw_model.gaussian import (
    bernoulli_nll,
    full_precision,
    gaussian_nll,
    kl_to_unit,
    log_ratio,
    sample,
)


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """What decides a VAE, apart from the shape of its images.

    ``latent`` is Z: 2 in the source, which also tried 100. ``likelihood`` of the pixels, which the
    source does not give: Bernoulli with mean σ(logit), or Gaussian with that mean and one learned
    σ, for grey targets.
    """

    kind: Literal["vae"] = "vae"
    latent: int = 2
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        if self.latent < 1:
            raise ValueError(f"latent is {self.latent}; write 1 or more")
        check_choices(self)


class Vae(Model):
    """The model of ``config`` for images of ``shape`` (C, H, W), H and W divisible by 4.

    The source's tables name no activations: here they are ReLU, inside the layers, so before batch
    norm, and none on μ, log σ and the logits. Weights start as Keras starts them (Glorot's uniform,
    biases 0), but those of log σ at 0. Batch norm has PyTorch's ε and momentum, and strided
    convolutions pad by 1 on both sides where Keras pads the far side only. Raises ValueError for
    another shape.
    """

    def __init__(self, config: VaeConfig, shape: Shape, classes: int = 1) -> None:
        super().__init__()
        if any(side < 4 or side % 4 for side in shape[1:]):
            raise ValueError(
                f"shape is {shape}, but a vae halves pictures twice; "
                "use height and width divisible by 4"
            )
        self.config, self.shape, self.classes = config, shape, classes
        channels, height, width = shape
        small = (128, height // 4, width // 4)
        self.encoder = nn.Sequential(
            *(nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(), BatchNorm(64)),
            *(nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.ReLU(), BatchNorm(64)),
            *(nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU(), BatchNorm(128)),
            *(nn.Flatten(), nn.Linear(prod(small), 100), nn.ReLU()),
        )
        self.mu = nn.Linear(100, config.latent)
        self.log_sigma = nn.Linear(100, config.latent)
        self.decoder = nn.Sequential(
            *(nn.Linear(config.latent, 100), nn.ReLU()),
            *(nn.Linear(100, prod(small)), nn.ReLU(), nn.Unflatten(1, small)),
            *(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), nn.ReLU(), BatchNorm(64)),
            *(nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1), nn.ReLU(), BatchNorm(64)),
            nn.ConvTranspose2d(64, channels, 3, padding=1),
        )
        start(self, "xavier")
        # From Glorot's start, single pictures have a σ of e⁹ within ten steps, at 10⁷ nats.
        nn.init.zeros_(self.log_sigma.weight)
        if config.likelihood == "gaussian":
            self.pixel_log_sigma = nn.Parameter(torch.tensor(log(FIRST_SIGMA)))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"z": (self.config.latent,)}

    def measure(self) -> Measure:
        if self.config.likelihood == "bernoulli":
            return coin(self.shape)
        return Measure(likelihood="gaussian", dimensions=prod(self.shape), chance=None)

    def forward(self, batch: Batch) -> Terms:
        """The bound on −log p(x) in nats: ``loss`` = ``reconstruction`` + ``kl``, each (B,).

        In training an example's cost depends on the other real ones of its batch, through batch
        norm; never on padding, which costs 0. In evaluation it depends on nothing but itself.
        """
        real = real_part(batch)
        mu, log_sigma = self.encode(real.x)
        logits = self._logits(sample(mu, log_sigma, real.noise["z"]))  # (R, C, H, W)
        reconstruction, kl = self._nll(logits, real.x), kl_to_unit(mu, log_sigma)  # 2 × (R,)
        terms = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
        return spread(terms, batch.mask)

    def weigh(self, batch: Batch) -> Terms:
        noise = batch.noise["z"]  # (B, Z)

        def terms() -> Terms:
            mu, log_sigma = self.encode(batch.x)
            reconstruction = self._nll(self._logits(sample(mu, log_sigma, noise)), batch.x)
            return {
                "log_weight": log_ratio(mu, log_sigma, noise) - reconstruction,
                "bound": reconstruction + kl_to_unit(mu, log_sigma),
            }

        return settled(self, terms)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ of the posterior, each (B, Z), of images (B, C, H, W)."""
        features = self.encoder(x)  # (B, 100)
        return self.mu(features), self.log_sigma(features)

    @torch.no_grad()
    def generate(self, draws: Mapping[str, Tensor]) -> Pictures:
        """Means of the pixels for latents ``z`` (B, Z), with the running statistics."""
        return settled(self, lambda: {"images": self._logits(draws["z"]).sigmoid()})

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Pictures:
        """As ``generate``, with z drawn from the posterior of each image."""
        z = settled(self, lambda: sample(*self.encode(batch.x), batch.noise["z"]))
        return self.generate({"z": z})

    def _logits(self, z: Tensor) -> Tensor:
        """What the sigmoid makes pixel means of, (B, Z) → (B, C, H, W)."""
        return full_precision(self.decoder(z))

    def _nll(self, logits: Tensor, x: Tensor) -> Tensor:
        """−log p(x | z), (B,)."""
        if self.config.likelihood == "bernoulli":
            return bernoulli_nll(logits, x)
        return gaussian_nll(logits.sigmoid(), self.pixel_log_sigma, x)
