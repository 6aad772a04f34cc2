"""What a run leaves behind, and where: ``runs/<run id>/…`` below the storage's root."""

import math
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from pipeline.errors import DataError
from pipeline.storage import NotFound, Storage
from pipeline.values import STRICT, from_json


def target(likelihood: str, binarisation: str) -> str:
    """What a loss was measured on, in words; only losses with equal words are compared.

    ``binarisation`` is how pictures were read. They are the target of a likelihood of pixels only:
    a text has none, a classifier and a GAN take them in.
    """
    words = {
        "characters": "characters",
        "class": f"classes of {binarisation} pictures",
        "adversarial": f"none, adversarial on {binarisation} pictures",
    }
    return words.get(likelihood, f"{likelihood}, {binarisation}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Result:
    """A whole split evaluated once, in nats per example where the model has a likelihood.

    ``loss`` is the mean over ``examples``, ``stderr`` its standard error. ``terms`` are the means
    of the model's other terms; those with one value a step are lists. ``chance`` is what a uniform
    guess would cost (a fair coin for every pixel: dimensions × ln 2), None where there is none.
    ``binarisation`` names the kind of target, since numbers of different kinds are never compared.
    """

    split: str
    examples: int
    loss: float
    stderr: float
    terms: dict[str, float | list[float]]
    dimensions: int
    nats_per_dimension: float
    chance: float | None
    binarisation: str
    likelihood: str
    """As ``draw_model.Measure`` names it."""

    @property
    def bound(self) -> bool:
        """Whether the loss is a bound on −log p(x): reconstruction and KL, and nothing else."""
        parts = [self.terms.get(name) for name in ("reconstruction", "kl")]
        known = [part for part in parts if isinstance(part, float)]
        # Rounding of float32 sums only: a classifier that has learned adds less than a nat.
        return len(known) == 2 and math.isclose(self.loss, sum(known), rel_tol=1e-6)

    @property
    def target(self) -> str:
        """As ``target`` below."""
        return target(self.likelihood, self.binarisation)

    @property
    def error(self) -> float | None:
        """Share of wrong answers of a classifier, of wrong characters of a text's model."""
        correct = self.terms.get("correct")
        return 1 - correct if isinstance(correct, float) else None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunRecord:
    """``run.json``, written last: a run with this file is complete. Times are UTC, ISO 8601."""

    VERSION: ClassVar[int] = 1

    version: int
    id: str
    name: str
    job: dict[str, Any]
    """The job as it was run, every default filled in; no credentials can be in a job."""
    dataset: str
    """The data set's folder below the storage's root."""
    manifest_content: str
    parameters: int
    weights_sha256: str = ""
    """Of ``weights.safetensors``; a reader checks it before it uses them."""
    steps: int
    epochs: float
    examples_seen: int
    best_step: int
    skipped_steps: int
    results: dict[str, Result]
    """Split → result of the best checkpoint, as the job's ``train.keep_best`` says."""
    workers: int
    device: str
    machine: str
    """Processor or GPU model and count: no host name, no path."""
    attempts: int
    """How often training was (re)started until it was done."""
    train_seconds: float
    """Seconds spent in training steps, over all attempts that led to the final weights."""
    examples_per_second: float
    started: str
    finished: str
    versions: dict[str, str]


def run_path(run_id: str) -> str:
    return f"runs/{run_id}"


# Names of the objects below a run's folder.
RECORD = "run.json"
JOB = "job.yaml"
WEIGHTS = "weights.safetensors"
MODEL = "model.json"
PAGE = "index.html"
CHECKPOINTS = "checkpoints"
ATTEMPTS = "attempts"
METRICS = "metrics"
PICTURES = "pictures"
RAY_NOTES = "ray"


def read_record(storage: Storage, run: str) -> RunRecord:
    """The record of a run that has to be finished. Raises DataError where it is not."""
    home = storage.below(run_path(run))
    try:
        return from_json(RunRecord, home.read(RECORD), home.address(RECORD))
    except NotFound:
        raise DataError(
            f"{home.address(RECORD)}: not there; the run is not finished, run its job"
        ) from None
