"""Padding leaves no trace in a model with batch norm, and neither does making pictures."""

import pytest
import torch

from draw_model import Batch
from draw_model.batch_norm import BatchNorm, real_part, settled, spread


def state(layer: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}


def test_a_batch_with_a_variance_is_normalised_as_pytorch_does() -> None:
    torch.manual_seed(0)
    x, ours, theirs = torch.randn(4, 3, 2, 2), BatchNorm(3), torch.nn.BatchNorm2d(3)
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (1, 3, 1, 1)])
def test_a_batch_too_small_for_a_variance_uses_the_running_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = BatchNorm(3)
    layer(5 + torch.randn(8, 3, 2, 2))
    before = state(layer)
    x = torch.randn(shape)
    y = layer(x)
    assert torch.equal(y, layer.eval()(x))
    assert all(torch.equal(before[name], value) for name, value in state(layer).items())
    y.sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in
               layer.parameters())  # fmt: skip


def test_terms_of_the_real_examples_return_to_their_places() -> None:
    mask = torch.tensor([False, True, False, True])
    x, noise = torch.arange(4.0)[:, None], torch.arange(8.0).view(4, 2)
    part = real_part(Batch(x=x, y=torch.arange(4), mask=mask, noise={"z": noise}))
    assert part.y is not None
    assert part.x[:, 0].tolist() == part.y.tolist() == [1, 3]
    assert part.mask.all()
    back = spread({"loss": part.x[:, 0], "steps": part.noise["z"]}, mask)
    assert back["loss"].tolist() == [0, 1, 0, 3]
    assert back["steps"].tolist() == [[0, 0], [2, 3], [0, 0], [6, 7]]


def test_pictures_made_in_the_middle_of_training_change_nothing() -> None:
    model = torch.nn.Sequential(BatchNorm(2), torch.nn.Conv2d(2, 1, 1))
    before = state(model)
    x = torch.randn(4, 2, 3, 3)
    assert torch.equal(settled(model, lambda: model(x)), model.eval()(x))
    model.train()
    with pytest.raises(ZeroDivisionError):
        settled(model, lambda: 1 // 0)
    assert all(layer.training for layer in model.modules())
    assert all(torch.equal(before[name], value) for name, value in state(model).items())
