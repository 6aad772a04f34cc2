"""Studies in the tools that people use, each opened through the tool's own reader."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import DataError, JobError
from pipeline.job import Job
from pipeline.job_file import check_job, dump_job
from pipeline.storage import Storage, open_storage
from pipeline.study import Clock, Report, TrialRecord, write_trial
from pipeline.study_export import export_to, optuna_journal, write_exports
from pipeline.study_tables import tables
from tests.tiny import PLAIN

NOW = 1_700_000_000.0
SPACE = {
    "model.steps": {"choice": [2, 4, 8]},
    "train.lr": {"log_uniform": [1e-4, 1e-2]},
    "train.clip_norm": {"grid": [None, 5]},
    "data.categories": {"choice": [["cat"], ["cat", "dog"]]},
}
VALUES = [
    {"model.steps": 2, "train.lr": 1e-3, "train.clip_norm": None, "data.categories": ["cat"]},
    {"model.steps": 4, "train.lr": 2e-3, "train.clip_norm": 5, "data.categories": ["cat", "dog"]},
]
NASTY = '=HYPERLINK("http://x")\nsecond, line'


def study_job() -> Job:
    search = {"space": SPACE, "trials": 9, "metric": "error", "scheduler": {"kind": "none"}}
    return check_job({**PLAIN, "search": search}, "tiny")


def report(number: int, value: float | None) -> Report:
    return Report(
        step=5 * number, epoch=number, examples=70 * number, seconds=1.5 * number, value=value,
        stderr=0.01, terms={"loss": 100.0 - number, "kl": None}, time=NOW + number,
    )  # fmt: skip


def trial(number: int, status: Any, *values: float | None, **more: Any) -> TrialRecord:
    return TrialRecord(
        number=number, values=VALUES[number % 2], seed=number, run=f"tiny-{number:010d}",
        status=status, reports=[report(n + 1, value) for n, value in enumerate(values)],
        clock=Clock(decided=NOW, over=NOW + 60), **more,
    )  # fmt: skip


def some_trials() -> list[TrialRecord]:
    return [
        trial(0, "finished", 0.5, None, 0.25, 0.3, flops_an_example=1e6, test=0.26, crashes=1),
        trial(1, "stopped", 0.6, 0.55, reason="at rung 1", parameters=1234),
        trial(2, "failed", reason=NASTY),
        trial(3, "running", float("nan"), 0.4),
        trial(4, "unfinished"),
        trial(5, "finished", None, test=float("inf")),
    ]


def stored(storage: Storage) -> Storage:
    """A study in storage; its folder."""
    home = storage.below("studies/tiny-1")
    home.write("job.yaml", dump_job(study_job()).encode())
    for one in some_trials():
        write_trial(home, one)
    return home


def test_the_tables_are_written_beside_the_page_and_read_by_arrow_pandas_and_csv(storage):
    home = stored(storage)
    keys = write_exports(storage, "tiny-1")
    names = ["trials.csv", "trials.json", "trials.parquet", "reports.parquet"]
    assert keys == [f"studies/tiny-1/{name}" for name in names]

    table = pq.read_table(io.BytesIO(home.read("trials.parquet")))
    types = {
        "number": pa.int64(), "status": pa.string(), "model.steps": pa.int64(),
        "train.lr": pa.float64(), "train.clip_norm": pa.int64(), "data.categories": pa.string(),
        "best": pa.float64(), "decided": pa.timestamp("ms", tz="UTC"),
    }  # fmt: skip
    assert {name: table.schema.field(name).type for name in types} == types
    first, second, failed, running, unfinished, nothing = table.to_pylist()
    assert (first["best"], first["best_step"], first["examples"]) == (0.25, 15, 280)
    assert (first["flops"], first["test"], first["crashes"]) == (2.8e8, 0.26, 1)
    assert first["decided"] == datetime.fromtimestamp(NOW, UTC)
    assert json.loads(second["data.categories"]) == ["cat", "dog"]
    assert (failed["best"], failed["reason"]) == (None, NASTY)
    assert (running["best"], unfinished["seconds"], nothing["test"]) == (0.4, 0.0, None)

    frame = pandas.read_csv(io.BytesIO(home.read("trials.csv")))
    assert list(frame.columns) == table.column_names
    assert frame["best"].tolist()[:2] == [0.25, 0.55]
    assert frame["model.steps"].dtype == "int64"
    (row,) = [r for r in csv.DictReader(io.StringIO(home.read("trials.csv").decode()))
              if r["status"] == "failed"]  # fmt: skip
    assert row["reason"] == f"'{NASTY}"

    rows = json.loads(home.read("trials.json"))
    assert len(rows) == 6
    assert rows[0]["decided"] == "2023-11-14T22:13:20+00:00"
    assert rows[1]["train.clip_norm"] == 5
    assert rows[5]["test"] is None

    reports = pq.read_table(io.BytesIO(home.read("reports.parquet"))).to_pydict()
    assert reports["number"] == [0, 0, 0, 0, 1, 1, 3, 3, 5]
    assert reports["value"][:4] == [0.5, None, 0.25, 0.3]
    assert reports["value"][6] is None
    assert reports["terms.loss"][0] == 99.0
    assert set(reports["terms.kl"]) == {None}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "  =1", "\r=1"])
def test_no_text_of_the_csv_is_a_formula_to_a_spreadsheet(text):
    made = tables(study_job(), [trial(0, "failed", reason=text)])["trials.csv"].decode()
    (row,) = csv.DictReader(io.StringIO(made, newline=""))
    assert row["reason"] == "'" + text.replace("\r", "\n")
    assert tables(study_job(), [trial(0, "finished", -1.0)])["trials.csv"].count(b"'") == 0


def test_a_study_without_trials_has_tables_of_the_same_types():
    empty, full = (
        pq.read_table(io.BytesIO(tables(study_job(), trials)["trials.parquet"])).schema
        for trials in ([], some_trials())
    )
    assert empty.equals(full)


def test_what_no_table_can_hold_is_named():
    with pytest.raises(DataError, match="column crashes of the trials does not fit int64"):
        tables(study_job(), [trial(0, "failed", crashes=2**70)])
    far = trial(0, "failed")
    far = TrialRecord(**{**vars(far), "clock": Clock(decided=NOW, over=1e300)})
    assert b"null" in tables(study_job(), [far])["trials.json"]


def test_all_forms_are_written_to_a_folder_and_again_over_themselves(storage, tmp_path):
    stored(storage)
    written = export_to(storage, "tiny-1", tmp_path / "out")
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written == [f"file://{path}" for path in files]
    events = {p: p.read_bytes() for p in files if "tfevents" in p.name}
    assert len(events) == 7
    assert export_to(storage, "tiny-1", tmp_path / "out") == written
    assert {path: path.read_bytes() for path in events} == events


def test_a_study_that_is_not_there_is_one_line(tmp_path):
    storage = open_storage(str(tmp_path))
    with pytest.raises(DataError, match=r"/studies/other/job.yaml: there is no such study"):
        write_exports(storage, "other")
    storage.write("studies/other/job.yaml", dump_job(check_job(PLAIN, "tiny")).encode())
    with pytest.raises(DataError, match="has no section search"):
        write_exports(storage, "other")
    storage.write("studies/other/job.yaml", b"\xff: [")
    with pytest.raises(JobError, match=r"/studies/other/job.yaml:1"):
        write_exports(storage, "other")


# ---- TensorBoard ---------------------------------------------------------------------------------


def test_tensorboard_reads_the_curves_of_every_trial(tmp_path):
    storage = open_storage(str(tmp_path / "store"))
    stored(storage)
    export_to(storage, "tiny-1", tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out/tensorboard/trial-000000"))
    events.Reload()
    curve = [(e.step, e.value, e.wall_time) for e in events.Scalars("validation/error")]
    assert [(step, time) for step, _, time in curve] == [(5, NOW + 1), (15, NOW + 3), (20, NOW + 4)]
    assert [value for _, value, _ in curve] == pytest.approx([0.5, 0.25, 0.3])
    assert [e.value for e in events.Scalars("validation/loss")] == [99, 98, 97, 96]
    assert [e.value for e in events.Scalars("cost/seconds")] == [1.5, 3.0, 4.5, 6.0]
    assert [(e.step, e.value) for e in events.Scalars("best/error")] == [(15, 0.25)]


def test_tensorboards_own_server_shows_the_trials_by_their_values(tmp_path):
    storage = open_storage(str(tmp_path / "store"))
    stored(storage)
    export_to(storage, "tiny-1", tmp_path / "out")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "out/tensorboard",
               "--host", "127.0.0.1", "--port", "0", "--load_fast=false"]  # fmt: skip
    groups: list[Any] = []
    deadline, log = time.monotonic() + 90, tmp_path / "log"
    with log.open("w") as file, subprocess.Popen(command, cwd=tmp_path, stderr=file) as server:
        try:
            while not (found := re.search(r"http://127.0.0.1:\d+", log.read_text())):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            question = {
                "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
                "startIndex": 0,
                "sliceSize": 100,
            }
            while len(groups) < 6:  # it reads the folders in the background
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
                groups = hparams(found[0], "session_groups", question).get("sessionGroups", [])
            whole = hparams(found[0], "experiment", {})
        finally:
            server.kill()
    infos = {info["name"]: info for info in whole["hparamInfos"]}
    assert infos["model.steps"]["domainDiscrete"] == [2, 4, 8]
    assert infos["train.lr"]["domainInterval"] == {"minValue": 1e-4, "maxValue": 1e-2}
    assert infos["data.categories"]["domainDiscrete"] == ['["cat"]', '["cat", "dog"]']
    by_name = {group["name"]: group for group in groups}
    assert by_name["trial-000001"]["hparams"] == {
        "model.steps": 4, "train.lr": 2e-3, "train.clip_norm": 5,
        "data.categories": '["cat", "dog"]',
    }  # fmt: skip
    assert "train.clip_norm" not in by_name["trial-000000"]["hparams"]
    metrics = {m["name"]["tag"]: m["value"] for m in by_name["trial-000000"]["metricValues"]}
    assert metrics == pytest.approx(
        {"best/error": 0.25, "test/error": 0.26, "cost/examples": 280, "cost/seconds": 6}
    )
    status = {name: group["sessions"][0]["status"] for name, group in by_name.items()}
    assert [status[name].removeprefix("STATUS_") for name in sorted(status)] == [
        "SUCCESS", "SUCCESS", "FAILURE", "RUNNING", "RUNNING", "SUCCESS",
    ]  # fmt: skip


def hparams(address: str, what: str, question: dict[str, Any]) -> Any:
    """What the page of the HParams plugin asks; {} while it has not read anything yet."""
    where = f"{address}/experiment/defaultExperimentId/data/plugin/hparams/{what}"
    data, head = json.dumps(question).encode(), {"Content-Type": "application/json"}
    asked = urllib.request.Request(where, data=data, headers=head)
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as fault:
        fault.close()
        if fault.code >= 500:
            raise
        return {}


# ---- Optuna --------------------------------------------------------------------------------------


def test_optuna_loads_the_study_from_its_journal(tmp_path):
    path = tmp_path / "optuna.log"
    optuna_journal(path, "tiny-1", study_job(), some_trials())
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert study.study_name == "tiny-1"
    assert study.direction.name == "MINIMIZE"
    assert [t.state.name for t in study.trials] == [
        "COMPLETE", "PRUNED", "FAIL", "RUNNING", "RUNNING", "FAIL",
    ]  # fmt: skip
    first, second, *_ = study.trials
    assert study.best_trial.number == 0
    assert first.intermediate_values == {5: 0.5, 15: 0.25, 20: 0.3}
    assert first.params == {**VALUES[0], "data.categories": '["cat"]'}
    assert second.value == 0.55
    assert second.user_attrs["reason"] == "at rung 1"
    assert second.user_attrs["run"] == "tiny-0000000001"
    assert first.distributions["train.lr"] == optuna.distributions.FloatDistribution(
        1e-4, 1e-2, log=True
    )
    assert (first.duration.total_seconds(), first.datetime_start.timestamp()) == (60, NOW)


def test_without_optuna_it_is_said_what_to_install_and_nothing_is_written(tmp_path):
    storage = open_storage(str(tmp_path / "store"))
    stored(storage)
    program = (
        "import sys; sys.modules['optuna'] = None\n"
        "from pipeline.errors import JobError\n"
        "from pipeline.storage import open_storage\n"
        "from pipeline.study_export import export_to, write_exports\n"
        "store = open_storage('store')\n"
        "write_exports(store, 'tiny-1')\n"
        "try: export_to(store, 'tiny-1', 'out')\n"
        "except JobError as fault: print(fault)"
    )
    paths = str(Path(__file__).parents[1])
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert said == "Optuna is not installed; pip install 'draw-pipeline[search]', then again\n"
    assert not (tmp_path / "out").exists()
