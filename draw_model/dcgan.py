"""The DCGAN of source 004, its studies and its two experiments: two or three players, one loss.

Legend: B batch · C channels · H, W image height, width · Z noise size. Pictures are in [0, 1] in
the batch and in what is generated; the players speak [−1, 1], the range of tanh.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from draw_model.batch_norm import real_part, settled, spread
from draw_model.contract import Batch, Measure, Model, Pictures, Shape, Terms, check_choices
from draw_model.dcgan_players import (
    MATCHES,
    Classifier,
    Discriminator,
    frozen,
    generator,
    start,
)
from draw_model.gaussian import full_precision

STRIDE = 0.5
"""Between the means of the ten Gaussians: 0, 0.5 … 4.5."""


@dataclass(frozen=True, kw_only=True)
class DcganConfig:
    """What decides a DCGAN, apart from the shape of its images.

    ``noise`` is Z. ``generator`` starts from 128 planes of this size (for 28×28 pictures) and has 4
    or 3 transposed convolutions. The discriminator has ``convolutions`` of them, each followed by
    dropout at rate ``dropout``. ``init`` of weights: N(0, 0.02²) or Xavier's uniform; biases are 0.

    ``noise_kind``: ``normal``, or an experiment, in which a classifier learns from the real
    pictures as a third player (the source trains one before) and adds a cost, ``guide``, to the
    generator's; ``guide_weight`` times, 1 as the source names no weight. In ``split`` the first
    half z₁ of the noise is matched by KL to the classifier's penultimate layer on the generated
    picture, after ``match_after`` training passes: the source says about 100 epochs, and its batch
    of 128 (given for its VAE) makes 469 of one. ``match`` says which distributions the two vectors
    stand for, which the source leaves open: ``softmax``, KL(softmax z₁ ‖ softmax output), is what
    the KL loss of common frameworks is given; ``gaussian`` are unit Gaussians around them, whose KL
    is ½‖z₁ − output‖². In ``ten_gaussians`` the noise has variance 1 around 0.5·k for a class k
    that is drawn evenly, and ``guide`` is the cross entropy of the classifier's answer with k.
    """

    kind: Literal["dcgan"] = "dcgan"
    noise: int = 100
    generator: Literal["4x4", "7x7"] = "7x7"
    convolutions: Literal[3, 4] = 4
    dropout: float = 0.0
    init: Literal["normal", "xavier"] = "normal"
    noise_kind: Literal["normal", "split", "ten_gaussians"] = "normal"
    guide_weight: float = 1.0
    match: Literal["softmax", "gaussian"] = "softmax"
    match_after: int = 46_900

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        check_choices(self)
        if self.noise < 2:
            raise ValueError(f"noise is {self.noise}; write 2 or more")
        if self.noise_kind == "split" and self.noise % 2:
            raise ValueError(f"noise is {self.noise}, but split halves it; write an even number")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; write 0 or more, below 1")
        if not (isfinite(self.guide_weight) and self.guide_weight >= 0):
            raise ValueError(f"guide_weight is {self.guide_weight}; write 0 or more")
        if self.match_after < 0:
            raise ValueError(f"match_after is {self.match_after}; write 0 or more")


class Dcgan(Model):
    """The model of ``config`` for images of ``shape`` (C, H, W), H and W divisible by 4.

    Raises ValueError for another shape, and for an experiment on data without classes.
    """

    passes: Tensor

    def __init__(self, config: DcganConfig, shape: Shape, classes: int = 1) -> None:
        super().__init__()
        if any(side < 4 or side % 4 for side in shape[1:]):
            raise ValueError(
                f"shape is {shape}, but a dcgan doubles its first planes twice; "
                "use height and width divisible by 4"
            )
        if config.noise_kind != "normal" and classes < 2:
            raise ValueError(
                f"noise_kind is {config.noise_kind}, which needs labels, but there is {classes} "
                "class; write normal, or use data with classes"
            )
        self.config, self.shape, self.classes = config, shape, classes
        self.generator = generator(config.generator, config.noise, shape)
        self.discriminator = Discriminator(config.convolutions, config.dropout, shape)
        for player in (self.generator, self.discriminator):
            start(player, config.init)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        if config.noise_kind != "normal":
            self.classifier = Classifier(shape, config.noise // 2, classes)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """The latent, and what decides about dropout and the class, where there are any."""
        shapes: dict[str, tuple[int, ...]] = {"z": (self.config.noise,)}
        if self.config.noise_kind == "ten_gaussians":
            shapes["class"] = (1,)
        if self.config.dropout:
            width = sum(self.discriminator.widths)
            shapes |= {"drop_real": (width,), "drop_fake": (width,)}
        return shapes

    def measure(self) -> Measure:
        return Measure(likelihood="adversarial", dimensions=prod(self.shape), chance=None)

    def forward(self, batch: Batch) -> Terms:
        """The players' costs, all (B,), in nats of a right answer.

        ``loss`` = ``discriminator_real`` + ``discriminator_fake`` + ``generator``, in an experiment
        + ``classifier`` + what ``guide`` weighs. The generator's is the non-saturating
        −log D(G(z)). ``accuracy_real`` and ``accuracy_fake`` (and ``accuracy_classifier``) are 1
        where the answer is right. All players learn at once, from the same weights; the usual loop
        lets the generator answer a discriminator that has just moved.

        In training an example's costs depend on the other real ones of its batch, through batch
        norm; never on padding, which costs 0. In evaluation they depend on nothing but itself.
        Raises ValueError for an experiment on a batch without classes.
        """
        real = real_part(batch)
        z, wanted = self.latent(real.noise)
        x, fake = 2 * real.x - 1, full_precision(self.generator(z))  # 2 × (R, C, H, W)
        drop_real, drop_fake = real.noise.get("drop_real"), real.noise.get("drop_fake")
        on_real = full_precision(self.discriminator(x, drop_real))  # (R,)
        on_fake = full_precision(self.discriminator(fake.detach(), drop_fake))  # (R,)
        # The same answers, through weights that do not learn from them.
        fooled = full_precision(frozen(self.discriminator, fake, drop_fake))  # (R,)
        terms = {
            "discriminator_real": -F.logsigmoid(on_real),
            "discriminator_fake": -F.logsigmoid(-on_fake),
            "generator": -F.logsigmoid(fooled),
        }
        loss = torch.stack(list(terms.values())).sum(0)
        terms |= {"accuracy_real": (on_real > 0).float(), "accuracy_fake": (on_fake < 0).float()}
        if self.config.noise_kind != "normal":
            experiment = self._experiment(x, real.y, fake, z, wanted)
            loss = loss + experiment["classifier"] + self._weight() * experiment["guide"]
            terms |= experiment
        if self.training:
            self.passes += 1
        return spread({"loss": loss, **terms}, batch.mask)

    def latent(self, draws: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """What the generator is given, (B, Z), and the class (B,) it stands for, if it has one."""
        z = draws["z"]
        if self.config.noise_kind != "ten_gaussians":
            return z, None
        even = torch.special.ndtr(draws["class"][:, 0])  # uniform in [0, 1]
        wanted = (even * self.classes).long().clamp(max=self.classes - 1)
        return z + STRIDE * wanted[:, None], wanted

    @torch.no_grad()
    def generate(self, draws: Mapping[str, Tensor]) -> Pictures:
        """Pictures from the noise ``z`` (B, Z), with the running statistics."""
        z, _ = self.latent(draws)
        return settled(self, lambda: {"images": (full_precision(self.generator(z)) + 1) / 2})

    def first_kernels(self) -> Tensor:
        """(16, C, 3, 3), of the discriminator: what it looks for in a picture."""
        first = self.discriminator.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight.detach()

    def _experiment(
        self, x: Tensor, y: Tensor | None, fake: Tensor, z: Tensor, wanted: Tensor | None
    ) -> Terms:
        """The classifier's own cost, and what it adds to the generator's; each (R,)."""
        if y is None:
            kind = self.config.noise_kind
            raise ValueError(f"noise_kind is {kind}, but the batch has no classes; give y")
        _, answer = self.classifier(x)
        output, judged = frozen(self.classifier, fake)
        if wanted is not None:
            guide = F.cross_entropy(full_precision(judged), wanted, reduction="none")
        else:
            first, _ = z.chunk(2, dim=1)  # z₁, (R, Z/2)
            guide = MATCHES[self.config.match](first, output)
        return {
            "classifier": F.cross_entropy(full_precision(answer), y, reduction="none"),
            "guide": guide,
            "accuracy_classifier": (answer.argmax(1) == y).float(),
        }

    def _weight(self) -> Tensor | float:
        if self.config.noise_kind == "ten_gaussians":
            return self.config.guide_weight
        return self.config.guide_weight * (self.passes >= self.config.match_after)
