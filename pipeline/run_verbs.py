"""What the verbs about finished runs do; every one returns plain values for ``--json``."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, JobError
from pipeline.terminal import Terminal, result_rows
from pipeline.values import to_plain
from pipeline.verbs import storage_of


def home_of(options: argparse.Namespace) -> Any:
    """The folder of one run, by its id or a unique beginning of it."""
    from pipeline.listing import whole_id

    storage = storage_of(options)
    run = whole_id(storage, "runs", options.run)
    return storage.below(f"runs/{run}"), run, storage


def written(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """Writes files into a folder of this machine; where they are."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as fault:
        raise DataError(f"{folder}: {fault.strerror}; give another folder with --out") from None
    return [str(folder / name) for name in files]


def evaluate(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.evaluate import evaluate as evaluate_split
    from pipeline.loader import open_loader
    from pipeline.publish import finished_run
    from pipeline.worker import autocast

    _, run_id, storage = home_of(options)
    job, manifest, model = finished_run(storage, run_id)
    loader = open_loader(job, manifest, storage, options.split, model.noise_shapes())
    with (
        terminal.stage(f"evaluate {options.split}") as advance,
        autocast("cpu", job.train.precision),
    ):
        result = evaluate_split(model, loader, progress=advance)
    terminal.table(f"{run_id} on {options.split}", result_rows(result))
    return to_plain(result)


def measure(options: argparse.Namespace, terminal: Terminal) -> Any:
    """Measures a finished run; its findings by name."""
    from pipeline.finished import open_finished
    from pipeline.listing import whole_id
    from pipeline.measure import measure as measure_run
    from pipeline.measures.contract import Wanted

    for name in ("samples", "first", "count", "further"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise JobError(f"--{name} {value}: write 1 or more")
    home, run_id, storage = home_of(options)

    def opened(other: str | None) -> Any:
        return None if other is None else open_finished(storage, whole_id(storage, "runs", other))

    wanted = Wanted(
        split=options.split,
        samples=options.samples,
        first=options.first,
        count=options.count,
        seed=options.seed,
        against=opened(options.against),
        classifier=opened(options.classifier),
        target=options.target,
        further=options.further,
    )
    finished = open_finished(storage, run_id)
    findings = measure_run(finished, wanted, options.names, terminal.stage)
    for finding in findings:
        terminal.table(f"{finding.title}: {run_id}", finding.rows)
    terminal.say(f"page: {home.address('index.html')}")
    return {finding.name: to_plain(finding) for finding in findings}


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
    files = written(Path(options.out or f"samples-{run_id}-{options.seed}"), drawn)
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

    rows = list_runs(storage_of(options))
    for row in rows:
        step = "" if row.step is None else f"step {row.step:,}  "
        told = step + row.reason if row.loss is None else f"{row.loss:.2f} ± {row.stderr:.2f} nats"
        if not options.json:
            print(f"{row.id:40} {row.status:12} {told or '–'}")
    return [to_plain(row) for row in rows]


def report(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.report import write_run_page, write_storage_page

    home, run_id, storage = home_of(options)
    write_run_page(storage, run_id)
    write_storage_page(storage)
    terminal.say(home.address("index.html"))
    return {"page": home.address("index.html"), "index": storage.address("index.html")}


def results(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.report import RESULTS
    from pipeline.results import MARKDOWN, TABLE, read_table, write_results

    storage = storage_of(options)
    table = write_results(storage, [read_table(Path(path)) for path in options.others])
    if options.out:
        written(Path(options.out), {name: storage.read(name) for name in (MARKDOWN, TABLE)})
    for name in (RESULTS, MARKDOWN, TABLE):
        terminal.say(storage.address(name))
    return [to_plain(row) for row in table]
