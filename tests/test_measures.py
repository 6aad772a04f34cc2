"""Every measure on small finished runs, against the same numbers counted another way."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.__main__ import main
from pipeline.errors import DataError, JobError
from pipeline.findings import MEASURES, read_findings
from pipeline.finished import Finished, open_finished
from pipeline.job_file import check_job, dump_job
from pipeline.listing import read_metrics
from pipeline.loader import open_loader
from pipeline.measure import KINDS, chosen
from pipeline.measures.contract import Wanted, batches
from pipeline.measures.nearest import search
from pipeline.measures.reach import fitted, whole_curve
from pipeline.measures.text import CHARACTERS, TEMPERATURES
from pipeline.records import read_record
from pipeline.sources.cluttered import Cluttered
from pipeline.storage import open_storage
from pipeline.validations import validations
from pipeline.values import to_plain
from tests.tiny import prepared, tiny_job

WHOLE = {"train": {"total_epochs": 1, "lr": 1e-3, "batch_size": 16}}
MODELS = {
    "draw": {"kind": "draw", "steps": 2, "hidden": 16, "latent": 3, "read_n": 3, "write_n": 3},
    "vae": {"kind": "vae", "latent": 2},
    "dcgan": {"kind": "dcgan", "noise": 8},
    "model_2": {"kind": "conv_draw", "model": "supervised", "steps": 2, "hidden": 16, "latent": 3,
                "features": 8, "kernels": 2, "read_n": 3, "write_n": 3},
    "cnn": {"kind": "cnn", "variant": "source_000", "hidden": 16},
    "other_cnn": {"kind": "cnn", "variant": "source_000", "hidden": 4},
    "wide_cnn": {"kind": "cnn", "variant": "source_000", "hidden": 4},
    "verse": {"kind": "char_rnn", "hidden": 8},
}  # fmt: skip
FITTING = {
    "draw": ["importance", "thousand", "nearest"],
    "vae": ["importance", "thousand", "nearest"],
    "dcgan": ["nearest"],
    "model_2": ["importance", "thousand", "answers", "nearest"],
    "cnn": ["answers"],
    "verse": ["text"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a storage in which each of the models has a finished run of its name."""
    folder = tmp_path_factory.mktemp("measures")
    (folder / "verse.txt").write_text("To be, or not to be: that is the question.\n" * 12)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DRAW_STORAGE", f"file://{folder}/storage")
        environment.setenv("DRAW_CACHE", str(folder / "cache"))
        environment.chdir(folder)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for name, model in MODELS.items():
            job = tiny_job(f"file://{folder}/storage", **WHOLE)
            plain = to_plain(job) | {"name": name, "model": model}
            classifies = model["kind"] == "cnn"
            plain["data"]["binarisation"] = "grey" if classifies else "dynamic"
            if name == "wide_cnn":
                plain["data"]["size"] = 16
            if name == "verse":
                file = str(folder / "verse.txt")
                plain["data"] = {"source": "text", "file": file, "length": 9}
            Path(f"{name}.yaml").write_text(dump_job(check_job(plain, name)))
            assert main(["run", f"{name}.yaml", "--without-ray", "--json"]) == 0
        yield folder
        torch.set_num_threads(threads)


@pytest.fixture
def opened(place):
    storage = open_storage(f"file://{place}/storage")

    def one(name: str) -> Finished:
        (run,) = [run for run in storage.folders("runs") if run.rpartition("-")[0] == name]
        return open_finished(storage, run)

    return one


def found(finished: Finished, kind: str, **wanted):
    return KINDS[kind].find(finished, Wanted(**wanted), lambda done, total: None)


@pytest.mark.parametrize("name", FITTING)
def test_a_run_gets_the_measures_that_fit_it(opened, name: str) -> None:
    assert chosen(opened(name), Wanted(), []) == FITTING[name]


