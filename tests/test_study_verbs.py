"""The verbs about searches, as a person would call them, on studies of made trials."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.job_file import read_job
from pipeline.study import best_trial
from tests.made_study import made_view, stored


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls a verb on a storage with the studies one and two: its code, value and error line."""
    for name in ("one", "two"):
        store = stored(made_view(40, name), tmp_path / "store")

    def words(*arguments: str) -> tuple[int, Any, str]:
        code = main([*arguments, "--storage", store.url, "--json"])
        out, error = capsys.readouterr()
        return code, json.loads(out), error

    return words


def test_studies_are_listed_with_what_they_came_to(call):
    code, rows, _ = call("studies")
    assert code == 0
    assert [(row["name"], row["trials"], row["of"]) for row in rows] == [
        ("one", 40, 40), ("two", 40, 40),
    ]  # fmt: skip
    best = best_trial(made_view(40, "one").trials, "min")
    assert rows[0]["best"] == best.best("min").value


def test_a_study_is_shown_by_a_unique_beginning_of_its_name_with_every_trial(call):
    code, trials, _ = call("study", "show", "one")
    assert code == 0
    assert [trial["number"] for trial in trials] == list(range(40))


def test_the_best_trial_is_a_job_of_full_length(call, tmp_path):
    code, found, _ = call("study", "best", "two", "--out", str(tmp_path / "best.yaml"))
    assert code == 0
    job, view = read_job(tmp_path / "best.yaml"), made_view(40, "two")
    best = best_trial(view.trials, "min")
    assert found["trial"] == best.number
    assert job.search is None
    assert job.train.total_epochs == view.job.train.total_epochs
    assert job.model.steps == best.values["model.steps"]
    assert job.train.lr == best.values["train.lr"]
    assert job.train.seed == best.seed


def test_studies_are_exported_compared_and_their_pages_written_again(call, tmp_path):
    code, found, _ = call("study", "export", "one", "--out", str(tmp_path / "files"))
    assert code == 0
    assert (tmp_path / "files" / "optuna.log").exists()
    assert any("tensorboard" in name for name in found["files"])
    code, found, _ = call("study", "compare", "one", "--with", "two")
    assert code == 0
    assert Path(found["page"].removeprefix("file://")).stat().st_size > 100_000
    assert call("study", "report", "one")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("study", "show", "three"), 4, "0 studies begin with 'three'; name one of: one-"),
        (("study", "compare", "one"), 2, "--with OTHER is missing"),
        (("study", "best", "one", "--out", "/no/such/folder/x.yaml"), 3, "give another --out"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_its_code(call, words, code, line):
    found, value, error = call(*words)
    assert found == code
    assert line in value["error"]
    assert error.count("\n") == 1
