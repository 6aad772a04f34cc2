"""The networks that play in ``dcgan.py``: generator, discriminator and the experiments' classifier.

Legend: B batch · C channels · H, W image height, width · Z noise size. Layers are those of figures
11 and 12 of source 004.
"""

from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from draw_model.batch_norm import BatchNorm
from draw_model.contract import Shape
from draw_model.gaussian import full_precision

LEAK = 0.2
"""Slope of the leaky ReLUs below 0: the DCGAN paper's; the source does not give its own."""
FIRST_SPREAD = 0.02
"""Standard deviation of first weights: the DCGAN paper's; the source once calls it a variance."""
WIDTHS = (16, 32, 64, 128)
"""Output channels of the discriminator's convolutions."""


def generator(first: Literal["4x4", "7x7"], z: int, shape: Shape) -> nn.Sequential:
    """Noise (B, Z) → pictures (B, C, H, W) in [−1, 1]; ``first`` planes are named for 28×28.

    7x7 is figure 11: planes of H/4×W/4 are doubled twice; as printed, no ReLU follows the first
    batch norm. Of 4x4 the source prints no table: here planes of half that size (rounded up) are
    doubled once more, by 128 → 128 channels, batch norm and ReLU, before the rest.
    """
    channels, quarter = shape[0], (shape[1] // 4, shape[2] // 4)
    planes, more = quarter, list[nn.Module]()
    if first == "4x4":
        planes = (-(-quarter[0] // 2), -(-quarter[1] // 2))
        # 2n − 1 from kernel 3, 2n from kernel 4
        kernel = (3 if quarter[0] % 2 else 4, 3 if quarter[1] % 2 else 4)
        up = nn.ConvTranspose2d(128, 128, kernel, stride=2, padding=1)
        more = [up, BatchNorm(128), nn.ReLU()]
    return nn.Sequential(
        *(nn.Linear(z, 128 * prod(planes)), nn.Unflatten(1, (128, *planes)), BatchNorm(128)),
        *more,
        *(nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), BatchNorm(64), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1), BatchNorm(64), nn.ReLU()),
        *(nn.ConvTranspose2d(64, channels, 3, padding=1), nn.Tanh()),
    )


class Discriminator(nn.Module):
    """Pictures (B, C, H, W) in [−1, 1] → logits (B,) of being real.

    ``count`` convolutions of stride 2, each followed by a leaky ReLU, dropout at ``rate`` and batch
    norm, in the order of figure 12 (the source's text would have batch norm first). The sigmoid is
    left to the cost.
    """

    def __init__(self, count: int, rate: float, shape: Shape) -> None:
        super().__init__()
        self.rate = rate
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        self.widths: list[int] = []
        """Values that dropout decides about after each convolution, for one example."""
        channels, height, width = shape
        for wider in WIDTHS[:count]:
            self.convolutions.append(nn.Conv2d(channels, wider, 3, stride=2, padding=1))
            self.norms.append(BatchNorm(wider))
            channels, height, width = wider, (height + 1) // 2, (width + 1) // 2
            self.widths.append(channels * height * width)
        self.answer = nn.Linear(self.widths[-1], 1)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """``noise`` (B, sum of ``widths``) is standard normal; dropout needs it in training."""
        drops = None
        if self.training and self.rate:
            assert noise is not None, "noise_shapes asks for it where there is dropout"
            drops = noise.split(self.widths, dim=1)
        for place, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            x = F.leaky_relu(convolution(x), LEAK)
            if drops is not None:
                x = dropped(x, drops[place].view_as(x), self.rate)
            x = norm(x)
        return self.answer(x.flatten(1))[:, 0]


class Classifier(nn.Module):
    """Pictures (B, C, H, W) → the penultimate layer (B, ``features``) and logits (B, ``classes``).

    The source's own is not printed ("the mentioned architecture" is missing): this is the
    discriminator's first three convolutions, without batch norm, so that it judges every generated
    picture alone.
    """

    def __init__(self, shape: Shape, features: int, classes: int) -> None:
        super().__init__()
        layers, channels = list[nn.Module](), shape[0]
        for wider in WIDTHS[:3]:
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.LeakyReLU(LEAK)]
            channels = wider
        flat = channels * -(-shape[1] // 8) * -(-shape[2] // 8)
        layers += [nn.Flatten(), nn.Linear(flat, features), nn.LeakyReLU(LEAK)]
        self.body, self.answer = nn.Sequential(*layers), nn.Linear(features, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return features, self.answer(features)


def dropped(x: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Dropout decided by standard normal ``noise`` (shaped as ``x``): 0 with probability ``rate``.

    A value is dropped where its normal lies below the quantile of ``rate``; the others are scaled
    by 1/(1 − rate), so that the mean stays.
    """
    quantile = float(torch.special.ndtri(torch.tensor(rate, dtype=torch.float64)))
    return x * (noise >= quantile) / (1 - rate)


def start(player: nn.Module, init: Literal["normal", "xavier"]) -> None:
    """Draws the first weights: N(0, 0.02²), or Xavier's uniform; biases are 0, batch norm is 1."""
    for layer in player.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if init == "normal":
                nn.init.normal_(layer.weight, std=FIRST_SPREAD)
            else:
                nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def frozen(player: nn.Module, *inputs: Any) -> Any:
    """``player``'s answer, differentiable by its inputs only; its running statistics stay."""
    held = {name: value.detach() for name, value in player.named_parameters()}
    held |= {name: value.clone() for name, value in player.named_buffers()}
    return torch.func.functional_call(player, held, inputs)


def match_softmax(target: Tensor, output: Tensor) -> Tensor:
    """KL(softmax target ‖ softmax output) in nats, (B, Z) and (B, Z) → (B,)."""
    known, guess = full_precision(target).log_softmax(1), full_precision(output).log_softmax(1)
    return (known.exp() * (known - guess)).sum(1)


def match_gaussian(target: Tensor, output: Tensor) -> Tensor:
    """KL between unit Gaussians around them in nats, ½‖target − output‖²: (B, Z) ×2 → (B,)."""
    return 0.5 * (full_precision(target) - full_precision(output)).square().sum(1)


MATCHES = {"softmax": match_softmax, "gaussian": match_gaussian}
"""How ``DcganConfig.match`` compares z₁ with the classifier's penultimate layer."""
