"""Searches for real: on Ray clusters of their own, killed, stopped, crashed, and on a real S3."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipeline.listing import read_attempts
from pipeline.storage import Storage, open_storage
from pipeline.study import TrialRecord, read_starts, read_study_job, read_trials
from pipeline.tuning import Rule
from tests.cluster import Head, kill_family

ROOT = Path(__file__).parents[1]
JOB: dict[str, Any] = {
    "name": "searched",
    "storage": "${DRAW_STORAGE}",
    "data": {"source": "synthetic", "size": 16, "train": 640, "val": 64, "test": 64},
    "model": {"kind": "draw", "steps": 4, "hidden": 32, "latent": 4, "read_n": 4, "write_n": 4},
    "train": {"total_epochs": 9, "batch_size": 64, "checkpoint_every_steps": 7, "lr": 0.003},
    "search": {
        "space": {
            "model.steps": {"grid": [1, 4]},
            "model.read_n": {"grid": [2, 4]},
            "train.lr": {"log_uniform": [3.0e-4, 1.0e-2]},
        },
        "trials": 8,
        "scheduler": {"kind": "asha", "first_rung": 1280, "reduction": 2},
    },
}
FULL = 9 * 640


@dataclass
class Searching:
    """One search in one storage, in a process that may be killed and started again."""

    folder: Path
    url: str
    search: dict[str, Any]
    sections: dict[str, Any]
    head: Head | None = None
    """A cluster that is there already; else the search starts one of its own."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.storage: Storage = open_storage(self.url)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, out: Any = None) -> subprocess.Popen[bytes]:
        """``out``: where standard output goes, by default the log."""
        job = {**JOB, **self.sections, "search": {**JOB["search"], **self.search}}
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {
            "DRAW_STORAGE": self.url,
            "DRAW_CACHE": str(self.folder / "cache"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        if self.head is not None:
            environment |= {k: v for k, v in self.head.environment.items() if k.startswith("RAY_")}
            environment["RAY_ADDRESS"] = self.head.address
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", str(self.folder / "job.yaml"), *words],
                cwd=ROOT, env=environment, stdout=out or log, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self.process

    def finish(self) -> None:
        try:
            assert self.start().wait(600) == 0, self.tail()
        finally:
            self.end()

    def end(self) -> None:
        """SIGKILL for the search and its whole cluster."""
        if self.process is not None:
            kill_family(self.process)

    def tail(self) -> str:
        return (self.folder / "log").read_text()[-4000:]

    def home(self) -> Storage | None:
        names = self.storage.folders("studies")
        return self.storage.below(f"studies/{names[0]}") if names else None

    def trials(self) -> list[TrialRecord]:
        home = self.home()
        return read_trials(home) if home else []

    def wait_until(self, true: Callable[[list[TrialRecord]], bool], seconds: float = 400) -> None:
        deadline = time.monotonic() + seconds
        while not true(self.trials()):
            assert time.monotonic() < deadline, self.tail()
            assert self.process is not None
            assert self.process.poll() is None, self.tail()
            time.sleep(0.1)


@pytest.fixture
def searching(tmp_path: Path, head: Head) -> Any:
    made: list[Searching] = []

    def make(
        search: dict[str, Any] | None = None, url: str = "", own: bool = False, **sections: Any
    ) -> Searching:
        folder = tmp_path / str(len(made))
        url, cluster = url or f"file://{folder}/store", None if own else head
        made.append(Searching(folder, url, search or {}, sections, cluster))
        return made[-1]

    yield make
    for one in made:
        one.end()


def losses(trial: TrialRecord) -> dict[int, float | None]:
    return {report.examples: report.value for report in trial.reports}


def judged_again(home: Storage, trials: list[TrialRecord]) -> dict[int, int]:
    """Which trials the rule stops, and at how many examples, going by the records alone."""
    search = read_study_job(home).search
    assert search is not None
    rule, stopped = Rule(search, FULL), {}
    for _, number, report in sorted((r.time, t.number, r) for t in trials for r in t.reports):
        if rule.judge(number, report):
            stopped.setdefault(number, report.examples)
    return stopped


@pytest.mark.cluster
def test_a_search_killed_again_and_again_ends_as_its_rule_says(searching, s3_storage):
    """On a real S3 server: the search and its whole cluster get SIGKILL at random moments."""
    source, one = random.Random(3), searching(url=s3_storage.url, own=True)
    done: set[int] = set()
    for _ in range(2):
        one.start()
        settled = len(done)
        one.wait_until(lambda now, before=settled: sum(t.settled for t in now) > before)
        time.sleep(source.uniform(0, 2))
        one.end()
        done = {trial.number for trial in one.trials() if trial.settled}
    one.finish()
    trials, home = one.trials(), one.home()
    assert home is not None
    assert [trial.number for trial in trials] == list(range(8))
    assert {trial.status for trial in trials} <= {"finished", "stopped"}
    stopped = {trial.number: trial.examples for trial in trials if trial.status == "stopped"}
    assert stopped == judged_again(home, trials), "each decision is the one its rungs call for"
    assert 2 <= len(stopped) <= 7
    assert all(trial.examples == FULL for trial in trials if trial.status == "finished")
    assert len(read_starts(home)) == 3
    for number in done:
        trial = trials[number]
        again = [a for a in read_attempts(one.storage, trial.run) if a["from_step"] == 0]
        assert len(again) <= 2, "a settled trial was trained again"
    record = json.loads(home.read("study.json"))
    assert record["finished"] + record["stopped"] == 8
    assert b"</html>" in home.read("index.html")
    # What the trials measured is what undisturbed runs of the same jobs measure.
    straight = searching({"scheduler": {"kind": "none"}, "trials": 4})
    straight.finish()
    for undisturbed in straight.trials():
        twin = losses(trials[undisturbed.number])
        assert twin.items() <= losses(undisturbed).items()


@pytest.mark.cluster
def test_crashed_and_diverging_trials_are_kept_with_their_reasons_and_the_study_ends_well(
    searching,
):
    one = searching(
        {
            "space": {
                "train.clip_norm": {"grid": [5.0, 999.0]},
                "train.lr": {"grid": [0.003, 900.0]},
            },
            "trials": 4, "scheduler": {"kind": "none"}, "retries": 1, "at_once": 1,
        },
        own=True,
        train={**JOB["train"], "optimizer": {"kind": "sgd"}, "max_skipped_steps": 3},
    )  # fmt: skip
    one.start()
    one.wait_until(lambda now: any(t.reports and t.status == "running" for t in now))
    (killed,) = (t.number for t in one.trials() if t.status == "running")
    for process in psutil.Process(one.process.pid).children(recursive=True):
        if "ImplicitFunc" in " ".join(process.cmdline()) or "run_trial" in process.name():
            process.kill()
    assert one.process.wait(180) == 0, one.tail()
    trials = one.trials()
    assert len(trials) == 4
    failed = [trial for trial in trials if trial.status == "failed"]
    assert all("not finite" in trial.reason for trial in failed)
    assert {trial.values["train.lr"] for trial in failed} == {900.0}
    assert trials[killed].crashes == 1
    assert trials[killed].status in ("finished", "failed")
    assert "failed" in one.tail()


@pytest.mark.cluster
def test_asked_to_stop_a_search_leaves_with_its_code_and_the_same_command_goes_on(searching):
    one = searching(
        {"trials": 4, "scheduler": {"kind": "none"}}, train={**JOB["train"], "total_epochs": 30}
    )
    one.start()
    one.wait_until(lambda now: any(t.reports for t in now))
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(60) == 143, one.tail()
    assert "4 of 4 trials left" in one.tail() or "trials left; the same command" in one.tail()
    assert "Traceback" not in one.tail()
    cut = {t.number: len(t.reports) for t in one.trials() if t.status == "unfinished"}
    assert cut
    second = Searching(one.folder, one.url, one.search, one.sections, one.head)
    one.start()
    time.sleep(1)
    one.wait_until(lambda now: any(len(t.reports) > cut.get(t.number, 99) for t in now))
    refused = second.start().wait(120)
    assert refused == 7, one.tail()
    assert one.process.wait(120) == 0, one.tail()
    assert {trial.status for trial in one.trials()} == {"finished"}
    assert max(len(read_attempts(one.storage, t.run)) for t in one.trials()) == 2
    once_more = one.start("--json", out=subprocess.PIPE)
    said, _ = once_more.communicate(timeout=120)
    assert json.loads(said)["already"] is True, "standard output is JSON and nothing else"
    words = ("study", "best", "searched", "--train", "--storage", one.url)
    trained = one.head.drive(*words, "--json")
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert json.loads(trained.stdout)["already"] is True, "the best trial was trained in full"


@pytest.mark.cluster
def test_trials_of_two_workers_share_two_cores_and_stopped_ones_free_them(searching):
    one = searching({"trials": 3}, cluster={"workers": 2})
    one.finish()
    trials = one.trials()
    assert {trial.status for trial in trials} <= {"finished", "stopped"}
    assert any(trial.status == "finished" for trial in trials)
    assert {a["workers"] for t in trials for a in read_attempts(one.storage, t.run)} == {2}


@pytest.mark.cluster
def test_a_budget_ends_a_search_and_a_larger_one_goes_on_with_it(searching):
    one = searching({"trials": 40, "scheduler": {"kind": "none"}, "budget_hours": 20 / 3600})
    one.finish()
    trials, home = one.trials(), one.home()
    assert home is not None
    assert 0 < len(trials) < 40
    record = json.loads(home.read("study.json"))
    assert record["unfinished"] == sum(not t.settled for t in trials)
    one.search |= {"trials": len(trials), "budget_hours": 1.0}
    one.finish()
    assert {trial.status for trial in one.trials()} == {"finished"}
