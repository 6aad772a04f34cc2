"""Optimisers and schedules of learning rates, as a job file writes them."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.values import STRICT

CONFIG = ConfigDict(**STRICT, use_attribute_docstrings=True)
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1e3, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Adam:
    kind: Literal["adam"] = "adam"
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Rate = 1e-8
    by_hand: bool = False
    """The update as draw_model.by_hand writes it out, not torch's; the same but for rounding."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class RMSprop:
    kind: Literal["rmsprop"] = "rmsprop"
    alpha: Fraction = 0.99
    momentum: Fraction = 0.0
    eps: Rate = 1e-8
    by_hand: bool = False
    """The update as draw_model.by_hand writes it out, not torch's; the same but for rounding."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class SGD:
    kind: Literal["sgd"] = "sgd"
    momentum: Fraction = 0.0
    by_hand: bool = False
    """The update as draw_model.by_hand writes it out, not torch's; the same but for rounding."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class SOAP:
    """Adam in the basis of a matrix's gradients; draw_model.soap has the formulas."""

    kind: Literal["soap"] = "soap"
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    beta3: Fraction = 0.99
    eps: Rate = 1e-8
    every: Positive = 20
    """Steps after which the basis is renewed."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Constant:
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Linear:
    """Falls in a straight line from ``train.lr`` to ``final_lr`` between ``start`` and the end."""

    kind: Literal["linear"] = "linear"
    final_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    start: Fraction = 0.0
    """Share of all steps that pass before the fall begins."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Cosine:
    """Falls along half a cosine from ``train.lr`` to ``final_lr``."""

    kind: Literal["cosine"] = "cosine"
    final_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Exponential:
    """``train.lr`` × factor^⌊step / every_steps⌋, not below ``final_lr``."""

    kind: Literal["exponential"] = "exponential"
    factor: Annotated[float, Field(gt=0, le=1)] = 0.985
    every_steps: Positive = 1000
    final_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


Optimizer = Annotated[Adam | RMSprop | SGD | SOAP, Field(discriminator="kind")]
Schedule = Annotated[Constant | Linear | Cosine | Exponential, Field(discriminator="kind")]
