"""A recurrent network that reads characters and guesses the next one, differentiated by hand.

Legend: B batch · L characters that are guessed · V = 96 characters of the alphabet · D hidden size.
Numbers in brackets are the steps of the derivation in ``NextCharacter``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from draw_model import noise
from draw_model.contract import Batch, Measure, Model, Pictures, Shape, Terms

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""Newline and printable ASCII: 96 characters; a character's place here is its index, its code."""

NEWLINE = ALPHABET.index("\n")


@dataclass(frozen=True, kw_only=True)
class CharRnnConfig:
    """``hidden`` is D; all weights start as N(0, ``init``²) and all biases as 0."""

    kind: Literal["char_rnn"] = "char_rnn"
    hidden: int = 256
    init: float = 0.01

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values that no model can have."""
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}; write 1 or more")
        if not (isfinite(self.init) and self.init >= 0):
            raise ValueError(f"init is {self.init}; write 0 or more")


class NextCharacter(torch.autograd.Function):
    """The cost of every next character, and by hand what each weight has to do with it.

    Forward, for t = 1 … L with h_0 = 0, x_t and the target y_t as one-hot rows:

        h_t = tanh(x_t W_x + h_{t−1} W_h + b)       (1)
        p_t = softmax(h_t W_y + c)                  (2)
        cost_t = −log p_t[y_t]                      (3)

    Backward, where d_v is the derivative by v of Σ g_t cost_t, and g_t is what comes from above:

        d_o,t = g_t (p_t − y_t)                     (4)   o_t: the logits h_t W_y + c
        d_h,t = d_o,t W_yᵀ + d_a,{t+1} W_hᵀ         (5)   by what it says now and what it becomes
        d_a,t = d_h,t (1 − h_t²)                    (6)   a_t: the argument of tanh
        d_W_y = Σ h_tᵀ d_o,t,  d_c = Σ d_o,t        (7)
        d_W_h = Σ h_{t−1}ᵀ d_a,t,  d_b = Σ d_a,t    (8)
        d_W_x = Σ x_tᵀ d_a,t                        (9)

    Sums run over t and the batch: one product of (B·L) rows each, so only (1) and (5) are loops.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (B, L) twice, W_x (V, D), W_h (D, D), b (D,), W_y (D, V), c (V,).

        Gives the costs (B, L) in nats, and (B, L) bool: whether the likeliest was right.
        """
        w_x, w_h, b, w_y, c = weights
        x, y = x.T, y.T  # (L, B): time first, so that one moment lies in one piece
        drive = w_x[x] + b  # (L, B, D); a one-hot row times W_x is a row of W_x
        states = drive.new_zeros(len(x) + 1, *drive.shape[1:])  # h_0 … h_L
        for t, pushed in enumerate(drive):
            torch.tanh(torch.addmm(pushed, states[t], w_h), out=states[t + 1])  #      (1)
        logits = states[1:] @ w_y + c  # (L, B, V)
        log_p = logits - logits.logsumexp(2, keepdim=True)  #                          (2)
        cost = -log_p.gather(2, y.unsqueeze(2)).squeeze(2)  # (L, B)                   (3)
        right = log_p.argmax(2) == y
        ctx.save_for_backward(x, y, states, log_p, w_h, w_y)
        ctx.mark_non_differentiable(right)
        return cost.T, right.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Derivatives (B, L) by the costs → those by x and y (none), W_x, W_h, b, W_y, c."""
        x, y, states, log_p, w_h, w_y = ctx.saved_tensors
        d_o = (log_p.exp() - _one_hot(y, log_p)) * above.T.unsqueeze(2)  # (L, B, V)   (4)
        d_h = d_o @ w_y.T  # (L, B, D)                                                 (5)
        slope = 1 - states[1:].square()  # of tanh where it was, (L, B, D)
        d_a = torch.empty_like(d_h)
        for t in reversed(range(len(d_h))):
            later = d_h[t] if t + 1 == len(d_h) else torch.addmm(d_h[t], d_a[t + 1], w_h.T)  # (5)
            torch.mul(later, slope[t], out=d_a[t])  #                                  (6)
        rows_a, rows_o = d_a.flatten(0, 1), d_o.flatten(0, 1)  # (L·B, D), (L·B, V)
        d_w_y, d_c = states[1:].flatten(0, 1).T @ rows_o, rows_o.sum(0)  #             (7)
        d_w_h, d_b = states[:-1].flatten(0, 1).T @ rows_a, rows_a.sum(0)  #            (8)
        # A product adds in the same order every time; adding row by row on a GPU does not.
        d_w_x = _one_hot(x, d_a).flatten(0, 1).T @ rows_a  #                           (9)
        return None, None, d_w_x, d_w_h, d_b, d_w_y, d_c


def _one_hot(indices: Tensor, like: Tensor) -> Tensor:
    """(L, B) → (L, B, V), of the kind of number that ``like`` has."""
    return F.one_hot(indices, len(ALPHABET)).to(like.dtype)


