"""The DCGAN against source 004's tables, a hand-written game of two passes, and its promises."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict
from math import log

import pytest
import torch
from torch import Tensor, nn

from draw_model import Batch, Dcgan, DcganConfig, build, from_plain, noise
from draw_model.dcgan_players import dropped, match_gaussian, match_softmax
from tests.digits import digits
from tests.pasted import batch_of, some

MNIST = (1, 28, 28)
SMALL = (2, 8, 12)
GENERATOR = [633_472, 256, 131_136, 128, 65_600, 128, 577]
DISCRIMINATOR = [160, 32, 4_640, 64, 18_496, 128, 73_856, 256, 513]
KINDS: list[dict[str, object]] = [
    {},
    {"generator": "4x4", "convolutions": 3, "init": "xavier"},
    {"dropout": 0.4},
    {"noise_kind": "split", "match_after": 0},
    {"noise_kind": "split", "match_after": 0, "match": "gaussian", "dropout": 0.2},
    {"noise_kind": "ten_gaussians", "guide_weight": 0.5},
]


def dcgan(shape: tuple[int, ...] = SMALL, classes: int = 10, **values: object) -> Dcgan:
    torch.manual_seed(0)
    model = build(DcganConfig(**values), shape, classes)  # type: ignore[arg-type]
    assert isinstance(model, Dcgan)
    return model


def lively(**values: object) -> Dcgan:
    """One in double precision, off its first weights, whose running statistics mean something."""
    model = dcgan(**values).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for seed in range(4):
        model(doubled(model.fake_batch(6, seed)))
    return model


def doubled(batch: Batch) -> Batch:
    draws = {name: value.double() for name, value in batch.noise.items()}
    return Batch(x=batch.x.double(), y=batch.y, mask=batch.mask, noise=draws)


def counts(player: nn.Module) -> list[int]:
    own = [sum(v.numel() for v in one.parameters(recurse=False)) for one in player.modules()]
    return [count for count in own if count]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def players(model: Dcgan) -> dict[str, list[nn.Parameter]]:
    return {name: list(player.parameters()) for name, player in model.named_children()}


def reached(cost: Tensor, parameters: Iterable[Tensor]) -> bool:
    grads = torch.autograd.grad(cost.sum(), list(parameters), retain_graph=True, allow_unused=True)
    return any(grad is not None and bool(grad.any()) for grad in grads)


def test_parameters_are_as_many_as_the_tables_of_the_source_say() -> None:
    model = dcgan(MNIST)
    assert counts(model.generator) == GENERATOR
    assert sum(GENERATOR) == 831_297
    layers = zip(model.discriminator.convolutions, model.discriminator.norms, strict=True)
    assert [n for pair in layers for one in pair for n in counts(one)] == DISCRIMINATOR[:-1]
    assert counts(model.discriminator.answer) == DISCRIMINATOR[-1:]
    assert sum(value.numel() for value in model.discriminator.parameters()) == 98_145


@pytest.mark.parametrize(("name", "planes"), [("7x7", (128, 7, 7)), ("4x4", (128, 4, 4))])
def test_the_generator_starts_from_the_planes_it_is_named_for(
    name: str, planes: tuple[int, int, int]
) -> None:
    model = dcgan(MNIST, generator=name)
    assert model.generator[1].unflattened_size == planes
    ups = [one for one in model.generator if isinstance(one, nn.ConvTranspose2d)]
    assert len(ups) == {"7x7": 3, "4x4": 4}[name]


def test_layers_follow_each_other_as_in_the_figures() -> None:
    model = lively()
    names = [type(one).__name__ for one in model.generator]
    ups = ["ConvTranspose2d", "BatchNorm", "ReLU"] * 2
    assert names == ["Linear", "Unflatten", "BatchNorm", *ups, "ConvTranspose2d", "Tanh"]
    player = model.discriminator.eval()
    x = expected = torch.randn(3, *SMALL, dtype=torch.float64)
    for layer, norm in zip(player.convolutions, player.norms, strict=True):
        expected = norm(torch.maximum(layer(expected), 0.2 * layer(expected)))
    torch.testing.assert_close(player(x), player.answer(expected.flatten(1))[:, 0])


@pytest.mark.parametrize("init", ["normal", "xavier"])
def test_first_weights_spread_as_they_should(init: str) -> None:
    model = dcgan(MNIST, init=init)
    for player in (model.generator, model.discriminator):
        for layer in player.modules():
            if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                continue
            fan = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
            spread = 0.02 if init == "normal" else (2 / fan) ** 0.5
            if layer.weight.numel() > 10_000:
                assert layer.weight.std().item() == pytest.approx(spread, rel=0.03)
            assert layer.bias is not None
            assert not layer.bias.any()


@pytest.mark.parametrize("shape", [MNIST, (3, 32, 32), SMALL, (1, 4, 4)])
@pytest.mark.parametrize("values", KINDS)
def test_terms_and_pictures_are_shaped_as_the_contract_says(
    values: dict[str, object], shape: tuple[int, ...]
) -> None:
    model = dcgan(shape, **values)
    batch = model.fake_batch(5)
    terms = model(batch)
    assert all(value.shape == (5,) and value.isfinite().all() for value in terms.values())
    both = terms["discriminator_real"] + terms["discriminator_fake"] + terms["generator"]
    if model.config.noise_kind == "normal":
        assert set(terms) == {"loss", "discriminator_real", "discriminator_fake", "generator",
                              "accuracy_real", "accuracy_fake"}  # fmt: skip
    else:
        both = both + terms["classifier"] + model.config.guide_weight * terms["guide"]
    torch.testing.assert_close(terms["loss"], both)
    images = model.sample(5, 0)["images"]
    assert images.shape == (5, *shape)
    assert 0 <= images.min() <= images.max() <= 1
    assert model.reconstruct(batch) == {}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("values", KINDS)
def test_one_backward_teaches_each_player_as_a_pass_of_its_own_would(
    values: dict[str, object], training: bool
) -> None:
    model = lively(**values).train(training)
    batch, game = doubled(model.fake_batch(6)), deepcopy(model)
    model(batch)["loss"].sum().backward()
    z, k = game.latent(batch.noise)
    real, fake = 2 * batch.x - 1, game.generator(z)
    drops = batch.noise.get("drop_real"), batch.noise.get("drop_fake")
    on_real, on_fake = game.discriminator(real, drops[0]), game.discriminator(fake, drops[1])
    probability_real, probability_fake = 1 / (1 + (-on_real).exp()), 1 / (1 + (-on_fake).exp())
    costs = {
        "discriminator": -(probability_real.log() + (1 - probability_fake).log()).sum(),
        "generator": -probability_fake.log().sum(),
    }
    if model.config.noise_kind != "normal":
        rows, (_, answer) = torch.arange(6), game.classifier(real)
        output, judged = game.classifier(fake)
        costs["classifier"] = -answer.softmax(1).log()[rows, batch.y].sum()
        first, weight = z[:, :50], model.config.guide_weight
        if k is not None:
            guide = -judged.softmax(1).log()[rows, k].sum()
        elif model.config.match == "gaussian":
            guide = match_gaussian(first, output).sum()
        else:
            guide = match_softmax(first, output).sum()
        costs["generator"] = costs["generator"] + weight * guide
    for name, cost in costs.items():
        expected = torch.autograd.grad(cost, players(game)[name], retain_graph=True)
        for parameter, grad in zip(players(model)[name], expected, strict=True):
            torch.testing.assert_close(parameter.grad, grad, rtol=1e-9, atol=1e-12)
    game.passes += training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, game.state_dict()[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("values", KINDS)
def test_no_cost_reaches_the_parameters_of_another_player(values: dict[str, object]) -> None:
    model = lively(**values)
    terms = model(doubled(model.fake_batch(6)))
    owners = {"discriminator_real": "discriminator", "discriminator_fake": "discriminator",
              "generator": "generator", "classifier": "classifier",
              "guide": "generator"}  # fmt: skip
    for term, owner in owners.items():
        for name, parameters in players(model).items():
            if term in terms:
                assert reached(terms[term], parameters) == (name == owner), (term, name)


@pytest.mark.parametrize("values", KINDS)
def test_gradient_reaches_every_parameter(values: dict[str, object]) -> None:
    """In evaluation: in training, batch norm takes out the bias of the convolution before it."""
    model = lively(**values).eval()
    model(doubled(model.fake_batch(6)))["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_an_untrained_discriminator_costs_about_a_coin() -> None:
    model = dcgan(MNIST).eval()
    terms = model(model.fake_batch(8))
    for name in ("discriminator_real", "discriminator_fake", "generator"):
        assert terms[name].mean().item() == pytest.approx(log(2), rel=0.1)
    assert (model.measure().likelihood, model.measure().chance) == ("adversarial", None)


@pytest.mark.parametrize("values", KINDS)
def test_in_evaluation_the_costs_of_an_example_do_not_depend_on_its_batch(
    values: dict[str, object],
) -> None:
    model = lively(**values).eval()
    batch, before = doubled(model.fake_batch(6)), state(model)
    whole = model(batch)
    for rows in ([2], [5, 0], [1, 3, 4, 2]):
        for name, value in model(some(batch, rows)).items():
            torch.testing.assert_close(value, whole[name][rows])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("values", KINDS)
def test_in_training_batch_norm_is_the_exception_but_padding_is_never_seen(
    values: dict[str, object],
) -> None:
    alone, padded = lively(**values), lively(**values)
    batch = doubled(alone.fake_batch(6))
    few = some(batch, [0, 2, 3])
    other_company = deepcopy(alone)(batch)["generator"][[0, 2, 3]]
    assert not torch.isclose(other_company, deepcopy(alone)(few)["generator"]).any()
    batch.mask[[1, 4, 5]] = False
    batch.x[[1, 4, 5]] = torch.nan
    one, other = alone(few), padded(batch)
    for name, value in other.items():
        assert torch.equal(value[[0, 2, 3]], one[name])
        assert value[[1, 4, 5]].tolist() == [0, 0, 0]
    one["loss"].sum().backward()
    other["loss"].sum().backward()
    for a, b in zip(alone.parameters(), padded.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]
    after = state(padded)
    assert all(torch.equal(value, after[name]) for name, value in alone.state_dict().items())


@pytest.mark.parametrize("values", KINDS)
def test_a_share_of_nothing_but_padding_costs_nothing_and_has_gradients(
    values: dict[str, object],
) -> None:
    model = dcgan(**values)
    before, batch = state(model), model.fake_batch(3)
    batch.mask[:] = False
    loss = model(batch)["loss"].sum()
    loss.backward()
    assert loss.item() == 0
    assert all(one.grad is not None and not one.grad.any() for one in model.parameters())
    before["passes"] += 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_dropout_is_a_function_of_the_noise() -> None:
    x, draws = torch.ones(20_000), torch.randn(20_000, generator=torch.manual_seed(0))
    kept = dropped(x, draws, 0.8)
    assert (kept == 0).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert kept.max().item() == pytest.approx(5)
    model = lively(dropout=0.8)
    batch = doubled(model.fake_batch(4))
    assert torch.equal(deepcopy(model)(batch)["loss"], deepcopy(model)(batch)["loss"])
    before = deepcopy(model)(batch)
    batch.noise["drop_real"].neg_()
    after = deepcopy(model)(batch)
    assert not torch.isclose(after["discriminator_real"], before["discriminator_real"]).any()
    assert torch.equal(after["generator"], before["generator"])


def test_a_class_of_the_ten_gaussians_is_drawn_evenly_and_moves_the_mean() -> None:
    model = dcgan(noise_kind="ten_gaussians")
    draws = noise.draw(model.noise_shapes(), 0, "test", 0, range(4000))
    z, k = model.latent(draws)
    assert k is not None
    assert torch.bincount(k).tolist() == pytest.approx([400] * 10, abs=80)
    for one in range(10):
        assert z[k == one].mean().item() == pytest.approx(0.5 * one, abs=0.03)
        assert z[k == one].var().item() == pytest.approx(1, abs=0.05)
    edges = {"z": draws["z"][:2], "class": torch.tensor([[-9.0], [9.0]])}
    _, k = model.latent(edges)
    assert k is not None
    assert k.tolist() == [0, 9]


def test_the_match_with_the_classifier_begins_after_its_passes() -> None:
    model = dcgan(noise_kind="split", match_after=2)
    batch = model.fake_batch(4)
    for begun in (False, False, True, True):
        terms = model(batch)
        rest = terms["loss"] - terms["discriminator_real"] - terms["discriminator_fake"]
        rest = rest - terms["generator"] - terms["classifier"]
        expected = terms["guide"] if begun else torch.zeros(4)
        torch.testing.assert_close(rest, expected, rtol=0, atol=1e-5)
        assert terms["guide"].min() > 0.01


def test_matches_are_divergences() -> None:
    a, b = torch.randn(2, 5, 7, generator=torch.manual_seed(0), dtype=torch.float64)
    p, q = a.softmax(1), b.softmax(1)
    torch.testing.assert_close(match_softmax(a, b), (p * (p / q).log()).sum(1))
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(a, 1.0), normal(b, 1.0)).sum(1)
    torch.testing.assert_close(match_gaussian(a, b), divergence)
    for match in (match_softmax, match_gaussian):
        assert match(a, a).abs().max() < 1e-12


@pytest.mark.parametrize("values", KINDS)
def test_a_loaded_description_and_state_give_the_same_outputs(values: dict[str, object]) -> None:
    model = lively(**values).float()
    copy = from_plain({"shape": list(SMALL), "classes": 10, **asdict(model.config)})
    copy.load_state_dict(model.state_dict())
    batch = model.fake_batch(4)
    for one, other in ((model, copy), (model.eval(), copy.eval())):
        assert torch.equal(one(batch)["loss"], other(batch)["loss"])
        assert torch.equal(one.sample(3, 1)["images"], other.sample(3, 1)["images"])


def test_samples_depend_on_the_seed_alone_and_change_no_state() -> None:
    model = lively(dropout=0.2).float()
    before = state(model)
    first, second, other = (model.sample(4, seed)["images"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(model.eval().sample(2, 1)["images"], first[:2])


@pytest.mark.parametrize(
    ("player", "costs"),
    [
        ("discriminator", ["discriminator_real", "discriminator_fake"]),
        ("generator", ["generator"]),
        ("classifier", ["classifier"]),
    ],
)
def test_a_player_that_learns_alone_on_digits_lowers_its_own_cost(
    player: str, costs: list[str]
) -> None:
    x, y = digits(64)
    model = dcgan(MNIST, noise_kind="ten_gaussians")
    optimizer = torch.optim.Adam(players(model)[player], lr=3e-3)
    history = []
    for step in range(16):
        rows = [(16 * step + place) % 64 for place in range(16)]
        terms = model(batch_of(model, x[rows], y[rows], step))
        model.zero_grad()
        terms["loss"].mean().backward()
        optimizer.step()
        history.append(sum(terms[name].mean().item() for name in costs))
    assert max(history[-4:]) < 0.7 * history[0]


@pytest.mark.parametrize("values", KINDS)
def test_bfloat16_autocast_costs_nearly_the_same(values: dict[str, object]) -> None:
    model = dcgan(**values).eval()
    batch = model.fake_batch(6)
    plain = model(batch)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
        half["loss"].sum().backward()
    assert all(value.dtype == torch.float32 for value in half.values())
    torch.testing.assert_close(half["loss"], plain, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("values", "shape", "classes", "message"),
    [
        ({"noise": 1}, SMALL, 1, "noise is 1; write 2 or more"),
        ({"noise": 51, "noise_kind": "split"}, SMALL, 9, "noise is 51, but split halves it"),
        ({"dropout": 1.0}, SMALL, 1, "dropout is 1.0; write 0 or more, below 1"),
        ({"dropout": float("nan")}, SMALL, 1, "dropout is nan; write 0 or more, below 1"),
        ({"guide_weight": -1.0}, SMALL, 1, r"guide_weight is -1.0; write 0 or more"),
        ({"match_after": -1}, SMALL, 1, "match_after is -1; write 0 or more"),
        ({"generator": "5x5"}, SMALL, 1, "generator is '5x5'; write one of 4x4, 7x7"),
        ({"convolutions": 5}, SMALL, 1, "convolutions is 5; write one of 3, 4"),
        ({}, (1, 30, 28), 1, r"shape is \(1, 30, 28\).*divisible by 4"),
        ({"noise_kind": "split"}, SMALL, 1, "noise_kind is split, which needs labels.* 1 class;"),
    ],
)
def test_what_cannot_be_a_dcgan_is_named_in_one_line(
    values: dict[str, object], shape: tuple[int, ...], classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        dcgan(shape, classes, **values)
    assert "\n" not in str(caught.value)


def test_an_experiment_on_a_batch_without_classes_is_named_in_one_line() -> None:
    model = dcgan(noise_kind="ten_gaussians")
    batch = model.fake_batch(2)
    with pytest.raises(ValueError, match="noise_kind is ten_gaussians, but the batch has no cl"):
        model(Batch(x=batch.x, y=None, mask=batch.mask, noise=batch.noise))
