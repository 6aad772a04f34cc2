"""The VAE against source 004's tables, an independent bound, and its promises to the pipeline."""

from collections.abc import Iterator
from dataclasses import asdict
from math import log

import numpy as np
import pytest
import torch
from torch import nn

from draw_model import Batch, Vae, VaeConfig, build, from_plain, noise
from tests.digits import digits
from tests.pasted import doubled, some

MNIST = (1, 28, 28)
ENCODER = [640, 256, 36_928, 256, 73_856, 512, 627_300, 202, 202]
DECODER = [300, 633_472, 131_136, 256, 65_600, 256, 577]


def vae(shape: tuple[int, ...] = MNIST, **values: object) -> Vae:
    torch.manual_seed(0)
    model = build(VaeConfig(**values), shape)  # type: ignore[arg-type]
    assert isinstance(model, Vae)
    return model


def settled_vae(**values: object) -> Vae:
    """One in double precision that has seen some batches, so that its statistics mean something."""
    model = vae((2, 8, 12), **values).double()
    for seed in range(5):
        model(doubled(model.fake_batch(6, seed)))
    return model


def keras_counts(module: nn.Module) -> Iterator[int]:
    """Parameters of each layer that has some; Keras counts moving mean and variance as such."""
    for layer in module.modules():
        if own := sum(value.numel() for value in layer.parameters(recurse=False)):
            moving = 2 * layer.num_features if isinstance(layer, nn.BatchNorm2d) else 0
            yield own + moving


def test_parameters_are_as_many_as_the_tables_of_the_source_say() -> None:
    model = vae()
    encoder = [n for part in (model.encoder, model.mu, model.log_sigma) for n in keras_counts(part)]
    assert encoder == ENCODER
    assert sum(ENCODER) == 740_152
    assert list(keras_counts(model.decoder)) == DECODER
    assert sum(DECODER) == 831_597


def test_weights_start_as_keras_starts_them_but_for_the_first_sigma_of_1() -> None:
    model = vae()
    for layer in (model.encoder[3], model.encoder[10], model.decoder[2], model.decoder[5]):
        fan = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
        assert layer.bias is not None
        assert not layer.bias.any()
    _, log_sigma = model.encode(torch.rand(4, *MNIST))
    assert not log_sigma.any()


@pytest.mark.parametrize("shape", [MNIST, (3, 32, 32), (1, 4, 8)])
@pytest.mark.parametrize("latent", [2, 100])
def test_terms_and_pictures_are_shaped_as_the_contract_says(
    latent: int, shape: tuple[int, ...]
) -> None:
    model = vae(shape, latent=latent)
    batch = model.fake_batch(5)
    terms = model(batch)
    assert set(terms) == {"loss", "reconstruction", "kl"}
    assert all(value.shape == (5,) and value.isfinite().all() for value in terms.values())
    torch.testing.assert_close(terms["loss"], terms["reconstruction"] + terms["kl"])
    for pictures in (model.sample(5, 0), model.reconstruct(batch)):
        assert set(pictures) == {"images"}
        assert pictures["images"].shape == (5, *shape)
        assert 0 <= pictures["images"].min() <= pictures["images"].max() <= 1


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradient_reaches_every_parameter(likelihood: str) -> None:
    model = vae(likelihood=likelihood)
    model(model.fake_batch(6))["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_bound_equals_the_formula() -> None:
    model = settled_vae().eval()
    batch = doubled(model.fake_batch(3, seed=9))
    mu, log_sigma = (value.detach().numpy() for value in model.encode(batch.x))
    sigma = np.exp(log_sigma)
    z = mu + sigma * batch.noise["z"].numpy()
    logits = model.decoder(torch.from_numpy(z)).detach().numpy()
    p, x = 1 / (1 + np.exp(-logits)), batch.x.numpy()
    reconstruction = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2, 3))
    kl = (mu**2 / 2 + sigma**2 / 2 - 0.5 - np.log(sigma)).sum(1)
    terms = model(batch)
    assert terms["reconstruction"].tolist() == pytest.approx(reconstruction.tolist(), rel=1e-12)
    assert terms["kl"].tolist() == pytest.approx(kl.tolist(), rel=1e-10)
    assert terms["loss"].tolist() == pytest.approx((reconstruction + kl).tolist(), rel=1e-12)


