"""Champion and challenger on the same examples of one test split, with the same noise."""

import numpy as np
import torch

from draw_model import Model
from pipeline.errors import DataError, JobError
from pipeline.gate import ERROR, Gate, Verdict, decide
from pipeline.job import Job
from pipeline.loader import Loader, open_loader
from pipeline.manifest import Manifest
from pipeline.publish import finished_run
from pipeline.storage import Storage
from pipeline.worker import autocast


@torch.no_grad()
def check_metric(model: Model, metric: str) -> None:
    """Raises JobError for a metric that the model does not give for each example."""
    terms = model.eval()(model.fake_batch(2))
    known = sorted(name for name, term in terms.items() if term.dim() == 1 and name != "correct")
    known += [ERROR] if "correct" in terms else []
    if metric not in known:
        raise JobError(f"retrain.gate.metric: this model has no {metric}; write one of {known}")


@torch.no_grad()
def per_example(
    model: Model, loader: Loader, metric: str, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (n,) of the metric and int64 (n,) classes, in the order of the split."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    values, classes = [], []
    for step in range(loader.steps):
        batch = loader.batch(step, range(loader.batch_size)).to(device)
        with autocast(device.type, precision):
            terms = model(batch)
        value = 1 - terms["correct"] if metric == ERROR else terms[metric]
        values.append(value[batch.mask].double().cpu())
        assert batch.y is not None
        classes.append(batch.y[batch.mask].cpu())
    return torch.cat(values).numpy(), torch.cat(classes).numpy()


def compare(
    gate: Gate, job: Job, manifest: Manifest, storage: Storage, champion: str, challenger: str
) -> Verdict:
    """The gate's verdict on two finished runs, on the test examples of ``manifest``.

    Both read them as ``job`` says, so targets and noise are the same. Raises JobError for a
    champion that measures something else, DataError for one that cannot be measured.
    """
    measured, measures = [], []
    for run in (champion, challenger):
        _, _, model = finished_run(storage, run)
        check_metric(model, gate.metric)
        loader = open_loader(job, manifest, storage, "test", model.noise_shapes())
        measures.append(model.measure())
        if measures[0] != measures[-1] or tuple(model.shape) != tuple(loader.shape):
            raise JobError(
                f"champion {champion} measures {measures[0]}, {challenger} {measures[-1]}: they "
                "cannot be compared; give retrain.champion another name"
            )
        measured.append(per_example(model, loader, gate.metric, job.train.precision))
    (old, classes), (new, _) = measured
    try:
        return decide(gate, old, new, classes, manifest.classes)
    except ValueError as fault:
        raise DataError(f"{champion} and {challenger} on {manifest.path}: {fault}") from None
