"""A study for tools that people already use: written beside its page, or into a folder."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.storage import Storage, open_storage
from pipeline.study import TrialRecord, read_study_job, read_trials, study_path
from pipeline.study_tables import ended, tables

TENSORBOARD, OPTUNA = "tensorboard", "optuna.log"


def write_exports(
    storage: Storage,
    study_id: str,
    job: Job | None = None,
    trials: Sequence[TrialRecord] | None = None,
) -> list[str]:
    """Writes the four files of ``tables`` beside the study's page, and returns their keys.

    ``job`` and ``trials`` are read from storage when they are not given.
    """
    study = storage.below(study_path(study_id))
    job = read_study_job(study) if job is None else job
    made = tables(job, read_trials(study) if trials is None else trials)
    for name, data in made.items():
        study.write(name, data)
    return [f"{study_path(study_id)}/{name}" for name in made]


def export_to(storage: Storage, study_id: str, folder: str | Path) -> list[str]:
    """Writes a study in all forms into a folder (or ``s3://…``), and returns the addresses.

    Besides the files of ``tables`` these are ``tensorboard/`` and ``optuna.log``. Raises JobError
    when Optuna is not installed, before anything is written.
    """
    from pipeline.study_events import tensorboard

    require_optuna()
    study, target = storage.below(study_path(study_id)), open_storage(str(folder))
    job, trials = read_study_job(study), read_trials(study)
    with TemporaryDirectory(prefix="export-") as made:
        root = Path(made)
        for name, data in tables(job, trials).items():
            (root / name).write_bytes(data)
        tensorboard(root / TENSORBOARD, job, trials)
        optuna_journal(root / OPTUNA, study_id, job, trials)
        files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
        for key, path in sorted(files.items()):
            target.upload(key, path)
    return [target.address(key) for key in sorted(files)]


def require_optuna() -> None:
    """Raises JobError where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise JobError("Optuna is not installed; pip install 'draw-pipeline[search]', then again")


def optuna_journal(path: Path, study_id: str, job: Job, trials: Sequence[TrialRecord]) -> None:
    """A new journal that ``optuna-dashboard`` and ``optuna.load_study`` open.

    Stopped trials are pruned ones, unfinished ones are running; intermediate values stand at the
    steps of the validations. Raises JobError when Optuna is not installed.
    """
    require_optuna()
    from pipeline import tpe

    optuna, search = tpe.optuna(), job.search
    assert search is not None
    journal = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(journal),
        study_name=study_id,
        direction="minimize" if search.mode == "min" else "maximize",
    )
    study.set_user_attr("metric", search.metric)
    shown = ("status", "reason", "run", "seed", "examples", "seconds", "crashes", "test")
    for trial in trials:
        frozen = tpe.frozen(search, trial)
        frozen.datetime_start = datetime.fromtimestamp(trial.clock.decided, UTC)
        if frozen.state.is_finished():
            frozen.datetime_complete = datetime.fromtimestamp(ended(trial), UTC)
        for name in shown:
            frozen.set_user_attr(name, getattr(trial, name))
        study.add_trial(frozen)