def test_findings_and_pictures_are_stored_and_on_the_page(place, opened, capsys) -> None:
    run = opened("model_2").run
    words = ["measure", run, "--samples", "3", "--first", "5", "--json"]
    capsys.readouterr()
    assert main(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [name.partition("-")[0] for name in shown] == FITTING["model_2"]
    assert shown["importance-first5-k3"]["value"]["weighted"]["examples"] == 5
    assert shown["importance-first5-k3"]["value"]["target"].startswith("bernoulli, ")
    assert shown["answers-first5"]["value"]["examples"] == 5
    home = open_storage(f"file://{place}/storage").below(f"runs/{run}")
    stored = {finding.name: files for finding, files in read_findings(home)}
    assert sorted(stored) == sorted(shown)
    assert {name for files in stored.values() for name in files} == {
        "answers-first5.png", "nearest.png"
    }  # fmt: skip
    for name in ("answers-first5", "nearest"):
        pixels = np.asarray(Image.open(io.BytesIO(stored[name][f"{name}.png"])).convert("L"))
        assert pixels.std() > 5
    page = home.read("index.html").decode()
    for finding in shown.values():
        assert finding["title"].replace("'", "&#39;") in page
        for label, _ in finding["rows"]:
            assert label.replace("'", "&#39;") in page
    for title in ("Answers", "Nearest training images"):
        assert f'alt="{title} of {run}"' in page
    assert main(["measure", run, "importance", "--samples", "2", "--first", "3"]) == 0
    assert "test bound, K = 2" in " ".join(capsys.readouterr().err.split())
    names = {finding.name for finding, _ in read_findings(home)}
    assert names == {*stored, "importance-first3-k2"}  # none takes another's place


def test_a_damaged_finding_is_named(tmp_path) -> None:
    home = open_storage(f"file://{tmp_path}")
    home.write(f"{MEASURES}/answers.json", b'{"version": 1}')
    with pytest.raises(DataError, match=r"measures/answers\.json: run: field required"):
        read_findings(home)


def test_bounds_of_test_images_are_those_of_the_record_and_of_samples_those_of_the_model(opened):
    finished = opened("draw")
    value = found(finished, "thousand").value
    record = json.loads(finished.storage.read(f"runs/{finished.run}/run.json"))
    assert value.test.examples == 20
    assert value.test.mean == pytest.approx(record["results"]["test"]["loss"], rel=1e-5)
    assert value.sampled.examples == 1000
    assert value.drawn == "Bernoulli draws of the pixels"
    again = found(finished, "thousand").value
    other = found(finished, "thousand", seed=1).value
    assert again == value
    assert other.test == value.test
    assert other.sampled != value.sampled
    # An untrained model draws near coins, which cost a coin each.
    assert value.sampled.mean == pytest.approx(144 * np.log(2), rel=0.1)
    assert value.sampled.most > value.sampled.mean + value.sampled.sigma


def test_samples_in_blocks_are_those_of_one_draw(opened) -> None:
    finished = opened("vae")
    blocks = torch.cat(list(finished.images(450, seed=3)))
    torch.testing.assert_close(blocks, finished.model.sample(450, 3)["images"])


def test_answers_are_counted_one_by_one(opened) -> None:
    finished = opened("cnn")
    value = found(finished, "answers").value
    table = np.zeros((10, 10), dtype=int)
    with torch.no_grad():
        for _, batch in batches(finished.loader("test"), finished.device):
            said = finished.model.network(batch.x).argmax(1)
            for true, answer in zip(batch.y[batch.mask], said[batch.mask], strict=True):
                table[true, answer] += 1
    assert value.confusion == table.tolist()
    record = json.loads(finished.storage.read(f"runs/{finished.run}/run.json"))
    assert value.error == pytest.approx(1 - record["results"]["test"]["terms"]["correct"])
    assert value.low < value.error < value.high
    assert value.wrong == 20 - table.trace()


def test_further_answers_are_those_to_a_larger_data_sets_last_pictures(opened, tmp_path) -> None:
    finished = opened("cnn")
    stored = finished.manifest.splits["test"]
    larger = replace(finished.job.data, test=stored + 37)
    job = replace(finished.job, data=larger, storage=f"file://{tmp_path}")
    manifest, storage = prepared(job)
    loader = open_loader(job, manifest, storage, "test", {})
    assert loader.split.examples == stored + 37
    said, true = [], []
    with torch.no_grad():
        for _, batch in batches(loader, finished.device):
            said += finished.model.network(batch.x).argmax(1)[batch.mask].tolist()
            true += batch.y[batch.mask].tolist()
    table = np.zeros((10, 10), dtype=int)
    np.add.at(table, (true[stored:], said[stored:]), 1)
    value = found(finished, "further", further=37).value
    assert value.confusion == table.tolist()
    assert (value.examples, value.wrong) == (37, 37 - table.trace())
    assert value.rows()[0][0] == "further test error"
    other = found(finished, "further", further=37, split="val")
    assert (other.of, other.value.split) == ("val-37", "val")
    labels = ["further val error", "95 % interval (Wilson)", "most often"]
    assert [label for label, _ in other.value.rows()] == labels
    assert other.value.confusion != value.confusion
    strewn = replace(finished, job=replace(finished.job, data=Cluttered(draws="fresh")))
    with pytest.raises(JobError, match="made anew whenever they are read; write answers --split"):
        found(strewn, "further", further=37, split="train")


def test_two_classifiers_are_compared_example_by_example(opened) -> None:
    one, other = opened("cnn"), opened("other_cnn")
    value = found(one, "against", against=other).value
    back = found(other, "against", against=one).value
    errors = [found(run, "answers").value.error for run in (one, other)]
    assert [value.mine, value.others] == pytest.approx(errors)
    assert value.difference.mean == pytest.approx(errors[1] - errors[0])
    assert (value.wrong_here_only, value.wrong_there_only, value.p) == (
        back.wrong_there_only, back.wrong_here_only, back.p,
    )  # fmt: skip
    assert value.wrong_there_only - value.wrong_here_only == round(20 * (errors[1] - errors[0]))
    assert value.method == "matched proportions"


def test_two_models_with_a_likelihood_are_compared_by_their_bounds(opened) -> None:
    value = found(opened("draw"), "against", against=opened("vae")).value
    assert (value.metric, value.method, value.p) == ("loss", "paired t", None)
    assert value.difference.examples == 20


@pytest.mark.parametrize(
    ("name", "other", "said"),
    [("cnn", "draw", "differ in classifies"), ("draw", "dcgan", "differ in measures"),
     ("cnn", "wide_cnn", "differ in test examples"), ("cnn", "model_2", "differ in binarisation")],
)  # fmt: skip
def test_runs_whose_numbers_mean_different_things_are_not_compared(opened, name, other, said):
    with pytest.raises(JobError, match=said):
        found(opened(name), "against", against=opened(other))


def test_a_comparison_without_an_interval_names_both_runs_and_the_cause(place, opened) -> None:
    single = ["--set", "name=single", "--set", "data.test=1"]
    assert main(["run", "cnn.yaml", "--without-ray", *single]) == 0
    draw, vae, one = opened("draw"), opened("vae"), opened("single")
    next(vae.model.parameters()).data.fill_(float("nan"))
    for mine, other, cause in (
        (draw, vae, "the loss of the second is not finite on 20 of 20 examples"),
        (vae, draw, "the loss of the first is not finite on 20 of 20 examples"),
        (one, one, r"\(1,\) differences; an interval needs two examples or more"),
    ):
        with pytest.raises(DataError, match=f"^{mine.run} and {other.run} on .*: {cause}; compare"):
            found(mine, "against", against=other)


@pytest.mark.parametrize("name", ["draw", "vae", "dcgan"])
def test_classes_of_samples_are_the_classifiers_answers_to_them(opened, name: str) -> None:
    finished, judge = opened(name), opened("cnn")
    files = found(finished, "classes", classifier=judge, count=250, seed=5)
    value = files.value
    images = finished.model.sample(250, 5)["images"]
    with torch.no_grad():
        answers = judge.model.network(images).argmax(1)
    assert value.counts == torch.bincount(answers, minlength=10).tolist()
    assert sum(value.trained_on) == 70
    assert 0 <= value.p_training <= 1
    assert value.shown_as == "their means"
    assert Image.open(io.BytesIO(files.files["png"])).width > 700


@pytest.mark.parametrize(
    ("name", "judge", "said"),
    [("draw", "vae", "a vae that names no classes; give a run of a classifier"),
     ("draw", "wide_cnn", r"takes pictures of \(1, 16, 16\), the samples of draw-\w+ are")],
)  # fmt: skip
def test_a_classifier_that_does_not_fit_is_said_in_one_line(opened, name, judge, said) -> None:
    with pytest.raises(JobError, match=said):
        found(opened(name), "classes", classifier=opened(judge))


def test_the_nearest_image_is_that_of_all_distances_and_a_copy_is_found(opened) -> None:
    finished = opened("cnn")
    loader = open_loader(
        finished.job, finished.manifest, finished.storage, "train", {}, batch_size=16
    )
    train = torch.cat([b.x[b.mask] for _, b in batches(loader, finished.device)])
    wanted = torch.cat([train[[3, 69]], torch.rand(8, 1, 12, 12)])
    done = []
    places, squares, images = search(wanted, loader, lambda at, total: done.append((at, total)))
    every = (wanted[:, None].double() - train[None].double()).square().flatten(2).sum(2)
    torch.testing.assert_close(squares, every.min(1).values, rtol=1e-9, atol=1e-9)
    assert places.tolist() == every.argmin(1).tolist()
    assert places[:2].tolist() == [3, 69]
    assert torch.equal(images, train[places])
    assert done[-1] == (70, 70)


def test_nearest_images_are_grey_whatever_the_model_was_trained_on(opened) -> None:
    value = found(opened("draw"), "nearest").value
    assert value.searched == 70
    assert len(value.distances) == 30
    assert len(value.test_distances) == 20
    assert 0 < min(value.distances) < 1
    strewn = replace(opened("draw").job, data=Cluttered(draws="fresh"))
    with pytest.raises(JobError, match=r"^draw-\w+: its train pictures are made anew whenever"):
        found(replace(opened("draw"), job=strewn), "nearest")


def test_bits_per_character_and_text_at_six_temperatures(opened) -> None:
    finished = opened("verse")
    written = found(finished, "text")
    record = json.loads(finished.storage.read(f"runs/{finished.run}/run.json"))
    result = record["results"]["test"]
    assert written.value.bits.mean == pytest.approx(result["loss"] / 9 / np.log(2), rel=1e-5)
    assert written.value.chance == pytest.approx(np.log2(96))
    assert written.value.wrong == pytest.approx(1 - result["terms"]["correct"], abs=1e-6)
    text = written.files["txt"].decode()
    assert [f"temperature {t}\n" in text for t in (0.4, 0.6, 0.8, 1.0, 1.2, 1.4)] == [True] * 6
    assert len(text) > len(TEMPERATURES) * CHARACTERS


@pytest.mark.parametrize(
    ("words", "said"),
    [(["cnn", "importance"], "measure importance needs a likelihood with latents, which cnn-"),
     (["cnn", "fast"], "'fast' is no measure; write some of importance, thousand"),
     (["cnn", "against"], "measure against needs --against RUN"),
     (["draw", "classes"], "measure classes needs --classifier RUN"),
     (["cnn", "--classifier", "cnn"], "makes no pictures that it could name"),
     (["draw", "--samples", "0"], "--samples 0: write 1 or more"),
     (["cnn", "reach"], "measure reach needs --target NATS"),
     (["cnn", "further"], "measure further needs --further N"),
     (["draw", "further", "--further", "9"], "measure further needs class answers to pictures"),
     (["cnn", "further", "--further", "0"], "--further 0: write 1 or more"),
     (["dcgan", "reach", "--target", "1"], "measure reach needs a loss that falls, which dcgan-"),
     (["--seed", "1", "draw", "--samples", "0", "importance"], "--samples 0: write 1 or more"),
     (["cnn", "--seed", "1", "fast"], "'fast' is no measure; write some of importance, thousand")],
)  # fmt: skip
def test_what_cannot_be_measured_is_said_in_one_line(place, capsys, words, said) -> None:
    assert main(["measure", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_curve_of_known_numbers_is_found_again_and_drawn_on() -> None:
    hours = np.linspace(0.05, 3, 60)
    fit = fitted(hours, 80 + 12 * hours**-0.5)
    assert (fit.level, fit.scale, fit.power) == pytest.approx((80, 12, 0.5))
    assert fit.until(82) == pytest.approx(36)
    assert fit.until(79.9) is None
    assert fitted(hours, 80 + hours).until(100) is None  # it rises


def test_reach_tells_the_hours_of_all_starts_and_draws_its_curve(place, opened, capsys) -> None:
    more = ["--set", "name=longer", "--set", "train.validate_every_steps=1"]
    assert main(["run", "draw.yaml", "--without-ray", *more, "--set", "train.total_epochs=4"]) == 0
    finished = opened("longer")
    result = found(finished, "reach", target=70.0)
    rows = read_metrics(finished.storage, finished.run)
    assert result.value.hours == pytest.approx(sum(rows["train"]["seconds"].to_pylist()) / 3600)
    assert result.value.best == min(rows["validation"]["loss"].to_pylist())
    hours, losses = validations(finished.storage, finished.run, "loss")
    assert len(hours) == len(losses) == 20
    assert result.value.fits[0] == fitted(hours, losses)
    assert [fit.since for fit in result.value.fits] == [hours[i] for i in (0, 2, 4, 6, 8)]
    with Image.open(io.BytesIO(result.files["png"])) as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    told = dict(result.value.rows())
    assert "after 4 epochs" in told["so far, validation"]
    there = found(finished, "reach", target=float(losses[3]) + 1e-6).value
    assert dict(there.rows())[f"{there.target:g} nats"].startswith("reached after ")
    assert there.reached <= hours[3]
    with pytest.raises(DataError, match="1 validations, reach needs 12; train longer"):
        found(opened("draw"), "reach", target=70.0)


def test_a_run_that_goes_on_from_one_of_its_job_has_the_hours_and_epochs_of_both(place, opened):
    every = ["--set", "name=going", "--set", "train.validate_every_steps=1"]
    assert main(["run", "draw.yaml", "--without-ray", *every, "--set", "train.total_epochs=2"]) == 0
    first = opened("going")
    more = ["--set", f"start.run={first.run}", "--set", "train.total_epochs=3"]
    assert main(["run", "draw.yaml", "--without-ray", *every, *more]) == 0
    storage = first.storage
    made = {one for one in storage.folders("runs") if one.startswith("going-")}
    (last,) = made - {first.run}
    both = [read_record(storage, one) for one in (first.run, last)]
    hours, losses, epochs = whole_curve(storage, both[1])
    parts = [validations(storage, one.id, "loss") for one in both]
    assert losses.tolist() == [*parts[0][1], *parts[1][1]]
    spent = both[0].train_seconds / 3600
    assert hours.tolist() == [*parts[0][0], *(parts[1][0] + spent)]
    assert (epochs[-1], len(epochs)) == (5, 25)
    other = replace(both[1], name="of another job")
    assert len(whole_curve(storage, other)[0]) == 15
