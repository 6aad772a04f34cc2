"""What a search may try: the ``search`` section of a job file, and the values of each trial."""

import math
import random
from collections.abc import Iterator
from dataclasses import field
from itertools import product
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.values import STRICT

CONFIG = ConfigDict(**STRICT, use_attribute_docstrings=True)
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]
Whole = Annotated[list[int], Field(min_length=2, max_length=2)]
SECTIONS = ("data", "model", "train")
"""What decides a run's result; nothing else is worth a search."""
REFUSED = {
    "train.seed": "search.repeats varies it",
    "data.binarisation": "numbers of different kinds are not compared",
    "model.kind": "another kind of model has other keys; make it a study of its own",
}


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Values:
    """What one key may be: exactly one of these is given."""

    grid: Annotated[list[Any], Field(min_length=1)] | None = None
    """Every one of these, crossed with all other grids, equally often."""
    choice: Annotated[list[Any], Field(min_length=1)] | None = None
    """One of these, all equally likely."""
    uniform: Range | None = None
    """A number between two."""
    log_uniform: Range | None = None
    """A number between two positive ones, whose logarithm is uniform."""
    int_range: Whole | None = None
    """A whole number from the first to the last, both included."""

    def __post_init__(self) -> None:
        given = [n for n in ("grid", "choice", *RANGES) if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of grid, choice, {', '.join(RANGES)}; found {len(given)}")
        ends = getattr(self, given[0])
        if given[0] in RANGES and not (ends[0] < ends[1] and all(map(math.isfinite, ends))):
            raise ValueError(f"{given[0]} is {ends}; give the lower end, then the higher")
        if self.log_uniform and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform is {ends}; both ends have to be above 0")

    @property
    def listed(self) -> list[Any] | None:
        """All values, where they can be counted one by one."""
        return self.grid or self.choice

    @property
    def corners(self) -> list[Any]:
        """The values that stand for all others when a key is checked."""
        return self.listed or self.int_range or self.uniform or self.log_uniform or []

    def draw(self, source: random.Random) -> Any:
        if self.listed:
            return source.choice(self.listed)
        if self.int_range:
            return source.randint(*self.int_range)
        if self.uniform:
            return source.uniform(*self.uniform)
        assert self.log_uniform is not None
        return math.exp(source.uniform(*map(math.log, self.log_uniform)))


RANGES = ("uniform", "log_uniform", "int_range")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class NoStopping:
    kind: Literal["none"] = "none"
    unit: ClassVar[str] = "examples"
    full: ClassVar[None] = None

    def rungs(self, full: float) -> list[float]:
        return []


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Asha:
    """Asynchronous successive halving (Li et al. 2020), its stopping form: a trial that arrives at
    a rung goes on only if it is among the best 1 / ``reduction`` of those that came there."""

    kind: Literal["asha"] = "asha"
    unit: Literal["examples", "seconds"] = "examples"
    """What a rung is measured in: training examples seen, or seconds in training steps. By
    examples, settings whose steps cost more are given more time; by seconds, all are given the
    same."""
    first_rung: Amount | None = None
    """Amount after which a trial may first be stopped; null means a full trial / reduction³."""
    reduction: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0
    full: Amount | None = None
    """Amount at which a trial is over; has to be given for seconds. By examples it is
    ``train.total_epochs`` and cannot be."""

    def __post_init__(self) -> None:
        _check_full(self.unit, self.full)

    def rungs(self, full: float) -> list[float]:
        """The amounts at which a trial that may see ``full`` is judged, ascending."""
        rung, found = self.first_rung or full / self.reduction**3, []
        while rung < full * (1 - 1e-9):
            found.append(rung)
            rung *= self.reduction
        return found


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Median:
    """A trial stops when its best value so far is worse than the median of the other trials'
    running means at the same amount (Golovin et al. 2017)."""

    kind: Literal["median"] = "median"
    unit: Literal["examples", "seconds"] = "examples"
    first_rung: Amount | None = None
    """Amount after which a trial may first be stopped; null means a quarter of a full trial."""
    full: Amount | None = None
    """As for asha."""
    min_trials: Positive = 3
    """Trials that have to have come as far before one is judged against them."""

    def __post_init__(self) -> None:
        _check_full(self.unit, self.full)

    def rungs(self, full: float) -> list[float]:
        return [self.first_rung or full / 4]


def _check_full(unit: str, full: float | None) -> None:
    if unit == "seconds" and full is None:
        raise ValueError("full: missing; by seconds it says how long a trial may train")
    if unit == "examples" and full is not None:
        raise ValueError("full: by examples a trial is over after train.total_epochs; leave it out")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Search:
    """Which trials are made of this job, and when one is stopped."""

    space: Annotated[dict[str, Values], Field(min_length=1)]
    """Key path of the job → what it may be. The first two are the axes of the page's map."""
    trials: Positive | None = None
    """How many trials, repeats included; null with a grid of everything means all of it once."""
    metric: Annotated[str, Field(pattern="^[a-z][a-z_]*$")] = "loss"
    """What trials are judged by: loss, error, or another number of a validation."""
    mode: Literal["min", "max"] = "min"
    searcher: Literal["random", "grid", "tpe"] = "random"
    """How values come about: drawn at random (grids in full), all combinations of lists, or
    Optuna's tree of Parzen estimators, which learns from the trials before."""
    scheduler: Annotated[Asha | Median | NoStopping, Field(discriminator="kind")] = field(
        default_factory=Asha
    )
    repeats: Positive = 1
    """Trials of each setting, with the seeds train.seed, train.seed + 1, …"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of what is drawn at random."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial that crashed goes on from its last checkpoint before it has failed."""
    at_once: Positive | Literal["auto"] = "auto"
    """Trials that train at the same time; auto: as many as the cluster has room for."""
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """GPUs of each worker of a trial, or a part of one; null: one if the cluster has any."""
    budget_hours: Amount | None = None
    """Hours after which no trial goes on, over all starts of the search."""

    def __post_init__(self) -> None:
        for key in self.space:
            if key.split(".")[0] not in SECTIONS or "." not in key:
                raise ValueError(f"space: {key} is no key of {', '.join(SECTIONS)}")
            if key in REFUSED:
                raise ValueError(f"space: {key} cannot be searched; {REFUSED[key]}")
            if key.startswith("data.") and self.space[key].listed is None:
                raise ValueError(f"space: {key} needs a list; each value is a data set")
        ranges = [k for k, v in self.space.items() if v.listed is None]
        if self.searcher == "grid" and ranges:
            raise ValueError(f"searcher is grid, but space.{ranges[0]} is a range; list its values")
        whole = self.searcher == "grid" or all(v.grid for v in self.space.values())
        if self.trials is None and not whole:
            raise ValueError("trials: missing; only a grid of everything says how many")

    @property
    def total(self) -> int:
        """Trials in all."""
        if self.trials is not None:
            return self.trials
        return self.repeats * math.prod(len(v.listed or ()) for v in self.space.values())

    def seed_of(self, number: int, first: int) -> int:
        """Training seed of a trial; ``first`` is the job's own."""
        return first + number % self.repeats

    def setting(self, number: int) -> int:
        """Which setting a trial repeats."""
        return number // self.repeats


def drawn(search: Search, setting: int) -> dict[str, Any]:
    """Key path → value of a setting, a function of the search and the setting's number alone.

    Grids are crossed in full: each round of ``∏ sizes`` settings holds every cell once, in an
    order of its own. Other keys are drawn anew for each setting.
    """
    whole = search.searcher == "grid"
    grids = {k: v.listed for k, v in search.space.items() if v.grid or whole}
    cells = list(product(*(values or () for values in grids.values())))
    turn, place = divmod(setting, len(cells))
    if not whole:
        random.Random(f"{search.seed}/round {turn}").shuffle(cells)
    values = dict(zip(grids, cells[place], strict=True))
    source = random.Random(f"{search.seed}/setting {setting}")
    others = {k: v.draw(source) for k, v in search.space.items() if k not in grids}
    return {key: {**values, **others}[key] for key in search.space}


def corners(search: Search, limit: int = 400) -> Iterator[dict[str, Any]]:
    """Combinations that stand for the whole space: all of them, or ``limit`` drawn at random."""
    sizes = [len(values.corners) for values in search.space.values()]
    if math.prod(sizes) <= limit:
        for one in product(*(values.corners for values in search.space.values())):
            yield dict(zip(search.space, one, strict=True))
        return
    source = random.Random(f"{search.seed}/corners")
    for _ in range(limit):
        yield {key: source.choice(values.corners) for key, values in search.space.items()}
