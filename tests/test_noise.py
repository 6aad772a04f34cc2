"""Noise is a function of what it is for: seed, stream, step and place, never of the process."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draw_model import noise

SIZE = 150


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, SIZE), max_size=5))
def test_rows_do_not_depend_on_how_places_are_cut(cuts: list[int]) -> None:
    whole = noise.normal(3, "z", 7, range(SIZE), (2, 3))
    edges = [0, *sorted(cuts), SIZE]
    parts = [noise.normal(3, "z", 7, range(start, stop), (2, 3)) for start, stop in pairwise(edges)]
    assert torch.equal(torch.cat(parts), whole)


def test_seed_stream_step_and_place_each_give_other_numbers() -> None:
    draws = [
        noise.normal(0, "z", 0, range(40), (4,)),
        noise.normal(1, "z", 0, range(40), (4,)),
        noise.normal(0, "y", 0, range(40), (4,)),
        noise.normal(0, "z", 1, range(40), (4,)),
        noise.normal(0, "z", 0, range(40, 80), (4,)),
    ]
    values = torch.stack(draws).flatten()
    assert values.unique().numel() > 0.999 * values.numel()


def test_neighbouring_blocks_share_no_rows() -> None:
    rows = noise.normal(0, "z", 0, range(4096), (16,))
    assert rows[:, 0].unique().numel() > 4090
    assert len({tuple(row) for row in rows.tolist()}) == 4096


def test_moments_are_those_of_the_distribution() -> None:
    normal = noise.normal(5, "z", 2, range(4096), (8,))
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.var().item() == pytest.approx(1, abs=0.03)
    assert normal.pow(4).mean().item() == pytest.approx(3, abs=0.2)
    assert torch.corrcoef(normal.T).fill_diagonal_(0).abs().max() < 0.07
    uniform = noise.uniform(5, "x", 2, range(4096), (8,))
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=0.003)


def test_draw_gives_each_name_its_own_stream() -> None:
    both = noise.draw({"a": (3,), "b": (3,)}, 0, "train", 4, range(10))
    assert both["a"].shape == both["b"].shape == (10, 3)
    assert both["a"].dtype == torch.float32
    assert not torch.equal(both["a"], both["b"])
    assert torch.equal(both["a"], noise.normal(0, "train/a", 4, range(10), (3,)))


def test_an_empty_range_is_an_empty_tensor() -> None:
    assert noise.normal(0, "z", 0, range(5, 5), (3,)).shape == (0, 3)
