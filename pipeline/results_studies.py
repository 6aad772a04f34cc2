"""What a finished search says in the results table."""

from typing import Any

from pipeline.listing import list_studies
from pipeline.report import duration
from pipeline.storage import Storage
from pipeline.study import (
    Report,
    TrialRecord,
    best_trial,
    read_study_job,
    read_trials,
    study_path,
)

UNRANKED = ("generator", "discriminator_real", "discriminator_fake")
"""Losses of a game: one falls because its opponent is weak, so the least is not the best."""


def of_study(storage: Storage, job: str) -> dict[str, Any] | None:
    """``found``, ``setting``, ``cost``, ``run`` and ``page`` of a job's last finished search.

    Found are the best trial's values; where the metric ranks nothing, every trial's. None where no
    search has come to its end. Raises DataError for a damaged study.
    """
    done = [row for row in list_studies(storage) if row.name == job and row.status == "complete"]
    if not done:
        return None
    row, study = done[-1], storage.below(study_path(done[-1].id))
    trials, search = read_trials(study), read_study_job(study).search
    mode = search.mode if search else "min"
    best = best_trial(trials, mode)
    if row.metric in UNRANKED:
        each = [f"{_number(trial.best(mode))} with {_values(trial)}" for trial in trials]
        found = f"no loss ranks GANs, see their samples; {row.metric}: {'; '.join(each)}"
    elif best is None:
        found = f"best {row.metric} of no trial"
    else:
        number = _number(best.best(mode))
        found = f"best {row.metric} {number} on validation, with {_values(best)}"
    return {
        "found": found,
        "setting": f"{row.trials} trials",
        "cost": f"{duration(sum(trial.seconds for trial in trials))} of training",
        "run": row.id,
        "page": f"{study_path(row.id)}/index.html",
    }


def _number(report: Report | None) -> str:
    return "–" if report is None or report.value is None else f"{report.value:.4g}"


def _values(trial: TrialRecord) -> str:
    """Its values by the last part of their keys, as "lr 0.01, length 50"."""
    known = {key.rpartition(".")[2]: value for key, value in trial.values.items()}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in known.items()
    )
