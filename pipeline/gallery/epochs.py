"""How a run learned: the same codes, seen by the weights of each epoch that it kept."""

from dataclasses import replace

from safetensors.torch import load

from pipeline import checkpoint, plan
from pipeline.contact_sheet import enlarged, framed, pixels_of, png, scale_of, sheet
from pipeline.finished import Finished
from pipeline.gallery.codes import has_codes, imagine, prior
from pipeline.loader import model_of
from pipeline.records import run_path

SHOWN = 12


def kept_epochs(run: Finished) -> dict[int, int]:
    """Epoch → step of the checkpoints that ``train.keep_epochs`` asked for and that are there."""
    steps = plan.steps_per_epoch(run.manifest.splits["train"], run.job.train.batch_size)
    there = set(checkpoint.steps(run.storage.below(run_path(run.run))))
    wanted = {epoch: epoch * steps for epoch in sorted(set(run.job.train.keep_epochs))}
    return {epoch: step for epoch, step in wanted.items() if step in there}


def samples_by_epoch(run: Finished) -> dict[str, bytes]:
    """``epochs.png``, a row for each kept epoch. Raises DataError where one is damaged."""
    if not has_codes(run) or not (epochs := kept_epochs(run)):
        return {}
    home, z = run.storage.below(run_path(run.run)), prior(run, SHOWN)["z"]
    rows = []
    for step in epochs.values():
        model = model_of(run.job, run.manifest)
        model.load_state_dict(load(checkpoint.read(home, step)[checkpoint.MODEL]))
        images = imagine(replace(run, model=model.eval().to(run.device)), z)
        pixels = pixels_of(images, "images", 4)
        rows.append([framed(enlarged(one, scale_of(pixels, side=56))) for one in pixels])
    return {"epochs.png": png(sheet(rows, labels=[f"epoch {one}" for one in epochs], gap=3))}
