"""Recurrent cells that know where they start: their first state is learned, or zeros.

All weights start alike: ``inputs`` are the widths of what x is put together from; the weights of
each part, and of h, start as N(0, 1/width) (LeCun et al. 1998), so that ten latents are heard
beside 256 hidden units. With one scale for all, training on MNIST was measured to need twice the
steps to leave the mean image.

A cell answers ``cell.first(batch)`` and ``cell(x, state)`` with a state; ``state.h`` (B, D) is what
the rest of the model sees of it. Legend: B batch · I inputs · D hidden size.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from draw_model.gaussian import full_precision

FORGET_BIAS = 1.0


def register_start(module: nn.Module, name: str, shape: tuple[int, ...], learned: bool) -> None:
    """Gives ``module`` zeros to start from: a parameter if ``learned``, else constants."""
    if learned:
        module.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    else:
        module.register_buffer(name, torch.zeros(shape), persistent=False)


def _rows(widths: tuple[int, ...], outputs: int) -> Tensor:
    """(Σ widths, outputs): a block of rows N(0, 1/width) for each part of the input."""
    return torch.cat([torch.randn(width, outputs) * width**-0.5 for width in widths])


class LSTMState(NamedTuple):
    """``h`` (B, D) is the output, ``cell`` (B, D) the memory."""

    h: Tensor
    cell: Tensor


class LSTM(nn.Module):
    """An LSTM cell with forget gates and without peepholes.

    All four gates come from one matrix (I + D, 4D) over [x, h], in the order input, forget,
    candidate, output: one product per step instead of the two of ``nn.LSTMCell``, and one bias
    instead of two that are only ever added. Inputs run along its rows, since the gradient of a
    matrix laid out this way was measured to be a tenth faster. Biases start at 0, the forget
    gate's at 1 (Jozefowicz et al. 2015), so that a fresh cell keeps σ(1) = 73 % of its memory from
    step to step. A learned first state starts as zeros.
    """

    first_h: Tensor
    first_cell: Tensor

    def __init__(self, inputs: tuple[int, ...], hidden: int, learned_start: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(_rows((*inputs, hidden), 4 * hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        register_start(self, "first_h", (hidden,), learned_start)
        register_start(self, "first_cell", (hidden,), learned_start)
        nn.init.constant_(self.bias[hidden : 2 * hidden], FORGET_BIAS)

    def first(self, batch: int) -> LSTMState:
        """The state before the first step, the same for all ``batch`` examples."""
        return LSTMState(self.first_h.expand(batch, -1), self.first_cell.expand(batch, -1))

    def forward(self, x: Tensor, state: LSTMState) -> LSTMState:
        """(B, I) and the state before → the state after."""
        gates = torch.addmm(self.bias, torch.cat([x, state.h], dim=1), self.weight)  # (B, 4D)
        enter, forget, candidate, leave = gates.chunk(4, dim=1)  # 4 × (B, D)
        cell = forget.sigmoid() * state.cell + enter.sigmoid() * candidate.tanh()
        return LSTMState(leave.sigmoid() * cell.tanh(), cell)


class HiddenState(NamedTuple):
    """``h`` (B, D), both output and memory."""

    h: Tensor


class GRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014, in the form of ``nn.GRUCell``).

    r, u = σ(W[x, h] + b); candidate = tanh(W x + b + r (W h + b')); h' = (1 − u) candidate + u h.
    Biases start at 0, the update gate's at 1, so that a fresh cell keeps 73 % of its memory.
    """

    first_h: Tensor

    def __init__(self, inputs: tuple[int, ...], hidden: int, learned_start: bool = True) -> None:
        super().__init__()
        self.gates = nn.Parameter(_rows((*inputs, hidden), 2 * hidden))
        self.gate_bias = nn.Parameter(torch.zeros(2 * hidden))
        self.from_x = nn.Parameter(_rows(inputs, hidden))
        self.x_bias = nn.Parameter(torch.zeros(hidden))
        self.from_h = nn.Parameter(_rows((hidden,), hidden))
        self.h_bias = nn.Parameter(torch.zeros(hidden))
        nn.init.constant_(self.gate_bias[hidden:], FORGET_BIAS)
        register_start(self, "first_h", (hidden,), learned_start)

    def first(self, batch: int) -> HiddenState:
        return HiddenState(self.first_h.expand(batch, -1))

    def forward(self, x: Tensor, state: HiddenState) -> HiddenState:
        """(B, I) and the state before → the state after."""
        both = torch.addmm(self.gate_bias, torch.cat([x, state.h], dim=1), self.gates)  # (B, 2D)
        reset, update = both.sigmoid().chunk(2, dim=1)  # 2 × (B, D)
        memory = torch.addmm(self.h_bias, state.h, self.from_h)
        candidate = (torch.addmm(self.x_bias, x, self.from_x) + reset * memory).tanh()
        # In an autocast region too, memory stays in float32; lerp takes no mixture of kinds.
        candidate, update = full_precision(candidate), full_precision(update)
        return HiddenState(torch.lerp(candidate, state.h, update))


class RNN(nn.Module):
    """The plain recurrent unit: h' = tanh(W[x, h] + b) (Elman 1990)."""

    first_h: Tensor

    def __init__(self, inputs: tuple[int, ...], hidden: int, learned_start: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(_rows((*inputs, hidden), hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))
        register_start(self, "first_h", (hidden,), learned_start)

    def first(self, batch: int) -> HiddenState:
        return HiddenState(self.first_h.expand(batch, -1))

    def forward(self, x: Tensor, state: HiddenState) -> HiddenState:
        """(B, I) and the state before → the state after."""
        inputs = torch.cat([x, state.h], dim=1)
        return HiddenState(full_precision(torch.addmm(self.bias, inputs, self.weight)).tanh())


CELLS: dict[str, type[LSTM] | type[GRU] | type[RNN]] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
"""Name in a job file → cell."""
