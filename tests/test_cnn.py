"""The convolutional baselines against a slow loop of their own formula, and their sizes."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from draw_model import Cnn, CnnConfig, build, from_plain
from draw_model.cnn import VARIANTS, Convolution
from tests.pasted import digits, doubled, moved, nats, relu, some, trained

SHAPES = {"paper": (2, 16, 11), "source_000": (3, 7, 6)}


def tiny(variant: str) -> Cnn:
    torch.manual_seed(0)
    config = CnnConfig(variant=variant, hidden=5)  # type: ignore[arg-type]
    model = moved(build(config, SHAPES[variant], classes=3), 0.05)
    assert isinstance(model, Cnn)
    return model


def by_loops(model: Cnn, x: np.ndarray, form: Convolution) -> list[float]:
    """One image → its logits."""
    kernels, bias, first, first_bias, last, last_bias = (
        value.numpy() for value in model.state_dict().values()
    )
    seen = []
    for f in range(form.filters):
        for top in range(0, x.shape[1] - form.side + 1, form.stride):
            for left in range(0, x.shape[2] - form.side + 1, form.stride):
                total = bias[f]
                for c, i, j in np.ndindex(kernels.shape[1:]):
                    total += kernels[f, c, i, j] * x[c, top + i, left + j]
                seen.append(total)
    hidden = relu(first @ np.array(relu(seen)) + first_bias)
    return list(last @ np.array(hidden) + last_bias)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cnn_equals_the_loop_reference(variant: str) -> None:
    model = tiny(variant)
    batch = doubled(model.fake_batch(3))
    assert batch.y is not None
    terms = model(batch)
    for row in range(3):
        logits = by_loops(model, batch.x[row].numpy(), VARIANTS[variant])
        y = int(batch.y[row])
        assert terms["loss"][row].item() == pytest.approx(nats(logits, y), abs=1e-11)
        assert terms["correct"][row].item() == float(np.argmax(logits) == y)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_parameter(variant: str) -> None:
    model = tiny(variant)
    model(doubled(model.fake_batch(6)))["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_of_an_example_does_not_depend_on_its_batch(variant: str) -> None:
    model = tiny(variant)
    batch = doubled(model.fake_batch(7))
    whole = model(batch)["loss"]
    for rows in ([2], [6, 0], [1, 3, 5, 2]):
        alone = model(some(batch, rows))["loss"]
        torch.testing.assert_close(alone, whole[rows], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("variant", "side", "expected"),
    [
        ("paper", 100, (100 + 1) * 8 + (19 * 19 * 8 + 1) * 256 + 257 * 10),
        ("paper", 60, (100 + 1) * 8 + (11 * 11 * 8 + 1) * 256 + 257 * 10),
        ("source_000", 60, (25 + 1) * 6 + (56 * 56 * 6 + 1) * 256 + 257 * 10),
    ],
)
def test_parameters_are_as_many_as_the_formula_says(variant: str, side: int, expected: int) -> None:
    config = CnnConfig(variant=variant)  # type: ignore[arg-type]
    model = build(config, (1, side, side), classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    terms = model(model.fake_batch(2))
    assert terms["loss"].shape == terms["correct"].shape == (2,)
    assert terms["loss"].isfinite().all()


def test_training_tells_digits_apart() -> None:
    x, y = digits(1200, side=24, kinds=(0, 1, 7))
    torch.manual_seed(0)
    model = build(CnnConfig(variant="source_000", hidden=32), (1, 24, 24), classes=10)
    right = trained(model, x, y, steps=60, lr=2e-3)
    assert np.mean(right[:5]) < 0.6
    assert np.mean(right[-10:]) > 0.85


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": 0}, "hidden is 0; write 1 or more"),
        ({"variant": "large"}, "variant is 'large'; write one of paper, source_000"),
    ],
)
def test_impossible_values_are_named_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CnnConfig(**values)


def test_an_image_smaller_than_a_filter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape is \[1, 9, 28\].*each side 10 or more"):
        build(CnnConfig(), (1, 9, 28), classes=10)


def test_plain_description_gives_a_model_that_loads_the_weights() -> None:
    config = CnnConfig(hidden=4)
    model = build(config, (1, 12, 12), classes=10)
    copy = from_plain({"shape": [1, 12, 12], "classes": 10, **asdict(config)})
    copy.load_state_dict(model.state_dict())
    batch = model.fake_batch(2)
    assert torch.equal(copy(batch)["loss"], model(batch)["loss"])