class CharRnn(Model):
    """One layer of tanh units over one-hot characters, as in source 004; ``shape`` is (L + 1,).

    Of an example's characters, as places in ``ALPHABET``, the first L are read and the last L
    guessed. Every example starts from a zero state: the order of the data is a pure function of
    the seed, while the state that min-char-rnn (Karpathy 2015) carries from one piece of text into
    the next would tie a step to the one before it. The first characters of a piece
    are therefore dearer than those of a network that knows what came before, all the more in short
    pieces. The source clips each element of the gradient to −5 … 5; here training clips the norm
    of the whole gradient (``train.clip_norm``), which keeps its direction. Everything is computed
    in float32 or wider, also in an autocast region.

    Raises ValueError for a shape that is no text's.
    """

    AXES = 1

    def __init__(self, config: CharRnnConfig, shape: Shape, classes: int = 1) -> None:
        super().__init__()
        if len(shape) != 1 or shape[0] < 2:
            raise ValueError(f"shape is {shape}, but char_rnn reads text: give it (length + 1,)")
        self.config, self.shape, self.classes = config, shape, classes
        self.length, hidden, characters = shape[0] - 1, config.hidden, len(ALPHABET)
        self.from_x = nn.Parameter(torch.randn(characters, hidden) * config.init)
        self.from_h = nn.Parameter(torch.randn(hidden, hidden) * config.init)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.to_y = nn.Parameter(torch.randn(hidden, characters) * config.init)
        self.y_bias = nn.Parameter(torch.zeros(characters))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        # One number a character is all that a draw from 96 needs. Training is handed it too, and
        # the 96 of a Gumbel draw were measured to cost it a seventh of its time.
        return {"characters": (self.length,)}

    def measure(self) -> Measure:
        chance = self.length * log(len(ALPHABET))
        return Measure(likelihood="characters", dimensions=self.length, chance=chance)

    def forward(self, batch: Batch) -> Terms:
        """−log p of the last L characters of ``batch.x`` (B, L + 1) in nats, (B,) each.

        ``loss`` is the sum over the characters, ``nats_per_character`` their mean and ``correct``
        the share of them that were thought likeliest. Raises ValueError for what is no place in
        ``ALPHABET``, such as the codes of ASCII.
        """
        characters = batch.x
        if ((characters < 0) | (characters >= len(ALPHABET))).any():
            raise ValueError(
                f"a text holds {int(characters.max())}, but char_rnn reads places in its alphabet, "
                f"0 to {len(ALPHABET) - 1}; translate ASCII codes first"
            )
        weights = (self.from_x, self.from_h, self.bias, self.to_y, self.y_bias)
        with torch.autocast(characters.device.type, enabled=False):
            cost, right = NextCharacter.apply(characters[:, :-1], characters[:, 1:], *weights)
        return {
            "loss": cost.sum(1),
            "nats_per_character": cost.mean(1),
            "correct": right.to(cost.dtype).mean(1),
        }

    @torch.no_grad()
    def generate(self, draws: Mapping[str, Tensor]) -> Pictures:
        """``codes`` (B, L), places in ``ALPHABET``: what follows a newline, at temperature 1."""
        chosen = draws["characters"]  # (B, L)
        index = torch.full((len(chosen),), NEWLINE, device=chosen.device)
        h, codes = self.from_h.new_zeros(len(chosen), self.config.hidden), []
        for normal in chosen.unbind(1):
            h, logits = self.next(h, index)
            index = pick(logits, normal)
            codes.append(index)
        return {"codes": torch.stack(codes, dim=1)}

    def next(self, h: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """State (B, D) and indices (B,) → the state after, and logits (B, V); (1) and (2)."""
        h = torch.addmm(self.from_x[index] + self.bias, h, self.from_h).tanh()
        return h, h @ self.to_y + self.y_bias

    def fake_batch(self, count: int, seed: int = 0) -> Batch:
        """A batch of random characters, (B, L + 1) int64, for tests and benchmarks."""
        batch = super().fake_batch(count, seed)
        x = noise.uniform(seed, "fake/x", 0, range(count), self.shape)
        return Batch(x=(x * len(ALPHABET)).long(), y=batch.y, mask=batch.mask, noise=batch.noise)


def pick(logits: Tensor, normal: Tensor, temperature: float = 1.0) -> Tensor:
    """Draws from softmax(logits / temperature), (B, V) and standard normals (B,) → indices (B,).

    Φ(normal) is uniform; the answer is the first character whose cumulated probability reaches it.
    """
    heights = (logits.double() / temperature).softmax(1).cumsum(1)  # (B, V)
    # Never 0, which a character without any probability would reach; the sum may miss 1.
    wanted = torch.special.ndtr(normal.double()).clamp_min(1e-300) * heights[:, -1]
    return torch.searchsorted(heights, wanted.unsqueeze(1)).squeeze(1)


@torch.no_grad()
def continue_text(model: CharRnn, primer: str, count: int, temperature: float, seed: int) -> str:
    """The ``count`` characters that follow ``primer``, which itself is not repeated.

    A ``temperature`` below 1 keeps to what is likely, one above 1 strays; the source shows 0.4 to
    1.4. The same seed gives the same text. Raises ValueError for a primer that is empty or has
    characters outside the alphabet, and for a temperature that is not above 0.
    """
    if not (isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}; write a number above 0")
    if not primer:
        raise ValueError("primer is empty; give it a character or more, or a newline")
    if strange := sorted(set(primer) - set(ALPHABET)):
        raise ValueError(f"primer has {strange[0]!r}; write newlines and printable ASCII only")
    device, text = model.from_h.device, []
    h = model.from_h.new_zeros(1, model.config.hidden)
    for character in primer:
        h, logits = model.next(h, torch.tensor([ALPHABET.index(character)], device=device))
    normals = noise.normal(seed, "continue", 0, range(count), (1,)).to(device)  # (count, 1)
    for normal in normals:
        index = pick(logits, normal, temperature)
        text.append(ALPHABET[int(index)])
        h, logits = model.next(h, index)
    return "".join(text)
