"""The likelihoods of DRAW: Gaussians for the latent, Bernoulli or Gaussian for the pixels, in nats.

Everything here is computed in float32 or wider, also when its arguments come from an autocast
region: the bound is a sum of thousands of terms, and bfloat16 keeps eight bits of each.
"""

from math import log, pi

import torch
from torch import Tensor
from torch.nn import functional as F


def full_precision(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is where it is wider already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def autocast_precision(x: Tensor) -> Tensor:
    """``x`` as an autocast region computes, or as it is outside of one."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def sample(mu: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
    """A reparameterised draw z = μ + σ ε, shaped as its arguments; equations (1), (2) and (6).

    ``noise`` is standard normal and must be fresh at every step and for every example.
    """
    return full_precision(mu) + full_precision(log_sigma).exp() * full_precision(noise)


def kl_to_unit(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) in nats, (..., Z) → (...); equations (10) and (11).

    ½ Σ (μ² + σ² − log σ² − 1) over the last axis. The 1 belongs to every latent dimension at every
    step: the −T/2 that is printed in (11) holds only for a one-dimensional z.
    """
    mu, log_sigma = full_precision(mu), full_precision(log_sigma)
    # expm1 keeps σ² − 1 exact to the last bit where σ is close to 1 and the terms cancel
    return 0.5 * (mu.square() + torch.expm1(2 * log_sigma) - 2 * log_sigma).sum(-1)


def log_ratio(mu: Tensor, log_sigma: Tensor, noise: Tensor) -> Tensor:
    """log N(z; 0, I) − log N(z; μ, σ²) in nats at z = μ + σ ε, (..., Z) → (...).

    Σ ½ε² + log σ − ½z² over the last axis: log 2π stands in both densities and cancels. Its mean
    over ε is −``kl_to_unit``.
    """
    z = sample(mu, log_sigma, noise)
    return (0.5 * (full_precision(noise).square() - z.square()) + full_precision(log_sigma)).sum(-1)


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """−log p(x) in nats with pixel means σ(logits), (B, ...) → (B,); equation (9).

    Summed over pixels and channels. For ``x`` between 0 and 1 it is the cross entropy, which is
    the expectation over Bernoulli draws with mean ``x``.
    """
    logits, x = full_precision(logits), full_precision(x)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def gaussian_nll(mean: Tensor, log_sigma: Tensor, x: Tensor) -> Tensor:
    """−log N(x; mean, σ²) in nats, summed over all but the first axis, (B, ...) → (B,).

    ½ log 2π + log σ + (x − mean)²/2σ² for each value. It is a density: it can be negative, and is
    not to be compared with a Bernoulli's number.
    """
    mean, log_sigma, x = full_precision(mean), full_precision(log_sigma), full_precision(x)
    distance = (x - mean) * (-log_sigma).exp()
    return (0.5 * log(2 * pi) + log_sigma + 0.5 * distance.square()).flatten(1).sum(1)
