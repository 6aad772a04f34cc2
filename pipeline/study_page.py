"""How studies look to a reader: one self-contained HTML file, from what is stored of them."""

import json
import logging
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from pipeline.captions import FIGURES
from pipeline.datasets import load_manifest
from pipeline.errors import JobError, PipelineError
from pipeline.job import Job
from pipeline.listing import read_optional
from pipeline.records import PAGE, PICTURES, run_path
from pipeline.report import TEMPLATES, render
from pipeline.sources import dataset_id
from pipeline.storage import Storage
from pipeline.study import (
    STUDY,
    StudyRecord,
    TrialRecord,
    longest_epochs,
    read_starts,
    read_study_job,
    read_trials,
    study_path,
    trial_job,
)
from pipeline.study_answer import compare
from pipeline.study_header import header
from pipeline.study_rows import page_data
from pipeline.study_view import StudyView
from pipeline.values import from_json

log = logging.getLogger(__name__)
COMPARISONS = "comparisons"
MOST_BYTES = 3_000_000
"""Of pictures in a page."""
SHOWN_BEST = 20
"""So many of the best trials have their pictures in the page, and the best of each map cell."""
PREFERRED = ("glimpses.gif", "samples.png", "generation.gif", "reconstructions.png", "glimpses.png")
SCRIPTS = ("data", "search", "table", "map", "details", "export")
"""Run before the charts' library is read, so that the table can be used at once."""
CHART_SCRIPTS = ("theme", "curves", "slices", "parallel", "draw", "main")


def study_page(views: Sequence[StudyView], charts_js: str) -> str:
    """The page of one study, or of several side by side that are judged by the same metric.

    ``charts_js`` defines ``vegaEmbed``. The page lets nothing in from outside, and runs no script
    whose sha256 it does not name.
    """
    scripts = [_script(f"study_{name}.js") for name in SCRIPTS]
    charts = [_closed(charts_js), *(_script(f"study_{name}.js") for name in CHART_SCRIPTS)]
    hashes = [b64encode(sha256(one.encode()).digest()).decode() for one in (*scripts, *charts)]
    return render(
        "study.html",
        title=" and ".join(view.job.name for view in views),
        studies=[header(view) for view in views],
        comparison=compare(views) if len(views) > 1 else "",
        data=_embedded({**page_data(views), "pictures": _pictures(views)}),
        scripts=scripts,
        charts=charts,
        script_source=" ".join(f"'sha256-{one}'" for one in hashes),
        study_style=(TEMPLATES / "study.css").read_text(encoding="utf-8"),
    )


def write_study_page(storage: Storage, study_id: str) -> str:
    """Gathers what is stored of a study, writes its page, and returns the page's key.

    Raises DataError when there is no such study, or its job or record is damaged.
    """
    page = study_page([gather(storage, study_id)], charts_library())
    key = f"{study_path(study_id)}/{PAGE}"
    storage.write(key, page.encode())
    return key


def write_comparison(storage: Storage, ids: Sequence[str]) -> str:
    """Writes one page of these studies side by side, and returns its key.

    Raises JobError when they are not judged by the same metric.
    """
    views = [gather(storage, study_id) for study_id in ids]
    judged = {(view.search.metric, view.search.mode) for view in views}
    if len(judged) > 1:
        found = ", ".join(f"{v.id} by {v.search.metric} ({v.search.mode})" for v in views)
        raise JobError(f"these studies are not judged alike ({found}); compare others")
    key = f"{COMPARISONS}/{'--'.join(ids)}/{PAGE}"
    storage.write(key, study_page(views, charts_library()).encode())
    return key


@cache
def charts_library() -> str:
    """JavaScript of Vega-Lite, Vega and vega-embed, without any other file; about 900 KB."""
    import vl_convert

    # In a function of its own, so that its many short names are not the page's.
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{{bundle}}})();"


def gather(storage: Storage, study_id: str) -> StudyView:
    """All that the page shows of a study. What a running study lacks is left out."""
    study = storage.below(study_path(study_id))
    job = read_study_job(study)
    data = read_optional(study, STUDY)
    record = None if data is None else from_json(StudyRecord, data, study.address(STUDY))
    trials = read_trials(study)
    view = StudyView(
        id=study_id,
        job=job,
        trials=trials,
        full=record.full if record else _full(job, trials, storage),
        record=record,
        hours=sum(start.seconds for start in read_starts(study)) / 3600,
    )
    pictures = _read_pictures(storage, view)
    return replace(view, pictures=pictures, pages=_pages(storage, trials))


