"""Importance weights of one draw, against distributions of torch and pictures drawn from its z."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from draw_model import (
    MODELS,
    Batch,
    CnnConfig,
    ConvDrawConfig,
    DcganConfig,
    Draw,
    DrawConfig,
    Model,
    Vae,
    VaeConfig,
    build,
    noise,
)
from draw_model.gaussian import kl_to_unit, log_ratio
from tests.pasted import doubled

SHAPE = (1, 8, 12)
DRAW = {"steps": 3, "hidden": 16, "latent": 4, "read_n": 3, "write_n": 3}
CONFIGS = {
    "draw": DrawConfig(**DRAW),
    "whole images": DrawConfig(**DRAW | {"read_n": None, "write_n": None, "cell": "gru"}),
    "gaussian": DrawConfig(**DRAW, likelihood="gaussian"),
    "model I": ConvDrawConfig(**DRAW, features=8, kernels=2),
    "model II": ConvDrawConfig(**DRAW, features=8, kernels=2, model="supervised"),
    "model III": ConvDrawConfig(
        **DRAW | {"read_n": None}, features=8, kernels=2, model="convolutional"
    ),
    "vae": VaeConfig(latent=4),
    "gaussian vae": VaeConfig(latent=4, likelihood="gaussian"),
}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Model:
    """One in double precision, with weights large enough for posteriors that are not the prior."""
    torch.manual_seed(0)
    made = build(CONFIGS[request.param], SHAPE, classes=3).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def posterior(model: Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """μ and σ of all latents, (B, …, Z)."""
    if isinstance(model, Vae):
        mu, log_sigma = model.encode(batch.x)
        return mu, log_sigma.exp()
    assert isinstance(model, Draw)
    heard = model._hear(batch.x)[0] if hasattr(model, "_hear") else ()
    drawn = model._look_and_draw(batch.x, batch.noise["z"], heard)
    halves = torch.stack([glimpse.posterior for glimpse in drawn], dim=1)
    mu, log_sigma = halves.chunk(2, dim=2)
    return mu, log_sigma.exp()


@torch.no_grad()
def test_the_weight_is_the_joint_over_the_posterior_at_the_drawn_latents(model: Model) -> None:
    fake = model.fake_batch(5)
    batch = replace(doubled(fake), x=fake.x.double())
    mu, sigma = posterior(model, batch)
    z = mu + sigma * batch.noise["z"]
    ratio = Normal(0.0, 1.0).log_prob(z) - Normal(mu, sigma).log_prob(z)
    means = model.generate({"z": z})["images"]
    name = "log_sigma" if isinstance(model, Draw) else "pixel_log_sigma"
    if model.measure().likelihood == "gaussian":
        pixels = Normal(means, getattr(model, name).exp()).log_prob(batch.x)
    else:
        pixels = Bernoulli(means).log_prob(batch.x)
    expected = ratio.flatten(1).sum(1) + pixels.flatten(1).sum(1)
    found = model.weigh(batch)
    torch.testing.assert_close(found["log_weight"], expected, rtol=1e-9, atol=1e-9)
    terms = model(batch)
    torch.testing.assert_close(found["bound"], terms["reconstruction"] + terms["kl"])


@torch.no_grad()
def test_the_ratio_of_prior_and_posterior_is_minus_the_kl_on_average() -> None:
    mu, log_sigma = torch.tensor([[0.7, -1.2]]), torch.tensor([[-0.8, 0.3]])
    draws = noise.normal(0, "ratio", 0, range(100_000), (2,))
    ratios = log_ratio(mu.expand(100_000, 2), log_sigma.expand(100_000, 2), draws)
    error = float(ratios.std()) / 100_000**0.5
    assert float(ratios.mean()) == pytest.approx(-float(kl_to_unit(mu, log_sigma)), abs=4 * error)


@pytest.mark.parametrize("kind", ["classifier", "ram", "cnn", "conv_draw"])
@torch.no_grad()
def test_the_answer_that_counts_as_right_is_the_largest_score(kind: str) -> None:
    torch.manual_seed(0)
    config = {"model": "supervised"} if kind == "conv_draw" else {}
    model = build(MODELS[kind][0](**config), (1, 16, 16), classes=3).eval()
    batch = model.fake_batch(40)
    scores = model.classify(batch)
    assert scores is not None
    correct = model(batch)["correct"].bool()
    assert torch.equal(scores.argmax(1) == batch.y, correct)
    assert 0 < int(correct.sum()) < 40


def test_models_without_latents_weigh_nothing_and_those_without_classes_score_nothing() -> None:
    classifier = build(CONFIGS["draw"], SHAPE)
    assert classifier.classify(classifier.fake_batch(2)) is None
    for config in (CnnConfig(variant="source_000"), DcganConfig()):
        model = build(config, SHAPE, classes=3)
        assert model.weigh(model.fake_batch(2)) == {}
