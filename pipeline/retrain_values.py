"""The ``retrain`` section of a job file: when, on what news, from where, and past which gate."""

from dataclasses import field
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.gate import Gate
from pipeline.schedule import check_cron, check_zone
from pipeline.values import STRICT

CONFIG = ConfigDict(**STRICT, use_attribute_docstrings=True)
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
News = Literal["data", "code", "job"]
Event = Literal["promotion", "keep", "refusal", "skip", "failure"]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Weights:
    """Weights of a run."""

    run: str
    """Its id, the beginning of one, or the name of a job that has one finished run."""
    step: int | None = None
    """As ``Start.step``."""
    weights_sha256: str | None = None
    """As ``Start.weights_sha256``."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Start:
    """What a run begins with beside its seed; part of its identity. Retraining writes it."""

    run: str | None = None
    """The run whose weights are the first ones, or the beginning of its id; null draws them from
    the seed. The model has the same weights; its number of steps may differ."""
    step: int | None = None
    """Of a checkpoint that it still has, the last one or one of ``keep_epochs``; null takes what it
    published, the best by its validation. For a mean the last is the better choice."""
    weights_sha256: str | None = None
    """Of those weights; others are refused. Null takes those that the run has when this one begins,
    and names them in its records."""
    also: list[Weights] = field(default_factory=list)
    """Runs whose weights count as much as ``run``'s: the mean of all is what training begins with.
    It is of use where all went on from one run (model soups, Wortsman et al. 2022)."""
    code: str = ""
    """The program's version, where a new one is reason enough to train anew."""

    def __post_init__(self) -> None:
        needs = {
            "weights_sha256": "the run that they are of",
            "step": "the run that it is of",
            "also": "a run that it is beside",
        }
        for name, needed in needs.items():
            if self.run is None and getattr(self, name) not in (None, []):
                raise ValueError(f"{name} needs {needed}; give start.run too")

    @property
    def weights(self) -> list[Weights]:
        """All that the first weights are the mean of; empty where the seed draws them."""
        if self.run is None:
            return []
        first = Weights(run=self.run, step=self.step, weights_sha256=self.weights_sha256)
        return [first, *self.also]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Webhook:
    """Where each outcome is sent: its record as JSON, by HTTP POST, signed."""

    url: Annotated[str, Field(pattern="^https?://")]
    secret: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] = "DRAW_WEBHOOK_SECRET"
    """The environment variable that holds the key of the signature, never the key itself."""
    on: Annotated[list[Event], Field(min_length=1)] = field(
        default_factory=lambda: ["promotion", "keep", "refusal", "failure"]
    )

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            known = parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known:
            raise ValueError("url names no host; write https://host/path")
        if parts.username or parts.password:
            raise ValueError("url holds credentials; leave them out, the signature is the proof")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Retention:
    """Which runs of the champion's line keep their checkpoints. Records and weights all stay."""

    keep: Annotated[int, Field(ge=1)] = 4
    """The newest runs that keep them, beside the champion."""
    delete: bool = False
    """False only says what would go."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Retrain:
    """Makes the job a schedule: each tick trains a challenger and decides on it."""

    cron: str
    """Five fields: minute, hour, day of month, month, day of week."""
    zone: str
    """The time zone of ``cron``, such as Europe/Berlin."""
    champion: Name | None = None
    """Whose place is competed for; null takes the job's name."""
    new: Annotated[list[News], Field(min_length=1)] = field(
        default_factory=lambda: ["data", "code", "job"]
    )
    """What has to differ from what was last decided on; else the tick is skipped."""
    start: Literal["warm", "cold", "both"] = "warm"
    """From the champion's weights, from the seed, or both; the better on validation challenges."""
    gate: Gate = field(default_factory=Gate)
    retention: Retention = field(default_factory=Retention)
    webhook: Webhook | None = None

    def __post_init__(self) -> None:
        check_cron(self.cron)
        check_zone(self.zone)
