"""Studies of made trials: what a search would leave behind, from a formula instead of training.

The error after e examples is floor + (0.88 − floor) / (1 + e / 900)^0.9 and sampling noise of 2,000
validation examples, with floor = 0.03 + 0.3 exp(−T / 3) + 0.03 |log₂(N / 12)| + 0.08 (lg lr + 3)²:
more glimpses help with less and less effect, windows are best at 12, learning rates at 10⁻³. An
example takes 0.2 ms + 0.08 ms · T · N / 8. Trials with lr > 0.05 have no finite value; every
fortieth fails. Halving stops trials as they come, in the order of their numbers.
"""

import bisect
import io
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.job import Job
from pipeline.job_file import check_job, dump_job
from pipeline.records import PAGE, PICTURES, run_path
from pipeline.space import Asha
from pipeline.storage import Storage, open_storage
from pipeline.study import STUDY_JOB, Clock, Report, TrialRecord, study_path, write_trial
from pipeline.study_view import StudyView

FULL, SEEN, EXAMPLES = 16_200, 10, 2000
SPACE: dict[str, Any] = {
    "model.steps": {"choice": [2, 4, 8, 12]},
    "model.read_n": {"choice": [4, 8, 12, 16]},
    "train.lr": {"log_uniform": [1e-4, 1e-1]},
    "model.hidden": {"int_range": [64, 256]},
    "model.sees": {"choice": ["image", "both"]},
}
SEARCH: dict[str, Any] = {"space": SPACE, "trials": 1000, "metric": "error"}
START = 1_700_000_000.0


def made_job(name: str = "made", **search: Any) -> Job:
    plain = {
        "name": name,
        "data": {"source": "synthetic", "size": 28, "train": 1620, "val": EXAMPLES, "test": 100},
        "model": {"kind": "draw", "steps": 4, "read_n": 5, "write_n": 5},
        "train": {"total_epochs": 10},
        "search": {**SEARCH, **search},
    }
    return check_job(plain, name)


def made_view(trials: int, name: str = "made", **changes: Any) -> StudyView:
    """A study whose halving has seen this many trials; ``changes`` of its search."""
    job = made_job(name, **{"trials": max(1, trials), **changes})
    return StudyView(
        id=f"{name}-0123456789", job=job, full=FULL, trials=made_trials(job, trials), hours=1.25,
        pages=frozenset(range(0, trials, 2)),
    )  # fmt: skip


def made_trials(job: Job, count: int) -> list[TrialRecord]:
    assert job.search is not None
    source, passed = random.Random(f"made/{job.name}"), {}
    found = []
    for number in range(count):
        values = {key: one.draw(source) for key, one in job.search.space.items()}
        found.append(_trial(job, number, values, source, passed))
    return found


def _trial(
    job: Job, number: int, values: dict[str, Any], source: random.Random,
    passed: dict[float, list[float]],
) -> TrialRecord:  # fmt: skip
    assert job.search is not None
    rule = job.search.scheduler
    rungs = rule.rungs(FULL)
    amounts = sorted({*rungs, *(FULL * i / SEEN for i in range(1, SEEN - len(rungs) + 1)), FULL})
    reports, status, reason = [], "finished", ""
    begun = START + 60.0 * number
    for step, amount in enumerate(amounts, 1):
        reports.append(_report(values, step, amount, begun, source))
        if number % 40 == 39 and step == 2:
            status, reason = "failed", "loss was not finite 20 times in a row; lower train.lr"
            break
        if isinstance(rule, Asha) and amount in rungs:
            value = math.inf if reports[-1].value is None else reports[-1].value
            ranked = passed.setdefault(amount, [])
            bisect.insort(ranked, value)
            if value > ranked[int((len(ranked) - 1) / rule.reduction)]:
                status, reason = (
                    "stopped",
                    f"rung {rungs.index(amount) + 1}, {amount:,.0f} examples",
                )
                break
    done, best = status == "finished", reports[-1].value
    test = best + 0.002 if done and best is not None else None
    return TrialRecord(
        number=number, values=values, seed=0, run=f"{job.name}-{number:010x}", status=status,
        reason=reason, reports=reports, parameters=100_000 + number,
        flops_an_example=1e6 * _cost(values), test=test,
        test_stderr=None if test is None else math.sqrt(test * (1 - test) / EXAMPLES),
        clock=Clock(decided=begun - 4.5, first_step=begun, last_step=reports[-1].time,
                    over=reports[-1].time + 1.5),
    )  # fmt: skip


def _cost(values: dict[str, Any]) -> float:
    """Milliseconds an example."""
    return 0.2 + 0.08 * values.get("model.steps", 4) * values.get("model.read_n", 8) / 8


def _report(
    values: dict[str, Any], step: int, amount: float, begun: float, source: random.Random
) -> Report:
    lr = values.get("train.lr", 1e-3)
    floor = 0.03 + 0.3 * math.exp(-values.get("model.steps", 4) / 3)
    floor += 0.03 * abs(math.log2(values.get("model.read_n", 8) / 12))
    floor = min(0.8, floor + 0.08 * (math.log10(lr) + 3) ** 2)
    value = floor + (0.88 - floor) / (1 + amount / 900) ** 0.9
    stderr = math.sqrt(value * (1 - value) / EXAMPLES)
    value = max(0.0, source.gauss(value, stderr))
    seconds = amount * _cost(values) / 1000
    return Report(
        step=step, epoch=amount / 1620, examples=round(amount), seconds=seconds,
        value=None if lr > 0.05 else value, stderr=None if lr > 0.05 else stderr,
        terms={"loss": 3 * value}, time=begun + seconds,
    )  # fmt: skip


def picture(kind: str, shade: int) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("L", (56, 28), (shade + 60 * i) % 256) for i in range(3)]
    more = {"save_all": True, "append_images": frames[1:], "duration": 300} if kind == "gif" else {}
    frames[0].save(out, kind, **more)
    return out.getvalue()


def stored(view: StudyView, root: Path) -> Storage:
    """The study as a search stores it, with pictures and pages of the runs that it says."""
    storage = open_storage(f"file://{root}")
    home = storage.below(study_path(view.id))
    home.write(STUDY_JOB, dump_job(view.job).encode())
    for trial in view.trials:
        write_trial(home, trial)
        if trial.number in view.pages:
            run = storage.below(run_path(trial.run))
            run.write(PAGE, b"<!doctype html>")
            run.write(f"{PICTURES}/samples.png", picture("png", trial.number))
            run.write(f"{PICTURES}/glimpses.gif", picture("gif", trial.number))
    return storage
