"""Which pictures can be made of a finished run, beside those that every run ends with."""

from collections.abc import Callable, Mapping

from draw_model import Dcgan
from pipeline.finished import Finished
from pipeline.gallery.draws import means_and_draws
from pipeline.gallery.epochs import kept_epochs, samples_by_epoch
from pipeline.gallery.paths import interpolation, latent_walk
from pipeline.gallery.plane import latent_grid, latent_scatter
from pipeline.gallery.race import race
from pipeline.gallery.steps import beside, chosen_steps, effect_of_steps
from pipeline.gallery.windows import filter_picture, zoom
from pipeline.publish import kernels

PICTURES: Mapping[str, Callable[[Finished], dict[str, bytes]]] = {
    "samples as means and as draws": means_and_draws,
    "what the code of each step decides": effect_of_steps,
    "samples after some epochs": samples_by_epoch,
    "from one code to another": interpolation,
    "a walk through ten codes": latent_walk,
    "all codes of two numbers": latent_grid,
    "images among the codes": latent_scatter,
    "the window as a zoom": zoom,
    "filters of the windows": filter_picture,
    "first kernels": lambda run: kernels(run.model),
}
"""What is drawn → how: files by name, none where the model has no such picture."""


def missing(run: Finished) -> list[str]:
    """What a source shows of such a model and this run cannot, with the reason."""
    if isinstance(run.model, Dcgan) and not kept_epochs(run):
        return [
            "no samples of earlier epochs: the run kept no weights of any; name some in "
            "train.keep_epochs, as [25, 50, 100], before it trains"
        ]
    return []


__all__ = [
    "PICTURES",
    "beside",
    "chosen_steps",
    "missing",
    "race",
]
