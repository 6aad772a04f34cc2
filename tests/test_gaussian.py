"""Likelihoods against torch.distributions and at the points where the known wrong forms show."""

from math import log

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from draw_model.gaussian import bernoulli_nll, gaussian_nll, kl_to_unit, sample


@pytest.fixture
def normal() -> torch.Tensor:
    return torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("steps", "latent"), [(1, 1), (10, 10), (64, 100)])
def test_kl_of_the_prior_is_zero_for_every_size(steps: int, latent: int) -> None:
    zeros = torch.zeros(2, steps, latent)
    assert torch.equal(kl_to_unit(zeros, zeros), torch.zeros(2, steps))


def test_kl_equals_torch_distributions(normal: torch.Tensor) -> None:
    mu, log_sigma = normal, normal.flip(0) / 2
    expected = kl_divergence(Normal(mu, log_sigma.exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(kl_to_unit(mu, log_sigma), expected, rtol=1e-12, atol=1e-12)


def test_kl_keeps_its_digits_near_the_prior_in_float32() -> None:
    log_sigma = torch.linspace(5e-4, 2e-3, 100)[:, None]
    exact = kl_to_unit(torch.zeros(100, 1).double(), log_sigma.double())
    torch.testing.assert_close(
        kl_to_unit(torch.zeros(100, 1), log_sigma).double(), exact, rtol=1e-3, atol=0
    )


def test_bernoulli_equals_torch_distributions(normal: torch.Tensor) -> None:
    x = (normal.flip(1) > 0).double()
    expected = -Bernoulli(logits=normal).log_prob(x).sum((1, 2))
    torch.testing.assert_close(bernoulli_nll(normal, x), expected, rtol=1e-12, atol=1e-12)


def test_gaussian_pixels_equal_torch_distributions(normal: torch.Tensor) -> None:
    mean, x, log_sigma = normal.double(), normal.double().flip(0), torch.tensor(-0.7).double()
    expected = -torch.distributions.Normal(mean, log_sigma.exp()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_nll(mean, log_sigma, x), expected)


@pytest.mark.parametrize(
    ("shape", "nats"), [((1, 28, 28), 543.4), ((3, 32, 32), 2129.4), ((3, 54, 54), 6063.7)]
)
def test_a_coin_costs_ln_2_per_value(shape: tuple[int, ...], nats: float) -> None:
    x = torch.rand(2, *shape)
    cost = bernoulli_nll(torch.zeros_like(x), x)
    assert cost.tolist() == pytest.approx([x[0].numel() * log(2)] * 2, rel=1e-6)
    assert cost[0].item() == pytest.approx(nats, abs=0.06)


def test_likelihood_of_certain_logits_stays_finite() -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    cost = bernoulli_nll(logits, torch.tensor([[0.0, 0.0]]))
    cost.sum().backward()
    assert cost.item() == pytest.approx(1e4)
    assert logits.grad is not None
    assert logits.grad.tolist() == [[1.0, 0.0]]


def test_sample_has_the_mean_and_deviation_it_was_given() -> None:
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    z = sample(torch.full_like(noise, 3.0), torch.full_like(noise, log(0.5)), noise)
    assert z.mean().item() == pytest.approx(3.0, abs=0.02)
    assert z.std().item() == pytest.approx(0.5, abs=0.02)


def test_half_precision_arguments_are_widened_and_double_stays() -> None:
    half = torch.randn(2, 3).bfloat16()
    for wide in (sample(half, half, half), kl_to_unit(half, half), bernoulli_nll(half, half)):
        assert wide.dtype == torch.float32
    assert kl_to_unit(half.double(), half.double()).dtype == torch.float64


def test_gradients_equal_finite_differences(normal: torch.Tensor) -> None:
    mu = normal[0].clone().requires_grad_()
    log_sigma = normal[1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: sample(m, s, normal[2]), (mu, log_sigma))
    assert torch.autograd.gradcheck(kl_to_unit, (mu, log_sigma))
    assert torch.autograd.gradcheck(lambda x: bernoulli_nll(x, normal[2].sigmoid()), (mu,))
