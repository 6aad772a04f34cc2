"""What each verb of the command line does; every one returns plain values for ``--json``."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, JobError, StorageError
from pipeline.job import Job
from pipeline.terminal import Terminal, estimate_rows, result_rows, summary_rows
from pipeline.values import to_json, to_plain

DEFAULT_STORAGE = "file://~/draw-storage"


def _job(options: argparse.Namespace) -> Job:
    from pipeline.job_file import read_job
    from pipeline.storage import open_storage

    job = read_job(options.job, options.set)
    open_storage(job.storage)  # refuses what no storage can be, credentials in it included
    return job


def _storage(options: argparse.Namespace) -> Any:
    import os

    from pipeline.storage import open_storage

    return open_storage(options.storage or os.environ.get("DRAW_STORAGE") or DEFAULT_STORAGE)


def home_of(options: argparse.Namespace) -> Any:
    """The folder of one run, by its id or a unique beginning of it."""
    storage = _storage(options)
    ids = storage.folders("runs/")
    matching = [options.run] * (options.run in ids) or [i for i in ids if i.startswith(options.run)]
    if len(matching) != 1:
        there = ", ".join(matching or ids) or "none"
        raise StorageError(
            f"{storage.address('runs/')}: {len(matching)} runs begin with {options.run!r}; "
            f"name one of: {there}"
        )
    return storage.below(f"runs/{matching[0]}"), matching[0], storage


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

    storage = _storage(options)
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

    storage = _storage(options)
    manifest = find_dataset(storage, options.dataset)
    with terminal.stage("verify") as advance:
        faults = verify_dataset(storage, manifest, progress=advance)
    if faults:
        raise DataError("\n".join(faults))
    terminal.say(f"{storage.address(manifest.path)}: {len(manifest.shards)} shards, all whole")
    return {"dataset": manifest.path, "shards": len(manifest.shards), "faults": []}


def evaluate(options: argparse.Namespace, terminal: Terminal) -> Any:
    from torch import autocast, bfloat16

    from pipeline.evaluate import evaluate as evaluate_split
    from pipeline.loader import open_loader
    from pipeline.publish import finished_run

    _, run_id, storage = home_of(options)
    job, manifest, model = finished_run(storage, run_id)
    loader = open_loader(job, manifest, storage, options.split, model.noise_shapes())
    with (
        terminal.stage(f"evaluate {options.split}") as advance,
        autocast("cpu", dtype=bfloat16, enabled=job.train.precision == "bfloat16"),
    ):
        result = evaluate_split(model, loader, progress=advance)
    terminal.table(f"{run_id} on {options.split}", result_rows(result))
    return to_plain(result)


def sample(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline import pictures
    from pipeline.publish import TEXTS, finished_run, texts

    if options.count < 1:
        raise JobError(f"--count {options.count}: write 1 or more")
    _, run_id, storage = home_of(options)
    *_, model = finished_run(storage, run_id)
    if options.primer is None:
        made = model.sample(options.count, options.seed)
        drawn = pictures.of_model(made, None, None) | texts(made)
    else:
        drawn = {TEXTS: _continued(options, model, run_id).encode()}
    if not drawn:
        raise JobError(f"{run_id}: this model imagines nothing; its page shows what it does")
    folder = Path(options.out or f"samples-{run_id}-{options.seed}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in drawn.items():
            (folder / name).write_bytes(data)
    except OSError as fault:
        raise DataError(f"{folder}: {fault.strerror}; give another folder with --out") from None
    files = [str(folder / name) for name in drawn]
    if TEXTS in drawn and not options.json:
        sys.stdout.write(drawn[TEXTS].decode() + "\n")
    terminal.say("\n".join(files))
    return {"run": run_id, "seed": options.seed, "files": files}


def _continued(options: argparse.Namespace, model: Any, run_id: str) -> str:
    """The primer and ``--count`` characters more."""
    from draw_model import CharRnn
    from draw_model.char_rnn import continue_text

    if not isinstance(model, CharRnn):
        raise JobError(f"{run_id}: --primer {options.primer!r}: this model writes no text")
    try:
        more = continue_text(
            model, options.primer, options.count, options.temperature, options.seed
        )
    except ValueError as fault:
        raise JobError(f"{run_id}: {fault}") from None
    return options.primer + more


def runs(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.listing import list_runs

    rows = list_runs(_storage(options))
    for row in rows:
        bound = "–" if row.loss is None else f"{row.loss:.2f} ± {row.stderr:.2f} nats"
        if not options.json:
            print(f"{row.id:40} {row.status:12} {bound}")
    return [to_plain(row) for row in rows]


def studies(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.study_verbs import studies as list_studies

    return list_studies(_storage(options), options)


def study(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.study_verbs import study as act

    return act(_storage(options), options, terminal)


def serve(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.serve import serve as serve_storage

    serve_storage(_storage(options), options.host, options.port, terminal.say)


def report(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.report import write_run_page, write_storage_page

    home, run_id, storage = home_of(options)
    write_run_page(storage, run_id)
    write_storage_page(storage)
    terminal.say(home.address("index.html"))
    return {"page": home.address("index.html"), "index": storage.address("index.html")}


def results(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.results import MARKDOWN, PAGE, markdown, write_results

    storage = _storage(options)
    table = write_results(storage)
    if options.out:
        try:
            Path(options.out).write_text(markdown(table), encoding="utf-8")
        except OSError as fault:
            raise DataError(f"{options.out}: {fault.strerror}; give another --out") from None
    for name in (PAGE, MARKDOWN):
        terminal.say(storage.address(name))
    return [to_plain(row) for row in table]


def doctor(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.doctor import told

    return told(_storage(options), terminal.say)


def schema(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.job import job_schema

    if not options.json:
        sys.stdout.write(to_json(job_schema()).decode())
    return job_schema()