def test_gaussian_pixels_cost_the_formula() -> None:
    model = settled_vae(likelihood="gaussian").eval()
    batch = doubled(model.fake_batch(3, seed=9))
    sigma = model.pixel_log_sigma.exp().item()
    error = (model.reconstruct(batch)["images"] - batch.x).square().flatten(1).sum(1)
    expected = 192 * (log(sigma) + 0.5 * log(2 * np.pi)) + error / (2 * sigma**2)
    torch.testing.assert_close(model(batch)["reconstruction"], expected, rtol=1e-12, atol=0)
    assert (model.measure().likelihood, model.measure().chance) == ("gaussian", None)


def test_in_evaluation_the_loss_of_an_example_does_not_depend_on_its_batch() -> None:
    model = settled_vae().eval()
    batch = doubled(model.fake_batch(6))
    whole = model(batch)["loss"]
    for rows in ([2], [5, 0], [1, 3, 4, 2]):
        torch.testing.assert_close(model(some(batch, rows))["loss"], whole[rows])


def test_in_training_batch_norm_is_the_exception_but_padding_is_never_seen() -> None:
    model = settled_vae()
    batch = doubled(model.fake_batch(6))
    few = some(batch, [0, 2, 3])
    assert not torch.isclose(model(few)["loss"], model(batch)["loss"][[0, 2, 3]]).any()
    alone, padded = settled_vae(), settled_vae()
    batch.mask[[1, 4, 5]] = False
    batch.x[[1, 4, 5]] = torch.nan
    one, other = alone(few)["loss"], padded(batch)["loss"]
    assert torch.equal(other[[0, 2, 3]], one)
    assert other[[1, 4, 5]].tolist() == [0, 0, 0]
    other.sum().backward()
    one.sum().backward()
    for a, b in zip(alone.parameters(), padded.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]
    for name, value in alone.state_dict().items():
        assert torch.equal(value, padded.state_dict()[name]), name


def test_a_share_of_nothing_but_padding_costs_nothing_and_has_gradients() -> None:
    model = vae()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = model.fake_batch(3)
    batch.mask[:] = False
    loss = model(batch)["loss"].sum()
    loss.backward()
    assert loss.item() == 0
    assert all(one.grad is not None and not one.grad.any() for one in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_loaded_description_and_state_give_the_same_outputs() -> None:
    model = settled_vae(latent=3).float()
    copy = from_plain({"shape": [2, 8, 12], **asdict(model.config)})
    copy.load_state_dict(model.state_dict())
    batch = model.fake_batch(4)
    for one, other in ((model, copy), (model.eval(), copy.eval())):
        assert torch.equal(one(batch)["loss"], other(batch)["loss"])
        assert torch.equal(one.sample(3, 1)["images"], other.sample(3, 1)["images"])


def test_samples_depend_on_the_seed_alone_and_change_no_state() -> None:
    model = settled_vae().float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second, other = (model.sample(4, seed)["images"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(model.eval().sample(2, 1)["images"], first[:2])


def test_a_few_dozen_steps_on_digits_lower_the_bound() -> None:
    x, _ = digits(256)
    model = vae()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(24):
        rows = [(32 * step + place) % 256 for place in range(32)]
        draws = noise.draw(model.noise_shapes(), 0, "train", step, range(32))
        mask = torch.ones(32, dtype=torch.bool)
        loss = model(Batch(x=x[rows], y=None, mask=mask, noise=draws))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses[-4:]) < 0.7 * 784 * log(2) < losses[0]
    assert max(losses) < 2 * losses[0]


def test_bfloat16_autocast_costs_nearly_the_same() -> None:
    model = vae().eval()
    batch = model.fake_batch(8)
    plain = model(batch)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
    assert all(value.dtype == torch.float32 for value in half.values())
    torch.testing.assert_close(half["loss"], plain, rtol=5e-3, atol=0)


@pytest.mark.parametrize(
    ("values", "shape", "message"),
    [
        ({"latent": 0}, MNIST, "latent is 0; write 1 or more"),
        ({"likelihood": "laplace"}, MNIST, "likelihood is 'laplace'; write one of bernoulli, ga"),
        ({}, (1, 30, 28), r"shape is \(1, 30, 28\).*divisible by 4"),
        ({}, (1, 2, 4), r"shape is \(1, 2, 4\).*divisible by 4"),
    ],
)
def test_what_cannot_be_a_vae_is_named_in_one_line(
    values: dict[str, object], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        vae(shape, **values)
    assert "\n" not in str(caught.value)
