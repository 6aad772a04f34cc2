"""The exporter over real storages: what a scrape says of each thing, and that none ever fails."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import champion, retrain_manual
from pipeline.ending import ENDING
from pipeline.errors import Interrupted, JobError, TrainingError
from pipeline.exporter import SERIES, Exporter, ExporterServer, export
from pipeline.job import Job
from pipeline.lease import hold
from pipeline.records import RECORD, run_path
from pipeline.run import run
from pipeline.storage import Storage, open_storage
from pipeline.study import best_trial
from pipeline.terminal import Terminal
from pipeline.train import train
from pipeline.values import to_json
from pipeline.worker import Worker
from tests.made_study import made_view, stored
from tests.test_retrain import MONDAY, WEEK, tick, weekly
from tests.test_train import Killed, kill_at
from tests.tiny import home_of, prepared, tiny_job

ROOT = Path(__file__).parents[1]
QUIET = Terminal(quiet=True)
Series = dict[tuple[str, ...], float]
"""Name without ``draw_`` and the labels' values, sorted by label → value."""


@contextmanager
def serving(exporter: Exporter) -> Iterator[str]:
    with ExporterServer(exporter, port=0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def scraped(exporter: Exporter) -> Series:
    """What one scrape says, after a new survey."""
    exporter.read()
    with serving(exporter) as url, urllib.request.urlopen(f"{url}metrics", timeout=30) as reply:
        families = list(text_string_to_metric_families(reply.read().decode()))
    return {
        (sample.name.removeprefix("draw_"), *(v for _, v in sorted(sample.labels.items()) if v)):
            sample.value
        for family in families for sample in family.samples
    }  # fmt: skip


def said(storage: Storage, now: float | None = None) -> Series:
    return scraped(Exporter(storage, *([] if now is None else [lambda: now])))


def test_a_schedule_owes_the_tick_after_the_one_that_was_decided_last(s3_storage):
    storage, job = s3_storage, weekly(s3_storage.url)
    tick(job, 0)
    tick(job, 1.5)
    found = said(storage)
    assert found["schedule_tick_timestamp_seconds", "tiny"] == MONDAY + WEEK
    assert found["schedule_success_timestamp_seconds", "tiny"] == MONDAY + 1.5 * WEEK + 60
    assert found["schedule_due_timestamp_seconds", "tiny"] == MONDAY + 2 * WEEK
    assert found["champion_promoted_timestamp_seconds", "tiny"] == MONDAY + 60
    assert found["champion_decision_timestamp_seconds", "tiny", "skip"] == MONDAY + 1.5 * WEEK + 60
    assert found["champion_decisions", "tiny"] == 2
    assert found["champion_pinned", "tiny"] == 0
    assert (found["lease_held", "tiny"], found["lease_stuck", "tiny"]) == (0, 0)
    assert ("lease_since_timestamp_seconds", "tiny") not in found
    assert found["runs", "finished"] == 1
    kept = list(storage.list("champions"))
    assert found["storage_objects", "champions"] == len(kept)
    assert found["storage_bytes", "champions"] == sum(entry.bytes for entry in kept)


def test_a_tick_that_could_not_be_done_is_owed_and_what_people_decide_is_no_tick(tmp_path):
    job = weekly(tmp_path)
    storage = open_storage(job.storage)
    diverging = replace(job, train=replace(job.train, lr=999.0, max_skipped_steps=0,
                                           clip_norm=None, total_epochs=20))  # fmt: skip
    with pytest.raises(TrainingError):
        tick(diverging, 0)
    found = said(storage)
    assert found["schedule_due_timestamp_seconds", "tiny"] == MONDAY
    assert found["champion_decisions", "tiny"] == 0
    assert found["runs", "failed"] == 1
    tick(job, 0)
    with pytest.raises(TrainingError):
        tick(replace(diverging, data=replace(job.data, train=80)), 3)
    retrain_manual.pin(storage, "tiny", True)
    found = said(storage)
    assert found["schedule_due_timestamp_seconds", "tiny"] == MONDAY + WEEK
    assert found["schedule_tick_timestamp_seconds", "tiny"] == MONDAY
    assert found["champion_pinned", "tiny"] == 1
    assert ("champion_decision_timestamp_seconds", "tiny", "pin") in found
    assert b"hook" not in storage.read("champions/tiny/schedule.json")


def test_a_lease_is_held_stuck_when_its_holder_died_and_free_when_given_back(storage):
    with hold(storage, "studies/a/lease", clock=lambda: 1000.0, seconds=30.0):
        at_work, died = said(storage, 1020.0), said(storage, 1050.0)
    given_back = said(storage, 1050.0)
    states = [(one["lease_held", "a"], one["lease_stuck", "a"])
              for one in (at_work, died, given_back)]  # fmt: skip
    assert states == [(1, 0), (0, 1), (0, 0)]
    assert at_work["lease_since_timestamp_seconds", "a"] == 1000.0
    assert ("lease_since_timestamp_seconds", "a") not in given_back


def seeded(url: str, seed: int, **values: object) -> Job:
    return tiny_job(url, train={"total_epochs": 2, "seed": seed, **values})


def test_runs_are_finished_training_stopped_failed_or_damaged(storage, monkeypatch, tmp_path):
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    url, asked = storage.url, iter([False, False, True])
    whole = run(seeded(url, 1), QUIET, without_ray=True).record.id
    with pytest.raises(Interrupted):
        run(seeded(url, 2), QUIET, without_ray=True, also=lambda: next(asked, True))
    failing = seeded(url, 3, lr=999.0, max_skipped_steps=0, clip_norm=None, total_epochs=30)
    with pytest.raises(TrainingError):
        run(failing, QUIET, without_ray=True)
    killed = seeded(url, 4)
    manifest, _ = prepared(killed)
    with pytest.raises(Killed):
        train(killed, manifest, storage, Worker(progress=kill_at(5)))
    storage.write(f"{run_path('torn')}/{RECORD}", b"{")
    found = said(storage)
    counts = {key[1]: value for key, value in found.items() if key[0] == "runs"}
    assert counts == dict.fromkeys(("finished", "training", "stopped", "failed", "damaged"), 1)
    assert found["storage_damaged_records", "runs"] == 1
    silent = home_of(killed, manifest, storage).url.rpartition("/")[2]
    started = found["run_started_timestamp_seconds", silent, "training"]
    assert found["run_checkpoint_timestamp_seconds", silent, "training"] >= started
    gave_up = home_of(failing, manifest, storage)
    name = gave_up.url.rpartition("/")[2]
    assert found["run_ended_timestamp_seconds", name, "failed"] > 0
    assert b"not finite" in gave_up.read(ENDING)
    assert not any(whole in key for key in found)


def test_a_run_that_failed_and_was_started_again_is_in_training(tmp_path):
    storage = open_storage(str(tmp_path))
    ending = {"version": 1, "status": "failed", "reason": "diverged", "at": "2026-03-02T03:00:00Z"}
    written = {"job.yaml": 100, "attempts/000001.json": 110, ENDING: 200}
    for name, time in written.items():
        storage.write(f"runs/x/{name}", to_json(ending))
        os.utime(tmp_path / "runs/x" / name, (time, time))
    found = said(storage)
    assert found["run_ended_timestamp_seconds", "x", "failed"] == 200
    storage.write("runs/x/attempts/000002.json", b"{}")
    os.utime(tmp_path / "runs/x/attempts/000002.json", (300, 300))
    found = said(storage)
    assert found["run_started_timestamp_seconds", "x", "training"] == 300
    assert found["runs", "failed"] == 0


def test_a_search_says_how_far_it_is_and_its_stopped_trials_are_no_series(tmp_path):
    view = made_view(60, scheduler={"kind": "asha", "first_rung": 1800, "reduction": 3})
    storage = stored(view, tmp_path)
    for trial in view.trials:
        storage.write(f"{run_path(trial.run)}/job.yaml", b"")
    found = said(storage)
    trials = {key[1]: value for key, value in found.items() if key[0] == "study_trials"}
    assert sum(trials.values()) == 60
    assert trials["failed"] == 1
    assert trials["stopped"] == sum(trial.status == "stopped" for trial in view.trials) > 10
    assert found["study_trials_wanted", view.id] == 60
    best = best_trial(view.trials, "min")
    assert found["study_best", "error", view.id] == best.best("min").value
    assert found["study_complete", view.id] == 0
    assert not [key for key in found if key[0].startswith("run_")]
    assert (found["runs", "stopped"], found["runs", "failed"]) == (59, 1)


def test_only_what_was_written_since_is_read_again(tmp_path):
    view = made_view(3)
    storage = stored(view, tmp_path)
    (record,) = tmp_path.glob("studies/*/trials/000001.json")
    long_ago = 1_700_000_000
    for path in tmp_path.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    exporter = Exporter(storage)
    assert scraped(exporter)["storage_damaged_records", "studies"] == 0
    record.write_bytes(b"{" * record.stat().st_size)
    os.utime(record, (long_ago, long_ago))
    assert scraped(exporter)["storage_damaged_records", "studies"] == 0
    os.utime(record)
    assert scraped(exporter)["storage_damaged_records", "studies"] == 1
    record.unlink()
    assert scraped(exporter)["storage_damaged_records", "studies"] == 0


def test_a_damaged_record_is_named_once_and_takes_nothing_else_along(tmp_path, caplog):
    storage = stored(made_view(3), tmp_path)
    storage.write("studies/torn/job.yaml", b"name: [")
    storage.write(champion.key_of("mnist", 1), b"{}")
    schedule = {"cron": "0 3 * * 1", "zone": "No/Where", "tick": "never", "started": ""}
    storage.write("champions/digits/schedule.json", to_json(schedule))
    exporter = Exporter(storage)
    first, _ = scraped(exporter), scraped(exporter)
    assert first["storage_damaged_records", "champions"] == 2
    assert first["storage_damaged_records", "studies"] == 1
    assert sum(key[0] == "study_trials_wanted" for key in first) == 1
    assert len(caplog.records) == 3
    assert f"{storage.address('studies/torn/job.yaml')}" in caplog.text


def test_a_storage_that_is_away_is_0_and_no_scrape_fails(tmp_path, caplog):
    storage = open_storage(str(tmp_path / "store"))
    storage.write("runs/x/job.yaml", b"name: x\n")
    exporter = Exporter(storage)
    up = ("storage_up", storage.url)
    with serving(exporter) as url, urllib.request.urlopen(f"{url}metrics") as reply:
        assert b"draw_storage_up" in reply.read()  # before the first survey, too
    assert scraped(exporter)[up] == 1
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").write_text("a file")
    assert [scraped(exporter) for _ in range(2)] == [{up: 0.0}] * 2
    (tmp_path / "store").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    assert scraped(exporter)[up] == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_s3_server_that_does_not_answer_is_0(s3_server, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    storage = open_storage("s3://bucket/x", "http://127.0.0.1:9")
    assert said(storage) == {("storage_up", "s3://bucket/x"): 0.0}


def test_every_series_has_help_and_no_other_page_or_host_is_answered(tmp_path):
    with serving(Exporter(open_storage(str(tmp_path)))) as url:
        request = urllib.request.Request(f"{url}metrics", headers={"Host": "evil.example"})
        for asked, status in ((url, 404), (f"{url}runs", 404), (request, 421)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(asked)
            refused.value.close()
            assert refused.value.code == status
    assert all(text and labels for text, labels in SERIES.values())


def test_the_verb_serves_until_it_is_told_to_end(tmp_path):
    storage = open_storage(str(tmp_path))
    storage.write("runs/x/job.yaml", b"name: x\n")
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "exporter",
        "--storage",
        storage.url,
        "--port",
        "0",
    ]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split(" at ")[1].split()[0]
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert b"draw_storage_up{" in reply.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


def test_an_interval_that_is_none_is_refused(tmp_path):
    with pytest.raises(JobError, match="--every 0: write seconds, more than 0"):
        export(open_storage(str(tmp_path)), every=0)
