"""Pictures of finished runs: geometry against loops over pixels, and a set for each model."""

import json
from io import BytesIO
from math import exp, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load
from torch import Tensor

from draw_model.attention import Window, read, write
from pipeline import checkpoint
from pipeline.__main__ import main
from pipeline.captions import FIGURES
from pipeline.errors import DataError
from pipeline.finished import open_finished
from pipeline.gallery.codes import codes, imagine, prior
from pipeline.gallery.epochs import kept_epochs
from pipeline.gallery.paths import linear, spherical, walk
from pipeline.gallery.plane import quantiles
from pipeline.gallery.race import racers
from pipeline.gallery.steps import VALUES, Progress, varied
from pipeline.gallery.windows import ZOOMS, filters, zooms
from pipeline.job_file import check_job, dump_job
from pipeline.listing import read_metrics
from pipeline.storage import Storage, open_storage
from pipeline.validations import validations
from tests.test_report import Checker
from tests.tiny import PLAIN

SHARES = torch.linspace(0, 1, 7)


def test_either_way_between_two_codes_ends_at_them() -> None:
    a, b = torch.randn(2, 5, 3, generator=torch.manual_seed(0)).unbind(0)
    for way in (linear, spherical):
        codes = way(a, b, SHARES)
        assert codes.shape == (7, 5, 3)
        torch.testing.assert_close(codes[0], a)
        torch.testing.assert_close(codes[-1], b)
    torch.testing.assert_close(linear(a, b, SHARES)[3], (a + b) / 2)


def test_the_arc_keeps_the_length_and_turns_evenly() -> None:
    a, b = torch.randn(2, 20, generator=torch.manual_seed(1)).unbind(0)
    b = b * a.norm() / b.norm()
    codes = spherical(a, b, SHARES)
    torch.testing.assert_close(codes.norm(dim=1), a.norm().expand(7))
    turns = torch.nn.functional.cosine_similarity(codes[1:], codes[:-1]).acos()
    torch.testing.assert_close(turns, turns[:1].expand(6), atol=1e-3, rtol=1e-3)
    assert (linear(a, b, SHARES).norm(dim=1)[1:-1] < a.norm()).all()
    longer = spherical(a, 3 * b, SHARES).norm(dim=1)
    torch.testing.assert_close(longer, a.norm() * (1 + 2 * SHARES))


@pytest.mark.parametrize("b", [[2.0, 0.0], [-3.0, 0.0], [0.0, 0.0]])
def test_codes_in_one_line_are_joined_by_it(b: list[float]) -> None:
    a, b_ = torch.tensor([1.0, 0.0]), torch.tensor(b)
    torch.testing.assert_close(spherical(a, b_, SHARES), linear(a, b_, SHARES))


def test_a_walk_passes_each_point_and_goes_straight_between() -> None:
    points = torch.randn(4, 2, 3, generator=torch.manual_seed(2))
    codes = walk(points, 10)
    assert codes.shape == (31, 2, 3)
    torch.testing.assert_close(codes[::10], points)
    torch.testing.assert_close(codes[15], (points[1] + points[2]) / 2)


def test_the_code_of_one_step_is_varied_and_all_others_are_held() -> None:
    z, directions = torch.randn(2, 4, 3, generator=torch.manual_seed(3)).unbind(0)
    values = torch.tensor(VALUES)
    codes = varied(z, directions, values)
    assert codes.shape == (4, 5, 4, 3)
    for t, i, s in np.ndindex(4, 5, 4):
        wanted = z[s] + values[i] * directions[s] if s == t else z[s]
        torch.testing.assert_close(codes[t, i, s], wanted)


def weight(a: int, centre: float, sigma: float, size: int) -> float:
    """Of pixel a in a filter, by the paper's (25), one exponential after the other."""
    total = sum(exp(-((p - centre) ** 2) / (2 * sigma**2)) for p in range(size))
    return exp(-((a - centre) ** 2) / (2 * sigma**2)) / total


