"""What a picture may know of a finished run: its model, its test images and its codes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from draw_model import Batch, Model, Vae, noise
from pipeline.loader import open_loader
from pipeline.publish import finished_run
from pipeline.storage import Storage

AT_ONCE = 100
"""Pictures that are imagined together: 100 of 64 steps on 28×28 take 20 MB."""
Draws = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """``examples(n)`` are the first n examples of the test split, or all where there are less."""

    id: str
    model: Model
    seed: int
    classes: tuple[str, ...]
    examples: Callable[[int], Batch]

    @property
    def has_codes(self) -> bool:
        """Whether its pictures come from a code ``z`` that can be chosen."""
        return "z" in self.model.noise_shapes()


def open_finished(storage: Storage, run: str) -> Finished:
    """A finished run of this id. Raises as ``finished_run`` does."""
    job, manifest, model = finished_run(storage, run)

    def examples(count: int) -> Batch:
        count = min(count, manifest.splits["test"])
        shapes = model.noise_shapes()
        loader = open_loader(job, manifest, storage, "test", shapes, batch_size=count)
        return loader.batch(0, range(count))

    return Finished(
        id=run, model=model, seed=job.train.seed, classes=manifest.classes, examples=examples
    )


def prior(run: Finished, count: int) -> dict[str, Tensor]:
    """What ``count`` pictures are generated from, always the same: ``z``, and a class's draw."""
    shapes = run.model.noise_shapes()
    wanted = {name: shape for name, shape in shapes.items() if name in ("z", "class")}
    return noise.draw(wanted, run.seed, "pictures", 0, range(count))


@torch.no_grad()
def codes(run: Finished, count: int) -> Tensor:
    """``count`` codes (count, …): of test images where the model encodes with one, else drawn.

    Of a VAE they are the means of its posteriors. Fewer where the test split has fewer.
    """
    if isinstance(run.model, Vae):
        mu, _ = run.model.encode(run.examples(count).x)
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
