"""Ticks with a fake clock and real, tiny training: what is promoted, kept, skipped and refused."""

import hashlib
import hmac
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import champion, retrain_manual
from pipeline.errors import DataError, JobError, TrainingError
from pipeline.job import Job, run_id
from pipeline.job_file import check_job, parse
from pipeline.records import CHECKPOINTS, RECORD, WEIGHTS, read_record, run_path
from pipeline.retrain import Ticked, retrain
from pipeline.retrain_news import check_fit
from pipeline.storage import Storage, open_storage
from pipeline.terminal import Terminal
from tests.faults import retrain_weeks
from tests.receiver import receiver
from tests.tiny import PLAIN, prepared

ROOT = Path(__file__).parents[1]
WEEK = 7 * 86400.0
MONDAY = 1_772_420_400.0  # 2026-03-02 03:00 UTC
SCHEDULE: dict[str, Any] = {"cron": "0 3 * * 1", "zone": "UTC"}


def weekly(storage: str | Path, examples: int = 70, epochs: int = 1, **section: Any) -> Job:
    """The tiny job on a schedule, on so many training examples."""
    plain = {
        **PLAIN,
        "storage": f"file://{storage}" if isinstance(storage, Path) else storage,
        "data": {**PLAIN["data"], "train": examples},
        "model": {**PLAIN["model"], "steps": 1},
        "train": {**PLAIN["train"], "total_epochs": epochs, "checkpoint_every_steps": 99},
        "retrain": {**SCHEDULE, "new": ["data", "job"], **section},
    }
    return check_job(plain, "job")


@pytest.fixture(scope="session")
def first_week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage whose first tick has promoted a run of one epoch."""
    folder = tmp_path_factory.mktemp("first-week")
    tick(weekly(folder), 0)
    return folder


@pytest.fixture(scope="session")
def second_week(first_week: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same a week later: on more data, a warm and a cold run were trained and kept out."""
    folder = Path(shutil.copytree(first_week, tmp_path_factory.mktemp("weeks") / "second"))
    tick(hard_to_please(folder), 1)
    return folder


@pytest.fixture
def store(first_week: Path, tmp_path: Path) -> Path:
    """A copy of the first week's for one test."""
    return Path(shutil.copytree(first_week, tmp_path / "store"))


@pytest.fixture
def later(second_week: Path, tmp_path: Path) -> Path:
    """A copy of the second week's for one test."""
    return Path(shutil.copytree(second_week, tmp_path / "later"))


def hard_to_please(storage: Path, **section: Any) -> Job:
    """More data, and a gate that nothing comes through."""
    return weekly(storage, examples=80, gate={"margin": 1e6}, start="both", **section)


def tick(job: Job, week: float) -> Ticked:
    quiet = Terminal(quiet=True)
    return retrain(job, quiet, without_ray=True, clock=lambda: MONDAY + week * WEEK + 60)


def storage_of(job: Job) -> Storage:
    return open_storage(job.storage)


def holder(job: Job) -> str:
    place = champion.latest(storage_of(job), "tiny").after.champion
    assert place is not None
    return place.run


def test_the_first_run_is_promoted_and_better_ones_follow_from_its_weights(store):
    first = champion.read(storage_of(weekly(store)), "tiny", 1)
    assert (first.kind, first.number, first.tick) == ("promotion", 1, "2026-03-02T03:00:00+00:00")
    assert "the first of its name" in first.reason
    second = tick(weekly(store, examples=90, epochs=4), 1).decision
    assert second.kind == "promotion"
    assert second.reason.startswith("better: loss lower by ")
    assert second.verdict is not None
    assert second.verdict.difference.low > 0
    job, _ = parse(storage_of(weekly(store)).read(f"{run_path(second.challenger)}/job.yaml")
                   .decode(), "job")  # fmt: skip
    assert job["start"]["run"] == first.challenger
    assert holder(weekly(store)) == second.challenger
    page = storage_of(weekly(store)).read("champions/tiny/index.html").decode()
    assert second.challenger in page
    assert "the first of its name" in page


def test_nothing_new_is_skipped_with_a_record_and_nothing_is_trained(store):
    job = weekly(store)
    runs = storage_of(job).folders("runs")
    skipped = tick(job, 1).decision
    assert (skipped.kind, skipped.number) == ("skip", 2)
    assert skipped.reason == "nothing new since decision 1 (data, job: the same)"
    assert storage_of(job).folders("runs") == runs