def by_loops(image: Tensor, window: Window, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The patch that window k reads of (H, W), and what is written back with 1/γ = δ²."""
    height, width = image.shape
    n, delta, sigma = window.n, float(window.delta[k]), float(window.sigma[k])
    patch, back = np.zeros((n, n)), np.zeros((height, width))
    for i, j in np.ndindex(n, n):
        y = float(window.g_y[k]) + (i - (n - 1) / 2) * delta
        x = float(window.g_x[k]) + (j - (n - 1) / 2) * delta
        weights = np.array(
            [
                [weight(a, y, sigma, height) * weight(b, x, sigma, width) for b in range(width)]
                for a in range(height)
            ]
        )
        patch[i, j] = (weights * image.numpy()).sum()
        back += weights * patch[i, j] * delta**2
    return patch, back


def test_the_patch_of_the_zoom_is_what_a_loop_over_pixels_reads_and_writes() -> None:
    image = torch.rand(1, 9, 12, generator=torch.manual_seed(4))
    window = zooms(image, 3)
    f_y, f_x = filters(window, 9, 12)
    patches = read(f_y, f_x, window.gamma, image.expand(3, -1, -1, -1))
    back = write(f_y, f_x, window.delta.pow(-2), patches)
    for k in range(len(ZOOMS)):
        patch, written = by_loops(image[0], window, k)
        np.testing.assert_allclose(patches[k, 0], patch, atol=1e-5)
        np.testing.assert_allclose(back[k, 0], written, atol=1e-4)


def test_the_zoom_goes_from_the_whole_image_to_where_its_ink_is() -> None:
    image = torch.zeros(1, 21, 21)
    image[0, 4:7, 14:17] = 1
    window = zooms(image, 5)
    shown = window.as_picture()
    torch.testing.assert_close(shown[:, 2], 20 * torch.tensor(ZOOMS))
    torch.testing.assert_close(shown[0, :2], torch.tensor([10.0, 10.0]))
    torch.testing.assert_close(shown[2, :2], torch.tensor([15.0, 5.0]), atol=0.05, rtol=0)


def test_progress_counts_changed_pixels_and_bits() -> None:
    start = torch.full((1, 2, 2), 0.5)
    canvases = torch.tensor([[0.5, 0.5, 0.5, 0.55], [1.0, 0.5, 0.25, 0.55]]).view(1, 2, 1, 2, 2)
    progress = Progress.of(canvases, start)
    assert progress.changed.tolist() == [0.0, 0.5]

    def bits(p: float) -> float:
        return 0.0 if p in (0, 1) else -p * log2(p) - (1 - p) * log2(1 - p)

    wanted = [sum(map(bits, row)) / 4 for row in canvases.flatten(2)[0].tolist()]
    np.testing.assert_allclose(progress.bits, wanted, atol=1e-6)


def test_quantiles_are_the_middles_of_equal_shares() -> None:
    shares = torch.distributions.Normal(0, 1).cdf(quantiles(4))
    torch.testing.assert_close(shares, torch.tensor([0.125, 0.375, 0.625, 0.875]))


CODES = {"interpolation.png", "walk.gif", "walk.png"}
STEPPED = CODES | {"samples_drawn.png", "effect_of_steps.png"}
WINDOWS = {"zoom.png", "filters.png"}
KINDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "draw": ({"steps": 3, "hidden": 8, "latent": 2, "read_n": 3, "write_n": 4}, STEPPED | WINDOWS),
    "conv_draw": (
        {"steps": 2, "hidden": 8, "features": 8, "kernels": 2},
        STEPPED | WINDOWS | {"kernels.png"},
    ),
    "vae": ({}, CODES | {"samples_drawn.png", "latent_grid.png", "latent_scatter.png"}),
    "dcgan": ({"noise": 8}, CODES | {"kernels.png"}),
    "classifier": ({"steps": 2, "hidden": 8, "read_n": 4}, WINDOWS),
    "ram": ({"glimpses": 2, "patch": 4, "scales": 2, "hidden": 8}, set()),
    "cnn": ({"hidden": 8}, {"kernels.png"}),
    "char_rnn": ({"hidden": 8}, set()),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A folder whose storage holds the runs that tests make in it."""
    folder = tmp_path_factory.mktemp("gallery")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DRAW_STORAGE", f"file://{folder}/storage")
        environment.setenv("DRAW_CACHE", str(folder / "cache"))
        environment.chdir(folder)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield folder
        torch.set_num_threads(threads)


def storage_of(place: Path) -> Storage:
    return open_storage(f"file://{place}/storage")


def trained(
    place: Path,
    kind: str,
    name: str,
    *,
    epochs: int = 1,
    lr: float = 1e-3,
    size: int = 12,
    **model: Any,
) -> None:
    """A run of two steps an epoch of this kind of model, which keeps all its epochs but the first;
    nothing where there is one of that name."""
    if any(run.startswith(f"{name}-") for run in storage_of(place).folders("runs")):
        return
    data = {"source": "synthetic", "size": size, "train": 24, "val": 8, "test": 20}
    if kind == "char_rnn":
        (place / "a.txt").write_text("To be, or not to be: that is the question.\n" * 12)
        data = {"source": "text", "file": str(place / "a.txt"), "length": 9}
    plain = PLAIN | {
        "name": name,
        "storage": f"file://{place}/storage",
        "data": data,
        "model": {"kind": kind, **KINDS[kind][0], **model},
        "train": {"total_epochs": epochs, "batch_size": 12, "lr": lr, "keep_checkpoints": 1,
                  "keep_epochs": list(range(2, epochs + 1))},
    }  # fmt: skip
    (place / f"{name}.yaml").write_text(dump_job(check_job(plain, name)))
    assert main(["run", f"{name}.yaml", "--without-ray"]) == 0


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["pictures", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def drawn(value: dict[str, Any]) -> dict[str, bytes]:
    paths = [Path(file.removeprefix("file://")) for file in value["files"]]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_gets_its_pictures_and_none_is_blank(
    kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(place, kind, f"a_{kind}")
    code, value = called(capsys, f"a_{kind}")
    assert code == 0
    files = drawn(value)
    assert set(files) == KINDS[kind][1]
    assert bool(value["missing"]) == (kind in ("dcgan", "ram", "char_rnn"))
    page = Path(value["page"].removeprefix("file://")).read_text()
    checker = Checker()
    checker.feed(page)
    assert checker.faults == []
    for name, data in files.items():
        with Image.open(BytesIO(data)) as picture:
            assert picture.width <= 1200
            assert name != "walk.gif" or getattr(picture, "n_frames", 1) == 901
            assert np.asarray(picture.convert("L")).std() > 3, name
        title, text = FIGURES[name]
        assert f'alt="{title} of {value["run"]}"' in page
        assert text[:20] in page


def test_the_codes_of_a_vae_are_those_of_its_first_test_images(place: Path) -> None:
    trained(place, "vae", "a_vae")
    storage = storage_of(place)
    (id,) = (run for run in storage.folders("runs") if run.startswith("a_vae"))
    run = open_finished(storage, id)
    mu, _ = run.model.encode(run.first_tests(3).x)
    torch.testing.assert_close(codes(run, 3), mu.detach())
    torch.testing.assert_close(imagine(run, mu)[0], run.model.generate({"z": mu})["images"][0])


def test_two_runs_stand_beside_each_other_and_steps_are_chosen(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(place, "draw", "a_draw")
    trained(place, "draw", "plain", read_n=None, write_n=None, steps=5)
    words = ("a_draw", "--beside", "plain", "--steps", "1,3")
    assert called(capsys, *words, "--out", "elsewhere")[1]["page"] is None
    assert (place / "elsewhere" / "beside.png").is_file()
    code, value = called(capsys, *words)
    assert code == 0
    files = drawn(value)
    assert {"beside.png", "steps.png"} <= set(files)
    with Image.open(BytesIO(files["steps.png"])) as picture:
        assert picture.width == 6 + 2 * (12 * 7 + 2 + 2 * 2 * 7 + 6)
    page = Path(value["page"].removeprefix("file://")).read_text()
    assert 'alt="Two runs, step by step of' in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a_draw", "--steps", "2,4"), "draws in 3 steps; write 1 to 3"),
        (("a_draw", "--steps", "2,x"), "--steps 2,x: write numbers"),
        (("a_draw", "--beside", "a_vae"), "does not draw in steps"),
        (("a_cnn", "--steps", "1"), "does not draw in steps"),
        (("a_cnn", "--race", "a_draw"), "its target is bernoulli, dynamic, that of a_cnn-"),
        (("a_cnn", "--race", "a_cnn"), "that is the run itself; name another"),
        (("wide", "--race", "a_cnn"), "numbers of different kinds are not compared"),
        (("a_dcgan", "--race", "b_dcgan"), "a game's losses tell of no progress"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    words: tuple[str, ...], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("draw", "vae", "cnn", "dcgan"):
        trained(place, kind, f"a_{kind}")
    trained(place, "dcgan", "b_dcgan", lr=1e-4)
    trained(place, "cnn", "wide", size=14)
    code, value = called(capsys, *words)
    assert code == 2
    assert said in value["error"]


def test_runs_race_by_their_validations(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lr in (("slow", 1e-4), ("fast", 1e-2)):
        trained(place, "char_rnn", name, epochs=3, lr=lr)
    code, value = called(capsys, "slow", "--race", "fast")
    assert code == 0
    with Image.open(BytesIO(drawn(value)["race.png"])) as picture:
        colours = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    assert {(0x3A, 0x86, 0xD0), (0xE0, 0x7B, 0x39)} <= colours  # a line for either
    page = Path(value["page"].removeprefix("file://")).read_text()
    assert 'alt="Several runs, validation by validation of' in page
    storage = storage_of(place)
    (other,) = (run for run in storage.folders("runs") if run.startswith("fast-"))
    found, unit = racers(storage, [value["run"], other, other])
    assert [one.run for one in found] == [value["run"], other]
    assert unit == "wrong answers on validation (%)"
    for one in found:
        rows = read_metrics(storage, one.run)
        wrong = [100 - 100 * x for x in rows["validation"]["correct"].to_pylist()]
        np.testing.assert_allclose(one.values, wrong)
        train = open_finished(storage, one.run).manifest.splits["train"]
        assert one.examples.tolist() == [n * train for n in (1, 2, 3)]
        seconds = sum(rows["train"]["seconds"].to_pylist())
        assert one.hours[-1] == pytest.approx(seconds / 3600)
    with pytest.raises(DataError, match="no validation with a finite number"):
        validations(storage, "no-such-run", "loss")


@pytest.mark.parametrize("kind", ["dcgan", "draw"])
def test_samples_of_kept_epochs_are_what_those_weights_make_of_the_same_codes(
    kind: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(place, kind, f"kept_{kind}", epochs=4, lr=0.05)
    code, value = called(capsys, f"kept_{kind}")
    assert (code, value["missing"]) == (0, [])
    run = open_finished(storage_of(place), value["run"])
    assert kept_epochs(run) == {2: 4, 3: 6, 4: 8}
    files = drawn(value)
    with Image.open(BytesIO(files["epochs.png"])) as picture:
        shown = np.asarray(picture.convert("L"))
    side = 5 * 12 + 2  # twelve pixels, five times as large, in a frame
    left = shown.shape[1] - 12 * (side + 3)
    home = storage_of(place).below(f"runs/{run.run}")
    rows = []
    for row, step in enumerate((4, 6, 8)):
        run.model.load_state_dict(load(checkpoint.read(home, step)["model.safetensors"]))
        images = imagine(run, prior(run, 12)["z"])[:, 0].detach().numpy()
        top = 3 + row * (side + 3) + 1
        for place_, image in enumerate(images):
            across = left + place_ * (side + 3) + 1
            found = shown[top : top + side - 2, across : across + side - 2]
            wanted = (image * 255).round().repeat(5, 0).repeat(5, 1)
            np.testing.assert_allclose(found, wanted, atol=1)
        rows.append(images)
    assert abs(rows[0] - rows[1]).max() > 0.01
    assert abs(rows[1] - rows[2]).max() > 0.01
