"""SOAP, one-sided: Adam in the basis in which a matrix's gradients are uncorrelated.

Vyas et al. 2024 (arXiv 2409.11321), with the shorter side of each matrix turned and the other left
as it is. Neighbouring pixels of a glimpse say nearly the same, and Adam, which scales every weight
by itself, cannot tell their difference from their sum; in this basis it can.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from draw_model.by_hand import Adam, State


class SOAP(Adam):
    """Adam's update of every parameter, for matrices (R, C), R ≤ C or else transposed, in basis Q.

    S ← β₃ S + (1 − β₃) G Gᵀ  (R, R); every ``every`` steps Q ← the orthogonal factor of S Q, one
    step of the power iteration towards the eigenvectors of S; G′ = Qᵀ G;
    M ← β₁ M + (1 − β₁) G′;  V ← β₂ V + (1 − β₂) G′²;  θ ← θ − η Q M̂ / (√V̂ + ε),
    M̂ and V̂ unbiased as Adam's. S begins as the first G Gᵀ and takes in the gradients of those steps
    alone in which Q is renewed; M turns with Q. Vectors and tensors of three and more sides have
    Q = 1. In an autocast region G′ and Q M̂ / (√V̂ + ε) are computed in its precision: no worse than
    the gradient is known there.

    Each worker of several computes Q for itself, from the same gradients: of processors that round
    alike the weights stay the same.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        beta3: float = 0.99,
        eps: float = 1e-8,
        every: int = 20,
    ) -> None:
        adam = {"beta1": beta1, "beta2": beta2, "eps": eps}
        super().__init__(parameters, lr, **adam, beta3=beta3, every=every)

    def update(self, theta: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        if theta.ndim != 2:
            super().update(theta, g, state, group)
            return
        if len(theta) > theta.shape[1]:
            theta, g = theta.T, g.T
        if state.get("step", 0) % group["every"] == 0:
            _renew_basis(g, state, group["beta3"])
        turned = (state["basis"].T @ g).to(theta.dtype)
        change = state["basis"] @ self.direction(turned, state, group)
        theta.sub_(change.to(theta.dtype), alpha=group["lr"])


def _renew_basis(g: Tensor, state: State, beta3: float) -> None:
    """Takes the gradient (R, C) into S, turns Q towards S's eigenvectors, and M from the old Q."""
    with torch.autocast(g.device.type, enabled=False):
        square = g @ g.T
        if "basis" not in state:
            state["second_moment"] = square
            # Largest first: the power iteration takes out of each what those before it have.
            state["basis"] = torch.linalg.eigh(square).eigenvectors.flip(1).contiguous()
            return
        square = state["second_moment"].lerp_(square, 1 - beta3)
        # Laid out as a checkpoint gives it back: products of another layout round otherwise.
        basis = torch.linalg.qr(square @ state["basis"]).Q.contiguous()
        state["exp_avg"] = basis.T @ (state["basis"] @ state["exp_avg"])
        state["basis"] = basis
