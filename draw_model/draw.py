"""DRAW itself: which equation feeds which, for T glimpses, with or without attention on each side.

Legend: B batch · C channels · H, W image height, width · N window side · T glimpses (time steps) ·
Z latent size · D hidden size. Numbers in brackets are equations of Gregor et al. 2015.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import log, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from draw_model.attention import Attention, Window, check_window
from draw_model.contract import Batch, Measure, Model, Pictures, Terms, check_choices, coin
from draw_model.gaussian import (
    bernoulli_nll,
    full_precision,
    gaussian_nll,
    kl_to_unit,
    log_ratio,
    sample,
)
from draw_model.recurrent import CELLS, register_start

FIRST_SIGMA = 0.25
"""Of Gaussian pixels: about the spread of an untrained model's errors on pictures in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """What decides a DRAW model, apart from the shape of its images.

    ``steps`` is T, ``hidden`` D (of encoder and decoder), ``latent`` Z. ``read_n`` and ``write_n``
    are the sides of the windows; None reads, or writes, the whole image without attention.
    ``cell`` is the recurrent cell of both halves. ``sees`` is what read is given: [x, x̂] as in
    equation (4), the image x alone, or the error image x̂ alone; without ``privy`` the encoder is
    not told h_dec, its read window still is (variants of source 001). ``likelihood`` of the pixels:
    Bernoulli with mean σ(c_T), or Gaussian with that mean and one learned σ, for grey targets.
    ``learned_start`` learns c_0 and the first states (as the paper does); otherwise they are zeros.
    ``window_init`` is the standard deviation of the window layers' first weights: at 0.03 and
    D = 256 the sides of the first windows stray from the image's by a tenth, their centres by less.
    ``window_sigma`` is the first windows' σ in pixels, ``window_rate`` how fast their layers learn
    beside the rest (see ``Attention``); the paper gives neither.
    """

    kind: Literal["draw"] = "draw"
    steps: int = 10
    hidden: int = 256
    latent: int = 10
    read_n: int | None = 5
    write_n: int | None = 5
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    sees: Literal["both", "image", "error"] = "both"
    privy: bool = True
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    learned_start: bool = True
    window_init: float = 0.03
    window_sigma: float = 1.0
    window_rate: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        check_choices(self)
        for name in ("steps", "hidden", "latent"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write 1 or more")
        for name in ("read_n", "write_n"):
            n = getattr(self, name)
            if n is not None and n < 2:
                raise ValueError(
                    f"{name} is {n}, but a stride needs two filters (it is divided by N − 1); "
                    "write 2 or more, or null for no attention"
                )
        check_window(self.window_init, self.window_sigma, self.window_rate)


@dataclass(frozen=True, kw_only=True)
class Glimpse:
    """What one step leaves behind. ``canvas`` (B, C, H, W) is in logits.

    ``posterior`` (B, 2Z) is μ, then log σ; None where z came from the prior.
    """

    canvas: Tensor
    posterior: Tensor | None
    read_window: Window | None
    write_window: Window | None


class Draw(Model):
    """The model of ``config`` for images of ``shape`` (C, H, W).

    Linear layers start as PyTorch starts them, windows as ``Attention`` and cells as ``LSTM`` do.
    """

    first_canvas: Tensor

    def __init__(self, config: DrawConfig, shape: tuple[int, int, int], classes: int = 1) -> None:
        super().__init__()
        self.config, self.shape, self.classes = config, shape, classes
        channels, pixels = shape[0], prod(shape)
        hidden, latent, learned = config.hidden, config.latent, config.learned_start
        read_n, write_n = config.read_n, config.write_n
        images = 2 if config.sees == "both" else 1  # [x, x̂] or one of them
        glimpse = images * (channels * read_n**2 if read_n else pixels)
        patch = channels * write_n**2 if write_n else pixels
        cell = CELLS[config.cell]
        self.encoder = cell((glimpse, hidden) if config.privy else (glimpse,), hidden, learned)
        self.posterior = nn.Linear(hidden, 2 * latent)
        self.decoder = cell((latent,), hidden, learned)
        self.patch = nn.Linear(hidden, patch)
        first = config.window_init, config.window_sigma, config.window_rate
        self.reader = Attention(hidden, shape, read_n, *first) if read_n else None
        self.writer = Attention(hidden, shape, write_n, *first) if write_n else None
        register_start(self, "first_canvas", shape, learned)
        if config.likelihood == "gaussian":
            self.log_sigma = nn.Parameter(torch.tensor(log(FIRST_SIGMA)))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"z": (self.config.steps, self.config.latent)}

    def measure(self) -> Measure:
        if self.config.likelihood == "bernoulli":
            return coin(self.shape)
        return Measure(likelihood="gaussian", dimensions=prod(self.shape), chance=None)

    def forward(self, batch: Batch) -> Terms:
        """The bound on −log p(x) in nats, and its parts; equation (12).

        ``loss`` = ``reconstruction`` + ``kl``, each (B,); ``kl_per_step`` is (B, T).
        """
        return self._bound(batch.x, self._look_and_draw(batch.x, batch.noise["z"]))

    def weigh(self, batch: Batch) -> Terms:
        return self._weighed(batch, self._look_and_draw(batch.x, batch.noise["z"]))

    def _weighed(self, batch: Batch, drawn: Iterator[Glimpse]) -> Terms:
        """As ``weigh``, of what was drawn of the images.

        z_t depends on those before it: the ratio of prior and posterior is a product over t.
        """
        glimpses = list(drawn)
        terms = self._bound(batch.x, iter(glimpses))
        posteriors = [glimpse.posterior for glimpse in glimpses if glimpse.posterior is not None]
        mu, log_sigma = torch.stack(posteriors, dim=1).chunk(2, dim=2)  # 2 × (B, T, Z)
        ratio = log_ratio(mu, log_sigma, batch.noise["z"]).sum(1)  # (B,)
        return {"log_weight": ratio - terms["reconstruction"], "bound": terms["loss"]}

    def _bound(self, x: Tensor, glimpses: Iterator[Glimpse]) -> Terms:
        """The terms of ``forward`` for images (B, C, H, W) and what was drawn of them."""
        posteriors: list[Tensor] = []
        for glimpse in glimpses:
            assert glimpse.posterior is not None
            posteriors.append(glimpse.posterior)
        mu, log_sigma = torch.stack(posteriors, dim=1).chunk(2, dim=2)  # 2 × (B, T, Z)
        kl_per_step = kl_to_unit(mu, log_sigma)  # (B, T)                      (10)
        reconstruction = self._nll(glimpse.canvas, x)  # (B,)                  (9)
        kl = kl_per_step.sum(1)  # (B,)                                        (11)
        return {
            "loss": reconstruction + kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "kl_per_step": kl_per_step,
        }

    @torch.no_grad()
    def generate(self, draws: Mapping[str, Tensor]) -> Pictures:
        """Pictures from z ~ N(0, I) at every step; equations (13) to (16).

        ``canvases`` are σ(c_t) and ``images`` the last of them: the means of the pixels, which
        look smoother than Bernoulli draws from those means would.
        """
        return self._pictures(self._imagine(draws["z"]))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Pictures:
        """As ``generate`` (means, not draws), with z from the posterior of each image."""
        return self._pictures(self._look_and_draw(batch.x, batch.noise["z"]))

    def _look_and_draw(
        self, x: Tensor, noise: Tensor, heard: tuple[Tensor, ...] = ()
    ) -> Iterator[Glimpse]:
        """Images (B, C, H, W) and noise (B, T, Z) → T glimpses.

        ``heard`` (B, ·) is what a variant tells the encoder at every step besides.
        """
        encoder, decoder = self.encoder.first(len(x)), self.decoder.first(len(x))
        canvas = self.first_canvas.expand_as(x)  # c_0, (B, C, H, W)
        for epsilon in noise.unbind(1):  # T × (B, Z)
            error = x - canvas.sigmoid()  # x̂, (B, C, H, W)                   (3)
            seen, window = self._read(x, error, decoder.h)  # (B, ·)           (4)
            told = (seen, *heard, decoder.h) if self.config.privy else (seen, *heard)
            encoder = self.encoder(torch.cat(told, dim=1), encoder)  #         (5)
            posterior = self.posterior(encoder.h)  # (B, 2Z)                   (1)(2)
            mu, log_sigma = posterior.chunk(2, dim=1)  # 2 × (B, Z)
            z = sample(mu, log_sigma, epsilon)  # (B, Z)                       (6)
            decoder, canvas, writing = self._draw(z, decoder, canvas)
            yield Glimpse(
                canvas=canvas, posterior=posterior, read_window=window, write_window=writing
            )

    def _imagine(self, draws: Tensor) -> Iterator[Glimpse]:
        """Latents (B, T, Z) → T glimpses that saw no image."""
        decoder = self.decoder.first(len(draws))
        canvas = self.first_canvas.expand(len(draws), *self.shape)
        for z in draws.unbind(1):  # T × (B, Z)                                (13)
            decoder, canvas, window = self._draw(z, decoder, canvas)  #        (14)(15)
            yield Glimpse(canvas=canvas, posterior=None, read_window=None, write_window=window)

    def _read(self, x: Tensor, error: Tensor, h: Tensor) -> tuple[Tensor, Window | None]:
        """What the encoder sees of the image and of its error, flat, (B, 2CN² or 2CHW).

        Half as wide where it is to see one of them only.
        """
        sees = {"both": (x, error), "image": (x,), "error": (error,)}[self.config.sees]
        images = torch.cat(sees, dim=1)  # (B, 2C or C, H, W)
        if self.reader is None:
            return images.flatten(1), None  #                                  (17)
        window = self.reader(h)
        return self.reader.read(window, images).flatten(1), window  #          (27)

    def _draw(self, z: Tensor, decoder: Any, canvas: Tensor) -> tuple[Any, Tensor, Window | None]:
        """One step of the decoder: (B, Z) and what was there → what is there now."""
        decoder = self.decoder(z, decoder)  #                                  (7)
        patch = self.patch(decoder.h)  # (B, CN² or CHW)                       (18)(28)
        if self.writer is None:
            return decoder, canvas + full_precision(patch).view_as(canvas), None  # (8)
        window = self.writer(decoder.h)
        square = patch.view(len(z), self.shape[0], window.n, window.n)  # (B, C, N, N)
        return decoder, canvas + self.writer.write(window, square), window  #  (8)(29)

    def _nll(self, canvas: Tensor, x: Tensor) -> Tensor:
        """−log D(x | c_T), (B,)."""
        if self.config.likelihood == "bernoulli":
            return bernoulli_nll(canvas, x)
        return gaussian_nll(canvas.sigmoid(), self.log_sigma, x)

    @staticmethod
    def _pictures(glimpses: Iterator[Glimpse]) -> Pictures:
        steps = list(glimpses)
        canvases = torch.stack([step.canvas for step in steps], dim=1).sigmoid()  # (16)
        pictures = {"images": canvases[:, -1], "canvases": canvases}
        for name in ("read_window", "write_window"):
            windows = [w.as_picture() for s in steps if (w := getattr(s, name)) is not None]
            if windows:
                pictures[f"{name}s"] = torch.stack(windows, dim=1)  # (B, T, 4)
        return pictures
