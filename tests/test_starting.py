"""Runs that begin with the mean of other runs' weights."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from pipeline import checkpoint
from pipeline.errors import DataError, JobError, StorageError
from pipeline.job import Job, run_id
from pipeline.job_file import check_job
from pipeline.lineage import lineage, started_from
from pipeline.records import RECORD, WEIGHTS, RunRecord, run_path
from pipeline.retrain_start import begin
from pipeline.retrain_values import Start, Weights
from pipeline.run import run
from pipeline.starting import with_start
from pipeline.storage import Storage, open_storage
from pipeline.terminal import Terminal
from pipeline.train import seeded_model
from pipeline.values import to_json
from tests.tiny import PLAIN, prepared, tiny_job

GAN = {"kind": "dcgan", "noise": 4}
ALONE = "further-aac24653c9"
"""As it was before a run could begin with several."""
MEAN = "further-f7083e932e"
"""As it was before a run could begin with a checkpoint."""


@pytest.fixture
def gan(tmp_path: Path) -> Job:
    """Its model counts its passes: not all of a model's numbers have a mean."""
    return check_job({**PLAIN, "storage": f"file://{tmp_path}/store", "model": GAN}, "tiny")


def finished(tmp_path: Path) -> tuple[Storage, RunRecord]:
    job = tiny_job(f"file://{tmp_path}/store", train={"total_epochs": 1})
    return open_storage(job.storage), run(job, Terminal(quiet=True), without_ray=True).record


def published(job: Job, storage: Storage, run: str, seed: int) -> tuple[Weights, dict[str, Tensor]]:
    manifest, _ = prepared(job)
    model = seeded_model(replace(job, train=replace(job.train, seed=seed)), manifest)
    state = model.state_dict()
    state["passes"] = torch.tensor(seed)
    data = save(state)
    storage.write(f"{run_path(run)}/{WEIGHTS}", data)
    return Weights(run=run, weights_sha256=sha256(data).hexdigest()), state


def test_a_run_begins_with_the_mean_of_the_runs_it_names(gan: Job) -> None:
    storage = open_storage(gan.storage)
    (a, one), (b, two), (c, three) = (published(gan, storage, f"run-{k}", k) for k in (1, 2, 7))
    start = Start(run=a.run, weights_sha256=a.weights_sha256, also=[b, c])
    manifest, _ = prepared(gan)
    begun = begin(seeded_model(gan, manifest), replace(gan, start=start), storage).state_dict()
    assert begun.keys() == one.keys()
    for name, value in begun.items():
        wanted = (one[name] + two[name] + three[name]) / 3
        if value.is_floating_point():
            torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7)
        else:
            assert value.equal(one[name])  # counted: of the first
    assert begun["passes"] == 1
    assert not torch.equal(one["generator.0.weight"], two["generator.0.weight"])


def test_each_of_them_is_checked_before_any_counts(gan: Job) -> None:
    storage = open_storage(gan.storage)
    a, _ = published(gan, storage, "run-1", 1)
    manifest, _ = prepared(gan)

    def beginning(also: Weights) -> None:
        start = Start(run=a.run, weights_sha256=a.weights_sha256, also=[also])
        begin(seeded_model(gan, manifest), replace(gan, start=start), storage)

    b, _ = published(gan, storage, "run-2", 2)
    with pytest.raises(DataError, match=r"run-2.*sha256 .*, start.weights_sha256 is 0000"):
        beginning(replace(b, weights_sha256="0" * 64))
    data = save({"other": torch.zeros(2)})
    storage.write(f"{run_path('run-3')}/{WEIGHTS}", data)
    with pytest.raises(JobError, match=r"run-3.*the weights of another model"):
        beginning(Weights(run="run-3", weights_sha256=sha256(data).hexdigest()))
    with pytest.raises(StorageError, match="run-4"):
        beginning(Weights(run="run-4"))
    with pytest.raises(ValueError, match=r"also needs a run that it is beside; give start.run too"):
        Start(also=[b])


