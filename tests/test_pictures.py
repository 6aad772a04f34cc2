from io import BytesIO
from math import floor

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from pipeline import contact_sheet, curve_lines, curves, pictures
from pipeline.contact_sheet import GAP, LINE
from pipeline.pictures import READ, WRITE

SIZE, SCALE, MARGIN = 28, 3, 5
"""A 28 × 28 canvas is enlarged 3 times, with a sixth of it, rounded up, around it for windows."""


def place(pixel: float) -> int:
    """Where a pixel's coordinate (0 = centre of the first) lies in a cell, as the pixel there."""
    return 1 + floor((pixel + 0.5 + MARGIN) * SCALE)


def cell_with(*window: float, colour: str = "write_windows") -> np.ndarray:
    canvases = torch.zeros(1, 1, 1, SIZE, SIZE)
    picture = pictures.sequence(canvases, **{colour: torch.tensor([[window]])})
    side = (SIZE + 2 * MARGIN) * SCALE + 2
    top = GAP + LINE
    return np.asarray(picture)[top : top + side, GAP : GAP + side]


def coloured(cell: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of one colour."""
    return np.nonzero((cell == colour).all(axis=-1))


def lines(places: np.ndarray) -> list[int]:
    return np.unique(places).tolist()


def test_a_window_is_drawn_where_it_is() -> None:
    rows, columns = coloured(cell_with(10.0, 16.0, 8.0, 0.3), WRITE)
    assert (lines(columns)[0], lines(columns)[-1]) == (place(6), place(14))
    assert (lines(rows)[0], lines(rows)[-1]) == (place(12), place(20))
    # Only the outline: four lines of one pixel.
    width, height = place(14) - place(6) + 1, place(20) - place(12) + 1
    assert len(rows) == 2 * (width + height) - 4


def test_a_window_of_the_whole_image_runs_through_the_centres_of_its_border_pixels() -> None:
    rows, columns = coloured(cell_with(13.5, 13.5, 27.0, 0.3, colour="read_windows"), READ)
    assert (lines(rows)[0], lines(rows)[-1]) == (place(0), place(27))
    assert (lines(columns)[0], lines(columns)[-1]) == (place(0), place(27))


@pytest.mark.parametrize(("sigma", "width"), [(0.1, 1), (1.0, 2), (2.0, 3), (3.3, 5), (99.0, 6)])
def test_line_width_grows_with_sigma_up_to_a_cap(sigma: float, width: int) -> None:
    cell = cell_with(14.0, 14.0, 12.0, sigma)
    middle = (cell[place(14)] == WRITE).all(axis=-1)
    assert middle.sum() == 2 * width
    assert abs(np.nonzero(middle)[0][:width].mean() - place(8)) <= 1


def test_a_window_that_sticks_out_is_cut_off_and_still_seen() -> None:
    inside = coloured(cell_with(0.0, 14.0, 8.0, 0.3), WRITE)[1]
    assert lines(inside)[0] == place(-4)
    cell = cell_with(14.0, 14.0, 200.0, 0.3)
    dark = tuple(c // 2 for c in WRITE)
    rows, columns = coloured(cell, dark)
    last = cell.shape[0] - 1
    assert {0, last} <= set(rows)
    assert {0, last} <= set(columns)
    for far in (500.0, 3e38):
        assert len(coloured(cell_with(far, 14.0, 8.0, 0.3), dark)[0]) > 0


def test_a_window_that_is_not_finite_is_left_out() -> None:
    assert len(coloured(cell_with(float("nan"), 14.0, 8.0, 1.0), WRITE)[0]) == 0


def test_read_and_write_windows_are_told_apart_and_named_below() -> None:
    canvases = np.zeros((1, 2, 3, 16, 16), np.float32)
    windows = np.tile(np.float32([8, 8, 6, 0.5]), (1, 2, 1))
    picture = np.asarray(pictures.sequence(canvases, windows, windows + np.float32([3, 3, 0, 0])))
    for colour in (READ, WRITE):
        rows, _ = coloured(picture, colour)
        assert (rows >= len(picture) - LINE).any(), "the legend"
        assert (rows < len(picture) - LINE).any(), "the window"


def test_a_sequence_shows_at_most_ten_steps_evenly_and_always_the_last() -> None:
    canvases = torch.zeros(2, 64, 1, SIZE, SIZE)
    canvases[:, 63] = 1.0
    picture = np.asarray(pictures.sequence(canvases))
    cell = SIZE * SCALE + 2
    assert picture.shape == (GAP + LINE + 2 * (cell + GAP), GAP + 10 * (cell + GAP), 3)
    assert (picture[LINE + GAP + 40, -GAP - cell // 2] == 255).all()
    assert (picture[LINE + GAP + 40, -2 * GAP - cell - cell // 2] == 0).all()
    assert contact_sheet.spread(64, 10) == [0, 7, 14, 21, 28, 35, 42, 49, 56, 63]
    assert contact_sheet.spread(3, 10) == [0, 1, 2]
    assert contact_sheet.spread(7, 1) == [6]


def test_small_images_are_enlarged_to_84_pixels_and_colours_are_kept() -> None:
    canvases = torch.zeros(1, 1, 3, 8, 8)
    canvases[:, :, 1] = 0.5
    picture = np.asarray(pictures.sequence(canvases, originals=canvases[:, 0]))
    assert (picture == (0, 128, 0)).all(axis=-1).sum() == 2 * 88 * 88


def test_a_grid_has_the_images_in_order() -> None:
    images = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 4, 4) / 5
    picture = np.asarray(pictures.grid(images, columns=2, scale=3, gap=4))
    assert picture.shape == (4 + 3 * 18, 4 + 2 * 18, 3)
    centres = [tuple(picture[11 + 18 * (i // 2), 11 + 18 * (i % 2)]) for i in range(5)]
    assert centres == [(round(51 * i),) * 3 for i in range(5)]


def test_reconstructions_stand_below_their_originals() -> None:
    picture = np.asarray(
        pictures.reconstructions(torch.ones(5, 1, 28, 28), torch.full((5, 1, 28, 28), 0.2), 3)
    )
    middle = picture[:, -60, 0]
    white, grey = np.nonzero(middle == 255)[0], np.nonzero(middle == 51)[0]
    assert len(white) == len(grey) == 84
    assert white.max() < grey.min()


def test_a_gif_has_a_frame_for_each_step_holds_the_last_and_loops() -> None:
    canvases = torch.zeros(3, 7, 1, SIZE, SIZE)
    windows = torch.tensor([14.0, 14.0, 10.0, 1.0]).expand(3, 7, 4)
    data = pictures.canvas_gif(canvases, windows, columns=2, milliseconds=100)
    with Image.open(BytesIO(data)) as gif:
        assert gif.n_frames == 7  # equal canvases are not merged
        assert gif.info["loop"] == 0
        durations = []
        for frame in range(7):
            gif.seek(frame)
            durations.append(gif.info["duration"])
        shown = np.asarray(gif.convert("RGB"))
    assert durations == [100] * 6 + [1500]
    assert len(coloured(shown, READ)[0]) > 3 * 4 * 20


def test_values_outside_the_range_and_nan_are_drawn_as_the_nearest_colour() -> None:
    images = torch.tensor([[-1.0, 2.0, float("nan"), 1.0]]).reshape(1, 1, 1, 4)
    picture = np.asarray(pictures.grid(images, columns=1, scale=1, gap=0))
    assert picture[1, 1:5, 0].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pictures.grid(torch.zeros(2, 5, 4, 4), 2), "C = 1 or 3"),
        (lambda: pictures.grid(torch.zeros(0, 1, 4, 4), 2), "none empty"),
        (lambda: pictures.grid(torch.zeros(2, 1, 4, 4), 0), "columns must be at least 1"),
        (lambda: pictures.sequence(torch.zeros(2, 1, 4, 4)), r"canvases must be \(n, T, C, H, W\)"),
        (
            lambda: pictures.sequence(torch.zeros(2, 3, 1, 4, 4), torch.zeros(2, 2, 4)),
            r"read_windows must be \(2, 3, 4\)",
        ),
        (
            lambda: pictures.sequence(
                torch.zeros(2, 3, 1, 4, 4), originals=torch.zeros(1, 1, 4, 4)
            ),
            "do not fit",
        ),
        (
            lambda: pictures.reconstructions(torch.zeros(2, 1, 4, 4), torch.zeros(3, 1, 4, 4)),
            "differ in shape",
        ),
        (lambda: pictures.canvas_gif(torch.zeros(2, 3, 2, 4, 4)), "C = 1 or 3"),
    ],
)
def test_wrong_shapes_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_that_draws_in_steps_gets_all_pictures_and_one_that_does_not_gets_two() -> None:
    images, canvases = torch.rand(4, 1, 12, 12), torch.rand(4, 3, 1, 12, 12)
    windows = torch.tensor([6.0, 6.0, 5.0, 1.0]).expand(4, 3, 4)
    drawn = {"images": images, "canvases": canvases, "write_windows": windows}
    files = pictures.of_model(drawn, images, {**drawn, "read_windows": windows})
    assert list(files) == [
        "samples.png",
        "generation.png",
        "generation.gif",
        "reconstructions.png",
        "reconstruction.png",
    ]
    assert files == pictures.of_model(drawn, images, {**drawn, "read_windows": windows})
    plain = pictures.of_model({"images": images}, images, {"images": images})
    assert list(plain) == ["samples.png", "reconstructions.png"]


def training(steps: int = 100, **more: list[object]) -> pa.Table:
    loss = [540.0 / (1 + step) + 90 for step in range(steps)]
    columns = {"step": range(steps), "epoch": [s / 10 for s in range(steps)], "loss": loss}
    return pa.table({**columns, **more})


def test_curves_are_the_same_text_each_time_and_refer_to_nothing_outside() -> None:
    steps = [[1.0, 0.5, float(s) / 100] for s in range(100)]
    table = training(kl_per_step=steps, lr=[1e-3] * 100, data_wait=[0.1] * 100)
    tables = {"train": table, "validation": training(10, stderr=[0.5] * 10)}
    drawn = curves.figures(tables)
    assert drawn == curves.figures(tables)
    assert list(drawn) == [
        "Loss",
        "KL of each step at the end",
        "KL of each step over training",
        "Gradient norm and learning rate",
        "Speed",
    ]
    page = "".join(drawn.values())
    assert "http" not in page
    assert "currentColor" in page
    assert "nats per image" in page
    assert curves.curves_png(tables) == curves.curves_png(tables)


def test_the_costs_and_right_answers_of_a_gans_players_are_drawn() -> None:
    names = ("discriminator_real", "discriminator_fake", "generator")
    shares = ("accuracy_real", "accuracy_fake")
    columns = {name: [0.7] * 100 for name in (*names, *shares)}
    drawn = curves.figures({"train": training(**columns)})
    costs = drawn["Costs of the discriminator (real, made) and the generator"]
    assert all(word in costs for word in ("real pictures", "made pictures", "generator"))
    assert "share of pictures" in drawn["Right answers of the discriminator"]


def test_right_answers_have_a_curve_and_no_place_is_left_empty() -> None:
    plain = training(100)
    answered = training(100, correct=[0.5] * 100)
    drawn = curves.figures({"train": answered})
    assert "share of training examples" in drawn["Right answers"]
    assert "Right answers" not in curves.figures({"train": plain})
    sizes = [Image.open(BytesIO(curves.curves_png({"train": t}))).size for t in (plain, answered)]
    assert sizes[0][0] == 600
    assert sizes[1][0] == 1200


def test_curves_without_finite_values_are_not_drawn() -> None:
    nothing = training(loss=[float("nan")] * 100, kl=[None] * 100, kl_per_step=[[]] * 100)
    assert curves.figures({"train": nothing}) == {}
    assert curves.figures({}) == {}
    assert curves.curves_png({"train": nothing}) == b""


def test_a_run_of_one_step_and_one_with_gaps_are_drawn() -> None:
    assert list(curves.figures({"train": training(1)})) == ["Loss"]
    loss = [None, float("nan"), float("inf"), *[3.0] * 97]
    assert "Loss" in curves.figures({"train": training(loss=loss)})


def test_the_first_huge_values_do_not_flatten_the_rest() -> None:
    axes = curves.Figure().subplots()
    curve_lines.limit(axes, [1e6, 1e5, *np.linspace(120, 100, 98)])
    low, high = axes.get_ylim()
    assert 90 < low < 100
    assert 120 < high < 150
