"""What a run begins with, if not with its seed alone: the published weights of another run."""

from hashlib import sha256

from safetensors import SafetensorError
from safetensors.torch import load

from draw_model import Model
from pipeline.errors import DataError, JobError
from pipeline.job import Job
from pipeline.records import WEIGHTS, run_path
from pipeline.storage import Storage


def begin(model: Model, job: Job, storage: Storage) -> Model:
    """The untrained model with the weights that the job's ``start`` names; as it is without one.

    Raises DataError where they are not those that were named, JobError where they do not fit.
    """
    if job.start is None or job.start.run is None:
        return model
    key = f"{run_path(job.start.run)}/{WEIGHTS}"
    data = storage.read(key)
    found = sha256(data).hexdigest()
    if found != job.start.weights_sha256:
        raise DataError(
            f"{storage.address(key)}: sha256 {found[:12]}…, start.weights_sha256 is "
            f"{str(job.start.weights_sha256)[:12]}…; restore the weights, or start from others"
        )
    try:
        model.load_state_dict(load(data))
    except SafetensorError as fault:
        raise DataError(f"{storage.address(key)}: not safetensors ({fault}); restore it") from None
    except RuntimeError:
        raise JobError(
            f"{storage.address(key)}: the weights of another model than {job.name}'s; start from "
            "the seed (retrain.start: cold), or from a run of the same model"
        ) from None
    return model
