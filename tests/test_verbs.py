"""Every verb of the command line on one small finished run, as a person would call them."""

import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from draw_model import Model
from pipeline import checkpoint
from pipeline.__main__ import main
from pipeline.errors import EXIT_CODES
from pipeline.job_file import check_job, dump_job
from pipeline.storage import open_storage
from pipeline.values import to_plain
from tests.tiny import tiny_job

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a job file, and the finished run of it."""
    folder = tmp_path_factory.mktemp("verbs")
    job = tiny_job(f"file://{folder}/storage")
    (folder / "job.yaml").write_text(dump_job(job))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DRAW_STORAGE", job.storage)
        environment.setenv("DRAW_CACHE", str(folder / "cache"))
        environment.chdir(folder)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        assert main(["run", "job.yaml", "--without-ray"]) == 0
        yield folder
        torch.set_num_threads(threads)


@pytest.fixture
def call(place, capsys):
    def words(*arguments):
        code = main([*arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return words


def storage_of(place):
    return open_storage(f"file://{place}/storage")


def test_a_finished_run_has_all_that_a_reader_needs(place):
    storage = storage_of(place)
    (run,) = storage.folders("runs")
    home = storage.below(f"runs/{run}")
    record = json.loads(home.read("run.json"))
    keys = {entry.key.split("/")[0] for entry in home.list()}
    assert keys >= {"run.json", "job.yaml", "index.html", "weights.safetensors", "model.json",
                    "checkpoints", "metrics", "pictures", "attempts"}  # fmt: skip
    pictures = {e.key.removeprefix("pictures/"): home.read(e.key) for e in home.list("pictures")}
    assert set(pictures) == {"samples.png", "generation.png", "generation.gif", "curves.png",
                             "reconstructions.png", "reconstruction.png"}  # fmt: skip
    for data in pictures.values():
        Image.open(io.BytesIO(data)).load()
    page = home.read("index.html").decode()
    assert f"{record['results']['test']['loss']:.2f}" in page
    assert run in storage.read("index.html").decode()


def test_the_same_job_again_is_already_complete(call):
    code, value, _ = call("run", "job.yaml", "--without-ray")
    assert (code, value["already"]) == (0, True)


def test_evaluating_again_gives_the_number_of_the_record(call):
    _, record, _ = call("run", "job.yaml", "--without-ray")
    code, result, _ = call("evaluate", record["id"][:8])
    assert code == 0
    assert result == record["results"]["test"]
    assert call("evaluate", record["id"], "--split", "val")[1] == record["results"]["val"]


def test_samples_are_a_function_of_the_seed(call, place):
    files = {}
    for seed, folder in (("1", "a"), ("1", "b"), ("2", "c")):
        code, value, _ = call("sample", "tiny", "--count", "4", "--seed", seed, "--out", folder)
        assert code == 0
        files[folder] = (place / value["files"][0]).read_bytes()
    assert files["a"] == files["b"] != files["c"]


def test_a_run_on_text_prints_and_writes_text_and_goes_on_with_a_primer(place, capsys):
    (place / "verse.txt").write_text("To be, or not to be: that is the question.\n" * 12)
    job = tiny_job(f"file://{place}/storage")
    plain = to_plain(job) | {"name": "verse", "model": {"kind": "char_rnn", "hidden": 8}}
    plain["data"] = {"source": "text", "file": str(place / "verse.txt"), "length": 9}
    (place / "verse.yaml").write_text(dump_job(check_job(plain, "verse")))
    assert main(["run", "verse.yaml", "--without-ray"]) == 0
    shown = capsys.readouterr().err
    assert "(target: characters)" in " ".join(shown.split())
    assert "wrong characters" in shown
    assert "grey" not in shown
    written = {}
    for name, words in (
        ("plain", ["--count", "3"]),
        ("primed", ["--count", "40", "--primer", "To be"]),
        ("colder", ["--count", "40", "--primer", "To be", "--temperature", "0.4"]),
    ):
        assert main(["sample", "verse", "--out", name, *words]) == 0
        written[name] = (place / name / "samples.txt").read_text()
        assert capsys.readouterr().out == written[name] + "\n"
    assert len(written["plain"]) == 3 * 9 + 2 * 2
    assert written["primed"].startswith("To be")
    assert len(written["primed"]) == 45
    assert written["primed"] != written["colder"]
    for words, said in (
        (["sample", "verse", "--primer", "café"], "primer has 'é'; write"),
        (["sample", "verse", "--primer", "a", "--temperature", "0"], "temperature is 0.0"),
        (["sample", "tiny", "--primer", "a"], "--primer 'a': this model writes no text"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    storage = storage_of(place)
    (run,) = (run for run in storage.folders("runs") if run.startswith("verse"))
    storage.delete(*[entry.key for entry in storage.list(f"runs/{run}")])


def test_a_data_set_is_shown_verified_and_named_when_damaged(call, place):
    code, manifest, _ = call("show", "synthetic", "--sheet", "sheet.png")
    assert (code, manifest["splits"]) == (0, {"train": 70, "val": 20, "test": 20})
    with Image.open(place / "sheet.png") as sheet:
        assert sheet.size[0] > 100
    assert call("verify", "synthetic")[0] == 0
    storage = storage_of(place)
    key = next(e.key for e in storage.list("datasets") if e.key.endswith("val-000000.tar"))
    whole = storage.read(key)
    storage.write(key, whole[:-1] + b"x")
    code, value, err = call("verify", "synthetic")
    storage.write(key, whole)
    assert code == 3
    assert "val-000000.tar" in value["error"]
    assert "val-000000.tar" in err


def test_runs_are_listed_also_those_that_were_cut_off(call, place):
    storage = storage_of(place)
    (run,) = storage.folders("runs")
    for entry in list(storage.list(f"runs/{run}/checkpoints")):
        storage.write(entry.key.replace(run, "cut-0123456789"), storage.read(entry.key))
    code, rows, _ = call("runs")
    assert code == 0
    assert {row["id"]: row["status"] for row in rows} == {
        run: "complete", "cut-0123456789": "unfinished",
    }  # fmt: skip
    assert call("report", "cut")[0] == 0
    assert storage.exists("runs/cut-0123456789/index.html")
    code, value, _ = call("evaluate", "cut")
    assert (code, "the run is not finished" in value["error"]) == (3, True)
    storage.delete(*[entry.key for entry in storage.list("runs/cut-0123456789")])


def test_an_unknown_run_or_data_set_is_one_line_that_names_those_there_are(call):
    for words, code, said in (
        (("sample", "nope"), 4, "tiny-"),
        (("show", "nope"), 3, "synthetic"),
        (("runs", "--storage", "ftp://x"), 4, "s3://"),
        (("run", "nope.yaml"), 2, "no such file"),
    ):
        found, value, err = call(*words)
        assert found == code == value["exit_code"]
        assert said in value["error"]
        assert err.count("\n") == 1
        assert code in EXIT_CODES


def test_the_readme_example_loads_the_weights_and_samples(place):
    text = (ROOT / "README.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    assert len(example.strip().splitlines()) <= 10
    storage = storage_of(place)
    (run,) = storage.folders("runs")
    folder = place / "storage" / "runs" / run
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", example], cwd=folder,
        capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(folder / "samples.png") as samples:
        assert samples.size == (8 * 12, 12)
    (folder / "samples.png").unlink()


def test_published_weights_are_those_of_the_best_checkpoint(place):
    storage = storage_of(place)
    (run,) = storage.folders("runs")
    home = storage.below(f"runs/{run}")
    best = json.loads(home.read("run.json"))["best_step"]
    assert home.read("weights.safetensors") == checkpoint.read(home, best)[checkpoint.MODEL]


def test_plan_says_what_a_job_would_take_and_stores_nothing(call, place):
    before = {entry.key for entry in storage_of(place).list()}
    code, value, _ = call("plan", "job.yaml")
    assert code == 0
    assert (value["shape"], value["classes"], value["shards"]) == ([1, 12, 12], 10, 3)
    assert (value["steps_an_epoch"], value["total_steps"]) == (5, 15)
    (run,) = storage_of(place).folders("runs")
    record = json.loads(storage_of(place).read(f"runs/{run}/run.json"))
    assert value["parameters"] == record["parameters"]
    # Two matrix products an LSTM, forward and twice that backward, are less than all there are.
    n, hidden, latent, steps, batch = 3, 16, 4, 3, 16
    cells = (2 * n * n + 2 * hidden) * 4 * hidden + (latent + hidden) * 4 * hidden
    assert value["flops_a_step"] > 2 * 3 * cells * steps * batch * 0.9
    assert 0 < value["step_seconds"] < 60
    assert before == {entry.key for entry in storage_of(place).list()}


def test_a_planned_step_accumulates_its_parts_and_then_steps_once(call):
    steps, parts = [0], 0

    def part(module, _):
        nonlocal parts
        parts += isinstance(module, Model)

    with (
        register_module_forward_pre_hook(part),
        register_optimizer_step_post_hook(lambda *_: steps.append(parts)),
    ):
        code, value, _ = call("plan", "job.yaml", "--set", "train.accumulation=8")
    assert code == 0
    counts = [after - before for before, after in pairwise(steps)]
    assert counts[1:] == [8] * (len(counts) - 1)
    assert len(counts) > 1
    assert value["examples_per_second"] == pytest.approx(16 / value["step_seconds"])


def test_the_fewest_wrong_answers_of_a_model_that_answers_nothing_are_refused_at_once(call, place):
    best = ("run", "job.yaml", "--without-ray", "--set", "train.keep_best=error")
    code, fault, _ = call(*best, "--set", "name=answerless")
    assert (code, fault["error"]) == (
        2, "answerless: train.keep_best is error, but a model of kind draw gives no answers; write "
        "loss or last"
    )  # fmt: skip
    assert not [run for run in storage_of(place).folders("runs") if run.startswith("answerless")]


def test_a_run_starts_from_another_that_is_named_loosely_and_records_which_weights(call):
    first = call("run", "job.yaml", "--without-ray")[1]
    options = ("--set", "name=further", "--set", "model.steps=4")
    again = ("run", "job.yaml", "--without-ray", *options)
    code, value, _ = call(*again, "--set", "start.run=tiny")
    assert code == 0
    start = value["job"]["start"]
    weights = first["weights_sha256"]
    assert start == {
        "run": first["id"], "step": None, "weights_sha256": weights, "also": [], "code": "",
    }  # fmt: skip
    named = call(*again, "--set", f"start.run={first['id']}")[1]
    assert (named["already"], named["id"]) == (True, value["id"])
    code, fault, _ = call(*again, "--set", "start.run=tiny", "--set", "model.window_rate=0.5")
    assert (code, fault["error"].partition("; ")[0]) == (
        2, f"start.run {first['id']}: its model.window_rate is as by default, here 0.5"
    )  # fmt: skip
    code, fault, _ = call(*again, "--set", "start.run=nope")
    assert (code, "start.run nope is 0 finished runs" in fault["error"]) == (4, True)
    # Its own folder and an unfinished run begin so, too, and are not meant.
    own = ("run", "job.yaml", "--without-ray", "--set", "name=tiny-more")
    started = call(*own, "--set", "start.run=tiny")[1]
    storage = open_storage(started["page"].partition("/runs/")[0])
    storage.write("runs/tiny-0000000000/job.yaml", b"name: tiny")
    assert call(*own, "--set", "start.run=tiny")[1]["already"]
    storage.write("runs/tiny-0000000000/run.json", b"{}")
    code, fault, _ = call(*own, "--set", "start.run=tiny")
    assert (code, "is 2 finished runs; name one of: tiny-0000000000, " in fault["error"]) == (
        4, True
    )  # fmt: skip
    storage.delete("runs/tiny-0000000000/job.yaml", "runs/tiny-0000000000/run.json")
    code, fault, _ = call(*again, "--set", "start.weights_sha256=ab")
    assert (code, "weights_sha256 needs the run" in fault["error"]) == (2, True)
