"""What a run begins with, if not with its seed alone: the weights of other runs."""

from hashlib import sha256

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from draw_model import Model
from pipeline import checkpoint
from pipeline.errors import DataError, JobError
from pipeline.job import Job
from pipeline.records import WEIGHTS, run_path
from pipeline.retrain_values import Weights
from pipeline.storage import Storage


def begin(model: Model, job: Job, storage: Storage) -> Model:
    """The untrained model with the weights that the job's ``start`` names; as it is without one.

    Of several runs it has the mean, of whole numbers (steps counted) the first run's. Raises
    DataError where they are not those that were named, JobError where they do not fit.
    """
    states = [_read(model, job, storage, of) for of in job.start.weights] if job.start else []
    if states:
        model.load_state_dict({name: _mean([s[name] for s in states]) for name in states[0]})
    return model


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0) if values[0].is_floating_point() else values[0]


def _read(model: Model, job: Job, storage: Storage, of: Weights) -> dict[str, Tensor]:
    file = WEIGHTS if of.step is None else f"{checkpoint.folder(of.step)}/{checkpoint.MODEL}"
    key = f"{run_path(of.run)}/{file}"
    data = storage.read(key)
    found = sha256(data).hexdigest()
    if found != of.weights_sha256:
        raise DataError(
            f"{storage.address(key)}: sha256 {found[:12]}…, start.weights_sha256 is "
            f"{str(of.weights_sha256)[:12]}…; restore the weights, or start from others"
        )
    try:
        state = load(data)
        model.load_state_dict(state)
    except SafetensorError as fault:
        raise DataError(f"{storage.address(key)}: not safetensors ({fault}); restore it") from None
    except RuntimeError:
        raise JobError(
            f"{storage.address(key)}: the weights of another model than {job.name}'s; start from "
            "the seed (retrain.start: cold), or from a run of the same model"
        ) from None
    return state
