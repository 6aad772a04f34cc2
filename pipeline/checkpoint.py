"""A training state as a few files in storage; the last one, the checksums, commits it.

``checkpoints/step-00001000/{model,optimizer}.safetensors, state.json, checksums.json``. Nothing is
pickled: tensors are safetensors, numbers are JSON. The bytes are a function of the state alone, so
two processes that reach the same step write the same checkpoint.
"""

import logging
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.optimizer import averaged, exchange
from pipeline.records import CHECKPOINTS
from pipeline.storage import NotFound, Storage
from pipeline.values import STRICT, from_json, to_json

log = logging.getLogger(__name__)
NAME = re.compile(r"step-[0-9]+")
MODEL, OPTIMIZER, STATE, COMMIT = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "checksums.json",
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class State:
    """Where training is. ``step`` steps are done; the next one has this number."""

    VERSION: ClassVar[int] = 1

    version: int = 1
    run_id: str
    step: int = 0
    skipped_steps: int = 0
    best_step: int = -1
    best_loss: float | None = None
    """What ``train.keep_best`` goes by, at ``best_step``: the validation loss in nats per example,
    the share of wrong answers, or minus the step. None where it was not finite."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sum:
    """What one file of a checkpoint must be."""

    sha256: str
    bytes: int


def folder(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step:08d}"


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> dict[str, bytes]:
    """The files of a checkpoint, without the one that commits it.

    The model's file has the weights that are to be used: averaged ones, where training keeps an
    average. Those that it goes on from are then in the optimiser's file.
    """
    with averaged(optimizer):
        return {
            MODEL: save(_contiguous(model.state_dict())),
            OPTIMIZER: save(_contiguous(flatten(optimizer))),
            STATE: to_json(state),
        }


def commit(run: Storage, step: int, files: dict[str, bytes], keep: Iterable[int]) -> None:
    """Writes the files, then their checksums; then removes older ones not in ``keep``."""
    here = folder(step)
    for name, data in files.items():
        run.write(f"{here}/{name}", data)
    sums = {
        name: Sum(sha256=sha256(data).hexdigest(), bytes=len(data)) for name, data in files.items()
    }
    run.write(f"{here}/{COMMIT}", to_json(sums))
    found = {int(name[5:]) for name in run.folders(CHECKPOINTS) if NAME.fullmatch(name)}
    for old in found - {step, *keep}:
        if old < step:  # what is newer is another driver's, or will be written again
            remove(run, old)


def remove(run: Storage, step: int) -> None:
    """The commit goes first, so that what is left half-way is no checkpoint."""
    run.delete(f"{folder(step)}/{COMMIT}")
    run.delete(*(entry.key for entry in run.list(folder(step) + "/")))


def steps(run: Storage) -> list[int]:
    """Steps of the committed checkpoints, oldest first."""
    keys = [entry.key.split("/") for entry in run.list(CHECKPOINTS + "/")]
    return [int(k[1][5:]) for k in keys if k[2:] == [COMMIT] and NAME.fullmatch(k[1])]


def read(run: Storage, step: int) -> dict[str, bytes]:
    """The files of a checkpoint, checked. Raises DataError that names the damaged object."""
    here = folder(step)
    commit_key = f"{here}/{COMMIT}"
    try:
        committed = run.read(commit_key)
    except NotFound:
        raise DataError(f"{run.address(commit_key)}: gone; this is no checkpoint now") from None
    sums = from_json(dict[str, Sum], committed, run.address(commit_key))
    if set(sums) != {MODEL, OPTIMIZER, STATE}:
        raise DataError(f"{run.address(commit_key)}: names {sorted(sums)}, not a checkpoint")
    files = {}
    for name, expected in sums.items():
        where = run.address(f"{here}/{name}")
        try:
            data = run.read(f"{here}/{name}")
        except NotFound:
            raise DataError(f"{where}: missing, though the checkpoint names it") from None
        found = sha256(data).hexdigest()
        if found != expected.sha256:
            raise DataError(
                f"{where}: sha256 {found[:12]}… in {len(data)} bytes, expected "
                f"{expected.sha256[:12]}… in {expected.bytes}; the object is damaged"
            )
        files[name] = data
    return files


def latest(run: Storage, run_id: str) -> tuple[State, dict[str, bytes]] | None:
    """The newest whole checkpoint; a damaged one is named in the log and the one before is used.

    Raises DataError when a checkpoint belongs to another run or a newer version of this program.
    """
    for step in reversed(steps(run)):
        try:
            files = read(run, step)
        except DataError as fault:
            log.warning("%s; the checkpoint before it is used", fault)
            continue
        where = run.address(f"{folder(step)}/{STATE}")
        state = from_json(State, files[STATE], where)
        if state.run_id != run_id:
            raise DataError(f"{where}: belongs to run {state.run_id}, not to {run_id}; remove it")
        return state, files
    return None


def restore(
    files: dict[str, bytes], model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Puts the weights back that are to be used; with an optimiser, all as training left it."""
    model.load_state_dict(load(files[MODEL]))
    if optimizer is not None:
        unflatten(optimizer, load(files[OPTIMIZER]))
        exchange(optimizer)


def flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as tensors by name: ``<parameter index>.<name>``."""
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if value is not None
    }


def unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
