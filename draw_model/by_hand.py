"""Three optimisers as formulas: SGD, RMSprop and Adam, written out as source 004 wrote its own.

Legend: θ a parameter · g its gradient · η the learning rate (``lr``) · t the step, from 1. All
memories start as 0. Each does what its namesake in ``torch.optim`` does with the same settings.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What an optimiser remembers of one parameter, by name; empty before its first step."""


class ByHand(torch.optim.Optimizer, ABC):
    """Visits every parameter that has a gradient; what a step is, a subclass says in ``update``."""

    def __init__(self, parameters: Iterable[Tensor], **settings: float) -> None:
        super().__init__(parameters, settings)

    @abstractmethod
    def update(self, theta: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        """One step of one parameter, in place; ``g`` is shaped as ``theta`` and stays as it is."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of all parameters; the value of ``closure`` if there is one, as in torch."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for theta in group["params"]:
                if theta.grad is not None:
                    self.update(theta, theta.grad, self.state[theta], group)
        return value


class SGD(ByHand):
    """Down the gradient: θ ← θ − η m, where m ← μ m + g; without momentum μ, m is g."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, *, momentum: float = 0.0
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum)

    def update(self, theta: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        theta -= group["lr"] * _with_momentum(g, state, group["momentum"])


class RMSprop(ByHand):
    """Each gradient over its usual size (Tieleman & Hinton 2012, lecture 6.5).

    v ← α v + (1 − α) g²;  m ← μ m + g / (√v + ε);  θ ← θ − η m.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        momentum: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, lr=lr, alpha=alpha, momentum=momentum, eps=eps)

    def update(self, theta: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        v = _memory(state, "square_avg", g)
        v.copy_(group["alpha"] * v + (1 - group["alpha"]) * g.square())
        scaled = g / (v.sqrt() + group["eps"])
        theta -= group["lr"] * _with_momentum(scaled, state, group["momentum"])


class Adam(ByHand):
    """Mean gradient over its usual size, both unbiased (Kingma & Ba 2015, algorithm 1).

    m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
    θ ← θ − η m̂ / (√v̂ + ε), where m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        **more: float,
    ) -> None:
        super().__init__(parameters, lr=lr, beta1=beta1, beta2=beta2, eps=eps, **more)

    def update(self, theta: Tensor, g: Tensor, state: State, group: dict[str, Any]) -> None:
        theta -= group["lr"] * self.direction(g, state, group)

    def direction(self, g: Tensor, state: State, group: dict[str, Any]) -> Tensor:
        """m̂ / (√v̂ + ε) of this step, shaped as ``g``."""
        beta1, beta2 = group["beta1"], group["beta2"]
        # A float32 on the CPU, as torch keeps it: a count is read back without waiting for a GPU.
        step = state.setdefault("step", torch.tensor(0.0))
        step += 1
        t = step.item()
        m, v = _memory(state, "exp_avg", g), _memory(state, "exp_avg_sq", g)
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        return m_hat.div_(v_hat.sqrt_().add_(group["eps"]))


def _memory(state: State, name: str, like: Tensor) -> Tensor:
    """What ``state`` holds under ``name``; zeros, kept there, if nothing yet."""
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]


def _with_momentum(g: Tensor, state: State, momentum: float) -> Tensor:
    """m ← μ m + g; without momentum nothing is remembered."""
    if not momentum:
        return g
    m = _memory(state, "momentum_buffer", g)
    return m.copy_(momentum * m + g)
