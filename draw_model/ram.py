"""RAM: glimpses cut out at sampled places, taught where to look by reward (Mnih et al. 2014).

Legend: B batch · C channels · H, W image height, width · A pixels along one axis (H or W) ·
N patch side · S scales · T glimpses · D hidden size. Places l are (x, y) in units of half the
image: (0, 0) is its centre and (−1, −1) the outer corner of its first pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from draw_model.classifier import answers, check_pictures
from draw_model.contract import Batch, Measure, Model, Pictures, Shape, Terms, check_choices
from draw_model.gaussian import full_precision

SENSES = 128
"""Units that hear what a glimpse shows, and as many that hear where it was (Mnih et al. 2014)."""


@dataclass(frozen=True, kw_only=True)
class RamConfig:
    """What decides a RAM, apart from its images and classes.

    ``glimpses`` is T, ``patch`` N, ``scales`` S: squares of side N, 2N, … 2^(S−1) N around one
    place, each averaged down to N × N. ``hidden`` is D. ``sigma`` is the fixed standard deviation
    of the places, in half images; the paper gives none. At 0.1, a place strays by 5 pixels of 100:
    less than a patch of 12, so the policy still decides what is seen, and enough to find better.

    ``policy_teaches`` is how far the policy's gradient reaches: the layer that sets the mean of the
    next place, as the paper trains it, or the ``states`` too, from which that mean is read. The
    second is the whole gradient of the expected reward, but a noisy one: on cluttered 60×60 digits
    it took some four times the steps to 20 % of right answers, one run each.
    """

    kind: Literal["ram"] = "ram"
    glimpses: int = 8
    patch: int = 12
    scales: int = 4
    hidden: int = 256
    sigma: float = 0.1
    policy_teaches: Literal["location", "states"] = "location"

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        for name in ("glimpses", "patch", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; write 1 or more")
        if not 1 <= self.scales <= 4:
            raise ValueError(f"scales is {self.scales}; write 1 to 4")
        if not (isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma is {self.sigma}; write more than 0: it is how RAM explores")
        check_choices(self)


def nearest_edge(place: Tensor, size: int | Tensor) -> Tensor:
    """Places (…) along axes of ``size`` pixels → the edge between two pixels nearest to each.

    Edge 0 lies before the first pixel and ``size`` after the last. Halves go to the even edge.
    """
    return ((full_precision(place) + 1) / 2 * size).round()


def boxes(edge: Tensor, n: int, scales: int, size: int) -> Tensor:
    """Averages along one axis: (B,) centres as ``nearest_edge`` → (B, S, N, A).

    Row i of scale s weighs 2^s pixels equally, from pixel edge − ⌊2^s N / 2⌋ + 2^s i on. What lies
    outside the image is left out of the sum and not of the count, as if the image had a border of
    zeros.
    """
    side = 2.0 ** torch.arange(scales, device=edge.device)[:, None]  # (S, 1)
    starts = edge[:, None, None] - (side * n / 2).floor()  # (B, S, 1)
    starts = (starts + side * torch.arange(n, device=edge.device))[..., None]  # (B, S, N, 1)
    pixels = torch.arange(size, device=edge.device)  # (A,)
    inside = (starts <= pixels) & (pixels < starts + side[..., None])  # (B, S, N, A)
    return inside.to(edge.dtype) / side[..., None]


def retina(x: Tensor, place: Tensor, n: int, scales: int) -> Tensor:
    """Images (B, C, H, W) and places (B, 2) → what is seen there, (B, C, S, N, N)."""
    height, width = x.shape[2:]
    across = boxes(nearest_edge(place[:, 0], width), n, scales, width)  # (B, S, N, W)
    down = boxes(nearest_edge(place[:, 1], height), n, scales, height)  # (B, S, N, H)
    with torch.autocast(x.device.type, enabled=False):
        rows = down.flatten(1, 2)[:, None] @ full_precision(x)  # (B, C, S·N, W)
        rows = rows.unflatten(2, (scales, n))  # (B, C, S, N, W)
        return rows @ across[:, None].mT  # (B, C, S, N, N)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One glimpse: where it was meant to be and was, what it may earn, and the state after it.

    ``mean`` and ``place`` (B, 2); ``baseline`` (B,) is the reward expected before the place was
    drawn; ``h`` (B, D).
    """

    mean: Tensor
    place: Tensor
    baseline: Tensor
    h: Tensor


