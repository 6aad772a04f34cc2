"""DRAW's reading half, which names what it looks at: differentiable RAM (Gregor et al. 2015, §4.1).

Legend: B batch · C channels · H, W image height, width · N window side · T glimpses · D hidden size
· K classes. Numbers in brackets are the paper's equations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from draw_model.attention import Attention, Window, check_window, limit_gradients, too_narrow
from draw_model.contract import Batch, Measure, Model, Pictures, Shape, Terms, dice
from draw_model.gaussian import autocast_precision, full_precision
from draw_model.recurrent import LSTM


def check_pictures(shape: Shape, classes: int, smallest: int = 1) -> None:
    """Raises ValueError, in one line, where no classifier of pictures of this shape can be."""
    if len(shape) != 3 or min(shape[1:]) < smallest:
        sides = f", each side {smallest} or more" if smallest > 1 else ""
        raise ValueError(
            f"shape is {list(shape)}; this model takes pictures [channels, height, width]{sides}"
        )
    if classes < 2:
        raise ValueError(f"the data has {classes} classes; a classifier needs 2 or more")


def answers(logits: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits (B, K) and classes (B,) → −log p(y) in nats and 1 where the likeliest is y, (B,) both.

    Of equal logits the first counts as the answer.
    """
    assert y is not None, "the loader gives the classes of every picture"
    logits = full_precision(logits)
    return F.cross_entropy(logits, y, reduction="none"), (logits.argmax(1) == y).float()


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """What decides a classifier with a window, apart from its images and classes.

    ``steps`` is T, ``hidden`` D, ``read_n`` N; defaults are the paper's (Table 3, cluttered MNIST).
    ``window_init``, ``window_sigma``, ``window_rate`` and ``learned_start`` as for DRAW: the first
    window spans about all of x. ``window_limit`` bounds the gradient of an example in the five
    numbers of each of its windows (see ``limit_gradients``). ``zoom_to`` makes windows close in
    slowly in training: from the whole image in equal steps to this share of its side (see
    ``too_narrow``); a window may be wider, and the last of 8 then still can be as narrow as it is
    of use. Without it, 8 windows are hard to teach.
    """

    kind: Literal["classifier"] = "classifier"
    steps: int = 8
    hidden: int = 256
    read_n: int = 12
    window_init: float = 0.03
    window_sigma: float = 1.0
    window_rate: float = 1.0
    window_limit: float | None = None
    zoom_to: float | None = None
    learned_start: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        for name, least in (("steps", 1), ("hidden", 1), ("read_n", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; write {least} or more")
        limits = self.window_rate, self.window_limit, self.zoom_to
        check_window(self.window_init, self.window_sigma, *limits)


class Classifier(Model):
    """The model of ``config`` for images of ``shape`` (C, H, W), 2 or more ``classes``.

    There is no decoder: the window of step t comes from h_enc of step t − 1, and x is read alone,
    without an error image. The LSTM hears the glimpse and, as every LSTM, its own h once: CN² + D
    inputs. (A known port joins h to the glimpse as well, which hears it twice and adds 4D² weights
    that can only repeat others.)
    """

    def __init__(self, config: ClassifierConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        check_pictures(shape, classes)
        self.config, self.shape, self.classes = config, shape, classes
        channels, height, width = shape
        hidden, n = config.hidden, config.read_n
        self.encoder = LSTM((channels * n**2,), hidden, config.learned_start)
        first = config.window_init, config.window_sigma, config.window_rate
        self.reader = Attention(hidden, (channels, height, width), n, *first)
        self.answer = nn.Linear(hidden, classes)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def measure(self) -> Measure:
        return dice(self.classes)

    def forward(self, batch: Batch) -> Terms:
        """``loss`` (B,) is −log p(y | x) in nats, ``correct`` (B,) 1 where the answer is y.

        With ``zoom_to`` there is ``narrow`` (B,), which ``loss`` includes in training alone.
        """
        hidden, windows = zip(*self._look(batch.x), strict=True)
        loss, correct = answers(self.answer(hidden[-1]), batch.y)
        if self.config.window_limit is not None:
            limit_gradients(loss, windows, self.config.window_limit)
        terms = {"loss": loss, "correct": correct}
        if self.config.zoom_to is not None:
            terms["narrow"] = too_narrow(windows, self.config.zoom_to)
            terms["loss"] = loss + terms["narrow"] * self.training
        return terms

    def classify(self, batch: Batch) -> Tensor:
        *_, (h, _) = self._look(batch.x)
        return self.answer(h)

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Pictures:
        """The image at every step as ``canvases``, with the ``read_windows`` on it."""
        windows = [window.as_picture() for _, window in self._look(batch.x)]
        steps = len(windows)
        canvases = batch.x[:, None].expand(-1, steps, -1, -1, -1)
        return {"canvases": canvases, "read_windows": torch.stack(windows, dim=1)}

    def _look(self, x: Tensor) -> Iterator[tuple[Tensor, Window]]:
        """Images (B, C, H, W) → h after each of T glimpses, (B, D), and where it looked."""
        state = self.encoder.first(len(x))
        x = autocast_precision(x)  # once, for all T
        for _ in range(self.config.steps):
            window = self.reader(state.h)  #                                   (21)–(24)
            glimpse = self.reader.read(window, x).flatten(1)  # (B, CN²)       (27)
            state = self.encoder(glimpse, state)  #                            (5)
            yield state.h, window
