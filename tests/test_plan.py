"""Who reads what: the same on any number of workers, each example once an epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import plan

sizes = st.integers(1, 300)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 64), st.integers(0, 2**40), st.integers(0, 9))
def test_each_example_comes_exactly_once_an_epoch(examples, batch, seed, epoch):
    order = plan.order(examples, seed, epoch)
    steps = plan.steps_per_epoch(examples, batch)
    ids = np.concatenate([plan.batch_ids(order, b, batch) for b in range(steps)])
    assert len(ids) == steps * batch
    assert sorted(ids[ids != plan.PADDING]) == list(range(examples))
    assert (ids == plan.PADDING).sum() < batch


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 300),
    world=st.integers(1, 16),
    parts=st.integers(1, 8),
)
def test_the_shares_of_all_workers_and_parts_are_the_batch_in_order(batch, world, parts):
    shares = [
        plan.share(plan.share(range(batch), rank, world), part, parts)
        for rank in range(world)
        for part in range(parts)
    ]
    assert [place for share in shares for place in share] == list(range(batch))
    sizes = [len(plan.share(range(batch), rank, world)) for rank in range(world)]
    assert max(sizes) - min(sizes) <= 1


def test_an_order_depends_on_seed_and_epoch_alone():
    assert (plan.order(100, 1, 2) == plan.order(100, 1, 2)).all()
    assert (plan.order(100, 1, 2) != plan.order(100, 1, 3)).any()
    assert (plan.order(100, 1, 2) != plan.order(100, 2, 2)).any()


def test_the_order_of_one_seed_stays_what_it_was():
    """A change here is a change of every run's result: raise pipeline.job.FORMAT with it."""
    assert plan.order(10, 0, 0).tolist() == GOLDEN


@pytest.mark.parametrize("examples", [1, 127, 128, 129, 1000])
def test_the_number_of_steps_covers_the_split_and_no_more(examples):
    steps = plan.steps_per_epoch(examples, 128)
    assert (steps - 1) * 128 < examples <= steps * 128


GOLDEN = [5, 3, 6, 1, 0, 8, 9, 7, 2, 4]
