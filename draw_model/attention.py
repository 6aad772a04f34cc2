"""The window of DRAW: five numbers place an N × N grid of Gaussian filters on an image.

Legend: B batch · K images that share a window (C channels, or 2C for [x, x̂]) · H, W image height,
width · A pixels along one axis (H or W) · N window side · D hidden size.

The paper counts pixels a and filters i from 1. Here both count from 0: positions are in pixels from
the centre of the first pixel, so g = 0 is that centre and g = W − 1 the centre of the last.
Numbers in brackets are the paper's equations (Gregor et al. 2015).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from draw_model.gaussian import full_precision

LOG_LIMIT = 20.0
"""Bound on |log σ²|, |log δ̃| and |log γ|. Unbounded, exp overflows and (a − μ)²/2σ² becomes ∞ or
∞ · 0 = NaN. e^±20 is far outside any useful window: a σ² below 0.01 already picks single pixels."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """One window per example; all but ``n`` are (B,) tensors, in pixels where they are lengths.

    ``g_x``, ``g_y``: centre. ``sigma``: standard deviation of each filter. ``delta``: stride from
    filter to filter. ``gamma``: intensity, which reading multiplies by and writing divides by.
    ``raw`` (B, 5) is what they were made of; None where they were placed by hand.
    """

    n: int
    g_x: Tensor
    g_y: Tensor
    sigma: Tensor
    delta: Tensor
    gamma: Tensor
    raw: Tensor | None = None

    def as_picture(self) -> Tensor:
        """(B, 4): centre x, centre y, side (N − 1)δ and σ, as ``contract.Pictures`` wants it."""
        return torch.stack([self.g_x, self.g_y, (self.n - 1) * self.delta, self.sigma], dim=1)


def window_of(raw: Tensor, n: int, height: int, width: int) -> Window:
    """(B, 5) outputs of the window's linear layer → Window; equations (21) to (24)."""
    raw = full_precision(raw)
    logs = raw[:, 2:].clamp(-LOG_LIMIT, LOG_LIMIT)  # (B, 3): log σ², log δ̃, log γ
    variance, stride, gamma = logs.exp().unbind(1)  # 3 × (B,)
    return Window(
        n=n,
        g_x=(width + 1) / 2 * (raw[:, 0] + 1) - 1,  # (22), less 1: counted from 0
        g_y=(height + 1) / 2 * (raw[:, 1] + 1) - 1,  # (23)
        sigma=variance.sqrt(),
        delta=(max(height, width) - 1) / (n - 1) * stride,  # (24)
        gamma=gamma,
        raw=raw,
    )


class _Filters(torch.autograd.Function):
    """(B, N) filter centres and (B,) σ on (A,) pixels → (B, N, A), with its gradient by hand.

    A bank is small and its operations are many: autograd's chain took seventeen passes over it, and
    a tenth of a classifier's step on 100×100 images. This one takes nine. With d = (a − μ)/σ and
    e = ∂loss/∂(−d²/2) · d, the gradient in μ is Σ_a e/σ and that in σ is Σ_ia e d/σ.
    """

    @staticmethod
    def forward(ctx: Any, mu: Tensor, sigma: Tensor, pixels: Tensor) -> Tensor:
        distance = (pixels - mu[:, :, None]).mul_(sigma.reciprocal()[:, None, None])  # (B, N, A)
        bank = torch.softmax(distance.square().mul_(-0.5), dim=2)
        ctx.save_for_backward(distance, bank, sigma)
        return bank

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        distance, bank, sigma = ctx.saved_tensors
        moved = torch._softmax_backward_data(gradient, bank, 2, bank.dtype).mul_(distance)
        to_mu = moved.sum(2) / sigma[:, None]
        return to_mu, moved.mul_(distance).sum((1, 2)) / sigma, None


