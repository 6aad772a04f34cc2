"""How a run and a whole storage look to a reader: self-contained HTML pages from what is stored."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import checkpoint
from pipeline.captions import BESIDE, FIGURES, WIDE
from pipeline.champion import CHAMPIONS
from pipeline.findings import Finding, read_findings
from pipeline.listing import (
    RunRow,
    StudyRow,
    list_datasets,
    list_runs,
    list_studies,
    read_attempts,
    read_metrics,
    read_optional,
)
from pipeline.manifest import Manifest
from pipeline.records import JOB, PAGE, PICTURES, RECORD, RunRecord, run_path
from pipeline.storage import Storage
from pipeline.values import from_json

TEMPLATES = Path(__file__).parent / "templates"
RESULTS = "results.html"
"""The page of the results table, in the storage's root."""


def run_page(
    record: RunRecord | None,
    *,
    run_id: str,
    job_yaml: str,
    tables: Mapping[str, pa.Table],
    pictures: Mapping[str, bytes],
    state: Mapping[str, Any],
    findings: Sequence[tuple[Finding, Mapping[str, bytes]]] = (),
) -> str:
    """The page of one run; without a record, of an unfinished one.

    ``tables`` as ``read_metrics``; ``pictures`` by file name; ``state`` may hold
    ``checkpoint_step`` (of the newest checkpoint) and ``attempts`` (as training signs in);
    ``findings`` as ``read_findings``.
    """
    from pipeline import curves  # Matplotlib, which the pages of champions go without

    known = record.results if record else {}
    results = [known[name] for name in sorted(known, key=_split_order)]
    terms = {k: v for result in results for k, v in result.terms.items()}
    kl = {r.split: r.terms["kl_per_step"] for r in results if "kl_per_step" in r.terms}
    return render(
        "run.html",
        record=record,
        run_id=run_id,
        results=results,
        best=known.get("test") or (results[-1] if results else None),
        bound=all(result.bound for result in results),
        terms=[name for name, value in terms.items() if not isinstance(value, list)],
        kl_splits=list(kl),
        kl_rows=list(zip(*kl.values(), strict=False)),
        figures=[_figure(name, pictures[name]) for name in _picture_order(pictures)],
        texts={n: d.decode(errors="replace") for n, d in pictures.items() if n.endswith(".txt")},
        names=list(pictures),
        findings=findings,
        curves=curves.figures(tables),
        last=_last_row(tables.get("train")),
        validated=_last_row(tables.get("validation")),
        facts=_facts(record, tables),
        state={"checkpoint_step": None, "attempts": [], **state},
        job_yaml=job_yaml,
    )


def storage_page(
    rows: Sequence[RunRow],
    datasets: Mapping[str, Manifest | None] | None = None,
    studies: Sequence[StudyRow] = (),
    champions: Sequence[str] = (),
    *,
    results: str = "",
) -> str:
    """The way in: all runs, searches, and data sets by path (None: its manifest is damaged).
    ``results``: the page of the results table, where there is one.

    Runs that bear the name of a search are its trials: they are counted, and on its own page.
    """
    names = {study.name for study in studies if study.name}
    own = [row for row in rows if (row.name or row.id.rpartition("-")[0]) not in names]
    return render(
        "index.html",
        rows=own,
        trials=len(rows) - len(own),
        datasets=datasets or {},
        studies=studies,
        champions=champions,
        results=results,
    )


def write_run_page(storage: Storage, run_id: str) -> str:
    """Gathers what is stored of a run, writes its page, and returns the page's key.

    Raises DataError when the record or a part of the metrics is damaged.
    """
    run = storage.below(run_path(run_id))
    data = read_optional(run, RECORD)
    page = run_page(
        None if data is None else from_json(RunRecord, data, run.address(RECORD)),
        run_id=run_id,
        job_yaml=(read_optional(run, JOB) or b"").decode(errors="replace"),
        tables=read_metrics(storage, run_id),
        pictures={e.key.rsplit("/", 1)[-1]: run.read(e.key) for e in run.list(PICTURES)},
        state={
            "checkpoint_step": max(checkpoint.steps(run), default=None),
            "attempts": read_attempts(storage, run_id),
        },
        findings=read_findings(run),
    )
    run.write(PAGE, page.encode())
    return f"{run_path(run_id)}/{PAGE}"


