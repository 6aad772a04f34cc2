"""Digits for tests of models: MNIST's test pictures where at hand, else some drawn by code."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.sources.mnist import OFFICIAL, Mnist
from pipeline.sources.synthetic import Synthetic

DATA = Path(os.environ.get("DRAW_DATA") or Path(__file__).parents[2] / "shared" / "data")


def digits(count: int) -> tuple[Tensor, Tensor]:
    """Grey pictures (count, 1, 28, 28) in [0, 1] and their classes (count,)."""
    part = OFFICIAL["test"]
    with pytest.MonkeyPatch.context() as environment:
        if all((DATA / "mnist" / one.name).is_file() for one in (part.images, part.labels)):
            environment.setenv("DRAW_DATA", str(DATA))
            examples = list(Mnist().examples("test", 0, count))
        else:
            examples = list(Synthetic(size=28, test=count).examples("test", 0, count))
    x = torch.from_numpy(np.stack([picture for picture, _ in examples])).float() / 255
    return x, torch.tensor([label for _, label in examples])
