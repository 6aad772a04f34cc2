"""The variants of DRAW against the same loop reference: cells, what read sees, the likelihood."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from draw_model import Batch, Draw, DrawConfig
from tests import reference_draw as reference

TINY = DrawConfig(steps=3, hidden=4, latent=2, read_n=3, write_n=2, window_init=0.5)
VARIANTS: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": "rnn"},
    {"privy": False},
    {"sees": "error"},
    {"sees": "image"},
    {"sees": "error", "read_n": None},
    {"likelihood": "gaussian"},
    {"steps": 1},
    {"cell": "gru", "privy": False, "sees": "image", "likelihood": "gaussian", "write_n": None},
]


def moved(variant: dict[str, Any]) -> Draw:
    """A double precision model with every parameter moved off its first value."""
    torch.manual_seed(0)
    model = Draw(replace(TINY, **variant), (3, 4, 5)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def grey(model: Draw) -> Batch:
    batch = model.fake_batch(2)
    noise = {"z": batch.noise["z"].double()}
    return Batch(x=0.2 + 0.5 * batch.x.double(), y=batch.y, mask=batch.mask, noise=noise)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_variant_equals_the_loop_reference(variant: dict[str, Any]) -> None:
    model = moved(variant)
    batch, config = grey(model), model.config
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    with torch.no_grad():
        terms = model(batch)
    for row in range(2):
        loss, kls, canvases = reference.draw(
            weights, batch.x[row].numpy(), batch.noise["z"][row].numpy(),
            config.read_n, config.write_n, config.sees, config.privy,
        )  # fmt: skip
        assert terms["loss"][row].item() == pytest.approx(loss, abs=1e-10)
        assert terms["kl_per_step"][row].tolist() == pytest.approx(kls, abs=1e-11)
        made = model.reconstruct(batch)["canvases"][row].numpy()
        np.testing.assert_allclose(made, canvases, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradient_reaches_every_parameter_of_a_variant(variant: dict[str, Any]) -> None:
    model = moved(variant)
    model(grey(model))["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_bfloat16_autocast_costs_nearly_the_same_with_every_cell(cell: Any) -> None:
    torch.manual_seed(0)
    model = Draw(replace(TINY, cell=cell), (1, 12, 12))
    batch = model.fake_batch(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
    half["loss"].mean().backward()
    torch.testing.assert_close(half["loss"], model(batch)["loss"], rtol=2e-2, atol=0)


def test_a_number_says_which_likelihood_it_is_of() -> None:
    bernoulli, gaussian = (Draw(replace(TINY, likelihood=kind), (1, 28, 28)).measure()
                           for kind in ("bernoulli", "gaussian"))  # fmt: skip
    assert (bernoulli.likelihood, bernoulli.dimensions) == ("bernoulli", 784)
    assert bernoulli.chance == pytest.approx(543.4, abs=0.05)
    assert (gaussian.likelihood, gaussian.chance) == ("gaussian", None)


@pytest.mark.parametrize(
    ("shape", "config", "encoder", "decoder", "patch"),
    [
        # Source 002, Tables IV, VI, VIII, X: (rows, columns) of the weights.
        ((1, 28, 28), {"read_n": None, "write_n": None}, (2080, 1024), (266, 1024), (256, 784)),
        ((1, 28, 28), {"read_n": 5, "write_n": 5}, (562, 1024), (266, 1024), (256, 25)),
        ((3, 32, 32), {"read_n": 12, "write_n": 12, "hidden": 800}, (2464, 3200), (810, 3200),
         (800, 432)),
        ((3, 32, 32), {"read_n": 5, "write_n": 5, "hidden": 400}, (950, 1600), (410, 1600),
         (400, 75)),
    ],
)  # fmt: skip
def test_weights_have_the_shapes_of_the_tables(shape, config, encoder, decoder, patch) -> None:
    with torch.device("meta"):
        model = Draw(DrawConfig(**config), shape)
    assert tuple(model.encoder.weight.shape) == encoder
    assert tuple(model.decoder.weight.shape) == decoder
    assert tuple(model.patch.weight.T.shape) == patch
    for window in (model.reader, model.writer):
        assert window is None or window.layer.weight.shape == (5, model.config.hidden)
