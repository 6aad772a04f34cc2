"""RAM against slow loops, its policy gradient against exact enumeration, and what it promises."""

from dataclasses import asdict, replace
from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from draw_model import Batch, Ram, RamConfig, build, from_plain, noise
from draw_model.ram import nearest_edge, retina
from tests.pasted import digits, doubled, moved, nats, relu, some, trained

TINY = RamConfig(glimpses=3, patch=2, scales=2, hidden=5, sigma=0.4)
SHAPE = (2, 5, 6)


def tiny(config: RamConfig = TINY, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Ram:
    torch.manual_seed(seed)
    model = moved(build(config, shape, classes=3))
    assert isinstance(model, Ram)
    return model


def corner(place: float, size: int, side: int) -> int:
    """First pixel of a patch of ``side`` pixels around ``place``."""
    return round((place + 1) / 2 * size) - side // 2


def cut_out(x: np.ndarray, place: list[float], n: int, scales: int) -> np.ndarray:
    """One image (C, H, W) → (C, S, N, N), pixel by pixel, with zeros outside the image."""
    channels, height, width = x.shape
    seen = np.zeros((channels, scales, n, n))
    for c, s, i, j in np.ndindex(seen.shape):
        step = 2**s
        left = corner(place[0], width, n * step) + j * step
        top = corner(place[1], height, n * step) + i * step
        for b in range(top, top + step):
            for a in range(left, left + step):
                if 0 <= b < height and 0 <= a < width:
                    seen[c, s, i, j] += x[c, b, a] / step**2
    return seen


@pytest.mark.parametrize(("n", "scales"), [(3, 1), (2, 3), (5, 2), (12, 4), (1, 4)])
def test_patches_equal_the_slow_loop_also_beyond_the_border(n: int, scales: int) -> None:
    x = noise.uniform(0, "x", 0, range(40), (2, 7, 10)).double()
    places = 1.3 * noise.normal(0, "place", 0, range(40), (2,)).double().clamp(-2, 2)
    corners = [[-1, -1], [1, -1], [-1, 1], [1, 1], [0, 0], [3, 0]]
    places[: len(corners)] = torch.tensor(corners, dtype=torch.float64)
    seen = retina(x, places, n, scales).numpy()
    for row in range(40):
        expected = cut_out(x[row].numpy(), places[row].tolist(), n, scales)
        np.testing.assert_allclose(seen[row], expected, atol=1e-14)


def test_the_middle_of_an_image_is_its_middle() -> None:
    x = torch.arange(36.0).view(1, 1, 6, 6)
    seen = retina(x, torch.zeros(1, 2), n=2, scales=2)
    assert seen[0, 0, 0].tolist() == [[14, 15], [20, 21]]
    assert seen[0, 0, 1].tolist() == [[10.5, 12.5], [22.5, 24.5]]


def by_loops(model: Ram, x: np.ndarray, epsilon: np.ndarray, y: int) -> dict[str, float]:
    """One image and its noise (T, 2) → the terms of its loss."""
    weights = {name: value.numpy() for name, value in model.state_dict().items()}

    def linear(name: str, values: list[float]) -> np.ndarray:
        return weights[f"{name}.weight"] @ np.array(values) + weights[f"{name}.bias"]

    config, h = model.config, [0.0] * model.config.hidden
    baselines, distances = [], []
    for draw in epsilon:
        mean = np.tanh(linear("location", h))
        place = [mean[k] + config.sigma * draw[k] for k in range(2)]
        baselines.append(linear("baseline", h)[0])
        distances.append(sum((place[k] - mean[k]) ** 2 for k in range(2)) / config.sigma**2)
        seen = cut_out(x, place, config.patch, config.scales)
        what, where = relu(linear("what", [*seen.ravel()])), relu(linear("where", place))
        glimpse = relu(linear("from_what", what) + linear("from_where", where))
        h = relu(linear("from_h", h) + linear("from_glimpse", glimpse))
    logits = list(linear("answer", h))
    reward = float(np.argmax(logits) == y)
    terms = {
        "cross_entropy": nats(logits, y),
        "policy": sum((reward - b) * d / 2 for b, d in zip(baselines, distances, strict=True)),
        "baseline": sum((reward - b) ** 2 for b in baselines) / len(baselines),
        "correct": reward,
    }
    return terms | {"loss": terms["cross_entropy"] + terms["policy"] + terms["baseline"]}


@pytest.mark.parametrize("scales", [1, 4])
def test_ram_equals_the_loop_reference(scales: int) -> None:
    model = tiny(replace(TINY, scales=scales))
    batch = doubled(model.fake_batch(6))
    assert batch.y is not None
    terms = model(batch)
    for row in range(6):
        draws = batch.noise["location"][row].numpy()
        expected = by_loops(model, batch.x[row].numpy(), draws, int(batch.y[row]))
        found = {name: value[row].item() for name, value in terms.items()}
        assert found == pytest.approx(expected, abs=1e-10)
    assert 0 < terms["correct"].sum() < 6  # both kinds of reward are among them


def cells(mean: Tensor, sigma: float, size: int) -> tuple[Tensor, Tensor]:
    """Where each edge is the nearest: its probability, differentiable, and a place in the middle.

    Edges −3 … size + 3 of an axis, the outermost with all that lies beyond.
    """
    edges = torch.arange(-3, size + 4, dtype=torch.float64)
    middle = edges / size * 2 - 1
    upper = (edges[:-1] + 0.5) / size * 2 - 1
    below = torch.special.ndtr((upper - mean) / sigma)
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    return torch.cat([below, one]) - torch.cat([zero, below]), middle


def expected_reward(model: Ram, x: Tensor, y: int) -> Tensor:
    """E[R] of one image over all the cells in which two glimpses can fall, differentiable."""
    sigma, (height, width) = model.config.sigma, x.shape[1:]

    def state(place: Tensor, h: Tensor) -> Tensor:
        many = x.expand(len(place), *x.shape)
        seen = retina(many, place, model.config.patch, model.config.scales).flatten(1)
        sensed = model.from_what(model.what(seen).relu())
        sensed = sensed + model.from_where(model.where(place).relu())
        return (model.from_h(h) + model.from_glimpse(sensed.relu())).relu()

    def spread(h: Tensor) -> tuple[Tensor, Tensor]:
        mean = model.location(h).tanh()
        (p_x, at_x), (p_y, at_y) = cells(mean[0], sigma, width), cells(mean[1], sigma, height)
        return torch.outer(p_x, p_y).flatten(), torch.cartesian_prod(at_x, at_y)

    first = torch.zeros(model.config.hidden, dtype=torch.float64)
    chance, places = spread(first)
    total = torch.zeros((), dtype=torch.float64)
    for p, h in zip(chance, state(places, first), strict=True):
        chance_2, places_2 = spread(h)
        right = model.answer(state(places_2, h)).argmax(1) == y
        total = total + p * (chance_2 * right).sum()
    return total


@pytest.mark.parametrize(("y", "teaches"), [(0, "location"), (1, "states")])
def test_policy_gradient_is_that_of_the_expected_reward(y: int, teaches: str) -> None:
    """Where it is to reach the states, of their parameters too; and whatever the baseline says.

    What is seen depends on the cell alone once a place itself is not heard (its layer is zeros),
    so the expectation is a finite sum. The error allowed is 5 standard errors of the estimate.
    """
    torch.manual_seed(1)  # of a model that answers 0 or 1, whichever it happens to look at
    config = RamConfig(
        glimpses=2,
        patch=1,
        scales=1,
        hidden=4,
        sigma=0.3,
        policy_teaches=teaches,  # type: ignore[arg-type]
    )
    model = moved(build(config, (1, 3, 3), classes=3), 0.5)
    assert isinstance(model, Ram)
    torch.nn.init.zeros_(model.where.weight)
    torch.nn.init.zeros_(model.answer.bias)
    x = torch.tensor([[[0.1, 0.9, 0.0], [0.8, 0.2, 0.6], [0.0, 0.4, 1.0]]], dtype=torch.float64)
    names = ["location.weight", "location.bias"]
    if teaches == "states":
        names += ["from_what.weight", "from_h.bias"]
    parameters = [model.get_parameter(name) for name in names]
    exact = expected_reward(model, x, y)
    wanted = torch.autograd.grad(exact, parameters)

    count, chunks = 200_000, 100
    draws = noise.draw(model.noise_shapes(), 3, "many", 0, range(count))["location"].double()
    estimates, rewards = [], []
    for places in draws.chunk(chunks):
        size = len(places)
        batch = Batch(
            x=x.expand(size, 1, 3, 3),
            y=torch.full((size,), y),
            mask=torch.ones(size, dtype=torch.bool),
            noise={"location": places},
        )
        terms = model(batch)
        rewards.append(terms["correct"].mean().item())
        estimates.append(torch.autograd.grad(-terms["policy"].mean(), parameters))
    assert np.mean(rewards) == pytest.approx(exact.item(), abs=5 * np.std(rewards) / chunks**0.5)
    for name, true, found in zip(names, wanted, zip(*estimates, strict=True), strict=True):
        error = torch.stack(found).std(0) / chunks**0.5
        far = (torch.stack(found).mean(0) - true).abs()
        assert (far <= 5 * error + 1e-12).all(), name
        assert true.abs().max() > 10 * error.max(), f"{name} is not tested: too much noise"


@pytest.mark.parametrize("teaches", ["location", "states"])
def test_each_term_teaches_its_own_part(teaches: str) -> None:
    model = tiny(replace(TINY, policy_teaches=teaches))  # type: ignore[arg-type]
    batch = doubled(model.fake_batch(8))
    reached = {}
    for term in ("cross_entropy", "policy", "baseline"):
        model.zero_grad()
        model(batch)[term].mean().backward()
        reached[term] = {
            name.split(".")[0]
            for name, parameter in model.named_parameters()
            if parameter.grad is not None and parameter.grad.abs().max() > 0
        }
    senses = {"what", "where", "from_what", "from_where", "from_h", "from_glimpse"}
    assert reached["cross_entropy"] == senses | {"answer"}
    assert reached["policy"] == {"location"} | (senses if teaches == "states" else set())
    assert reached["baseline"] == {"baseline"}


def test_gradient_reaches_every_parameter() -> None:
    model = tiny()
    model(doubled(model.fake_batch(8)))["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_loss_of_an_example_does_not_depend_on_its_batch() -> None:
    model = tiny()
    batch = doubled(model.fake_batch(7))
    whole = model(batch)["loss"]
    for rows in ([2], [6, 0], [1, 3, 5, 2]):
        alone = model(some(batch, rows))["loss"]
        torch.testing.assert_close(alone, whole[rows], rtol=1e-11, atol=0)


def test_places_are_drawn_in_evaluation_as_in_training() -> None:
    model = tiny()
    batch = doubled(model.fake_batch(5))
    assert torch.equal(model.train()(batch)["loss"], model.eval()(batch)["loss"])


def test_windows_are_the_finest_patches() -> None:
    """Of an image that is bright in one pixel: it is seen exactly by the windows around it."""
    model = tiny(replace(TINY, glimpses=6, scales=1))
    batch = doubled(model.fake_batch(40))
    batch.x.zero_()
    batch.x[:, :, 2, 3] = 1
    pictures = model.reconstruct(batch)
    assert pictures["canvases"].shape == (40, 6, *SHAPE)
    assert torch.equal(pictures["canvases"][:, 4], batch.x)
    centre, side = pictures["read_windows"][..., :2], pictures["read_windows"][..., 2]
    assert (side == 1).all()
    assert (pictures["read_windows"][..., 3] == 0).all()
    around = ((centre - torch.tensor([3, 2])).abs() <= 0.5).all(2)
    places = torch.stack([look.place for look in model._look(batch.x, batch.noise["location"])], 1)
    seen = retina(batch.x.repeat_interleave(6, 0), places.flatten(0, 1), 2, 1)
    assert torch.equal(seen.flatten(1).sum(1) > 0, around.flatten())
    assert 0 < around.float().mean() < 1


def test_halves_of_pixels_go_to_the_even_edge() -> None:
    places = torch.tensor([-1.0, -0.75, -0.25, 0.0, 0.25, 1.0])
    assert nearest_edge(places, 4).tolist() == [0, 0, 2, 2, 2, 4]


def test_untrained_model_costs_about_a_guess() -> None:
    torch.manual_seed(0)
    model = build(RamConfig(), (1, 60, 60), classes=10)
    terms = model(model.fake_batch(16))
    assert all(value.shape == (16,) and value.isfinite().all() for value in terms.values())
    assert terms["cross_entropy"].mean().item() == pytest.approx(log(10), rel=0.1)
    assert model.measure().chance is None, "the policy's part of the loss measures nothing"


def test_parameters_are_as_many_as_the_formula_says() -> None:
    model = build(RamConfig(), (1, 100, 100), classes=10)
    senses = (12 * 12 * 4 + 1) * 128 + (2 + 1) * 128 + 2 * (128 + 1) * 256
    expected = senses + 2 * (256 + 1) * 256 + 257 * (2 + 1 + 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_training_finds_digits_on_a_larger_canvas() -> None:
    x, y = digits(1200, side=24, kinds=(0, 1, 7))
    torch.manual_seed(0)
    model = build(RamConfig(glimpses=2, patch=8, scales=2, hidden=64), (1, 24, 24), classes=10)
    right = trained(model, x, y, steps=150, lr=3e-3)
    assert np.mean(right[:5]) < 0.45
    assert np.mean(right[-10:]) > 0.65


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"glimpses": 0}, "glimpses is 0; write 1 or more"),
        ({"patch": 0}, "patch is 0; write 1 or more"),
        ({"scales": 5}, "scales is 5; write 1 to 4"),
        ({"sigma": 0.0}, "sigma is 0.0; write more than 0"),
        ({"sigma": float("nan")}, "sigma is nan; write more than 0"),
        ({"policy_teaches": "all"}, "policy_teaches is 'all'; write one of location, states"),
    ],
)
def test_impossible_values_are_named_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RamConfig(**values)
    assert "\n" not in str(caught.value)


def test_plain_description_gives_a_model_that_loads_the_weights() -> None:
    model = build(TINY, SHAPE, classes=4)
    copy = from_plain({"shape": list(SHAPE), "classes": 4, **asdict(TINY)})
    copy.load_state_dict(model.state_dict())
    batch = model.fake_batch(2)
    assert torch.equal(copy(batch)["loss"], model(batch)["loss"])
