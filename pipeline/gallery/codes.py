"""The codes of a finished run, and what it imagines from them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from draw_model import Vae, noise
from pipeline.finished import Finished

AT_ONCE = 100
"""Pictures that are imagined together: 100 of 64 steps on 28×28 take 20 MB."""
Draws = Mapping[str, Tensor]


def has_codes(run: Finished) -> bool:
    """Whether its pictures come from a code ``z`` that can be chosen."""
    return "z" in run.model.noise_shapes()


def prior(run: Finished, count: int) -> dict[str, Tensor]:
    """What ``count`` pictures are generated from, always the same: ``z``, and a class's draw."""
    shapes = run.model.noise_shapes()
    wanted = {name: shape for name, shape in shapes.items() if name in ("z", "class")}
    return noise.draw(wanted, run.job.train.seed, "pictures", 0, range(count))


@torch.no_grad()
def codes(run: Finished, count: int) -> Tensor:
    """``count`` codes (count, …): of test images where the model encodes with one, else drawn.

    Of a VAE they are the means of its posteriors. Fewer where the test split has fewer.
    """
    if isinstance(run.model, Vae):
        mu, _ = run.model.encode(run.first_tests(count).x)
        return mu
    return prior(run, count)["z"]


def imagine(run: Finished, z: Tensor) -> Tensor:
    """Pictures (n, C, H, W) of codes (n, …); whatever else is drawn is held at one value."""
    held = {name: value.expand(len(z), -1) for name, value in prior(run, 1).items() if name != "z"}
    parts = [
        run.model.generate(
            {"z": z[i : i + AT_ONCE], **{k: v[i : i + AT_ONCE] for k, v in held.items()}}
        )["images"]
        for i in range(0, len(z), AT_ONCE)
    ]
    return torch.cat(parts)
