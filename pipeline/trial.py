"""One trial of a search, on the actor that Ray Tune gives it: an ordinary run that reports."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.cluster import ENVIRONMENT
from pipeline.errors import DataError, Interrupted, JobError, TrainingError
from pipeline.estimate import flops_an_example
from pipeline.job import Job, run_id
from pipeline.job_file import dump_job
from pipeline.listing import read_metrics
from pipeline.loader import model_of
from pipeline.manifest import Manifest
from pipeline.metrics import Row
from pipeline.publish import publish
from pipeline.records import JOB, RunRecord, run_path
from pipeline.run import complete
from pipeline.storage import Storage
from pipeline.study import Report, trial_job
from pipeline.telemetry import Asked
from pipeline.train import train
from pipeline.values import digest, to_plain
from pipeline.worker import Outcome, Worker, interrupted

AROUND = {"step", "epoch", "examples", "seconds", "stderr"}
"""Columns of a validation that a report holds by themselves."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all trials of a study are made from. ``manifests`` by the digest of a data section."""

    job: Job
    manifests: dict[str, Manifest]
    storage: Storage
    channel: str
    """Where Ray's key-value store says ``<channel>:stop`` when the search is to end."""

    def job_of(self, values: dict[str, Any], seed: int) -> Job:
        return trial_job(self.job, values, seed)

    def manifest_of(self, job: Job) -> Manifest:
        return self.manifests[digest(to_plain(job.data))]


def measured(row: Row, metric: str, examples: int) -> tuple[float | None, float | None]:
    """The metric of one validation on ``examples`` and its standard error; None: not finite.

    ``error`` is the share of wrong answers, with the standard error of a share; only the loss has
    another one. Raises JobError for a metric that this model does not have.
    """
    if metric == "error" and isinstance(row.get("correct"), float):
        error = 1 - row["correct"]
        return _finite(error), math.sqrt(max(error * (1 - error), 0) / examples)
    if not isinstance(row.get(metric), int | float):
        there = ", ".join(sorted(k for k, v in row.items() if isinstance(v, float)))
        raise JobError(f"search.metric: {metric} is not measured by this model; it has {there}")
    return _finite(row[metric]), _finite(row.get("stderr")) if metric == "loss" else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def report_of(row: Row, metric: str, examples: int, seconds: float) -> Report:
    """A validation as the study keeps it; ``seconds`` of training led to it."""
    value, stderr = measured(row, metric, examples)
    scalars = {k: v for k, v in row.items() if isinstance(v, int | float) and k not in AROUND}
    return Report(
        step=int(row["step"]),
        epoch=float(row["epoch"]),
        examples=int(row["examples"]),
        seconds=seconds,
        value=value,
        stderr=stderr,
        terms={name: _finite(scalar) for name, scalar in scalars.items()},
        time=time.time(),
    )


def reports_of_run(job: Job, manifest: Manifest, storage: Storage, metric: str) -> list[Report]:
    """All validations that a run has stored: what a search that was cut off may have missed."""
    tables = read_metrics(storage, run_id(job, manifest))
    if "validation" not in tables or "train" not in tables:
        return []
    steps, seconds = (tables["train"][name].to_pylist() for name in ("step", "seconds"))
    return [
        report_of(
            row,
            metric,
            manifest.splits["val"],
            sum(s for step, s in zip(steps, seconds, strict=True) if step <= row["step"]),
        )
        for row in tables["validation"].to_pylist()
    ]


def run_trial(config: dict[str, Any], *, shared: Shared) -> None:
    """Trains one trial to its end, or as long as Ray Tune lets it; reports to Ray Tune.

    ``config``: number, values and seed. What cannot be cured by trying again (values that do not
    fit, a diverging loss) is reported as failed; any other exception is a crash, and Ray Tune
    tries again.
    """
    from ray import tune

    def say(said: dict[str, Any]) -> None:
        tune.report({"said": json.dumps(said)})  # as text: Ray Tune flattens what is nested

    os.environ.update({k: v for k, v in ENVIRONMENT.items() if k not in os.environ})
    try:
        job = shared.job_of(config["values"], config["seed"])
        manifest = shared.manifest_of(job)
        voice = Voice(job, manifest, shared, say)
        record = complete(job, manifest, shared.storage)
        if record is None:
            outcome = _train(job, manifest, shared, voice)
            record = publish(job, manifest, shared.storage, outcome, index=False)
        say({"finished": True, **_tested(record, shared.job, manifest)})
    except Interrupted:
        say({"unfinished": True})
    except (TrainingError, DataError, JobError) as fault:
        say({"failed": str(fault)})


class Voice:
    """What a trial says to the search: each validation, with the seconds of all its attempts."""

    def __init__(
        self, job: Job, manifest: Manifest, shared: Shared, say: Callable[[dict[str, Any]], None]
    ) -> None:
        assert shared.job.search is not None
        self.metric, self.examples = shared.job.search.metric, manifest.splits["val"]
        self.say, self.stop = say, Asked(shared.channel)
        self.first_step: float | None = None
        self.last_step: float | None = None
        model = model_of(job, manifest)
        self.facts = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops_an_example": flops_an_example(model),
        }
        known = reports_of_run(job, manifest, shared.storage, self.metric)
        self.before, self.since = known[-1].seconds if known else 0.0, 0.0

    def progress(self, row: Row) -> None:
        if self.first_step is None:
            self.first_step = row["time"] - row["seconds"]
        self.last_step = row["time"]

    def report(self, row: Row) -> None:
        if row["seconds"] < self.since:  # Ray Train has started its workers again
            self.before += self.since
        self.since = row["seconds"]
        report = report_of(row, self.metric, self.examples, self.before + self.since)
        clock = {"first_step": self.first_step, "last_step": self.last_step}
        self.say({"report": to_plain(report), "clock": clock, **self.facts})


def _train(job: Job, manifest: Manifest, shared: Shared, voice: Voice) -> Outcome:
    """In this process if the trial is one worker, else with Ray Train's."""
    import torch

    home = shared.storage.below(run_path(run_id(job, manifest)))
    home.write(JOB, dump_job(job).encode())
    if job.cluster.workers != 1:
        from pipeline.launch import launch

        return launch(
            job, manifest, shared.storage,
            progress=voice.progress, report=voice.report, stopping=voice.stop, ours=False,
        )  # fmt: skip
    torch.set_num_threads(job.cluster.cpus_per_worker)
    device = torch.device("cuda" if job.cluster.device == "cuda" else "cpu")
    worker = Worker(device=device, progress=voice.progress, report=voice.report, stop=voice.stop)
    outcome = train(job, manifest, shared.storage, worker)
    if not outcome.finished:
        raise interrupted(outcome)
    return outcome


def _tested(record: RunRecord, job: Job, manifest: Manifest) -> dict[str, float | None]:
    assert job.search is not None
    result = record.results["test"]
    row = {"loss": result.loss, "stderr": result.stderr, **result.terms}
    value, stderr = measured(row, job.search.metric, manifest.splits["test"])
    return {"test": value, "test_stderr": stderr}


def keep_keys() -> None:
    """Ray Tune hands AWS keys of its own process to its actors, and Ray's agents write what they
    are handed into their logs. Here it does not: every node has its own."""
    from ray.tune.execution import class_cache

    own = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    class_cache.ENV_VARS_TO_PROPAGATE -= own
