"""What a finished search says in the results table."""

from typing import Any

from pipeline.listing import list_studies
from pipeline.report import duration
from pipeline.storage import Storage
from pipeline.study import best_trial, read_study_job, read_trials, study_path
from pipeline.study_verbs import setting

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
    assert search is not None, "a study's job has a search"
    unranked = search.metric in UNRANKED
    best = best_trial(trials, search.mode)
    told = []
    for trial in trials if unranked else [best] if best else []:
        report = trial.best(search.mode)
        value = "–" if report is None or report.value is None else f"{report.value:.4g}"
        told.append(f"{value} with {setting(trial)}")
    words = "no loss ranks GANs, see their samples;" if unranked else "best on validation:"
    return {
        "found": f"{words} {search.metric} {'; '.join(told) or 'of no trial'}",
        "setting": f"{row.trials} trials",
        "cost": f"{duration(sum(trial.seconds for trial in trials))} of training",
        "run": row.id,
        "page": f"{study_path(row.id)}/index.html",
    }