def test_names_become_ids_and_one_run_alone_keeps_the_id_that_it_had(tmp_path: Path) -> None:
    storage, record = finished(tmp_path)
    other = replace(record, id=f"{record.name}-0000000000", weights_sha256="ab")
    storage.write(f"{run_path(other.id)}/{RECORD}", to_json(other))
    job = replace(tiny_job(storage.url), name="further")
    manifest, _ = prepared(job)
    start = Start(run=record.id, also=[Weights(run=other.id[:-3])])
    found = with_start(replace(job, start=start), storage).start
    assert found == Start(
        run=record.id, weights_sha256=record.weights_sha256,
        also=[Weights(run=other.id, weights_sha256="ab")],
    )  # fmt: skip
    alone = replace(found, also=[])
    ids = {run_id(replace(job, start=one), manifest) for one in (None, alone, found)}
    assert len(ids) == 3
    alone = Start(run="r", weights_sha256="a")
    assert run_id(replace(job, start=alone), manifest) == ALONE
    mean = replace(alone, also=[Weights(run="s", weights_sha256="b")])
    assert run_id(replace(job, start=mean), manifest) == MEAN
    other = replace(alone, also=[Weights(run="s", step=2, weights_sha256="b")])
    assert run_id(replace(job, start=other), manifest) != MEAN
    assert run_id(replace(job, start=replace(alone, step=2)), manifest) != ALONE


def test_a_run_begins_with_a_checkpoint_that_is_still_there(tmp_path: Path) -> None:
    job = tiny_job(
        f"file://{tmp_path}/store",
        train={"total_epochs": 3, "checkpoint_every_steps": 1, "keep_checkpoints": 2},
    )
    storage = open_storage(job.storage)
    record = run(job, Terminal(quiet=True), without_ray=True).record
    home = storage.below(run_path(record.id))
    first, *_, last = there = checkpoint.steps(home)
    assert first < last
    states = {step: load(checkpoint.read(home, step)[checkpoint.MODEL]) for step in there}
    manifest, _ = prepared(job)

    def beginning(**start: Any) -> dict[str, Tensor]:
        further = replace(job, name="further", start=Start(run=record.id, **start))
        further = with_start(further, storage)
        assert all(of.weights_sha256 for of in further.start.weights)
        return begin(seeded_model(job, manifest), further, storage).state_dict()

    for step in (first, last):
        for name, value in beginning(step=step).items():
            assert value.equal(states[step][name])
    for name, value in beginning(step=last, also=[Weights(run=record.id, step=first)]).items():
        torch.testing.assert_close(value, (states[first][name] + states[last][name]) / 2)
    assert any(not states[first][name].equal(states[last][name]) for name in states[last])
    with pytest.raises(StorageError, match=rf"start.step {last + 1} is no .* {last}$"):
        beginning(step=last + 1)
    with pytest.raises(ValueError, match=r"step needs the run that it is of; give start.run too"):
        Start(step=1)


def test_a_runs_line_has_each_of_its_parents_once(tmp_path: Path) -> None:
    storage, record = finished(tmp_path)

    def after(number: int, *parents: int) -> RunRecord:
        first, *also = (f"line-{k}" for k in parents or (None,))
        start = {"run": first, "also": [{"run": one} for one in also]} if parents else None
        one = replace(record, id=f"line-{number}", job=record.job | {"start": start})
        storage.write(f"{run_path(one.id)}/{RECORD}", to_json(one))
        return one

    after(1)
    after(2, 1)
    after(3, 1)
    last = after(4, 2, 3)
    assert started_from(last) == [("line-2", None), ("line-3", None)]
    line, lost = lineage(storage, last)
    assert ([one.id for one in line], lost) == (["line-4", "line-2", "line-3", "line-1"], None)
    line, _ = lineage(storage, last, first=True)
    assert [one.id for one in line] == ["line-4", "line-2", "line-1"]
    storage.delete(f"{run_path('line-3')}/{RECORD}")
    line, lost = lineage(storage, last)
    assert ([one.id for one in line], lost) == (["line-4", "line-2", "line-1"], "line-3")
