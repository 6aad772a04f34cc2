"""What faults that were published elsewhere cost: ``python -m tests.benchmarks.faults``.

Every fault is a function or a class of its own here; the project's models have no switch for any.
The same small DRAW is trained on MNIST with and without each fault, on the same batches from the
same first weights. Its own claim is what its authors would have printed; the true bound is that of
the same weights with fresh noise at every step and the right KL.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from draw_model import Batch, Draw
from draw_model.attention import Attention, Window
from pipeline.evaluate import evaluate
from pipeline.fault_costs import Fault, FaultCosts, write_fault_costs
from pipeline.job import Job
from pipeline.job_file import check_job
from pipeline.loader import Loader, open_loader
from pipeline.manifest import Manifest
from pipeline.prepare import prepare
from pipeline.storage import Storage, open_storage
from pipeline.train import seeded_model
from pipeline.worker import machine

JOB = {
    "name": "faults",
    "data": {"source": "mnist", "binarisation": "dynamic"},
    "model": {"kind": "draw", "steps": 10, "hidden": 256, "latent": 10, "read_n": 5, "write_n": 5},
    "train": {"total_epochs": 1, "batch_size": 128, "lr": 1e-3},
}
EPSILON = 1e-8
"""Inside the logarithm, as source 002 has it."""


class OneNoise(Draw):
    """z_t of all T steps from one draw of noise (002-45)."""

    scale = 1.0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        noise = self.scale * batch.noise["z"][:, :1].expand_as(batch.noise["z"])
        return super().forward(replace(batch, noise={"z": noise}))


class OneSmallNoise(OneNoise):
    """The same, scaled by 0.05, as its program has it."""

    scale = 0.05


class Squared(Attention):
    """Filters exp(−((a − μ)/2σ²)²) instead of exp(−(a − μ)²/2σ²) (002-45)."""

    def filters(self, window: Window) -> tuple[Tensor, Tensor]:
        return tuple(
            torch.softmax(
                -((a - (g[:, None] + self.offsets * window.delta[:, None])[:, :, None])
                  / (2 * window.sigma.square())[:, None, None]).square(), dim=2)
            for g, a in ((window.g_y, self.rows), (window.g_x, self.columns))
        )  # type: ignore[return-value]  # fmt: skip


class HalfWrite(Attention):
    """½ F_Yᵀ w F_X instead of 1/γ̂ F_Yᵀ w F_X (003-13)."""

    def write(self, window: Window, patch: Tensor) -> Tensor:
        f_y, f_x = self.filters(window)
        return 0.5 * (f_y[:, None].mT @ patch.float() @ f_x[:, None])


def one_noise(model: Draw) -> None:
    model.__class__ = OneNoise


def one_small_noise(model: Draw) -> None:
    model.__class__ = OneSmallNoise


def shifted(model: Draw) -> None:
    """Filter i at g + (i − N/2 − ½)δ with i from 0 instead of from 1 (003-08)."""
    for attention in _attentions(model):
        attention.offsets -= 1


def squared(model: Draw) -> None:
    for attention in _attentions(model):
        attention.__class__ = Squared


def half_write(model: Draw) -> None:
    for attention in _attentions(model):
        attention.__class__ = HalfWrite


def _attentions(model: Draw) -> list[Attention]:
    return [one for one in model.modules() if isinstance(one, Attention)]


FAULTS: dict[str, Callable[[Draw], None]] = {
    "none": lambda model: None,
    "one noise for all steps": one_noise,
    "one noise, scaled by 0.05": one_small_noise,
    "window shifted by a stride": shifted,
    "wrong filter": squared,
    "½ for 1/γ̂": half_write,
}
ITEMS = {
    "one noise for all steps": "002-45",
    "one noise, scaled by 0.05": "002-45",
    "window shifted by a stride": "003-08",
    "wrong filter": "002-45",
    "½ for 1/γ̂": "003-13",
}
NOISE = ("one noise for all steps", "one noise, scaled by 0.05")
"""Faults of training alone: the same weights are a right model with fresh noise."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """``claimed`` and ``true`` in nats an example on the test set, with the KL within ``true``."""

    claimed: float
    true: float
    kl: float
    pictures: float
    """NLL in nats when the picture is (c + 1)/2, clipped, instead of σ(c)."""


def train(job: Job, manifest: Manifest, storage: Storage, fault: str, steps: int) -> Trained:
    model = seeded_model(job, manifest)
    assert isinstance(model, Draw)
    FAULTS[fault](model)
    loader = open_loader(job, manifest, storage, "train", model.noise_shapes(), training=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=job.train.lr)
    started = time.monotonic()
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = model(loader.batch(step, range(loader.batch_size)))["loss"].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"  {fault}, seed {job.train.seed}: {step + 1} of {steps}, loss "
                  f"{float(loss):.1f}, {time.monotonic() - started:.0f} s",
                  file=sys.stderr, flush=True)  # fmt: skip
    test = open_loader(job, manifest, storage, "test", model.noise_shapes())
    claimed = evaluate(model, test)
    if fault in NOISE:
        model.__class__ = Draw
    true = evaluate(model, test)
    kl = true.terms["kl"]
    assert isinstance(kl, float)
    return Trained(claimed=claimed.loss, true=true.loss, kl=kl, pictures=half_pictures(model, test))


@torch.no_grad()
def half_pictures(model: Draw, loader: Loader) -> float:
    """NLL of the test images, when (c_T + 1)/2, clipped to [0, 1], is taken for pixel means."""
    total = 0.0
    for step in range(loader.steps):
        batch = loader.batch(step, range(loader.batch_size))
        logits = torch.logit(model.reconstruct(batch)["images"].double())
        p = ((logits + 1) / 2).clamp(0, 1)
        x = batch.x.double()
        nll = -(x * (p + EPSILON).log() + (1 - x) * (1 - p + EPSILON).log()).flatten(1).sum(1)
        total += float(nll[batch.mask].sum())
    return total / loader.split.examples


def costs_of(found: dict[str, list[Trained]], steps: int, latent: int) -> tuple[Fault, ...]:
    """What was trained, and what follows from the faultless runs by arithmetic."""
    right = found["none"]
    true = tuple(run.true for run in right)

    def constant(name: str, item: str, nats: float) -> Fault:
        return Fault(name=name, item=item, prints=tuple(one + nats for one in true), worth=true)

    shown = tuple(run.pictures + run.kl for run in right)
    return (
        *(
            Fault(name=fault, item=ITEMS[fault], prints=tuple(r.claimed for r in runs),
                  worth=tuple(r.true for r in runs))
            for fault, runs in found.items() if fault != "none"
        ),
        constant("KL with −T/2, as printed in (11)", "003-16", (latent - 1) * steps / 2),
        constant("KL with −T/2 at each step: −T²/2", "003-16", (latent * steps - steps**2) / 2),
        Fault(name="(c + 1)/2 as the pixels' means", item="002-44", prints=shown, worth=shown),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000, help="of training, at batch 128")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--glimpses", type=int, default=10)
    parser.add_argument("--storage", help="where `results` shall find it: file:///… or s3://…")
    options = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    with tempfile.TemporaryDirectory() as folder:
        plain = {**JOB, "storage": f"file://{Path(folder, 'storage')}"}
        plain["model"] = {**JOB["model"], "steps": options.glimpses}  # type: ignore[dict-item]
        job = check_job(plain, "faults")
        storage = open_storage(job.storage)
        manifest = prepare(job.data, storage)
        found = {
            fault: [
                train(replace(job, train=replace(job.train, seed=seed)), manifest, storage, fault,
                      options.steps)
                for seed in range(options.seeds)
            ]
            for fault in FAULTS
        }  # fmt: skip
    latent = job.model.latent  # type: ignore[union-attr]
    costs = FaultCosts(
        setting=f"{options.steps:,} steps of {job.train.batch_size} on MNIST, T = "
                f"{options.glimpses}, {options.seeds} seeds",
        machine=machine(torch.device("cpu")),
        right=tuple(run.true for run in found["none"]),
        faults=costs_of(found, options.glimpses, latent),
    )  # fmt: skip
    for cells in costs.table():
        print(" | ".join(cells))
    if options.storage:
        write_fault_costs(open_storage(options.storage), costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