def test_a_tick_is_decided_once_however_often_it_is_started(store):
    job = weekly(store)
    again = tick(job, 0.5)
    assert again.already
    assert again.decision.number == 1
    assert champion.numbers(storage_of(job), "tiny") == [1]


def test_a_tick_is_known_as_decided_also_after_people_have_decided(store):
    job = weekly(store)
    retrain_manual.pin(storage_of(job), "tiny", True)
    assert tick(job, 0.5).already
    assert tick(job, 1).decision.reason.startswith("the champion is pinned")
    retrain_manual.pin(storage_of(job), "tiny", False)
    assert tick(job, 2).decision.kind == "skip"


def test_weeks_of_downtime_are_one_tick(store):
    late = tick(weekly(store), 7.5).decision
    assert (late.number, late.tick) == (2, "2026-04-20T03:00:00+00:00")
    assert tick(weekly(store), 7.6).already


def test_a_challenger_that_is_not_better_is_kept_out(later):
    first, kept = (champion.read(storage_of(weekly(later)), "tiny", number) for number in (1, 2))
    assert kept.kind == "keep"
    assert kept.reason.startswith("not shown to be better by more than 1e+06: loss lower by ")
    assert holder(weekly(later)) == first.challenger


def test_a_changed_test_set_is_refused_before_anything_is_trained(store):
    job = weekly(store)
    other = replace(job, data=replace(job.data, test=25))
    refused = tick(other, 1).decision
    assert refused.kind == "refusal"
    assert "the test examples of datasets/synthetic/" in refused.reason
    assert len(storage_of(job).folders("runs")) == 1


def test_warm_and_cold_are_both_trained_and_the_better_on_validation_challenges(later):
    both = champion.read(storage_of(weekly(later)), "tiny", 2)
    assert len(both.trained) == 2
    records = [read_record(storage_of(weekly(later)), run) for run in both.trained]
    best = min(records, key=lambda record: record.results["val"].loss)
    assert both.challenger == best.id == both.trained[0]  # the warm one is ahead


def test_the_same_weights_and_seed_give_the_same_run_and_other_weights_another(store):
    job = weekly(store)
    first = champion.read(storage_of(job), "tiny", 1)
    manifest, _ = prepared(job)
    plain = json.loads(json.dumps(read_record(storage_of(job), first.challenger).job))
    assert run_id(check_job(plain, "job"), manifest) == first.challenger
    assert run_id(replace(job, retrain=None), manifest) != first.challenger
    start = {"run": first.challenger, "weights_sha256": "0" * 64}
    other = check_job({**plain, "start": start}, "job")
    assert run_id(other, manifest) != first.challenger


def test_weights_that_are_not_those_named_are_refused(store):
    job = weekly(store)
    first = champion.read(storage_of(job), "tiny", 1)
    storage_of(job).write(f"{run_path(first.challenger)}/{WEIGHTS}", b"other bytes")
    with pytest.raises(DataError, match=r"weights\.safetensors: sha256 "):
        tick(weekly(store, examples=80), 1)
    assert champion.numbers(storage_of(job), "tiny") == [1]


def test_a_champion_of_another_model_and_an_unknown_metric_change_nothing(store):
    job = weekly(store)
    larger = replace(job, model=replace(job.model, hidden=24))
    with pytest.raises(JobError, match=r"another model \(hidden 16, here 24\); write cold"):
        tick(larger, 1)
    with pytest.raises(JobError, match=r"retrain\.gate\.metric: this model has no error; write"):
        tick(weekly(store, examples=80, gate={"metric": "error"}), 1)
    assert champion.numbers(storage_of(job), "tiny") == [1]
    assert len(storage_of(job).folders("runs")) == 1


def test_another_model_challenges_when_it_starts_cold(store):
    job = weekly(store, start="cold")
    larger = replace(job, model=replace(job.model, hidden=24))
    assert tick(larger, 1).decision.kind in ("promotion", "keep")


def test_a_challenger_that_cannot_be_loaded_is_refused_and_the_champion_stays(later):
    job = hard_to_please(later)
    first = holder(job)
    done = champion.read(storage_of(job), "tiny", 2)
    storage_of(job).delete(champion.key_of("tiny", 2))  # trained, and not decided on yet
    storage_of(job).write(f"{run_path(done.challenger)}/{WEIGHTS}", b"torn")
    refused = tick(job, 1).decision
    assert (refused.kind, refused.trained) == ("refusal", done.trained)
    assert refused.reason.startswith("it does not load and sample: file://")
    assert holder(job) == first


