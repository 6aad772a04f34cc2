"""One table of everything that the paper and its five imitations report, and what runs here reach.

``results.yaml`` lists what was reported; ours comes from the records of finished runs alone, of one
storage or, by the tables that others left (``RESULTS.json``), of several.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from pipeline.errors import DataError
from pipeline.fault_costs import FaultCosts, read_fault_costs
from pipeline.lineage import lineage
from pipeline.listing import list_runs
from pipeline.records import RunRecord, read_record, run_path
from pipeline.report import RESULTS, render
from pipeline.results_shows import SHOWS, further_error
from pipeline.results_studies import of_study
from pipeline.results_words import cost, data, setting
from pipeline.storage import Storage
from pipeline.values import STRICT, from_json, to_json

ITEMS = Path(__file__).parent / "results.yaml"
MARKDOWN = "RESULTS.md"
TABLE = "RESULTS.json"
"""In the storage's root, as the page is: what the Markdown shows, for other storages' tables."""
FURTHER, ERROR = ERRORS = ("further error", "error")
"""What ``Answer.by`` says of a share of wrong answers; of losses it names their target."""
MISSING = {
    "data": "its data is not at hand here and is fetched or put into DRAW_DATA by whoever runs",
    "": "not run yet",
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Item:
    """What somebody reported, and whose runs here answer it.

    ``id`` has the numbers of the source documents' items. ``show`` names what of a run is the
    answer; ``where`` are values that the run's job has to have; ``ours`` are words instead of runs.
    """

    id: str
    what: str
    paper: str = ""
    document: str = ""
    flag: str = ""
    """What is wrong, unclear or not comparable in what was reported."""
    jobs: tuple[str, ...] = ()
    where: dict[str, Any] = field(default_factory=dict)
    show: str = ""
    ours: str = ""
    missing: Literal["", "data"] = ""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Answer:
    """One run's part of a row; ``run`` is empty where there is none, ``page`` where that is in
    another storage. ``seen``: training examples, each as often as it came. ``score``: validation,
    lower is better, and ``by`` what it counts; None and "" where there is none. ``where`` is the
    item's."""

    job: str
    found: str
    setting: str = ""
    data: str = ""
    cost: str = ""
    run: str = ""
    page: str = ""
    seen: int = 0
    score: float | None = None
    by: str = ""
    finished: str = ""
    where: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Row:
    item: Item
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Table:
    """What a storage had to say: item's id → its answers that a run gave; what faults cost."""

    VERSION: ClassVar[int] = 2

    version: int = VERSION
    answers: dict[str, tuple[Answer, ...]]
    faults: FaultCosts | None = None


def read_items() -> tuple[Item, ...]:
    """What was reported, in the order of the documents."""
    plain = yaml.safe_load(ITEMS.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Item, ...]).validate_json(json.dumps(plain))


def rows(storage: Storage, items: Sequence[Item]) -> list[Row]:
    """Every item with what the storage's finished runs and searches say to it.

    Of several runs of a job one answers, as ``_best`` says.
    """
    wanted = {job for item in items for job in item.jobs}
    complete = [one.id for one in list_runs(storage) if one.status == "complete"]
    records = [read_record(storage, id) for id in complete if id.rpartition("-")[0] in wanted]
    return [
        Row(item=item, answers=tuple(_answer(storage, item, job, records) for job in item.jobs))
        for item in items
    ]


def _answer(storage: Storage, item: Item, job: str, records: Sequence[RunRecord]) -> Answer:
    if item.show == "study":
        found = of_study(storage, job)
        missing = f"{MISSING['']}: python -m pipeline run jobs/{job}.yaml"
        return Answer(job=job, **(found or {"found": missing}))
    fitting = [r for r in records if r.name == job and _fits(r.job, item.where)]
    if not fitting:
        options = "".join(f" --set {key}={value}" for key, value in item.where.items())
        command = f"python -m pipeline run jobs/{job}.yaml{options}"
        return Answer(job=job, found=f"{MISSING[item.missing]}: {command}")
    lines = {record.id: lineage(storage, record) for record in fitting}
    best = _best([_standing(storage, line) for line, _ in lines.values()])
    line, lost = lines[best.run]
    return replace(
        best, found=SHOWS[item.show](storage, line[0]), setting=setting(line[0]),
        data=data(storage, line[0]), cost=cost(line, lost),
        page=f"{run_path(best.run)}/index.html", where=item.where,
    )  # fmt: skip


