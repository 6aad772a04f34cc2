"""How images of a model become cells of a contact sheet."""

import numpy as np
from torch import Tensor


def pixels(images: Tensor) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1], C = 1 or 3 → uint8 (n, H, W, 3)."""
    levels = (images.detach().float().cpu().nan_to_num().clamp(0, 1) * 255).round()
    last = levels.permute(0, 2, 3, 1).numpy().astype(np.uint8)  # (n, H, W, C)
    return np.ascontiguousarray(np.broadcast_to(last, (*last.shape[:-1], 3)))


def scale_of(images: Tensor, least: int) -> int:
    """How often to enlarge (n, C, H, W), so that the shorter side has ``least`` pixels or more."""
    return max(1, -(-least // min(images.shape[2:])))
