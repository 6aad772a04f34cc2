"""The classifier with a window against the loop reference, and its promises to the pipeline."""

from dataclasses import asdict, replace
from math import log

import numpy as np
import pytest
import torch

from draw_model import Batch, Classifier, ClassifierConfig, build, from_plain
from draw_model.attention import Window, too_narrow, window_of
from tests import reference_draw as reference
from tests.pasted import digits, doubled, moved, nats, some, trained

TINY = ClassifierConfig(steps=3, hidden=4, read_n=3, window_init=0.5)
SHAPES = [(1, 5, 5), (3, 4, 6)]


def tiny(shape: tuple[int, int, int] = SHAPES[1], config: ClassifierConfig = TINY) -> Classifier:
    torch.manual_seed(0)
    model = moved(build(config, shape, classes=4))
    assert isinstance(model, Classifier)
    return model


def by_loops(model: Classifier, x: np.ndarray) -> tuple[list[float], list[list[float]]]:
    """One image → its logits and windows, as pictures want them."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    h, cell = weights["encoder.first_h"], weights["encoder.first_cell"]
    n, (height, width) = model.config.read_n, x.shape[1:]
    windows = []
    for _ in range(model.config.steps):
        values = reference.window(reference.linear(weights, "reader.layer", h), n, height, width)
        windows.append(reference.picture(values, n))
        seen = reference.read(values, n, x)
        h, cell = reference.lstm(weights, "encoder", [*seen.ravel()], h, cell)
    return reference.linear(weights, "answer", h), windows


@pytest.mark.parametrize("shape", SHAPES)
def test_classifier_equals_the_loop_reference(shape: tuple[int, int, int]) -> None:
    model = tiny(shape)
    batch = doubled(model.fake_batch(3))
    assert batch.y is not None
    terms, pictures = model(batch), model.reconstruct(batch)
    for row in range(3):
        logits, windows = by_loops(model, batch.x[row].numpy())
        y = int(batch.y[row])
        assert terms["loss"][row].item() == pytest.approx(nats(logits, y), abs=1e-11)
        assert terms["correct"][row].item() == float(np.argmax(logits) == y)
        np.testing.assert_allclose(pictures["read_windows"][row].numpy(), windows, rtol=1e-10)


def test_gradient_reaches_every_parameter() -> None:
    model = tiny()
    model(doubled(model.fake_batch(3)))["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_loss_of_an_example_does_not_depend_on_its_batch() -> None:
    model = tiny()
    batch = doubled(model.fake_batch(7))
    whole = model(batch)
    for rows in ([2], [6, 0], [1, 3, 5, 2]):
        alone = model(some(batch, rows))
        torch.testing.assert_close(alone["loss"], whole["loss"][rows], rtol=1e-12, atol=0)
        assert torch.equal(alone["correct"], whole["correct"][rows])


LIMIT = 0.1


def window_gradients(limit: float | None, rows: list[int], weights: list[float]) -> np.ndarray:
    """(rows, T, 5): ∂(Σ weight · loss) / ∂raw of each example and window, as it is passed on."""
    model = tiny(config=replace(TINY, window_limit=limit))
    batch = some(doubled(model.fake_batch(7)), rows)
    told: list[torch.Tensor] = []

    def listen(_reader: torch.nn.Module, _h: object, window: Window) -> None:
        window.raw.retain_grad()  # what is left after all hooks
        told.append(window.raw)

    with model.reader.register_forward_hook(listen):
        loss = model(batch)["loss"]
    (loss * torch.tensor(weights, dtype=loss.dtype)).sum().backward()
    return torch.stack([raw.grad for raw in told], dim=1).numpy()


def test_the_last_windows_gradient_is_cut_to_its_limit_and_keeps_its_direction() -> None:
    free = window_gradients(None, [*range(7)], [1.0] * 7)[:, -1]
    cut = window_gradients(LIMIT, [*range(7)], [1.0] * 7)[:, -1]
    norms = np.linalg.norm(free, axis=1)
    assert norms.min() < LIMIT < norms.max()
    np.testing.assert_allclose(cut, free * np.minimum(1, LIMIT / norms)[:, None], rtol=1e-10)


def test_no_windows_gradient_is_above_its_limit_and_the_loss_is_the_same() -> None:
    cut = window_gradients(LIMIT, [*range(7)], [1.0] * 7)
    assert np.linalg.norm(cut, axis=2).max() <= LIMIT * (1 + 1e-12)
    limited, plain = tiny(config=replace(TINY, window_limit=LIMIT)), tiny()
    batch = doubled(plain.fake_batch(7))
    assert torch.equal(limited(batch)["loss"], plain(batch)["loss"])
    with torch.no_grad():
        assert torch.equal(limited(batch)["loss"], plain(batch)["loss"])


def test_a_limit_knows_neither_the_weight_of_an_example_nor_its_company() -> None:
    whole = window_gradients(LIMIT, [*range(7)], [1.0] * 7)
    share = window_gradients(LIMIT, [5, 2, 0], [1 / 3, 0.0, 4.0])
    np.testing.assert_allclose(share[0], whole[5] / 3, rtol=1e-10)
    np.testing.assert_allclose(share[2], whole[0] * 4, rtol=1e-10)
    assert not share[1].any()


def test_windows_that_close_in_too_fast_cost_the_squares_of_what_is_missing() -> None:
    model, plain = tiny(config=replace(TINY, zoom_to=0.4)), tiny()
    batch = doubled(model.fake_batch(7))
    sides: list[np.ndarray] = []

    def listen(_reader: torch.nn.Module, _h: object, window: Window) -> None:
        sides.append((window.n - 1) * window.delta.detach().numpy() / 5)  # of 6 pixels, 5 apart

    with model.reader.register_forward_hook(listen):
        terms = model(batch)
    wanted = sum(
        np.maximum(0, np.log(least / side)) ** 2
        for least, side in zip((1, 0.7, 0.4), sides, strict=True)
    )
    assert (wanted > 0).any()
    np.testing.assert_allclose(terms["narrow"].detach().numpy(), wanted, rtol=1e-6)
    loss = plain(batch)["loss"]
    torch.testing.assert_close(terms["loss"], loss + terms["narrow"], rtol=1e-12, atol=0)
    model.eval()
    assert torch.equal(model(batch)["loss"], loss)
    torch.testing.assert_close(model(batch)["narrow"], terms["narrow"])


def test_a_window_is_free_to_be_wide_and_a_narrow_one_is_told_to_widen() -> None:
    raw = torch.zeros(3, 5, requires_grad=True)
    with torch.no_grad():
        raw[1, 3], raw[2, 3] = -1.0, 0.5  # log δ̃: e⁻¹, 1 and e^½ of the image's side
    window = window_of(raw, 4, 10, 10)
    cost = too_narrow([window, window], 0.5)
    np.testing.assert_allclose(cost.tolist(), [0, 1 + (1 - log(2)) ** 2, 0], rtol=1e-6)
    cost.sum().backward()
    assert raw.grad is not None
    assert raw.grad[1, 3] < 0
    assert raw.grad.count_nonzero() == 1
    assert too_narrow([window], 0.5).tolist() == [0, 1, 0]


def test_untrained_model_costs_about_a_guess() -> None:
    torch.manual_seed(0)
    model = build(ClassifierConfig(steps=4, hidden=32), (1, 60, 60), classes=10)
    terms = model(model.fake_batch(16))
    assert {name: tuple(value.shape) for name, value in terms.items()} == {
        "loss": (16,),
        "correct": (16,),
    }
    chance = model.measure().chance
    assert chance == pytest.approx(log(10))
    assert terms["loss"].mean().item() == pytest.approx(chance, rel=0.1)


def test_pictures_are_the_image_at_every_step_and_where_it_was_read() -> None:
    model = build(TINY, (3, 4, 6), classes=4)
    batch = model.fake_batch(5)
    pictures = model.reconstruct(batch)
    assert pictures["canvases"].shape == (5, 3, 3, 4, 6)
    assert all(torch.equal(canvas, batch.x) for canvas in pictures["canvases"].unbind(1))
    assert pictures["read_windows"].shape == (5, 3, 4)
    assert not any(value.requires_grad for value in pictures.values())
    assert model.sample(2, seed=0) == {}


def test_parameters_are_as_many_as_the_formula_says() -> None:
    model = build(ClassifierConfig(), (1, 100, 100), classes=10)
    cell = (144 + 256 + 1) * 1024 + 2 * 256
    expected = cell + 257 * 5 + 257 * 10
    assert sum(parameter.numel() for parameter in model.parameters()) == expected == 414_991


def test_bfloat16_autocast_costs_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = build(ClassifierConfig(steps=3, hidden=32), (1, 20, 20), classes=10)
    batch = model.fake_batch(16)
    plain = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
    assert all(value.dtype == torch.float32 for value in half.values())
    torch.testing.assert_close(half["loss"], plain["loss"], rtol=2e-2, atol=0)


def test_training_finds_digits_on_a_larger_canvas() -> None:
    x, y = digits(1200, side=32, kinds=(0, 1, 7))
    torch.manual_seed(0)
    model = build(ClassifierConfig(steps=3, hidden=48, read_n=8), (1, 32, 32), classes=10)
    right = trained(model, x, y, steps=80, lr=5e-3)
    assert np.mean(right[:5]) < 0.45
    assert np.mean(right[-10:]) > 0.75


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0; write 1 or more"),
        ({"hidden": -1}, "hidden is -1; write 1 or more"),
        ({"read_n": 1}, "read_n is 1; write 2 or more"),
        ({"window_init": float("inf")}, "window_init is inf; write 0 or more"),
        ({"window_sigma": 0.0}, "window_sigma is 0.0; write a number of pixels, as 1.0"),
        ({"window_sigma": -2.0}, "window_sigma is -2.0; write a number of pixels"),
        ({"window_sigma": float("nan")}, "window_sigma is nan; write a number of pixels"),
        ({"window_rate": 0.0}, "window_rate is 0.0; write a number above 0, as 0.1"),
        ({"window_rate": float("nan")}, "window_rate is nan; write a number above 0"),
        ({"window_limit": 0.0}, "window_limit is 0.0; write a number of nats above 0, or null"),
        ({"zoom_to": 0.0}, "zoom_to is 0.0; write a share of the image's side, as 0.2, or null"),
        ({"zoom_to": 1.1}, "zoom_to is 1.1; write a share"),
    ],
)
def test_impossible_values_are_named_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**values)


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((9,), 10, r"shape is \[9\]; this model takes pictures"),
        ((1, 5, 5), 1, "the data has 1 classes; a classifier needs 2 or more"),
    ],
)
def test_data_that_cannot_be_classified_is_refused(
    shape: tuple[int, ...], classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(TINY, shape, classes)


def test_plain_description_gives_a_model_that_loads_the_weights() -> None:
    model = build(TINY, (3, 4, 6), classes=4)
    copy = from_plain({"shape": [3, 4, 6], "classes": 4, **asdict(TINY)})
    copy.load_state_dict(model.state_dict())
    batch: Batch = model.fake_batch(2)
    assert torch.equal(copy(batch)["loss"], model(batch)["loss"])
