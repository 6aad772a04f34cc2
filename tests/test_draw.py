"""DRAW against the loop reference, its promises to the pipeline, and its shapes."""

from dataclasses import asdict, replace
from math import log

import numpy as np
import pytest
import torch

from draw_model import Draw, DrawConfig, build, from_plain
from tests import reference_draw as reference
from tests.pasted import doubled, some

Sizes = tuple[int | None, int | None, tuple[int, int, int]]
TINY = DrawConfig(steps=3, hidden=4, latent=2, read_n=3, write_n=2, window_init=0.5)
SIZES: list[Sizes] = [
    (3, 2, (1, 5, 5)),
    (2, 3, (3, 4, 6)),
    (None, None, (1, 6, 4)),
    (None, 3, (3, 5, 4)),
    (3, None, (1, 4, 5)),
]
ATTENTIVE: Sizes = SIZES[1]


def tiny(sizes: Sizes = SIZES[0], seed: int = 0) -> Draw:
    """A double precision model, every parameter (first states too) moved off its first value."""
    read_n, write_n, shape = sizes
    torch.manual_seed(seed)
    model = Draw(replace(TINY, read_n=read_n, write_n=write_n), shape).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def arrays(model: Draw) -> reference.Weights:
    return {name: value.numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("sizes", SIZES)
def test_draw_equals_the_loop_reference(sizes: Sizes) -> None:
    model = tiny(sizes)
    batch = doubled(model.fake_batch(2))
    terms, pictures = model(batch), model.reconstruct(batch)
    weights = arrays(model)
    for row in range(2):
        loss, kls, canvases = reference.draw(
            weights, batch.x[row].numpy(), batch.noise["z"][row].numpy(), sizes[0], sizes[1]
        )
        assert terms["loss"][row].item() == pytest.approx(loss, abs=1e-10)
        assert terms["kl_per_step"][row].tolist() == pytest.approx(kls, abs=1e-11)
        np.testing.assert_allclose(pictures["canvases"][row].numpy(), canvases, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_generation_equals_the_loop_reference(sizes: Sizes) -> None:
    model = tiny(sizes)
    z = torch.randn(2, 3, 2, dtype=torch.float64)
    pictures = model.generate({"z": z})
    weights = arrays(model)
    for row in range(2):
        canvases, windows = reference.imagine(weights, z[row].numpy(), sizes[1])
        np.testing.assert_allclose(pictures["canvases"][row].numpy(), canvases, atol=1e-12)
        if sizes[1] is not None:
            np.testing.assert_allclose(pictures["write_windows"][row].numpy(), windows, rtol=1e-11)


@pytest.mark.parametrize("sizes", SIZES)
def test_gradient_reaches_every_parameter(sizes: Sizes) -> None:
    model = tiny(sizes)
    model(doubled(model.fake_batch(3)))["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("sizes", [ATTENTIVE, SIZES[2]])
def test_gradients_equal_finite_differences(sizes: Sizes) -> None:
    model = tiny((sizes[0], sizes[1], (1, 2, 3)))
    batch = doubled(model.fake_batch(1))
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*weights: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(model, named, (batch,))["loss"]

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_loss_is_reconstruction_plus_kl_of_the_steps() -> None:
    model = tiny()
    terms = model(doubled(model.fake_batch(4)))
    assert {name: tuple(value.shape) for name, value in terms.items()} == {
        "loss": (4,),
        "reconstruction": (4,),
        "kl": (4,),
        "kl_per_step": (4, 3),
    }
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])
    torch.testing.assert_close(terms["kl"], terms["kl_per_step"].sum(1))


def test_untrained_model_costs_about_a_coin_per_pixel() -> None:
    torch.manual_seed(0)
    model = build(DrawConfig(steps=4, hidden=32), (1, 28, 28))
    terms = model(model.fake_batch(8))
    assert terms["reconstruction"].mean().item() == pytest.approx(784 * log(2), rel=0.05)


def test_loss_of_an_example_does_not_depend_on_its_batch() -> None:
    model = tiny(ATTENTIVE)
    batch = doubled(model.fake_batch(7))
    whole = model(batch)["loss"]
    for rows in ([2], [6, 0], [1, 3, 5, 2]):
        alone = model(some(batch, rows))["loss"]
        torch.testing.assert_close(alone, whole[rows], rtol=1e-12, atol=0)


def test_posterior_noise_of_a_step_acts_from_that_step_on() -> None:
    model = tiny()
    batch = doubled(model.fake_batch(2))
    before = model(batch)["kl_per_step"]
    batch.noise["z"][:, 1] += 1
    after = model(batch)["kl_per_step"]
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.isclose(before[:, 2], after[:, 2]).any()


def test_every_step_of_generation_has_its_own_latent() -> None:
    model = tiny()
    z = torch.randn(2, 3, 2, dtype=torch.float64)
    before = model.generate({"z": z})["canvases"]
    for step in range(3):
        changed = z.clone()
        changed[:, step] += 1
        after = model.generate({"z": changed})["canvases"]
        assert torch.equal(before[:, :step], after[:, :step])
        assert not torch.isclose(before[:, step:], after[:, step:]).all(dim=(2, 3, 4)).any()


@pytest.mark.parametrize("sizes", SIZES)
def test_pictures_are_named_and_shaped_as_the_contract_says(sizes: Sizes) -> None:
    model = tiny(sizes).float()
    read_n, write_n, shape = sizes
    made, again = model.sample(5, seed=3), model.reconstruct(model.fake_batch(5))
    for pictures in (made, again):
        assert pictures["canvases"].shape == (5, 3, *shape)
        assert torch.equal(pictures["images"], pictures["canvases"][:, -1])
        assert 0 <= pictures["canvases"].min() <= pictures["canvases"].max() <= 1
        assert ("write_windows" in pictures) == (write_n is not None)
        assert not any(value.requires_grad for value in pictures.values())
    assert "read_windows" not in made
    assert ("read_windows" in again) == (read_n is not None)
    for name in {"read_windows", "write_windows"} & again.keys():
        assert again[name].shape == (5, 3, 4)


def test_the_same_seed_imagines_the_same_pictures() -> None:
    model = tiny().float()
    first, second, other = (model.sample(4, seed)["images"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.testing.assert_close(model.sample(2, 1)["images"], first[:2])


def test_read_windows_are_those_of_the_reference() -> None:
    model = tiny()
    weights = arrays(model)
    raw = reference.linear(weights, "reader.layer", weights["decoder.first_h"])
    window = reference.window(raw, 3, 5, 5)
    seen = model.reconstruct(doubled(model.fake_batch(1)))["read_windows"][0, 0]
    assert seen.tolist() == pytest.approx(reference.picture(window, 3), rel=1e-12)


def test_bfloat16_autocast_costs_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = build(DrawConfig(steps=5, hidden=64), (1, 28, 28))
    batch = model.fake_batch(16)
    plain = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
    assert all(value.dtype == torch.float32 for value in half.values())
    torch.testing.assert_close(half["loss"], plain["loss"], rtol=2e-3, atol=0)
    half["loss"].mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("config", "encoder_rows", "decoder_rows", "patch"),
    [
        (DrawConfig(read_n=None, write_n=None), 2080, 266, 784),
        (DrawConfig(), 2 * 25 + 512, 266, 25),
    ],
)
def test_parameters_are_as_many_as_the_formula_says(
    config: DrawConfig, encoder_rows: int, decoder_rows: int, patch: int
) -> None:
    model = build(config, (1, 28, 28))
    assert isinstance(model, Draw)
    assert model.encoder.weight.shape == (encoder_rows, 1024)
    assert model.decoder.weight.shape == (decoder_rows, 1024)
    windows = sum(257 * 5 for n in (config.read_n, config.write_n) if n)
    cells = (encoder_rows + 1 + decoder_rows + 1) * 1024 + 4 * 256
    expected = cells + 257 * 20 + 257 * patch + windows + 784
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_zeros_instead_of_learned_first_states_are_no_parameters() -> None:
    model = build(replace(TINY, learned_start=False), (1, 5, 5))
    assert not [name for name in model.state_dict() if "first" in name]
    assert model(model.fake_batch(2))["loss"].isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0; write 1 or more"),
        ({"latent": 0}, "latent is 0; write 1 or more"),
        ({"hidden": -1}, "hidden is -1; write 1 or more"),
        ({"read_n": 1}, "read_n is 1.*write 2 or more, or null"),
        ({"write_n": 0}, "write_n is 0.*write 2 or more, or null"),
        ({"cell": "lstn"}, "cell is 'lstn'; write one of lstm, gru, rnn"),
        ({"sees": "all"}, "sees is 'all'; write one of both, image, error"),
        ({"likelihood": "laplace"}, "likelihood is 'laplace'; write one of bernoulli, gaussian"),
        ({"window_init": float("nan")}, "window_init is nan; write 0 or more"),
    ],
)
def test_impossible_values_are_named_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        DrawConfig(**values)
    assert "\n" not in str(caught.value)


def test_plain_description_gives_a_model_that_loads_the_weights() -> None:
    model = build(TINY, (3, 4, 6))
    copy = from_plain({"shape": [3, 4, 6], **asdict(TINY)})
    copy.load_state_dict(model.state_dict())
    batch = model.fake_batch(2)
    assert torch.equal(copy(batch)["loss"], model(batch)["loss"])


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"kind": "drew", "shape": [1, 5, 5]}, "kind is 'drew'; write one of draw"),
        ({"kind": "draw", "shape": [5, 5]}, r"shape is \[5, 5\]; write \[channels"),
        ({"kind": "draw", "shape": [1, 28, 0]}, r"shape is \[1, 28, 0\]; write \[channels"),
        ({"kind": "draw", "shape": [1, 2.5, 3]}, r"shape is \[1, 2.5, 3\]; write \[channels"),
        ({"kind": "draw", "shape": [1, 5, 5], "glimpses": 3}, "glimpses is no field of kind draw"),
    ],
)
def test_plain_description_that_is_no_model_is_refused(plain: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_plain(plain)
