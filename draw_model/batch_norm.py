"""How models with batch norm keep the contract: padding is never seen, pictures change no state."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from draw_model.contract import Batch, Terms

Made = TypeVar("Made")


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over (B, C, H, W) that also takes a batch too small to have a variance.

    A worker's share of the last batch can hold one real example or none. With fewer than two values
    a channel, the running statistics serve instead and stay as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() < 2 * self.num_features:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


def real_part(batch: Batch) -> Batch:
    """The examples of ``batch`` that are no padding: (B, ...) → (R, ...), in their order."""
    mask = batch.mask
    return Batch(
        x=batch.x[mask],
        y=None if batch.y is None else batch.y[mask],
        mask=mask[mask],
        noise={name: value[mask] for name, value in batch.noise.items()},
    )


def spread(terms: Terms, mask: Tensor) -> Terms:
    """Terms of ``real_part`` back in their places, (R, ...) → (B, ...); padding costs 0."""
    return {
        name: value.new_zeros(len(mask), *value.shape[1:]).index_put((mask,), value)
        for name, value in terms.items()
    }


def settled(model: nn.Module, make: Callable[[], Made]) -> Made:
    """What ``make`` gives while ``model`` uses its running statistics and changes nothing."""
    was_training = model.training
    model.eval()
    try:
        return make()
    finally:
        model.train(was_training)
