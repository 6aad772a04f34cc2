"""DRAW with a convolutional network in its encoder: Models I, II and III of source 001.

The source is a set of slides: it names three models, their pictures and the size of their first
kernels. What it leaves open is a field of the config, or is said where it is decided.

Legend: B batch · C channels · H, W image height, width · Z latent size · D hidden size · M filters
of the first convolution · E features · K classes.
"""

from dataclasses import dataclass, fields, replace
from math import isfinite, prod
from typing import Literal

import torch
from torch import Tensor, nn

from draw_model.attention import Window
from draw_model.classifier import answers, check_pictures
from draw_model.contract import Batch, Measure, Pictures, Shape, Terms, check_choices
from draw_model.draw import Draw, DrawConfig
from draw_model.recurrent import LSTM

SIDE = 5
"""Of all kernels; the source shows first kernels of 5×5."""

KERNELS = {"each_step": 32, "supervised": 16, "convolutional": 32}
"""Model → M; the source shows 32, 16 and 32 first kernels."""

ONLY_OF = {"convolves": "each_step", "class_weight": "supervised"}
"""Field → the one model that it means something to."""


@dataclass(frozen=True, kw_only=True)
class ConvDrawConfig:
    """What decides one of the three models, apart from its images. Each is DRAW, and besides:

    ``each_step`` (I): the encoder hears what it reads and, at every step anew, features of what
    ``convolves`` names: [x, x̂] (``both``), ``image`` x, ``error`` x̂, or the ``glimpse`` that was
    read. The source does not say which. The default is both whole images: a convolution at each
    step makes sense only over what changes, which x does not, and a glimpse of 5×5 has room for
    one kernel.

    ``supervised`` (II): a digit classifier looks at x, and the encoder hears it at two places,
    which the source does not name. Here they are its features and its answer (the softmax of its
    scores): what it saw, and what it made of that. Its cross entropy is learnt together with the
    bound, at ``class_weight``, which the source does not give; at 1 both are in nats. The bound
    teaches the classifier too. Classes are a target, never an input, so the bound stays one on
    −log p(x).

    ``convolutional`` (III): the encoder reads nothing (``read_n`` is None) and hears the features
    of x instead, and h_dec as ever. Nothing but the bound teaches them.

    ``kernels`` is M; None takes the source's number. ``features`` is E. The other fields are
    DRAW's; the models may differ from DRAW in their encoder only, so the variants of its cells and
    likelihoods are not offered.
    """

    kind: Literal["conv_draw"] = "conv_draw"
    model: Literal["each_step", "supervised", "convolutional"] = "each_step"
    kernels: int | None = None
    features: int = 256
    convolves: Literal["both", "image", "error", "glimpse"] = "both"
    class_weight: float = 1.0
    steps: int = 10
    hidden: int = 256
    latent: int = 10
    read_n: int | None = 5
    write_n: int | None = 5
    learned_start: bool = True
    window_init: float = 0.03
    window_sigma: float = 1.0
    window_rate: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        check_choices(self)
        for name in ("kernels", "features"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write 1 or more")
        if not (isfinite(self.class_weight) and self.class_weight >= 0):
            raise ValueError(f"class_weight is {self.class_weight}; write 0 or more")
        for field in fields(self):
            only, value = ONLY_OF.get(field.name), getattr(self, field.name)
            if only not in (None, self.model) and value != field.default:
                raise ValueError(
                    f"{field.name} is {value}, but only model {only} uses it; leave it"
                )
        if self.model == "convolutional" and self.read_n is not None:
            raise ValueError(
                f"read_n is {self.read_n}, but model convolutional reads no window; write null"
            )
        self.as_draw()

    def as_draw(self) -> DrawConfig:
        """The DRAW that this model is besides. Raises ValueError as ``DrawConfig`` does."""
        return DrawConfig(
            steps=self.steps,
            hidden=self.hidden,
            latent=self.latent,
            read_n=self.read_n,
            write_n=self.write_n,
            learned_start=self.learned_start,
            window_init=self.window_init,
            window_sigma=self.window_sigma,
            window_rate=self.window_rate,
        )


def convolutions(shape: tuple[int, int, int], kernels: int, features: int) -> nn.Sequential:
    """Images (B, C, H, W) → features (B, E).

    The source tells of more than one layer and shows the first. Here a second follows with twice
    as many kernels, and a linear layer; ReLU after each. Both convolutions have stride 2, which
    costs a quarter of a convolution that is pooled afterwards. Padding keeps the border; sides are
    halved and rounded up, so every image has a size that fits.
    """
    channels, height, width = shape
    small = (2 * kernels, -(-height // 4), -(-width // 4))
    return nn.Sequential(
        *(nn.Conv2d(channels, kernels, SIDE, stride=2, padding=SIDE // 2), nn.ReLU()),
        *(nn.Conv2d(kernels, 2 * kernels, SIDE, stride=2, padding=SIDE // 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(prod(small), features), nn.ReLU()),
    )


class ConvDraw(Draw):
    """The model of ``config`` for images of ``shape`` (C, H, W).

    Model II needs 2 or more ``classes``, and raises ValueError for fewer. Layers start as PyTorch
    starts them, the rest as in ``Draw``.
    """

    def __init__(self, config: ConvDrawConfig, shape: Shape, classes: int = 1) -> None:
        supervised = config.model == "supervised"
        check_pictures(shape, classes if supervised else 2)
        channels, height, width = shape
        super().__init__(config.as_draw(), (channels, height, width), classes)
        self.variant = config
        n, looks = config.read_n, channels
        if config.model == "each_step" and config.convolves in ("both", "glimpse"):
            looks = 2 * channels
        if config.convolves == "glimpse" and n:
            height = width = n
        kernels = config.kernels or KERNELS[config.model]
        self.convolutions = convolutions((looks, height, width), kernels, config.features)
        if supervised:
            self.scores = nn.Linear(config.features, classes)
        seen = 2 * (channels * n**2 if n else prod(shape))  # [x, x̂]
        parts = {
            "each_step": (seen, config.features, config.hidden),
            "supervised": (seen, config.features, classes, config.hidden),
            "convolutional": (config.features, config.hidden),
        }
        self.encoder = LSTM(parts[config.model], config.hidden, config.learned_start)

    def measure(self) -> Measure:
        """Of Model II, whose loss has the classes in it too, nothing that DRAW's compares with."""
        pixels = super().measure()
        if self.variant.model != "supervised":
            return pixels
        return replace(pixels, likelihood="bernoulli and class", chance=None)

    def forward(self, batch: Batch) -> Terms:
        """As ``Draw.forward``; Model II adds ``bound``, ``class_loss`` and ``correct``, each (B,).

        There ``loss`` = ``bound`` + class_weight · ``class_loss``, and ``bound`` alone is the bound
        on −log p(x).
        """
        heard, scores = self._hear(batch.x)
        terms = self._bound(batch.x, self._look_and_draw(batch.x, batch.noise["z"], heard))
        if scores is None:
            return terms
        class_loss, correct = answers(scores, batch.y)
        bound = terms["loss"]
        loss = bound + self.variant.class_weight * class_loss
        return terms | {"loss": loss, "bound": bound, "class_loss": class_loss, "correct": correct}

    def weigh(self, batch: Batch) -> Terms:
        heard, _ = self._hear(batch.x)
        return self._weighed(batch, self._look_and_draw(batch.x, batch.noise["z"], heard))

    def classify(self, batch: Batch) -> Tensor | None:
        _, scores = self._hear(batch.x)
        return scores

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Pictures:
        heard, _ = self._hear(batch.x)
        return self._pictures(self._look_and_draw(batch.x, batch.noise["z"], heard))

    def first_kernels(self) -> Tensor:
        """(M, C or 2C, 5, 5), x before x̂ where both are: the source shows pictures of them."""
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight.detach()

    def _hear(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """What the encoder hears alike at every step, (B, ·), and the class scores of Model II."""
        if self.variant.model == "each_step":
            return (), None
        features = self.convolutions(x)  # (B, E)
        if self.variant.model == "convolutional":
            return (features,), None
        scores = self.scores(features)  # (B, K)
        return (features, scores.softmax(1)), scores

    def _read(self, x: Tensor, error: Tensor, h: Tensor) -> tuple[Tensor, Window | None]:
        """What the encoder sees at this step: with Model I, the features of it too."""
        if self.variant.model == "convolutional":
            return x.new_empty(len(x), 0), None
        seen, window = super()._read(x, error, h)
        if self.variant.model == "supervised":
            return seen, window
        if self.variant.convolves == "glimpse":
            side = x.shape[2:] if window is None else (window.n, window.n)
            images = seen.view(len(x), -1, *side)  # (B, 2C, N, N)
        elif self.variant.convolves == "both":
            images = torch.cat([x, error], dim=1)  # (B, 2C, H, W)
        else:
            images = x if self.variant.convolves == "image" else error
        return torch.cat([seen, self.convolutions(images)], dim=1), window