def _full(job: Job, trials: Sequence[TrialRecord], storage: Storage) -> float | None:
    """What the longest trial may spend; None as long as the data sets are not in storage."""
    assert job.search is not None
    given = job.search.scheduler.full
    if given is not None:
        return given
    keys = [key for key in job.search.space if key.startswith("data.")]
    tried = {str([t.values.get(key) for key in keys]): t for t in trials}
    settings = [{key: t.values.get(key) for key in keys} for t in tried.values()] or [{}]
    try:
        sources = [trial_job(job, values, job.train.seed).data for values in settings]
        manifests = [load_manifest(storage, one.source, dataset_id(one)) for one in sources]
    except PipelineError as fault:
        log.warning("%s; the page is written without rungs", fault)
        return None
    return float(longest_epochs(job) * max(one.splits["train"] for one in manifests))


def _pages(storage: Storage, trials: Sequence[TrialRecord]) -> frozenset[int]:
    """Trials whose run has a page; those that run or wait have none yet."""
    over = [trial for trial in trials if trial.status not in ("waiting", "running")]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda t: storage.exists(f"{run_path(t.run)}/{PAGE}"), over)
        return frozenset(t.number for t, there in zip(over, found, strict=True) if there)


def chosen(view: StudyView) -> list[TrialRecord]:
    """The trials whose pictures are wanted: the best, then the best of each cell of the map."""
    ranked = view.ranked()
    best = {trial.number: trial for trial in ranked[:SHOWN_BEST]}
    if len(view.axes) > 1:
        one, other = view.axes[:2]
        of_cells = {cell.best for cell in view.map(one, other, None).values()}
        best |= {trial.number: trial for trial in ranked if trial.number in of_cells}
    return list(best.values())


def _read_pictures(storage: Storage, view: StudyView) -> dict[int, dict[str, bytes]]:
    """Trial → file name → bytes: first one picture of each trial, then the second of each, …, as
    far as ``MOST_BYTES`` go."""

    def listed(trial: TrialRecord) -> list[tuple[TrialRecord, str, int]]:
        entries = storage.list(f"{run_path(trial.run)}/{PICTURES}")
        sizes = {entry.key: entry.bytes for entry in entries}
        keys = [f"{run_path(trial.run)}/{PICTURES}/{name}" for name in PREFERRED]
        return [(trial, key, sizes[key]) for key in keys if key in sizes]

    with ThreadPoolExecutor(8) as pool:
        turns = zip_longest(*pool.map(listed, chosen(view)))
        taken, left = [], MOST_BYTES
        for trial, key, size in (one for turn in turns for one in turn if one is not None):
            if size <= left:
                taken.append((trial.number, key))
                left -= size
        data = pool.map(lambda one: storage.read(one[1]), taken)
        found: dict[int, dict[str, bytes]] = {}
        for (number, key), content in zip(taken, data, strict=True):
            found.setdefault(number, {})[key.rsplit("/", 1)[-1]] = content
    return found


def _pictures(views: Sequence[StudyView]) -> list[dict[str, list[dict[str, str]]]]:
    """For each study, trial → its pictures as titles and data addresses."""
    return [
        {
            str(number): [_figure(name, found[name]) for name in PREFERRED if name in found]
            for number, found in view.pictures.items()
        }
        for view in views
    ]


def _figure(name: str, data: bytes) -> dict[str, str]:
    kind = "gif" if data.startswith(b"GIF8") else "png"
    return {
        "title": FIGURES[name][0],
        "text": FIGURES[name][1],
        "data": f"data:image/{kind};base64,{b64encode(data).decode()}",
    }


def _script(name: str) -> str:
    return _closed((TEMPLATES / name).read_text(encoding="utf-8"))


def _closed(script: str) -> str:
    """The same script, which nothing in it can end early."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that no name in it can break out of: < stands in texts only, and is written as code."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
