"""Decay and averaging of weights, with each optimiser, against torch's own."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline import checkpoint
from pipeline.checkpoint import State
from pipeline.job import Train, run_id
from pipeline.job_file import check_job
from pipeline.job_optimizer import SGD, SOAP, Adam, RMSprop
from pipeline.optimizer import averaged, make_optimizer
from tests.test_by_hand import descend, problem
from tests.test_job import manifest
from tests.tiny import PLAIN, same, tiny_job

KINDS = {
    "sgd": SGD(momentum=0.5),
    "plain sgd": SGD(),
    "rmsprop": RMSprop(),
    "adam": Adam(),
    "adam by hand": Adam(by_hand=True),
    "soap": SOAP(every=2),
}
each = pytest.mark.parametrize("kind", KINDS)


def made(model: nn.Module, kind: str = "adam", **values: float) -> torch.optim.Optimizer:
    train = Train(total_epochs=1, lr=0.02, optimizer=KINDS[kind], **values)  # type: ignore[arg-type]
    return make_optimizer(train, model)  # type: ignore[arg-type]


@each
def test_an_average_is_torchs_moving_average_of_the_weights(kind: str) -> None:
    ours, theirs = problem(0), problem(0)
    optimizer, other = made(ours, kind, average=0.8), made(theirs, kind)
    mean = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    for step in range(12):
        descend(ours, optimizer, range(step, step + 1))
        descend(theirs, other, range(step, step + 1))
        mean.update_parameters(theirs)
        assert same(ours.state_dict(), theirs.state_dict())  # training does not hear of it
        with averaged(optimizer):
            for a, b in zip(ours.parameters(), mean.module.parameters(), strict=True):
                torch.testing.assert_close(a, b)
    assert not same(ours.state_dict(), mean.module.state_dict())


def test_decay_is_that_of_adamw() -> None:
    ours, theirs = problem(0), problem(0)
    optimizer = made(ours, weight_decay=0.3)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.02, weight_decay=0.3)
    for step in range(8):
        for group in optimizer.param_groups + other.param_groups:
            group["lr"] = 0.02 / (1 + step)  # as a schedule has it
        descend(ours, optimizer, range(step, step + 1))
        descend(theirs, other, range(step, step + 1))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "adam by hand", "soap"])
def test_decay_shrinks_weights_by_lr_times_decay_before_the_update(kind: str) -> None:
    ours, theirs = problem(0), problem(0)
    descend(ours, made(ours, kind, weight_decay=0.5), range(1))
    gradients_at, optimizer = problem(0), made(theirs, kind)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double()
    (gradients_at(x) - x[:, :3].sin()).square().mean().backward()
    for weight, known in zip(theirs.parameters(), gradients_at.parameters(), strict=True):
        weight.data.mul_(1 - 0.02 * 0.5)
        weight.grad = known.grad
    optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@each
def test_a_checkpoint_has_the_average_as_the_model_and_goes_on_bit_for_bit(kind: str) -> None:
    model, other = problem(0), problem(1)
    optimizer, its = (made(one, kind, average=0.9) for one in (model, other))
    descend(model, optimizer, range(5))
    files = checkpoint.snapshot(model, optimizer, State(run_id="r"))
    used = problem(2)
    checkpoint.restore(files, used)
    with averaged(optimizer):
        assert same(used.state_dict(), model.state_dict())
    assert not same(used.state_dict(), model.state_dict())
    checkpoint.restore(files, other, its)
    assert same(other.state_dict(), model.state_dict())
    for one, steps in ((model, optimizer), (other, its)):
        descend(one, steps, range(5, 9))
    assert same(other.state_dict(), model.state_dict())
    assert checkpoint.snapshot(model, optimizer, State(run_id="r")) == checkpoint.snapshot(
        other, its, State(run_id="r")
    )


def test_a_weight_without_a_gradient_has_no_average_and_starts_one_with_its_first() -> None:
    model = problem(0)
    first, _, second = model.children()
    optimizer = made(model, average=0.5)
    moved, still = next(first.parameters()), next(second.parameters())
    before = still.clone()
    x = torch.ones(2, 4, dtype=torch.float64)
    first(x).sum().backward()
    optimizer.step()
    assert still.equal(before)
    assert "average" in optimizer.state[moved]
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    assert optimizer.state[still]["average"].equal(still)


def test_values_that_came_later_are_no_part_of_an_id_where_they_change_nothing() -> None:
    known = run_id(tiny_job(), manifest())
    assert known == "tiny-9ab030782d"  # as it was before there were such values
    for section, name, first, other in (
        ("train", "average", 0.0, 0.9),
        ("train", "weight_decay", 0.0, 0.1),
        ("model", "window_sigma", 1.0, 2.0),
        ("model", "window_rate", 1.0, 0.1),
    ):
        assert run_id(tiny_job(**{section: {name: first}}), manifest()) == known
        assert run_id(tiny_job(**{section: {name: other}}), manifest()) != known
    assert run_id(tiny_job(train={"keep_epochs": [1, 2]}), manifest()) == known
    looks = {"kind": "classifier", "steps": 2, "read_n": 3}

    def id_with(**model: Any) -> str:
        return run_id(check_job({**PLAIN, "model": {**looks, **model}}, "tiny"), manifest())

    known = id_with()
    assert known == "tiny-4f07f0d2aa"
    for name, first, other in (
        ("window_limit", None, 1.0),
        ("window_rate", 1.0, 0.1),
        ("zoom_to", None, 0.2),
    ):
        assert id_with(**{name: first}) == known
        assert id_with(**{name: other}) != known
