"""Optimisers and learning rates as pure functions of a job's values."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from draw_model import Model, by_hand, soap
from pipeline.job import Train
from pipeline.job_optimizer import SOAP, Adam, Constant, Cosine, Exponential, Linear, RMSprop
from pipeline.values import to_plain

BY_HAND = {
    "adam": by_hand.Adam,
    "rmsprop": by_hand.RMSprop,
    "sgd": by_hand.SGD,
    "soap": soap.SOAP,
}
"""Kind → the optimiser whose update is written out; its settings are the fields of its kind."""


AVERAGE = "average"
"""Of a weight's state in an optimiser: its moving average, or, inside ``averaged``, the weight."""


def make_optimizer(train: Train, model: Model) -> torch.optim.Optimizer:
    """The job's optimiser; decay and averaging happen with its steps, whichever it is."""
    optimizer = _update(train, model)
    if train.weight_decay:
        optimizer.register_step_pre_hook(partial(_decay, train.weight_decay))
    if train.average:
        optimizer.register_step_post_hook(partial(_average, train.average))
    return optimizer


@torch.no_grad()
def _decay(rate: float, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """w ← (1 − η λ) w, before the update: torch.optim.AdamW's order."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is not None:
                weight.mul_(1 - group["lr"] * rate)


@torch.no_grad()
def _average(decay: float, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """a ← β a + (1 − β) w after each update, beginning with w: as torch.optim.swa_utils has it."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            state = optimizer.state[weight] if weight.grad is not None else {}
            if AVERAGE in state:
                state[AVERAGE].lerp_(weight, 1 - decay)
            elif weight.grad is not None:
                state[AVERAGE] = weight.clone()


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside, the model has its averaged weights, if any, and the optimiser the others."""
    exchange(optimizer)
    try:
        yield
    finally:
        exchange(optimizer)


@torch.no_grad()
def exchange(optimizer: torch.optim.Optimizer) -> None:
    """Weights and their averages take each other's place; twice is as they were, to the bit."""
    for weight, state in optimizer.state.items():
        if AVERAGE in state:
            held = weight.clone()
            weight.copy_(state[AVERAGE])
            state[AVERAGE].copy_(held)


def _update(train: Train, model: Model) -> torch.optim.Optimizer:
    settings, parameters = train.optimizer, model.parameters()
    if isinstance(settings, SOAP) or settings.by_hand:
        values = to_plain(settings)
        values.pop("by_hand", None)
        return BY_HAND[values.pop("kind")](parameters, train.lr, **values)
    if isinstance(settings, Adam):
        betas = (settings.beta1, settings.beta2)
        return torch.optim.Adam(parameters, lr=train.lr, betas=betas, eps=settings.eps)
    if isinstance(settings, RMSprop):
        return torch.optim.RMSprop(
            parameters,
            lr=train.lr,
            alpha=settings.alpha,
            momentum=settings.momentum,
            eps=settings.eps,
        )
    return torch.optim.SGD(parameters, lr=train.lr, momentum=settings.momentum)


def lr_at(train: Train, step: int, total_steps: int) -> float:
    """Learning rate of step ``step`` (from 0) of ``total_steps``."""
    warmup = min(1.0, (step + 1) / train.warmup_steps) if train.warmup_steps else 1.0
    return warmup * _scheduled(train, step, step / max(total_steps, 1))


def _scheduled(train: Train, step: int, share: float) -> float:
    """``share`` of all steps that are done, in [0, 1)."""
    schedule, lr = train.schedule, train.lr
    if isinstance(schedule, Constant):
        return lr
    if isinstance(schedule, Exponential):
        return max(lr * schedule.factor ** (step // schedule.every_steps), schedule.final_lr)
    if isinstance(schedule, Linear):
        fallen = max(share - schedule.start, 0.0) / (1 - schedule.start)
    else:
        assert isinstance(schedule, Cosine)
        fallen = (1 - math.cos(math.pi * share)) / 2
    return lr + (schedule.final_lr - lr) * fallen
