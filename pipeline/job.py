"""The job file as frozen, strictly checked values: what may stand in one, and what it means."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from draw_model import ModelConfig
from pipeline.job_optimizer import (
    CONFIG,
    Adam,
    Constant,
    Fraction,
    Optimizer,
    Positive,
    Rate,
    Schedule,
)
from pipeline.manifest import Manifest
from pipeline.retrain_values import Retrain, Start
from pipeline.sources import DataConfig
from pipeline.sources.contract import READING
from pipeline.space import Search
from pipeline.values import digest, to_plain


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Train:
    """How the model is trained. What decides the result is in the run's id: all but
    ``keep_epochs``."""

    total_epochs: Positive
    batch_size: Positive = 128
    """Examples in a global batch, shared out over the workers."""
    accumulation: Positive = 1
    """Parts in which a worker takes its share of a batch, to save memory."""
    lr: Rate = 1e-3
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=Constant)
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate climbs in a straight line to its value."""
    clip_norm: Rate | None = 5.0
    """Largest norm of the whole gradient; null leaves it as it is."""
    weight_decay: Annotated[float, Field(ge=0, lt=1e3, allow_inf_nan=False)] = 0.0
    """Each step first shrinks all weights by the learning rate × this, whatever the optimiser
    (decoupled, Loshchilov & Hutter 2019)."""
    average: Fraction = 0.0
    """0, or the decay of a moving average of the weights over the steps (Polyak & Juditsky 1992),
    as 0.999: the average is what is validated, kept and published. Batch norm's moving means are
    not averaged again."""
    precision: Literal["float32", "bfloat16"] = "float32"
    validate_every_steps: Positive | None = None
    """Cadence of validation; null means once an epoch."""
    checkpoint_every_steps: Positive = 500
    """A checkpoint is written at every validation too."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints kept, beside the best."""
    keep_epochs: tuple[Positive, ...] = ()
    """Epochs that end with a checkpoint that stays, for pictures of how the run learned; what lies
    beyond ``total_epochs`` counts for nothing."""
    max_skipped_steps: Annotated[int, Field(ge=0)] = 20
    """Steps with a loss or gradient that is not finite, skipped before training gives up."""
    keep_best: Literal["loss", "error", "last"] = "loss"
    """What makes a checkpoint the best: lowest validation loss, or share of wrong answers, or last.
    The best is what is evaluated and published."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    def __post_init__(self) -> None:
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"accumulation is {self.accumulation}, more than batch_size {self.batch_size}: "
                "a part would be empty; lower accumulation"
            )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Elastic:
    """Training goes on with fewer workers when a node is lost, with more when one is added. The
    global batches stay the same, so only the order of additions changes."""

    least: Positive = 1
    most: Positive

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(f"least is {self.least}, more than most, {self.most}; swap them")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Cluster:
    """Where the job runs. None of it decides the result beyond the order of additions."""

    workers: Positive | Elastic | Literal["auto"] = "auto"
    """``auto``: one a GPU; without GPUs, one for every ``cpus_per_worker`` cores,
    but none with less than 32 examples of a batch. ``{least: 1, most: 4}`` for a cluster whose
    nodes come and go."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus_per_worker: Positive = 1
    """Cores, and torch threads, of each worker."""
    cache_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """Largest size of each node's cache of decoded shards."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Worker failures after which training gives up; each goes on from the last checkpoint."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Job:
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """Lower-case letters, digits, _ and -; first part of the run's id."""
    storage: str = "file://~/draw-storage"
    """Where everything goes: file:///folder or s3://bucket/prefix."""
    data: DataConfig
    model: Annotated[ModelConfig, Field(discriminator="kind")]
    train: Train
    cluster: Cluster = field(default_factory=Cluster)
    search: Search | None = None
    """Makes the job a search: many trials of it with other values."""
    retrain: Retrain | None = None
    """Makes the job a schedule; ``python -m pipeline retrain`` does one tick of it."""
    start: Start | None = None
    """What the run begins with, if not with its seed alone."""

    def __post_init__(self) -> None:
        if self.search is not None and self.retrain is not None:
            raise ValueError("it has a search and a retrain section; leave one out")
        if self.search is not None and isinstance(self.cluster.workers, Elastic):
            raise ValueError("cluster.workers: a trial of a search takes a number, not a range")


FORMAT = 1
"""Raised when a change of the code changes what the same job trains."""
ADDED: dict[str, dict[str, Any]] = {
    "model": {"window_sigma": 1.0, "window_rate": 1.0, "window_limit": None, "zoom_to": None},
    "train": {"weight_decay": 0.0, "average": 0.0},
    "start": {"also": [], "step": None},
}
"""Values that runs of this format first did without: where they change nothing they are left out
of the id, so that such a run keeps its own."""
FREE = ("keep_epochs",)
"""Values of a model or a training that decide what is kept and nothing else."""


def run_id(job: Job, manifest: Manifest) -> str:
    """Job name + a hash of all that decides the result: data, model, training.

    The same job submitted again has the same id, so it resumes or is already complete.
    """
    identity = {"data": manifest.content, **made_of(job)}
    if job.start is not None:
        identity["start"] = deciding("start", to_plain(job.start))
    return f"{job.name}-{digest(identity)[:10]}"


def made_of(job: Job) -> dict[str, Any]:
    """All that decides a result beside the examples and the weights that training begins with."""
    data = to_plain(job.data)
    return {
        "format": FORMAT,
        "model": deciding("model", to_plain(job.model)),
        "train": deciding("train", to_plain(job.train)),
        **{name: data[name] for name in READING if data.get(name)},
    }


def deciding(section: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What of a job's model, train or start section decides a result: ids, comparisons know it."""
    added = ADDED[section]
    if plain.get("also"):  # each as the start that it would be alone
        plain = {**plain, "also": [deciding(section, one) for one in plain["also"]]}
    return {
        name: value
        for name, value in plain.items()
        if name not in FREE and not (name in added and value == added[name])
    }


def crop_of(job: Job) -> int | None:
    """The side that the job's pictures are cut to, if its source knows such a thing."""
    return getattr(job.data, "crop", None)


def job_schema() -> dict[str, Any]:
    """The JSON schema of job files, for editors: generated from these types."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Job).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
