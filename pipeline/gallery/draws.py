"""The two things that a sample of Bernoulli pixels can mean: their means, and a draw of them."""

from draw_model import noise
from pipeline.contact_sheet import png
from pipeline.finished import Finished
from pipeline.gallery.codes import has_codes, imagine, prior
from pipeline.pictures import reconstructions

SHOWN = 16


def means_and_draws(run: Finished) -> dict[str, bytes]:
    """``samples_drawn.png``, of models with Bernoulli pixels."""
    bernoulli = run.model.measure().likelihood.startswith("bernoulli")
    if not (has_codes(run) and bernoulli):
        return {}
    means = imagine(run, prior(run, SHOWN)["z"])
    chance = noise.uniform(
        run.job.train.seed, "pictures/bernoulli", 0, range(SHOWN), tuple(run.model.shape)
    )
    drawn = (chance < means).float()
    return {"samples_drawn.png": png(reconstructions(means, drawn, 8, ("means", "drawn")))}
