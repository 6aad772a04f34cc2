"""Models I, II and III against the loop reference with convolutions, and their promises."""

from dataclasses import asdict, replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch

from draw_model import ConvDraw, ConvDrawConfig, build, from_plain
from tests import reference_draw as reference
from tests.pasted import digits, doubled, moved, nats, relu, some, trained

TINY = ConvDrawConfig(
    kernels=2, features=3, steps=3, hidden=4, latent=2, read_n=3, write_n=2, window_init=0.5
)
SHAPE = (2, 5, 6)
VARIANTS: dict[str, dict[str, Any]] = {
    "I": {},
    "I, no windows": {"read_n": None, "write_n": None},
    "I, image": {"convolves": "image"},
    "I, error": {"convolves": "error"},
    "I, glimpse": {"convolves": "glimpse"},
    "I, glimpse of all": {"convolves": "glimpse", "read_n": None},
    "II": {"model": "supervised", "class_weight": 0.7},
    "III": {"model": "convolutional", "read_n": None},
}


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> ConvDraw:
    """In float64, every parameter moved off its first value."""
    torch.manual_seed(0)
    made = moved(build(replace(TINY, **VARIANTS[request.param]), SHAPE, classes=3))
    assert isinstance(made, ConvDraw)
    return made


def convolve(images: np.ndarray, kernels: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """5×5 kernels on every second pixel, zeros outside, then ReLU."""
    _, height, width = images.shape
    result = np.zeros((len(kernels), (height + 1) // 2, (width + 1) // 2))
    for k, b, a in np.ndindex(result.shape):
        total = bias[k]
        for c, i, j in np.ndindex(kernels.shape[1:]):
            row, column = 2 * b + i - 2, 2 * a + j - 2
            if 0 <= row < height and 0 <= column < width:
                total += kernels[k, c, i, j] * images[c, row, column]
        result[k, b, a] = max(total, 0)
    return result


def features(weights: reference.Weights, images: np.ndarray) -> list[float]:
    for layer in ("convolutions.0", "convolutions.2"):
        images = convolve(images, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
    return relu(reference.linear(weights, "convolutions.5", images.ravel()))


def by_loops(model: ConvDraw, x: np.ndarray, noise: np.ndarray) -> dict[str, Any]:
    """One image (C, H, W) and noise (T, Z) → bound, means of the pixels, class scores."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    config, squash = model.variant, np.vectorize(reference.sigmoid)
    canvas = weights["first_canvas"].copy()
    encoder, decoder = reference.first(weights, "encoder"), reference.first(weights, "decoder")
    seen_once, scores, kl = [], [], 0.0
    if config.model != "each_step":
        seen_once = features(weights, x)
    if config.model == "supervised":
        scores = reference.linear(weights, "scores", np.array(seen_once))
        total = sum(np.exp(score) for score in scores)
        seen_once = seen_once + [np.exp(score) / total for score in scores]
    for epsilon in noise:
        error = x - squash(canvas)
        told: list[float] = []
        glimpse = both = np.concatenate([x, error])
        if config.model != "convolutional":
            if config.read_n is not None:
                raw = reference.linear(weights, "reader.layer", decoder[0])
                values = reference.window(raw, config.read_n, *x.shape[1:])
                glimpse = reference.read(values, config.read_n, both)
            told = [*glimpse.ravel()]
        if config.model == "each_step":
            looks = {"both": both, "image": x, "error": error, "glimpse": glimpse}
            told = told + features(weights, looks[config.convolves])
        told = [*told, *seen_once, *decoder[0]]
        encoder = reference.step(weights, "encoder", told, encoder)
        posterior = reference.linear(weights, "posterior", encoder[0])
        mu, log_sigma = posterior[: config.latent], posterior[config.latent :]
        z = [m + np.exp(s) * e for m, s, e in zip(mu, log_sigma, epsilon, strict=True)]
        kl += sum(m**2 + np.exp(2 * s) - 2 * s - 1 for m, s in zip(mu, log_sigma, strict=True)) / 2
        decoder, canvas, _ = reference.decode(weights, z, decoder, canvas, config.write_n)
    mean = squash(canvas)
    nll = -(x * np.log(mean) + (1 - x) * np.log(1 - mean)).sum()
    return {"bound": nll + kl, "images": mean, "scores": scores}


def test_conv_draw_equals_the_loop_reference(model: ConvDraw) -> None:
    batch = doubled(model.fake_batch(2))
    assert batch.y is not None
    terms, pictures = model(batch), model.reconstruct(batch)
    for row in range(2):
        expected = by_loops(model, batch.x[row].numpy(), batch.noise["z"][row].numpy())
        loss = expected["bound"]
        if model.variant.model == "supervised":
            y = int(batch.y[row])
            class_loss = nats(expected["scores"], y)
            loss = loss + model.variant.class_weight * class_loss
            assert terms["bound"][row].item() == pytest.approx(expected["bound"], abs=1e-10)
            assert terms["class_loss"][row].item() == pytest.approx(class_loss, abs=1e-11)
            assert terms["correct"][row].item() == float(np.argmax(expected["scores"]) == y)
        assert terms["loss"][row].item() == pytest.approx(loss, abs=1e-10)
        np.testing.assert_allclose(pictures["images"][row].numpy(), expected["images"], atol=1e-12)


def test_gradient_reaches_every_parameter(model: ConvDraw) -> None:
    model(doubled(model.fake_batch(6)))["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_loss_of_an_example_does_not_depend_on_its_batch(model: ConvDraw) -> None:
    batch = doubled(model.fake_batch(7))
    whole = model(batch)["loss"]
    for rows in ([2], [6, 0], [1, 3, 5, 2]):
        alone = model(some(batch, rows))["loss"]
        torch.testing.assert_close(alone, whole[rows], rtol=1e-12, atol=0)


def test_terms_and_pictures_are_named_and_shaped_as_the_contract_says(model: ConvDraw) -> None:
    model = model.float()
    batch = model.fake_batch(5)
    terms = model(batch)
    assert terms.pop("kl_per_step").shape == (5, 3)
    assert all(value.shape == (5,) and value.isfinite().all() for value in terms.values())
    named = {"loss", "reconstruction", "kl"}
    supervised = (
        {"bound", "class_loss", "correct"} if model.variant.model == "supervised" else set()
    )
    assert terms.keys() == named | supervised
    made, again = model.sample(5, seed=3), model.reconstruct(batch)
    assert made["images"].shape == again["images"].shape == (5, *SHAPE)
    assert ("read_windows" in again) == (model.variant.read_n is not None)
    assert not any(value.requires_grad for value in again.values())


@pytest.mark.parametrize("name", VARIANTS)
def test_only_a_loss_that_is_a_bound_is_compared_with_a_coin(name: str) -> None:
    measure = build(replace(TINY, **VARIANTS[name]), SHAPE, classes=3).measure()
    assert measure.dimensions == 60
    if name == "II":
        assert (measure.likelihood, measure.chance) == ("bernoulli and class", None)
    else:
        assert measure.likelihood == "bernoulli"
        assert measure.chance == pytest.approx(60 * log(2))


def test_classes_are_a_target_and_never_an_input() -> None:
    torch.manual_seed(0)
    model = build(replace(TINY, model="supervised"), SHAPE, classes=3)
    batch = model.fake_batch(6)
    assert batch.y is not None
    before = model(batch)
    batch.y.copy_((batch.y + 1) % 3)
    after = model(batch)
    assert torch.equal(before["bound"], after["bound"])
    assert not torch.equal(before["class_loss"], after["class_loss"])


def test_bound_teaches_the_classifier_of_model_two_at_both_places() -> None:
    torch.manual_seed(0)
    model = build(replace(TINY, model="supervised", class_weight=0.0), SHAPE, classes=3)
    model(model.fake_batch(6))["loss"].mean().backward()
    for name in ("convolutions.0.weight", "scores.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize(
    ("variant", "encoder_rows", "first", "kernels"),
    [
        ({}, 50 + 256 + 512, 2, 32),
        ({"model": "supervised"}, 50 + 256 + 10 + 512, 1, 16),
        ({"model": "convolutional", "read_n": None}, 256 + 512, 1, 32),
    ],
)
def test_parameters_are_as_many_as_the_formula_says(
    variant: dict[str, Any], encoder_rows: int, first: int, kernels: int
) -> None:
    config = ConvDrawConfig(**variant)
    model = build(config, (1, 28, 28), classes=10)
    assert isinstance(model, ConvDraw)
    assert model.first_kernels().shape == (kernels, first, 5, 5)
    windows = 257 * 5 * (2 if config.read_n else 1)
    draw = (encoder_rows + 1 + 266 + 1) * 1024 + 4 * 256 + 257 * 20 + 257 * 25 + windows + 784
    network = (25 * first + 1) * kernels + (25 * kernels + 1) * 2 * kernels
    network += (2 * kernels * 7 * 7 + 1) * 256
    scores = 257 * 10 if config.model == "supervised" else 0
    total = sum(parameter.numel() for parameter in model.parameters())
    assert total == draw + network + scores


def test_model_two_learns_to_tell_digits_apart_while_it_draws() -> None:
    x, y = digits(600, side=20, kinds=(0, 1, 7))
    torch.manual_seed(0)
    config = ConvDrawConfig(
        model="supervised", kernels=8, features=32, steps=2, hidden=32, class_weight=10.0
    )
    right = trained(build(config, (1, 20, 20), classes=10), x, y, steps=60, lr=5e-3)
    assert np.mean(right[:5]) < 0.6
    assert np.mean(right[-10:]) > 0.8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "IV"}, "model is 'IV'; write one of each_step, supervised, convolutional"),
        ({"convolves": "all"}, "convolves is 'all'; write one of both, image, error, glimpse"),
        ({"kernels": 0}, "kernels is 0; write 1 or more"),
        ({"features": 0}, "features is 0; write 1 or more"),
        ({"model": "supervised", "class_weight": -1.0}, "class_weight is -1.0; write 0 or more"),
        ({"class_weight": 2.0}, "class_weight is 2.0, but only model supervised uses it"),
        ({"model": "supervised", "convolves": "error"}, "but only model each_step uses it"),
        ({"model": "convolutional"}, "read_n is 5, but model convolutional reads no window"),
        ({"steps": 0}, "steps is 0; write 1 or more"),
        ({"write_n": 1}, "write_n is 1.*write 2 or more, or null"),
    ],
)
def test_impossible_values_are_named_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ConvDrawConfig(**values)
    assert "\n" not in str(caught.value)


def test_model_two_needs_classes() -> None:
    with pytest.raises(ValueError, match="the data has 1 classes"):
        build(replace(TINY, model="supervised"), SHAPE)
    assert build(TINY, SHAPE).classes == 1


def test_plain_description_gives_a_model_that_loads_the_weights(model: ConvDraw) -> None:
    model = model.float()
    copy = from_plain({"shape": list(SHAPE), "classes": 3, **asdict(model.variant)})
    copy.load_state_dict(model.state_dict())
    batch = model.fake_batch(2)
    assert torch.equal(copy(batch)["loss"], model(batch)["loss"])
