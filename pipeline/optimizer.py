"""Optimisers and learning rates as pure functions of a job's values."""

import math

import torch

from draw_model import Model, by_hand
from pipeline.job import Adam, Constant, Cosine, Exponential, Linear, RMSprop, Train
from pipeline.values import to_plain

BY_HAND = {"adam": by_hand.Adam, "rmsprop": by_hand.RMSprop, "sgd": by_hand.SGD}
"""Kind → the optimiser whose update is written out; its settings are the fields of its kind."""


def make_optimizer(train: Train, model: Model) -> torch.optim.Optimizer:
    settings, parameters = train.optimizer, model.parameters()
    if settings.by_hand:
        values = to_plain(settings)
        del values["by_hand"]
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