def _best(answers: Sequence[Answer]) -> Answer:
    """One that is a run; of these the best by validation, of equals the one that saw more, then the
    newer. Like is compared with like: errors on further pictures come before those by which
    weights were chosen, these before losses, and of losses those of the kind of the run that
    saw the most."""
    standing = sorted(answers, key=lambda a: (bool(a.run), a.seen, a.finished), reverse=True)
    kinds = [a.by for a in standing if a.score is not None]
    if not kinds:
        return standing[0]
    by = next((by for by in ERRORS if by in kinds), kinds[0])
    return min((a for a in standing if a.by == by), key=lambda a: a.score or 0.0)


def _standing(storage: Storage, line: Sequence[RunRecord]) -> Answer:
    """What decides whether a run answers; what it says is read of that one alone."""
    record, seen = line[0], sum(one.examples_seen for one in line)
    return Answer(
        job=record.name, found="", run=record.id, seen=seen, finished=record.finished,
        **_score(storage, record),
    )  # fmt: skip


def _score(storage: Storage, record: RunRecord) -> dict[str, Any]:
    """What chose the run's weights; nothing for a run that kept its last, such as a GAN's, or one
    whose validation is not finite.

    An error on further validation pictures comes before the one that the choice has flattered.
    """
    result, by = record.results["val"], record.job["train"].get("keep_best", "loss")
    further = None if by == "loss" else further_error(storage, record)
    if further is not None:
        return {"score": further, "by": FURTHER}
    known = {"loss": (result.loss, f"loss, {result.target}"), "error": (result.error, ERROR)}
    score, by = known.get(by, (None, ""))
    return {"score": score, "by": by} if score is not None and math.isfinite(score) else {}


def _fits(job: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(_value(job, path) == value for path, value in where.items())


def _value(job: Mapping[str, Any], path: str) -> Any:
    found: Any = job
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def markdown(table: Sequence[Row], faults: FaultCosts | None) -> str:
    """RESULTS.md: a table, a line for each run or command; what faults cost, if it was measured."""
    return render("results.md", rows=table, faults=faults)


def read_table(path: Path) -> Table:
    """Raises DataError for what is not there or no table."""
    try:
        return from_json(Table, path.read_bytes(), str(path))
    except OSError as fault:
        raise DataError(f"{path}: {fault.strerror}; name a RESULTS.json") from None


def joined(own: Sequence[Row], others: Sequence[Table], here: Collection[str] = ()) -> list[Row]:
    """The same rows; where a run of another table is over the one here, that one answers.

    ``here`` are the runs of this storage: what another table once said of them counts no more.
    """

    def best(item: Item, answer: Answer) -> Answer:
        told = (a for one in others for a in one.answers.get(item.id, ()))
        there = [
            a for a in told
            if a.job == answer.job and a.where == item.where and a.run not in here
        ]  # fmt: skip
        return _best([answer, *(replace(a, page="") for a in there)])

    return [
        Row(item=row.item, answers=tuple(best(row.item, answer) for answer in row.answers))
        for row in own
    ]


def write_results(storage: Storage, others: Sequence[Table] = ()) -> list[Row]:
    """Writes page, Markdown and table into the storage's root; the rows that they show."""
    table = joined(rows(storage, read_items()), others, storage.folders("runs"))
    known = [read_fault_costs(storage), *(one.faults for one in others)]
    faults = next((costs for costs in known if costs), None)
    answers = {
        row.item.id: found for row in table if (found := tuple(a for a in row.answers if a.run))
    }
    storage.write(TABLE, to_json(Table(answers=answers, faults=faults)))
    storage.write(MARKDOWN, markdown(table, faults).encode())
    reached = sum(not row.answers or any(a.run for a in row.answers) for row in table)
    page = render("results.html", rows=table, reached=reached, faults=faults)
    storage.write(RESULTS, page.encode())
    return table