def test_a_job_without_a_schedule_has_no_tick(store):
    with pytest.raises(JobError, match="tiny: no retrain section"):
        tick(replace(weekly(store), retrain=None), 0)


def test_old_checkpoints_go_and_the_champion_keeps_its_own(later):
    job = hard_to_please(later, retention={"keep": 1})
    newest, old = champion.read(storage_of(job), "tiny", 2).trained
    assert [one.run for one in tick(job, 1).old] == [old]

    def checkpoints(run: str) -> list[str]:
        return [entry.key for entry in storage_of(job).list(f"{run_path(run)}/{CHECKPOINTS}")]

    assert checkpoints(old)
    tick(hard_to_please(later, retention={"keep": 1, "delete": True}), 2)
    assert not checkpoints(old)
    assert storage_of(job).exists(f"{run_path(old)}/{RECORD}")
    assert storage_of(job).exists(f"{run_path(old)}/{WEIGHTS}")
    assert checkpoints(newest)
    assert checkpoints(holder(job))


def test_a_decision_is_sent_once_signed_and_without_secrets(store, monkeypatch):
    monkeypatch.setenv("DRAW_WEBHOOK_SECRET", "s3cret-of-the-hook")
    with receiver() as (url, heard):
        job = weekly(store, webhook={"url": url})
        tick(job, 0.5)
        tick(job, 0.5)
    ((headers, body),) = heard
    expected = hmac.new(b"s3cret-of-the-hook", body, hashlib.sha256).hexdigest()
    assert headers["X-Draw-Signature"] == f"sha256={expected}"
    assert headers["X-Draw-Event"] == "promotion"
    assert json.loads(body)["number"] == 1
    stored = [storage_of(job).read(entry.key) for entry in storage_of(job).list()]
    assert not any(b"s3cret-of-the-hook" in data for data in stored)


def test_a_failing_webhook_fails_nothing_and_is_tried_again_by_the_next_start(
    store, monkeypatch, caplog
):
    monkeypatch.setenv("DRAW_WEBHOOK_SECRET", "s3cret-of-the-hook")
    monkeypatch.setattr("pipeline.retrain_hook.send.__defaults__", (os.environ, (0.0,)))
    with receiver(status=500) as (url, heard):
        job = weekly(store, webhook={"url": url})
        assert tick(job, 0.5).already
        assert tick(job, 0.5).decision.kind == "promotion"
    assert len(heard) == 2
    assert "127.0.0.1 did not take the promotion (HTTPError 500)" in caplog.text
    assert "abc" not in caplog.text


def test_training_that_gives_up_is_told_and_decides_nothing(store, monkeypatch):
    monkeypatch.setenv("DRAW_WEBHOOK_SECRET", "x")
    with receiver() as (url, heard):
        job = weekly(store, webhook={"url": url})
        train = replace(job.train, lr=999.0, max_skipped_steps=0, clip_norm=None, total_epochs=20)
        with pytest.raises(TrainingError):
            tick(replace(job, train=train), 1)
    assert [headers["X-Draw-Event"] for headers, _ in heard] == ["failure"]
    assert champion.numbers(storage_of(job), "tiny") == [1]


def test_two_weeks_with_kills_lose_no_promotion_and_train_nothing_twice(tmp_path):
    url, chance = f"file://{tmp_path}/store", random.Random(3)
    killed = sum(retrain_weeks.one_week(url, week, 1, chance)[1] for week in range(2))
    assert killed == 2
    decisions = retrain_weeks.check(open_storage(url), 2)
    assert decisions[0].kind == "promotion"


def test_a_champion_of_before_a_model_had_window_sigma_is_no_other_model(store):
    job = weekly(store, examples=80)
    manifest, storage = prepared(job)
    present = champion.latest(storage, "tiny").after.champion
    key = f"{run_path(present.run)}/{RECORD}"
    plain = json.loads(storage.read(key))
    del plain["job"]["model"]["window_sigma"]
    storage.write(key, json.dumps(plain).encode())
    check_fit(job, manifest, job.retrain, present, storage)
    wide = replace(job, model=replace(job.model, window_sigma=2.0))
    with pytest.raises(JobError, match=r"another model \(window_sigma None, here 2\.0\)"):
        check_fit(wide, manifest, job.retrain, present, storage)
