"""Digits turned, sheared and scaled: equal to a slow loop, and only those that are trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.job import run_id
from pipeline.prepare import prepare
from pipeline.sources import dataset_id
from pipeline.sources.affine import GRAINS, Affine
from pipeline.storage import open_storage
from tests.small_mnist import drawn as small_digits
from tests.test_sources_cluttered import fresh, fresh_job, loader_of, small

__all__ = ["fresh", "small"]

STILL = {"degrees": 0.0, "shear": 0.0, "scale": 0.0}
TURNED = {"degrees": 30.0, "shear": 20.0, "scale": 0.25}


def slow(picture: np.ndarray, affine: Affine, drawn: list[int]) -> np.ndarray:
    """Each pixel from the four around where the forward map, inverted by numpy, says it was."""
    chance = [2 * one / (GRAINS - 1) - 1 for one in drawn]
    turn, lean = np.deg2rad(affine.degrees) * chance[0], np.deg2rad(affine.shear) * chance[1]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    upright = np.array([[1, -np.tan(lean)], [0, 1]])
    back = np.linalg.inv((1 + affine.scale * chance[2]) * rotation @ upright)
    side = len(picture)
    padded, middle = np.pad(picture.astype(float), side), (side - 1) / 2
    result = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            x, y = back @ (column - middle, row - middle) + middle + side
            left, top = int(np.floor(x)), int(np.floor(y))
            for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = abs(1 - down - (y - top)) * abs(1 - across - (x - left))
                result[row, column] += weight * padded[top + down, left + across]
    return result


def test_pictures_equal_a_slow_loop_over_the_map() -> None:
    digits = small_digits("train", 6)[0]
    affine = Affine(**TURNED)
    drawn = np.random.default_rng(0).integers(GRAINS, size=(6, 3))
    drawn[0], drawn[1] = 0, GRAINS - 1
    ours = affine(digits, drawn)
    assert ours.dtype == np.uint8
    for picture, numbers, mine in zip(digits, drawn.tolist(), ours, strict=True):
        np.testing.assert_allclose(mine, slow(picture, affine, numbers), atol=0.6)


def test_a_quarter_turn_is_exact_and_nothing_to_do_changes_nothing() -> None:
    digits = small_digits("train", 4)[0]
    most, middle = np.full((4, 3), GRAINS - 1), np.full((4, 3), GRAINS // 2)
    turned = Affine(degrees=90, shear=0, scale=0)(digits, most)
    np.testing.assert_array_equal(turned, np.rot90(digits, -1, (1, 2)))  # clockwise, as y is down
    np.testing.assert_array_equal(Affine(**STILL)(digits, most), digits)
    np.testing.assert_allclose(Affine()(digits, middle).astype(int), digits, atol=1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"degrees": -1}, "degrees is -1; takes 0 to 180"),
        ({"shear": 46}, "shear is 46; takes 0 to 45"),
        ({"scale": 0.6}, "scale is 0.6; takes 0 to 0.5"),
        ({"scale": float("nan")}, "scale is nan; takes 0 to 0.5"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Affine(**settings)


def test_the_digit_is_moved_and_neither_the_clutter_nor_the_place(fresh: Path) -> None:
    still = loader_of(fresh_job(fresh, affine=STILL), "train", training=True)
    moved = loader_of(fresh_job(fresh, affine=TURNED), "train", training=True)
    before, after = still.batch(0, range(48)), moved.batch(0, range(48))
    np.testing.assert_array_equal(before.y, after.y)
    changed = (before.x != after.x).numpy()[:, 0]
    assert changed.any(axis=(1, 2)).all()
    for picture in changed:  # what has changed lies in one square of a digit's side
        assert max(np.ptp(places) for places in np.nonzero(picture)) < 28
    parts = [moved.batch(0, places).x for places in (range(17), range(17, 48))]
    np.testing.assert_array_equal(after.x, np.concatenate(parts))


def test_it_is_of_the_reading_and_of_the_run_but_of_no_other_split(fresh: Path) -> None:
    plain, moved = fresh_job(fresh), fresh_job(fresh, affine=TURNED)
    assert dataset_id(plain.data) == dataset_id(moved.data)
    manifest = prepare(plain.data, open_storage(plain.storage))
    other = replace(moved.data, affine=Affine())
    ids = {run_id(job, manifest) for job in (plain, moved, replace(moved, data=other))}
    assert len(ids) == 3
    for split in ("val", "test"):
        one, two = (loader_of(job, split).batch(0, range(48)).x for job in (plain, moved))
        np.testing.assert_array_equal(one, two)
