"""SOAP against its formulas in loops of NumPy, and what its basis is for."""

import numpy as np
import pytest
import torch
from torch import Tensor

from draw_model.soap import SOAP

SETTINGS = {"beta1": 0.8, "beta2": 0.9, "beta3": 0.7, "eps": 1e-6, "every": 3}


def gradients(shape: tuple[int, ...], steps: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.standard_normal(shape) * (1 + step % 4) for step in range(steps)]


def formulas(theta: np.ndarray, gs: list[np.ndarray], lr: float) -> np.ndarray:
    """θ (R, C), R ≤ C, after a step with each of the gradients; signs of Q's columns are free."""
    b1, b2, b3 = SETTINGS["beta1"], SETTINGS["beta2"], SETTINGS["beta3"]
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gs, 1):
        if t == 1:
            s = g @ g.T
            values, vectors = np.linalg.eigh(s)
            q = vectors[:, np.argsort(-values)]
        elif (t - 1) % SETTINGS["every"] == 0:
            s = b3 * s + (1 - b3) * g @ g.T
            turned = np.linalg.qr(s @ q)[0]
            m, q = turned.T @ q @ m, turned
        g = q.T @ g
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - lr * q @ (m_hat / (np.sqrt(v_hat) + SETTINGS["eps"]))
    return theta


def after(theta: np.ndarray, gs: list[np.ndarray], lr: float) -> np.ndarray:
    weight = torch.tensor(theta, requires_grad=True)
    optimizer = SOAP([weight], lr, **SETTINGS)  # type: ignore[arg-type]
    for g in gs:
        weight.grad = torch.tensor(g)
        optimizer.step()
    return weight.detach().numpy()


def test_a_matrix_follows_the_formulas() -> None:
    theta, gs = np.ones((4, 6)), gradients((4, 6), 20)
    np.testing.assert_allclose(after(theta, gs, 0.05), formulas(theta, gs, 0.05), rtol=1e-9)


def test_a_tall_matrix_is_turned_along_its_columns() -> None:
    theta, gs = np.ones((6, 4)), gradients((6, 4), 20)
    wide = formulas(theta.T, [g.T for g in gs], 0.05)
    np.testing.assert_allclose(after(theta, gs, 0.05), wide.T, rtol=1e-9)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 2, 2)])
def test_what_is_no_matrix_takes_adams_steps(shape: tuple[int, ...]) -> None:
    ours, theirs = (torch.ones(shape, dtype=torch.float64, requires_grad=True) for _ in range(2))
    soap = SOAP([ours], 0.05, **SETTINGS)  # type: ignore[arg-type]
    adam = torch.optim.Adam([theirs], 0.05, betas=(0.8, 0.9), eps=1e-6)
    for g in gradients(shape, 10):
        for weight, optimizer in ((ours, soap), (theirs, adam)):
            weight.grad = torch.tensor(g)
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def minimised(optimizer_of: type[torch.optim.Optimizer], turn: Tensor) -> tuple[Tensor, float]:
    """Weights of a regression on correlated inputs x that ``turn`` mixes, and the loss of them."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, 5, generator=generator).double().cumsum(1)
    target = x @ torch.randn(5, 8, generator=generator).double()
    weight = torch.zeros(5, 8, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_of([weight], lr=0.02)  # type: ignore[call-arg]
    for _ in range(150):
        optimizer.zero_grad()
        loss = (x @ turn @ weight - target).square().mean()
        loss.backward()
        optimizer.step()
    return weight.detach(), loss.item()


def test_mixing_the_inputs_changes_nothing() -> None:
    plain = torch.eye(5, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)).double()).Q
    (weight, loss), (turned, same_loss) = (minimised(SOAP, one) for one in (plain, turn))
    torch.testing.assert_close(turn @ turned, weight, rtol=1e-6, atol=1e-8)
    assert same_loss == pytest.approx(loss, rel=1e-6)
    losses = [minimised(torch.optim.Adam, one)[1] for one in (plain, turn)]
    assert abs(losses[0] - losses[1]) > 0.01 * losses[0]  # to Adam it is another problem
    assert loss < 0.1 * losses[0]


def test_autocast_changes_its_products_alone() -> None:
    gs = [torch.tensor(g, dtype=torch.float32) for g in gradients((30, 40), 25)]

    def run(half: bool) -> tuple[Tensor, Tensor]:
        weight = torch.zeros(30, 40, requires_grad=True)
        optimizer = SOAP([weight], 0.01)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            for g in gs:
                weight.grad = g
                optimizer.step()
        return weight.detach(), optimizer.state[weight]["second_moment"]

    (exact, square), (half, half_square) = run(False), run(True)
    assert half.dtype == torch.float32
    assert half_square.equal(square)
    assert 0 < float((half - exact).norm() / exact.norm()) < 0.03