def write_storage_page(storage: Storage) -> str:
    """Writes the storage's index.html from its runs and data sets, and returns its key."""
    champions = [c for c in storage.folders(CHAMPIONS) if storage.exists(f"{CHAMPIONS}/{c}/{PAGE}")]
    page = storage_page(
        list_runs(storage), list_datasets(storage), list_studies(storage), champions,
        results=RESULTS if storage.exists(RESULTS) else "",
    )  # fmt: skip
    storage.write(PAGE, page.encode())
    return PAGE


def _split_order(name: str) -> tuple[int, str]:
    return (("train", "val", "test").index(name) if name in ("train", "val", "test") else 3, name)


def _picture_order(pictures: Mapping[str, bytes]) -> list[str]:
    """Those with a caption first; the curves are on the page as text already."""
    others = [
        name
        for name in sorted(pictures)
        if name not in FIGURES and name != "curves.png" and not name.endswith(".txt")
    ]
    return [name for name in FIGURES if name in pictures] + others


def _figure(name: str, data: bytes) -> dict[str, Any]:
    title, text = FIGURES.get(name, (name, ""))
    return {
        "title": title,
        "text": text,
        "beside": name in BESIDE,
        "steps": title.endswith("step by step") or name in WIDE,
        "data": _address(data),
    }


def _address(data: bytes) -> str:
    """A picture within a page."""
    kind = "gif" if data.startswith(b"GIF8") else "png"
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def _last_row(table: pa.Table | None) -> dict[str, Any]:
    """Step, epoch, loss and stderr of the last row; None for what is not there."""
    row = table.slice(table.num_rows - 1).to_pylist()[0] if table and table.num_rows else {}
    return {name: row.get(name) for name in ("step", "epoch", "loss", "stderr")}


def _facts(record: RunRecord | None, tables: Mapping[str, pa.Table]) -> list[tuple[str, str]]:
    """Label and text of what there is to know of the run's making."""
    memory, waits = _known(tables, "memory_mb"), _known(tables, "data_wait")
    facts = []
    if record:
        facts = [
            ("workers", f"{record.workers} × {record.device}"),
            ("machine", record.machine),
            ("speed", f"{number(record.examples_per_second, 0)} examples/s"),
            ("time in training steps", duration(record.train_seconds)),
            ("started (UTC)", moment(record.started)),
            ("finished (UTC)", moment(record.finished)),
            ("attempts", number(record.attempts, 0)),
            ("epochs", number(record.epochs, 2)),
            ("steps (skipped)", f"{number(record.steps, 0)} ({number(record.skipped_steps, 0)})"),
            ("examples seen", number(record.examples_seen, 0)),
            ("parameters", number(record.parameters, 0)),
            ("data set", record.dataset),
            ("its content (sha256)", record.manifest_content),
            ("versions", ", ".join(f"{k} {v}" for k, v in record.versions.items())),
        ]
    if memory:
        facts.append(("peak memory of a worker", f"{number(max(memory), 0)} MB"))
    if waits:
        facts.append(("time waiting for data", f"{number(100 * sum(waits) / len(waits), 1)} %"))
    return facts


def _known(tables: Mapping[str, pa.Table], column: str) -> list[float]:
    """The finite numbers in a column of the training table."""
    table = tables.get("train")
    values = table[column].to_pylist() if table and column in table.column_names else []
    return [v for v in values if isinstance(v, int | float) and math.isfinite(v)]


def number(value: Any, digits: int = 2) -> str:
    """A number with thousands set apart; – for what is missing or not finite."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1 h 02 min 03 s."""
    if not math.isfinite(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min {rest:02d} s" if hours else f"{minutes} min {rest:02d} s"


def moment(iso: str | None) -> str:
    """An ISO 8601 time to the minute; – where there is none."""
    return iso[:16].replace("T", " ") if iso else "–"


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def render(template: str, **values: Any) -> str:
    """A page from its template; values that are markup already say so there."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"number": number, "moment": moment, "cell": cell, "address": _address}
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return pages.get_template(template).render(style=style, **values)