def filterbank(
    centre: Tensor, delta: Tensor, sigma: Tensor, offsets: Tensor, pixels: Tensor
) -> Tensor:
    """Filters along one axis, (B, N, A), each row summing to 1; equations (19), (20), (25), (26).

    ``centre``, ``delta``, ``sigma`` are (B,). ``offsets`` (N,) are the places of the filters in
    strides from the window's centre, ``pixels`` (A,) the coordinates 0 … A − 1. A softmax divides
    by the sum of the row after taking out its largest weight: a filter far outside the image falls
    on the nearest pixel where dividing by Z would give 0/0.
    """
    mu = centre[:, None] + offsets * delta[:, None]  # (B, N)                  (19)(20)
    bank: Tensor = _Filters.apply(mu, sigma, pixels)  # (B, N, A)              (25)(26)
    return bank


def read(f_y: Tensor, f_x: Tensor, gamma: Tensor, images: Tensor) -> Tensor:
    """γ F_Y image F_Xᵀ, (B, K, H, W) → (B, K, N, N), the same filters for all K; equation (27).

    The first product, which sees every pixel, is computed as ``images`` come: given in bfloat16
    they take half the memory, and their pixels had eight bits before. The rest is in float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        rows = full_precision(f_y[:, None].to(images.dtype) @ images)  # (B, K, N, W)
        patch = rows @ f_x[:, None].mT  # (B, K, N, N)
        return gamma[:, None, None, None] * patch


def write(f_y: Tensor, f_x: Tensor, gamma: Tensor, patch: Tensor) -> Tensor:
    """1/γ F_Yᵀ patch F_X, (B, C, N, N) → (B, C, H, W); equation (29)."""
    with torch.autocast(patch.device.type, enabled=False):
        scaled = full_precision(patch) / gamma[:, None, None, None]
        rows = scaled @ f_x[:, None]  # (B, C, N, W)
        return f_y[:, None].mT @ rows  # (B, C, H, W)


def limit_gradients(loss: Tensor, windows: Sequence[Window], limit: float) -> None:
    """Bounds what each example teaches each of its windows: ‖∂loss_b / ∂raw_b‖ ≤ ``limit``.

    Where a window looks decides what is seen, and what is seen decides where it looks next: over T
    steps the gradients of single examples grow a thousandfold, and one of them outweighs its batch
    (so Graves 2013, arXiv 1308.0850, clips derivatives inside an LSTM). ``loss`` is (B,), in nats;
    what it is multiplied by later (1/B, a mask) changes nothing, nor does the company of other
    examples. Works on the next backward pass; where no gradients are taken it does nothing.
    """
    if not loss.requires_grad:
        return
    weights: list[Tensor] = []  # of each example in what is minimised, (B,)
    loss.register_hook(weights.append)

    def limited(gradient: Tensor) -> Tensor:
        # In float64: the squares of what is to be bounded overflow float32.
        norm = gradient.double().norm(dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
        share = (limit * weights[0].abs() / norm).clamp(max=1)
        return gradient * share[:, None].to(gradient.dtype)

    for window in windows:
        assert window.raw is not None, "a layer placed it"
        window.raw.register_hook(limited)


def too_narrow(windows: Sequence[Window], last: float) -> Tensor:
    """What windows cost that close in too fast: Σ_t max(0, log s_t − log δ̃_t)², (B,).

    s_t falls in equal steps from 1 at the first window to ``last`` at the last; δ̃ is a window's
    side as a share of the image's (24). A window teaches nothing about what it does not see: one
    that closed in on the wrong place has lost what it looked for, for good, and one that is wide
    for longer can still be told.
    """
    cost: Tensor | float = 0.0
    for share, window in zip(torch.linspace(1, last, len(windows)).tolist(), windows, strict=True):
        assert window.raw is not None, "a layer placed it"
        cost = cost + (log(share) - window.raw[:, 3]).clamp(min=0).square()
    return torch.as_tensor(cost)


def check_window(
    init: float, sigma: float, rate: float, limit: float | None = None, last: float | None = None
) -> None:
    """Raises ValueError, in one line, for values that no window layer can have."""
    if not (isfinite(init) and init >= 0):
        raise ValueError(f"window_init is {init}; write 0 or more")
    if not (isfinite(sigma) and abs(2 * log(max(sigma, 1e-9))) <= LOG_LIMIT):
        raise ValueError(f"window_sigma is {sigma}; write a number of pixels, as 1.0")
    if not (isfinite(rate) and rate > 0):
        raise ValueError(f"window_rate is {rate}; write a number above 0, as 0.1")
    if limit is not None and not (isfinite(limit) and limit > 0):
        raise ValueError(f"window_limit is {limit}; write a number of nats above 0, or null")
    if last is not None and not 0 < last <= 1:
        raise ValueError(f"zoom_to is {last}; write a share of the image's side, as 0.2, or null")


class Attention(nn.Module):
    """A window that a linear layer places from a hidden state: ``attention(h)`` → Window.

    ``shape`` is (C, H, W), ``n`` ≥ 2 the side of the window. The layer's weights start as
    N(0, ``init``²) and its bias as zeros, but for log σ²: the first window then spans the whole
    image, γ is 1, and σ is ``sigma``, in pixels. What it sees, and is taught by, is the pixels
    within a few σ of a filter. With σ = 1 that is nearly all of them at N = 12 on 54×54, one in ten
    at N = 12 on 100×100, hardly more than the four corners at N = 2 on 28×28; with σ of half a
    stride, (max(H, W) − 1) / 2(N − 1), it is all of them.

    ``rate`` is how fast the layer learns beside the rest of the model: what it says is multiplied
    by ``rate``, and its first values are divided by it, so that the first windows are the same and
    an optimiser whose steps have the size of the learning rate (Adam, RMSprop) moves them by
    ``rate`` times as much (the runtime scale of Karras et al. 2018). A step of 1e-3 in each of 256
    weights can move g̃ by 0.1, which is 5 pixels of 100.
    """

    offsets: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        hidden: int,
        shape: tuple[int, int, int],
        n: int,
        init: float,
        sigma: float = 1.0,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.n, self.rate = n, rate
        _, self.height, self.width = shape
        self.layer = nn.Linear(hidden, 5)  # (21): five numbers, whatever N is
        nn.init.normal_(self.layer.weight, std=init / rate)
        nn.init.zeros_(self.layer.bias)
        with torch.no_grad():
            self.layer.bias[2] = 2 * log(sigma) / rate
        for name, grid in (
            ("offsets", torch.arange(n) - (n - 1) / 2),
            ("rows", torch.arange(self.height).float()),
            ("columns", torch.arange(self.width).float()),
        ):
            self.register_buffer(name, grid, persistent=False)

    def forward(self, h: Tensor) -> Window:
        """(B, D) → Window. Never in half precision: eight bits cannot place a window to a pixel."""
        with torch.autocast(h.device.type, enabled=False):
            weight, bias = full_precision(self.layer.weight), full_precision(self.layer.bias)
            raw = self.rate * F.linear(full_precision(h), weight, bias)  # (B, 5)  (21)
        return window_of(raw, self.n, self.height, self.width)

    def filters(self, window: Window) -> tuple[Tensor, Tensor]:
        """F_Y (B, N, H) and F_X (B, N, W)."""
        delta, sigma = window.delta, window.sigma
        return (
            filterbank(window.g_y, delta, sigma, self.offsets, self.rows),
            filterbank(window.g_x, delta, sigma, self.offsets, self.columns),
        )

    def read(self, window: Window, images: Tensor) -> Tensor:
        """(B, K, H, W) → (B, K, N, N)."""
        return read(*self.filters(window), window.gamma, images)

    def write(self, window: Window, patch: Tensor) -> Tensor:
        """(B, C, N, N) → (B, C, H, W)."""
        return write(*self.filters(window), window.gamma, patch)
