"""What the verbs about searches do; every one returns plain values for ``--json``."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, JobError
from pipeline.job import Job
from pipeline.job_file import dump_job
from pipeline.listing import list_studies, whole_id
from pipeline.storage import Storage, open_storage
from pipeline.study import (
    STUDIES,
    TrialRecord,
    best_trial,
    read_study_job,
    read_trials,
    study_path,
    trial_job,
)
from pipeline.terminal import Terminal
from pipeline.values import to_plain


def search_rows(trials: list[TrialRecord], job: Job, study: str) -> list[tuple[str, str]]:
    """A study as lines of a table for the terminal."""
    search = job.search
    assert search is not None
    counts = {s: sum(t.status == s for t in trials) for s in sorted({t.status for t in trials})}
    rows = [
        ("study", study),
        ("trials", f"{len(trials)} of {search.total}: " + _listed(counts)),
        ("training", f"{sum(t.seconds for t in trials):,.0f} s"),
    ]
    best = best_trial(trials, search.mode)
    report = best.best(search.mode) if best else None
    if best and report and report.value is not None:
        spread = "" if report.stderr is None else f" ± {report.stderr:.4g}"
        rows += [
            ("best", f"trial {best.number}: {search.metric} {report.value:.4g}{spread} (val)"),
            *((f"  {key}", _short(value)) for key, value in best.values.items()),
            ("  run", best.run),
        ]
        if best.test is not None:
            rows.append(("  test", f"{search.metric} {best.test:.4g}"))
    return rows


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "none yet"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def search(job: Job, terminal: Terminal) -> Any:
    """``run`` of a job that has a search."""
    from pipeline.search import search as search_job

    found = search_job(job, terminal)
    if found.already:
        terminal.say(f"{found.record.id} is already complete; raise search.trials to go on")
    storage = open_storage(job.storage)
    trials = read_trials(storage.below(study_path(found.record.id)))
    terminal.table(found.record.id, search_rows(trials, job, found.record.id))
    terminal.say(f"page: {found.page}")
    return {"already": found.already, "page": found.page, **to_plain(found.record)}


def studies(storage: Storage, options: argparse.Namespace) -> Any:
    rows = list_studies(storage)
    for row in rows:
        value = "–" if row.best is None else f"{row.metric} {row.best:.4g}"
        if not options.json:
            print(f"{row.id:40} {row.status:11} {row.trials:5} of {row.of:5} trials  {value}")
    return [to_plain(row) for row in rows]


def study(storage: Storage, options: argparse.Namespace, terminal: Terminal) -> Any:
    """``study show | best | export | compare | report``."""
    name = whole_id(storage, STUDIES, options.study)
    home = storage.below(study_path(name))
    if options.action == "show":
        job, trials = read_study_job(home), read_trials(home)
        terminal.table(name, search_rows(trials, job, name))
        for trial in trials:
            if not options.json:
                print(_line(trial, job))
        return [to_plain(trial) for trial in trials]
    if options.action == "best":
        return _best(storage, name, options, terminal)
    if options.action == "export":
        from pipeline.study_export import export_to

        files = export_to(storage, name, options.out or name)
        terminal.say("\n".join(files))
        return {"study": name, "files": files}
    from pipeline.study_page import write_comparison, write_study_page

    if options.action == "compare" and not options.other:
        raise JobError("study compare: --with OTHER is missing; name the study to compare with")
    if options.action == "compare":
        page = write_comparison(storage, [name, whole_id(storage, STUDIES, options.other)])
    else:
        page = write_study_page(storage, name)
    terminal.say(storage.address(page))
    return {"page": storage.address(page)}


def _best(storage: Storage, name: str, options: argparse.Namespace, terminal: Terminal) -> Any:
    """The best trial as a job of its own, at full length; with ``--train`` it is run."""
    home = storage.below(study_path(name))
    job, trials = read_study_job(home), read_trials(home)
    assert job.search is not None
    best = best_trial(trials, job.search.mode)
    if best is None:
        raise DataError(f"{home.url}: no trial has been measured yet; run the search first")
    full = trial_job(job, best.values, best.seed)
    full = replace(full, storage=storage.url)
    text = f"# Trial {best.number} of the study {name}, at full length.\n{dump_job(full)}"
    if options.out:
        try:
            Path(options.out).write_text(text, encoding="utf-8")
        except OSError as fault:
            raise DataError(f"{options.out}: {fault.strerror}; give another --out") from None
        terminal.say(options.out)
    elif not options.train and not options.json:
        sys.stdout.write(text)
    terminal.table(name, search_rows(trials, job, name))
    if options.train:
        from pipeline.run import run

        finished = run(full, terminal)
        terminal.say(f"page: {finished.page}")
        return {"trial": best.number, "already": finished.already, **to_plain(finished.record)}
    return {"trial": best.number, "job": to_plain(full)}


def _line(trial: TrialRecord, job: Job) -> str:
    assert job.search is not None
    best = trial.best(job.search.mode)
    value = "–" if best is None or best.value is None else f"{best.value:.4g}"
    return (
        f"{trial.number:5} {trial.status:10} {value:>9} {trial.examples:>10,} examples "
        f"{trial.seconds:7.0f} s  {setting(trial)}  {trial.reason}"
    )


def setting(trial: TrialRecord) -> str:
    """Its values by the last part of their keys, as "lr 0.01, length 50"."""
    return ", ".join(f"{key.split('.')[-1]} {_short(v)}" for key, v in trial.values.items())
