"""The cells against PyTorch's, and their first states."""

import pytest
import torch

from draw_model.recurrent import CELLS, FORGET_BIAS, GRU, LSTM, RNN


def test_lstm_equals_the_cell_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = LSTM((3,), 4).double(), torch.nn.LSTMCell(3, 4).double()
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.weight[:3].T)
        theirs.weight_hh.copy_(ours.weight[3:].T)
        theirs.bias_ih.copy_(ours.bias)
        theirs.bias_hh.zero_()
    state = ours.first(2)
    expected = (state.h, state.cell)
    for x in torch.randn(3, 2, 3, dtype=torch.float64):
        state, expected = ours(x, state), theirs(x, expected)
        torch.testing.assert_close(tuple(state), expected, rtol=1e-12, atol=1e-12)


def test_gru_equals_the_cell_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = GRU((3,), 4).double(), torch.nn.GRUCell(3, 4).double()
    with torch.no_grad():
        ours.gate_bias.add_(torch.randn(8))
        ours.h_bias.add_(torch.randn(4))
        theirs.weight_ih.copy_(torch.cat([ours.gates[:3].T, ours.from_x.T]))
        theirs.weight_hh.copy_(torch.cat([ours.gates[3:].T, ours.from_h.T]))
        theirs.bias_ih.copy_(torch.cat([ours.gate_bias, ours.x_bias]))
        theirs.bias_hh.copy_(torch.cat([torch.zeros(8), ours.h_bias]))
    state = ours.first(2)
    expected = state.h
    for x in torch.randn(3, 2, 3, dtype=torch.float64):
        state, expected = ours(x, state), theirs(x, expected)
        torch.testing.assert_close(state.h, expected, rtol=1e-12, atol=1e-12)


def test_plain_rnn_equals_the_cell_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = RNN((3,), 4).double(), torch.nn.RNNCell(3, 4).double()
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.weight[:3].T)
        theirs.weight_hh.copy_(ours.weight[3:].T)
        theirs.bias_ih.copy_(ours.bias)
        theirs.bias_hh.zero_()
    state = ours.first(2)
    expected = state.h
    for x in torch.randn(3, 2, 3, dtype=torch.float64):
        state, expected = ours(x, state), theirs(x, expected)
        torch.testing.assert_close(state.h, expected, rtol=1e-12, atol=1e-12)


def test_first_state_is_learned_or_no_parameter_at_all() -> None:
    learned, fixed = LSTM((3,), 4), LSTM((3,), 4, learned_start=False)
    assert {"first_h", "first_cell"} <= dict(learned.named_parameters()).keys()
    assert set(fixed.state_dict()) == {"weight", "bias"}
    learned(torch.randn(2, 3), learned.first(2)).h.sum().backward()
    assert learned.first_h.grad is not None
    assert learned.first_h.grad.abs().min() > 0
    assert learned.first_cell.grad is not None
    assert learned.first_cell.grad.abs().min() > 0


def test_forget_gate_starts_open() -> None:
    bias = LSTM((3,), 4).bias.detach().view(4, 4)
    assert torch.equal(bias[1], torch.full((4,), FORGET_BIAS))
    assert bias[[0, 2, 3]].abs().max() == 0


def test_gru_starts_by_keeping_its_memory() -> None:
    bias = GRU((3,), 4).gate_bias.detach()
    assert bias.tolist() == [0, 0, 0, 0, *[FORGET_BIAS] * 4]


@pytest.mark.parametrize("kind", CELLS)
def test_memory_stays_in_float32_under_autocast(kind: str) -> None:
    torch.manual_seed(0)
    cell = CELLS[kind]((3,), 4)
    plain = half = cell.first(2)
    for x in torch.randn(3, 2, 3):
        plain = cell(x, plain)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = cell(x, half)
        assert all(value.dtype == torch.float32 for value in half)
        torch.testing.assert_close(half, plain, rtol=0, atol=0.03)


def test_each_part_of_the_input_starts_with_the_scale_of_its_own_width() -> None:
    torch.manual_seed(0)
    parts = LSTM((10, 160), 90).weight.detach().split([10, 160, 90])
    for part, width in zip(parts, (10, 160, 90), strict=True):
        torch.testing.assert_close(part.std() * width**0.5, torch.tensor(1.0), rtol=0.05, atol=0)