class Ram(Model):
    """The model of ``config`` for images of ``shape`` (C, H, W), 2 or more ``classes``.

    The layers are the paper's: g = ReLU(W ReLU(W ρ) + W ReLU(W l)) of the patches ρ and the place
    l, h' = ReLU(W h + W g), and from h the class scores, the next place and the baseline. h_0 is
    zeros, so the first place is drawn around one learned mean for all images. The mean is held in
    the image by tanh; a place drawn beyond the edge sees zeros there. Layers start as PyTorch
    starts them.
    """

    def __init__(self, config: RamConfig, shape: Shape, classes: int) -> None:
        super().__init__()
        check_pictures(shape, classes)
        self.config, self.shape, self.classes = config, shape, classes
        hidden = config.hidden
        self.what = nn.Linear(shape[0] * config.scales * config.patch**2, SENSES)
        self.where = nn.Linear(2, SENSES)
        self.from_what = nn.Linear(SENSES, hidden)
        self.from_where = nn.Linear(SENSES, hidden)
        self.from_h = nn.Linear(hidden, hidden)
        self.from_glimpse = nn.Linear(hidden, hidden)
        self.location = nn.Linear(hidden, 2)
        self.baseline = nn.Linear(hidden, 1)
        self.answer = nn.Linear(hidden, classes)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"location": (self.config.glimpses, 2)}

    def measure(self) -> Measure:
        """None that a guess could be compared with: ``loss`` also teaches where to look."""
        return Measure(likelihood="class and policy", dimensions=1, chance=None)

    def forward(self, batch: Batch) -> Terms:
        """``loss`` = ``cross_entropy`` + ``policy`` + ``baseline``, each (B,); ``correct`` (B,).

        The cross entropy teaches what to make of the glimpses, by backpropagation. The reward R of
        an example is ``correct``. REINFORCE raises E[R]: ``policy`` is −Σ_t (R − b_t) log π(l_t),
        where neither R − b_t nor l_t carries a gradient, and the constant of log π is left out; its
        gradient is, in expectation, that of −E[R] (in all the parameters that ``policy_teaches``
        lets it reach), but its value means nothing. ``baseline`` is
        the mean over t of (R − b_t)², and teaches b alone, not the states that b is read from.
        Places are drawn in evaluation as they are in training.
        """
        looks = list(self._look(batch.x, batch.noise["location"]))
        cross_entropy, reward = answers(self.answer(looks[-1].h), batch.y)
        mean = torch.stack([look.mean for look in looks], dim=1)  # (B, T, 2)
        place = torch.stack([look.place for look in looks], dim=1)  # (B, T, 2)
        expected = torch.stack([look.baseline for look in looks], dim=1)  # (B, T)
        log_pi = -0.5 * ((place - mean) / self.config.sigma).square().sum(2)  # (B, T)
        advantage = reward[:, None] - expected  # (B, T)
        policy = -(advantage.detach() * log_pi).sum(1)  # (B,)
        baseline = advantage.square().mean(1)  # (B,)
        return {
            "loss": cross_entropy + policy + baseline,
            "cross_entropy": cross_entropy,
            "policy": policy,
            "baseline": baseline,
            "correct": reward,
        }

    def classify(self, batch: Batch) -> Tensor:
        """Of one draw of the places."""
        *_, last = self._look(batch.x, batch.noise["location"])
        return self.answer(last.h)

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Pictures:
        """The image at every step as ``canvases``; ``read_windows`` are the finest patches.

        They have no σ: 0.
        """
        n, (height, width) = self.config.patch, self.shape[1:]
        looks = list(self._look(batch.x, batch.noise["location"]))
        place = torch.stack([look.place for look in looks], dim=1)  # (B, T, 2)
        size = torch.tensor([width, height], device=place.device)
        centre = nearest_edge(place, size) - n // 2 + (n - 1) / 2  # (B, T, 2), in pixels
        side = torch.full_like(centre[..., :1], n - 1)
        windows = torch.cat([centre, side, torch.zeros_like(side)], dim=2)  # (B, T, 4)
        canvases = batch.x[:, None].expand(-1, len(looks), -1, -1, -1)
        return {"canvases": canvases, "read_windows": windows}

    def _look(self, x: Tensor, noise: Tensor) -> Iterator[Look]:
        """Images (B, C, H, W) and noise (B, T, 2) → T glimpses."""
        h = x.new_zeros(len(x), self.config.hidden)  # h_0
        for epsilon in noise.unbind(1):  # T × (B, 2)
            known = h if self.config.policy_teaches == "states" else h.detach()
            mean = full_precision(self.location(known)).tanh()  # (B, 2)
            place = (mean + self.config.sigma * epsilon).detach()  # l_t, (B, 2)
            expected = full_precision(self.baseline(h.detach()))[:, 0]  # b_t, (B,)
            seen = retina(x, place, self.config.patch, self.config.scales).flatten(1)
            what, where = self.what(seen).relu(), self.where(place).relu()  # 2 × (B, 128)
            glimpse = (self.from_what(what) + self.from_where(where)).relu()  # g_t, (B, D)
            h = (self.from_h(h) + self.from_glimpse(glimpse)).relu()  # (B, D)
            yield Look(mean=mean, place=place, baseline=expected, h=h)
