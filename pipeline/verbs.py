"""What each verb of the command line does; every one returns plain values for ``--json``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError, JobError
from pipeline.terminal import Terminal, estimate_rows, summary_rows
from pipeline.values import to_json, to_plain

if TYPE_CHECKING:  # it would load torch for every verb, also for those that only list
    from pipeline.job import Job

DEFAULT_STORAGE = "file://~/draw-storage"


def _job(options: argparse.Namespace) -> "Job":
    from pipeline.job_file import read_job
    from pipeline.storage import open_storage

    job = read_job(options.job, options.set)
    open_storage(job.storage)  # refuses what no storage can be, credentials in it included
    return job


def storage_of(options: argparse.Namespace) -> Any:
    """Where to look: --storage, DRAW_STORAGE, or the folder in the home directory."""
    import os

    from pipeline.storage import open_storage

    return open_storage(options.storage or os.environ.get("DRAW_STORAGE") or DEFAULT_STORAGE)


def run(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.run import run as run_job

    job = _job(options)
    if job.search is not None:
        from pipeline.study_verbs import search

        if options.without_ray:
            raise JobError("--without-ray: a search needs Ray; leave it out, or search: null")
        return search(job, terminal)
    finished = run_job(job, terminal, without_ray=options.without_ray)
    if finished.already:
        terminal.say(f"{finished.record.id} is already complete; change a value to train anew")
    terminal.table(finished.record.id, summary_rows(finished.record))
    terminal.say(f"page: {finished.page}")
    return {"already": finished.already, "page": finished.page, **to_plain(finished.record)}


def check(options: argparse.Namespace, terminal: Terminal) -> Any:
    job = _job(options)
    if job.search is not None:
        from pipeline.study_run import check_space

        check_space(job)
    terminal.say(f"{options.job}: a good job, {job.name}")
    return to_plain(job)


def plan(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.estimate import estimate

    job = _job(options)
    found = estimate(job)
    terminal.table(job.name, estimate_rows(found))
    return to_plain(found)


def prepare(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.prepare import prepare as prepare_dataset
    from pipeline.storage import open_storage

    job = _job(options)
    storage = open_storage(job.storage)
    with terminal.stage("prepare") as advance:
        manifest = prepare_dataset(job.data, storage, progress=advance)
    terminal.say(f"{storage.address(manifest.path)}: {manifest.splits}")
    return to_plain(manifest)


def show(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.contact_sheet import png
    from pipeline.prepare import find_dataset, sample_sheet

    storage = storage_of(options)
    manifest = find_dataset(storage, options.dataset)
    sheet = Path(options.sheet or f"{manifest.name}-{manifest.id}.png")
    try:
        sheet.write_bytes(png(sample_sheet(storage, manifest)))
    except OSError as fault:
        raise DataError(f"{sheet}: {fault.strerror}; give another place with --sheet") from None
    if not options.json:
        sys.stdout.write(to_json(manifest).decode())
    terminal.say(f"sample sheet: {sheet}")
    return {**to_plain(manifest), "sheet": str(sheet)}


def verify(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.prepare import find_dataset
    from pipeline.prepare import verify as verify_dataset

    storage = storage_of(options)
    manifest = find_dataset(storage, options.dataset)
    with terminal.stage("verify") as advance:
        faults = verify_dataset(storage, manifest, progress=advance)
    if faults:
        raise DataError("\n".join(faults))
    terminal.say(f"{storage.address(manifest.path)}: {len(manifest.shards)} shards, all whole")
    return {"dataset": manifest.path, "shards": len(manifest.shards), "faults": []}


def studies(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.study_verbs import studies as list_studies

    return list_studies(storage_of(options), options)


def study(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.study_verbs import study as act

    return act(storage_of(options), options, terminal)


def serve(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.serve import serve as serve_storage

    serve_storage(storage_of(options), options.host, options.port, terminal.say)


def exporter(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.exporter import export

    export(storage_of(options), options.host, options.port, options.every, terminal.say)


def doctor(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.doctor import told

    return told(storage_of(options), terminal.say)


def schema(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.job import job_schema

    if not options.json:
        sys.stdout.write(to_json(job_schema()).decode())
    return job_schema()
