"""Checkpoints: whole or invisible, never unpickled, and never another run's."""

import json
import pickle

import pytest
import torch
from torch import nn

from pipeline import checkpoint
from pipeline.checkpoint import State
from pipeline.errors import DataError
from pipeline.storage import open_storage
from tests.tiny import same


@pytest.fixture
def run(tmp_path):
    return open_storage(f"file://{tmp_path}/run")


def trained(kind, seed=0):
    """A model and an optimiser with a state."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = {
        "adam": lambda p: torch.optim.Adam(p, lr=0.1),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    }[kind](model.parameters())
    for _ in range(3):
        step(model, optimizer)
    return model, optimizer


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()


def save(run, at, model, optimizer, keep=()):
    state = State(run_id="r", step=at)
    checkpoint.commit(run, at, checkpoint.snapshot(model, optimizer, state), keep)


@pytest.mark.parametrize("kind", ["adam", "rmsprop", "sgd", "plain sgd"])
def test_training_goes_on_bit_for_bit_from_a_checkpoint(run, kind):
    model, optimizer = trained(kind)
    save(run, 3, model, optimizer)
    other, its = trained(kind, seed=1)
    state, files = checkpoint.latest(run, "r")
    checkpoint.restore(files, other, its)
    for m, o in ((model, optimizer), (other, its)):
        step(m, o)
        step(m, o)
    assert state.step == 3
    assert same(model.state_dict(), other.state_dict())


def test_the_same_state_gives_the_same_bytes():
    files = [checkpoint.snapshot(*trained("adam"), State(run_id="r", step=3)) for _ in range(2)]
    assert files[0] == files[1]


def test_no_checkpoint_is_unpickled_or_holds_a_pickle(run):
    save(run, 3, *trained("adam"))
    for entry in run.list():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError,
                            AttributeError, ImportError)):  # fmt: skip
            pickle.loads(run.read(entry.key))  # noqa: S301


def test_only_the_newest_and_those_asked_for_are_kept(run):
    for at in (1, 2, 3, 4):
        save(run, at, *trained("adam"), keep={2, 3})
    assert checkpoint.steps(run) == [2, 3, 4]
    assert {entry.key.split("/")[1] for entry in run.list("checkpoints")} == {
        "step-00000002", "step-00000003", "step-00000004",
    }  # fmt: skip


def test_newer_checkpoints_of_another_driver_stay_and_older_halves_go(run):
    save(run, 9, *trained("adam"))
    run.write("checkpoints/step-00000002/model.safetensors", b"half")
    run.write("checkpoints/foo/checksums.json", b"{}")
    save(run, 5, *trained("adam"))
    assert checkpoint.steps(run) == [5, 9]
    assert run.folders("checkpoints") == ["foo", "step-00000005", "step-00000009"]


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.STATE])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run, name, damage, caplog):
    save(run, 3, *trained("adam"))
    save(run, 6, *trained("adam"), keep={3})
    key = f"checkpoints/step-00000006/{name}"
    data = bytearray(run.read(key))
    if damage == "gone":
        run.delete(key)
    elif damage == "cut":
        run.write(key, bytes(data[:-7]))
    else:
        data[len(data) // 2] ^= 1
        run.write(key, bytes(data))
    state, _ = checkpoint.latest(run, "r")
    assert state.step == 3
    assert key in caplog.text


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"model.safetensors": 3}', b"{}"])
def test_a_damaged_commit_makes_no_checkpoint(run, text):
    save(run, 3, *trained("adam"))
    save(run, 6, *trained("adam"), keep={3})
    run.write("checkpoints/step-00000006/checksums.json", text)
    assert checkpoint.latest(run, "r")[0].step == 3


def test_what_is_not_committed_is_invisible(run):
    save(run, 3, *trained("adam"))
    for name, data in checkpoint.snapshot(*trained("adam"), State(run_id="r", step=6)).items():
        run.write(f"checkpoints/step-00000006/{name}", data)
        assert checkpoint.latest(run, "r")[0].step == 3


def test_another_runs_or_a_newer_checkpoint_is_refused(run):
    save(run, 3, *trained("adam"))
    with pytest.raises(DataError, match="belongs to run r, not to other"):
        checkpoint.latest(run, "other")
    files = checkpoint.read(run, 3)
    newer = {**json.loads(files[checkpoint.STATE]), "version": 99}
    checkpoint.commit(run, 3, {**files, checkpoint.STATE: json.dumps(newer).encode()}, ())
    with pytest.raises(DataError, match="newer draw-pipeline"):
        checkpoint.latest(run, "r")
