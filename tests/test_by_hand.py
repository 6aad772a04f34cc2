"""The optimisers by hand against torch's, step by step, and from a checkpoint on."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from draw_model import by_hand
from pipeline import checkpoint
from pipeline.job import Train
from pipeline.job_optimizer import SGD, Adam, RMSprop
from pipeline.optimizer import make_optimizer
from tests.tiny import same

Parameters = Iterable[Tensor]
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sgd": (lambda p: by_hand.SGD(p, 0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "sgd with momentum": (
        lambda p: by_hand.SGD(p, 0.05, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    ),
    "rmsprop": (lambda p: by_hand.RMSprop(p, 0.02), lambda p: torch.optim.RMSprop(p, 0.02)),
    "rmsprop with momentum": (
        lambda p: by_hand.RMSprop(p, 0.02, alpha=0.9, momentum=0.7, eps=1e-3),
        lambda p: torch.optim.RMSprop(p, 0.02, alpha=0.9, momentum=0.7, eps=1e-3),
    ),
    "adam": (lambda p: by_hand.Adam(p, 0.02), lambda p: torch.optim.Adam(p, 0.02)),
    "adam of a GAN": (
        lambda p: by_hand.Adam(p, 0.02, beta1=0.5, beta2=0.9, eps=1e-3),
        lambda p: torch.optim.Adam(p, 0.02, betas=(0.5, 0.9), eps=1e-3),
    ),
}
"""Ours and torch's with the same settings."""

each = pytest.mark.parametrize("kind", PAIRS)


def problem(seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """A step has random examples of its own, the same for whoever takes it."""
    for step in steps:
        dtype = next(model.parameters()).dtype
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).to(dtype)
        optimizer.zero_grad()
        (model(x) - x[:, :3].sin()).square().mean().backward()
        optimizer.step()


@each
@pytest.mark.parametrize("seed", [0, 1])
def test_every_step_is_the_one_that_torch_takes(kind: str, seed: int) -> None:
    models = problem(seed), problem(seed)
    ours, theirs = (make(m.parameters()) for make, m in zip(PAIRS[kind], models, strict=True))
    for step in range(20):
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            descend(model, optimizer, range(step, step + 1))
        for mine, other in zip(*(m.parameters() for m in models), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-14)


@each
def test_a_state_dict_goes_round_and_training_goes_on_bit_for_bit(kind: str) -> None:
    make = PAIRS[kind][0]
    straight = problem(0, torch.float32)
    descend(straight, make(straight.parameters()), range(12))
    first, second = problem(0, torch.float32), problem(1, torch.float32)
    before, after = make(first.parameters()), make(second.parameters())
    descend(first, before, range(7))
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert same(checkpoint.flatten(before), checkpoint.flatten(after))
    descend(second, after, range(7, 12))
    assert same(straight.state_dict(), second.state_dict())


@each
def test_a_checkpoint_holds_all_that_an_optimiser_remembers(kind: str) -> None:
    make = PAIRS[kind][0]
    first, second = problem(0, torch.float32), problem(1, torch.float32)
    before, after = make(first.parameters()), make(second.parameters())
    descend(first, before, range(7))
    files = checkpoint.snapshot(first, before, checkpoint.State(run_id="r", step=7))
    checkpoint.restore(files, second, after)
    for model, optimizer in ((first, before), (second, after)):
        descend(model, optimizer, range(7, 12))
    assert same(first.state_dict(), second.state_dict())


@each
def test_a_parameter_without_a_gradient_stays_where_it_is(kind: str) -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = PAIRS[kind][0]([used, unused])
    used.sum().backward()
    optimizer.step()
    assert (used < 1).all()
    assert torch.equal(unused, torch.ones(2))


def test_a_closure_is_called_and_its_value_given_back() -> None:
    parameter = nn.Parameter(torch.tensor([3.0]))
    optimizer = by_hand.SGD([parameter], 0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    assert parameter.item() == pytest.approx(2.4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Adam(by_hand=True, beta1=0.5), by_hand.Adam),
        (RMSprop(by_hand=True, alpha=0.9, momentum=0.5), by_hand.RMSprop),
        (SGD(by_hand=True, momentum=0.5), by_hand.SGD),
        (Adam(), torch.optim.Adam),
    ],
    ids=str,
)
def test_a_job_chooses_who_writes_the_update(settings: Any, expected: type) -> None:
    train = Train(total_epochs=1, lr=0.3, optimizer=settings)
    optimizer = make_optimizer(train, problem(0))
    assert type(optimizer) is expected
    for name in ("beta1", "alpha", "momentum", "eps"):
        if optimizer.__module__ == by_hand.__name__ and hasattr(settings, name):
            assert optimizer.defaults[name] == getattr(settings, name)
    assert optimizer.defaults["lr"] == 0.3
