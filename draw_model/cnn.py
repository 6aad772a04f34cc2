"""One convolution and one hidden layer: what the classifiers with windows are measured against."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from draw_model.classifier import answers, check_pictures
from draw_model.contract import Batch, Measure, Model, Shape, Terms, check_choices, dice


@dataclass(frozen=True, kw_only=True)
class CnnConfig:
    """Which convolution, and how many units follow it.

    ``paper`` is "Convolutional, 2 layers" of DRAW's Table 1, which takes the name and the network
    from Mnih et al. (2014, §4.1): 8 filters of 10×10 with stride 5, then 256 units. That is read as
    one convolution and one hidden layer; the layer of class scores is not counted. ``source_000``
    is the same with another convolution, in that report's words "6 × 5 filters with stride 1": read
    as 6 filters of 5×5. Both put a ReLU after each layer; neither pads or pools.
    """

    kind: Literal["cnn"] = "cnn"
    variant: Literal["paper", "source_000"] = "paper"
    hidden: int = 256

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}; write 1 or more")
        check_choices(self)


@dataclass(frozen=True, kw_only=True)
class Convolution:
    filters: int
    side: int
    stride: int


VARIANTS = {
    "paper": Convolution(filters=8, side=10, stride=5),
    "source_000": Convolution(filters=6, side=5, stride=1),
}


class Cnn(Model):
    """The model of ``config`` for images of ``shape`` (C, H, W), 2 or more ``classes``.

    Layers start as PyTorch starts them. Raises ValueError for an image smaller than a filter.
    """

    def __init__(self, config: CnnConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        form = VARIANTS[config.variant]
        check_pictures(shape, classes, smallest=form.side)
        self.config, self.shape, self.classes = config, shape, classes
        channels, height, width = shape
        down, across = ((size - form.side) // form.stride + 1 for size in (height, width))
        self.network = nn.Sequential(
            nn.Conv2d(channels, form.filters, form.side, form.stride),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(form.filters * down * across, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, classes),
        )

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def measure(self) -> Measure:
        return dice(self.classes)

    def forward(self, batch: Batch) -> Terms:
        """``loss`` (B,) is −log p(y | x) in nats, ``correct`` (B,) 1 where the answer is y."""
        loss, correct = answers(self.classify(batch), batch.y)
        return {"loss": loss, "correct": correct}

    def classify(self, batch: Batch) -> Tensor:
        return self.network(batch.x)

    def first_kernels(self) -> Tensor:
        """(filters, C, side, side)."""
        first = self.network[0]
        assert isinstance(first, nn.Conv2d)
        return first.weight.detach()
