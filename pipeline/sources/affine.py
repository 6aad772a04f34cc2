"""Digits turned, sheared and scaled at random, so that none is ever learnt by heart."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

GRAINS = 1 << 16
"""A chance is drawn as one of so many integers."""
CHANCES = 3
"""What is drawn for a picture: its turn, its shear and its size."""


@dataclass(frozen=True, kw_only=True)
class Affine:
    """How far a picture may be moved about its middle, uniformly and either way.

    It is turned by ``degrees``, its uprights lean by ``shear`` degrees, and it grows by the share
    ``scale``.
    """

    degrees: float = 10.0
    shear: float = 10.0
    scale: float = 0.1

    def __post_init__(self) -> None:
        """Raises ValueError, in one line, for values out of range."""
        for name, most in (("degrees", 180), ("shear", 45), ("scale", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; takes 0 to {most}")

    def __call__(self, pictures: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """uint8 (n, H, W) and integers (n, 3) below ``GRAINS`` → uint8 (n, H, W).

        Bilinear between pixels, black from beyond the edge.
        """
        bounds = [*np.deg2rad([self.degrees, self.shear]).tolist(), self.scale]
        chance = torch.from_numpy(drawn).float() * (2 / (GRAINS - 1)) - 1
        turn, lean, growth = (chance * torch.tensor(bounds)).T
        cos, sin, tan = turn.cos(), turn.sin(), lean.tan()
        # Each pixel of the result asks where it was: the inverse of turn · shear · scale.
        rows = [cos - tan * sin, sin + tan * cos, 0 * cos, -sin, cos, 0 * cos]
        theta = torch.stack(rows, 1).view(-1, 2, 3) / (1 + growth)[:, None, None]
        x = torch.from_numpy(np.ascontiguousarray(pictures)).float()[:, None]
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)[:, 0].round().byte().numpy()
