"""The importance-weighted bound on a model whose log p(x) is known exactly, and on a DRAW."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from draw_model import Batch, Measure, Model, Terms, noise
from draw_model.gaussian import log_ratio
from pipeline.finished import Finished
from pipeline.loader import model_of
from pipeline.measures.contract import Wanted, batches
from pipeline.measures.importance import Importance, effective, importance, log_mean_bound
from tests.tiny import prepared, tiny_job

PIXELS = 144
SIGMA = 0.3


class LinearGaussian(Model):
    """z ~ N(0, I₂), x | z ~ N(W z, σ²I), and a posterior that is exact but for ``off``.

    The columns of W are orthogonal and equally long, so the exact posterior is a diagonal Gaussian.
    """

    def __init__(self, off: float) -> None:
        super().__init__()
        columns, _ = torch.linalg.qr(noise.normal(0, "toy", 0, range(PIXELS), (2,)).double())
        self.w, self.off, self.shape = 1.5 * columns, off, (1, 12, 12)
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"z": (2,)}

    def measure(self) -> Measure:
        return Measure(likelihood="gaussian", dimensions=PIXELS, chance=None)

    def forward(self, batch: Batch) -> Terms:
        raise NotImplementedError("never trained")

    def weigh(self, batch: Batch) -> Terms:
        x = batch.x.flatten(1).double()
        variance = 1 / (1 + 1.5**2 / SIGMA**2)
        mu = variance / SIGMA**2 * x @ self.w + self.off * math.sqrt(variance)
        log_sigma = torch.full_like(mu, 0.5 * math.log(variance) + self.off)
        epsilon = batch.noise["z"].double()
        z = mu + log_sigma.exp() * epsilon
        log_p = Normal(z @ self.w.T, SIGMA).log_prob(x).sum(1)
        kl = torch.distributions.kl_divergence(Normal(mu, log_sigma.exp()), Normal(0.0, 1.0))
        return {"log_weight": log_p + log_ratio(mu, log_sigma, epsilon), "bound": kl.sum(1) - log_p}

    def generate(self, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"images": (draws["z"].double() @ self.w.T).view(-1, 1, 12, 12)}

    def exact(self, x: Tensor) -> Tensor:
        """−log p(x) of (n, 1, 12, 12), by the covariance of all pixels."""
        covariance = self.w @ self.w.T + SIGMA**2 * torch.eye(PIXELS, dtype=torch.float64)
        pixels = MultivariateNormal(torch.zeros(PIXELS, dtype=torch.float64), covariance)
        return -pixels.log_prob(x.flatten(1).double())


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Off → the toy as a finished run on 20 drawn digits, in grey."""
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    job = tiny_job(f"file://{tmp_path}/store", data={"binarisation": "grey"})
    manifest, storage = prepared(job)

    def made(model: Model) -> Finished:
        return Finished(
            storage=storage, run="toy", job=job, manifest=manifest, model=model,
            device=torch.device("cpu"),
        )  # fmt: skip

    return made


def measured(finished: Finished, samples: int, first: int | None = None) -> Importance:
    wanted = Wanted(samples=samples, first=first)
    value = importance(finished, wanted, lambda done, total: None).value
    assert isinstance(value, Importance)
    return value


def exact(finished: Finished) -> float:
    assert isinstance(finished.model, LinearGaussian)
    loader = finished.loader("test")
    costs = [finished.model.exact(b.x[b.mask]) for _, b in batches(loader, finished.device)]
    return float(torch.cat(costs).mean())


def test_with_the_exact_posterior_every_draw_gives_the_exact_log_likelihood(toy) -> None:
    finished = toy(LinearGaussian(off=0.0))
    for samples in (1, 7):
        found = measured(finished, samples)
        assert found.weighted.mean == pytest.approx(exact(finished), rel=1e-6)
        assert found.effective_samples == pytest.approx(samples, rel=1e-4)
        assert found.weighted.examples == 20


def test_with_a_wrong_posterior_the_bound_falls_with_k_onto_the_exact_log_likelihood(toy) -> None:
    finished = toy(LinearGaussian(off=0.6))
    found = {samples: measured(finished, samples) for samples in (1, 5, 50, 1000)}
    bounds = [found[samples].weighted.mean for samples in (1, 5, 50, 1000)]
    truth = exact(finished)
    assert bounds[0] > bounds[1] > bounds[2] > bounds[3] - 0.01
    assert bounds[3] == pytest.approx(truth, abs=0.02)
    assert found[1000].plain.mean > truth + 0.3
    tighter = found[1000].tighter
    assert tighter.mean == pytest.approx(found[1000].plain.mean - bounds[3])
    assert 1 < found[1000].effective_samples < 999


def test_one_draw_is_the_one_sample_bound_and_many_plain_ones_average_to_the_plain_bound(toy):
    finished = toy(LinearGaussian(off=0.6))
    singles = []
    for step, batch in batches(finished.loader("test"), finished.device):
        for k in range(400):
            draws = noise.draw({"z": (2,)}, 0, f"importance/{k}", step, range(16))
            seen = Batch(x=batch.x, y=batch.y, mask=batch.mask, noise=draws)
            singles.append(-finished.model.weigh(seen)["log_weight"][batch.mask])
    firsts = torch.cat([singles[0], singles[400]])
    assert measured(finished, 1).weighted.mean == pytest.approx(float(firsts.mean()))
    every = torch.cat(singles)
    plain = measured(finished, 400).plain.mean
    assert float(every.mean()) == pytest.approx(
        plain, abs=4 * float(every.std()) / len(every) ** 0.5
    )


def test_the_first_examples_only_are_those_of_the_whole_split(toy) -> None:
    finished = toy(LinearGaussian(off=0.6))
    assert measured(finished, 2, first=18).weighted.examples == 18
    assert measured(finished, 2, first=99).weighted == measured(finished, 2).weighted


def test_a_drawing_model_is_measured_on_what_it_is_trained_on(toy) -> None:
    job = tiny_job("file:///nowhere", data={"binarisation": "grey"})
    finished = toy(LinearGaussian(off=0.0))
    torch.manual_seed(0)
    finished = toy(model_of(job, finished.manifest).eval())
    found = measured(finished, 20)
    assert found.weighted.mean < found.plain.mean
    assert found.chance == pytest.approx(PIXELS * math.log(2))
    assert found.target == "bernoulli, grey"
    label, text = found.rows()[0]
    assert label == "test bound, K = 20"
    assert "over 20 examples (target: bernoulli, grey)" in text


def test_log_mean_and_effective_draws_keep_their_digits_far_below_zero() -> None:
    weights = torch.tensor([[1.0, 5.0], [3.0, 5.0], [1.0, 5.0]], dtype=torch.float64)
    far = weights.log() - 40_000
    mean = 40_000 - weights.mean(0).log()
    torch.testing.assert_close(log_mean_bound(far), mean, rtol=1e-15, atol=1e-10)
    torch.testing.assert_close(
        effective(far), weights.sum(0) ** 2 / weights.square().sum(0), rtol=1e-9, atol=0
    )
