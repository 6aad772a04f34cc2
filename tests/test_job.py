"""Job files: what may stand in one, and what is said of what may not."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.errors import JobError
from pipeline.job import job_schema, run_id
from pipeline.job_file import dump_job, read_job
from pipeline.manifest import Manifest, Shard

ROOT = Path(__file__).parents[1]
JOBS = sorted((ROOT / "jobs").glob("*.yaml"))
GOOD = """
name: tiny
data: {source: synthetic}
model: {kind: draw}
train: {total_epochs: 2}
"""


@pytest.fixture
def job_file(tmp_path):
    def write(text, *sets):
        path = tmp_path / "job.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_job(path, sets, env={})

    return write


def manifest(sha256="a" * 64):
    shard = Shard(file="t.tar", split="train", first=0, examples=1, bytes=1, sha256=sha256)
    return Manifest(
        version=1, name="x", id="y", source={}, shape=(1, 8, 8), classes=("0",), splits={},
        class_counts={}, shards=(shard,), origin="", licence="",
    )  # fmt: skip


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_every_job_in_the_project_reads_and_fits_the_schema(path):
    read_job(path, env={})
    Draft202012Validator(job_schema()).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_every_job_is_an_executable_script_that_says_what_it_reproduces_and_costs(path):
    lines = path.read_bytes().decode().split("\n")
    assert lines[0] == "#!/usr/bin/env -S python -m pipeline run"
    assert lines[1] == "# yaml-language-server: $schema=job.schema.json"
    assert path.stat().st_mode & stat.S_IXUSR
    head = "\n".join(lines[:12])
    assert all(word in head for word in ("# Reproduces:", "# Expected:", "# Costs:"))
    assert "\r" not in head


def test_git_keeps_the_jobs_executable():
    listed = subprocess.run(
        ["git", "ls-files", "-s", "jobs/*.yaml"], cwd=ROOT, capture_output=True, text=True
    )
    assert listed.returncode == 0, "the tests run in a git checkout"
    assert {line.split()[0] for line in listed.stdout.splitlines()} == {"100755"}


def test_the_schema_on_disk_is_the_one_of_the_types():
    assert json.loads((ROOT / "jobs" / "job.schema.json").read_text()) == job_schema()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.learning_rate=1.0", "train.learning_rate: unknown key; did you mean train.lr?"),
        ("batch_size=3", "batch_size: unknown key; did you mean train.batch_size?"),
        ("model.glimpses=3", "model.glimpses: unknown key; another kind of model has it"),
        ("data.binarization=grey", "unknown key; did you mean data.binarisation?"),
        ("train.lr=1e-3", "train.lr: expected number, found the text '1e-3'; YAML reads 1e-3 as "
         "text: write 1.0e-3"),
        ("train.lr=0", "train.lr: expected greater than 0, found 0"),
        ("train.lr=.nan", "train.lr: expected"),
        ("train.total_epochs=ten", "train.total_epochs: expected integer, found the text 'ten'"),
        ("train.total_epochs=1.5", "train.total_epochs: expected integer"),
        ("train.total_epochs=true", "train.total_epochs: expected integer, found true"),
        ("train.optimizer.kind=adm", "found the text 'adm', expected 'adam', 'rmsprop', 'sgd', "
         "'soap'; did you mean adam?"),
        ("data.binarisation=gray", "did you mean grey?"),
        ("data.source=mnits", "data.source: found the text 'mnits', expected 'synthetic'"),
        ("model.read_n=1", "model: read_n is 1, but a stride needs two filters"),
        ("train.accumulation=1000", "accumulation is 1000, more than batch_size 128"),
        ("name=My Job", "name: expected"),
        ("data=3", "data: expected an object, found 3"),
        ("train.seed=-1", "train.seed: expected greater than or equal to 0, found -1"),
        ("storage=${NOPE}", "storage: the environment variable NOPE is not set"),
        ("train.seed=2024-13-45", "not a YAML value"),
        ("train.seed=" + "9" * 5000, "not a YAML value"),
        ("train.lr=&a [*a]", "aliases are not read"),
        ("cluster.cache_gb=.inf", "cluster.cache_gb: expected"),
        ("train.lr", "write it as --set key.path=value"),
        ("name.x=1", "name is a value, not a section"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line_that_names_the_key_and_the_nearest_right_thing(
    job_file, change, said
):
    with pytest.raises(JobError) as caught:
        job_file(GOOD, change)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert message.startswith("--set") or "job.yaml:" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty; a job needs name, data, model and train"),
        ("- 1", "a job file is a mapping of keys (name, data, …), found a list"),
        ("name: a\nname: b\n", "job.yaml:2: name: stands twice, first at"),
        ("a: &x [1]\nb: *x\n", "job.yaml:2: *x: aliases are not read"),
        ("a:\n\t- b\n", "a tab is used to indent; use spaces"),
        ("a: [1\n", "not YAML"),
        (b"name: \xff\n", "byte 6 is not UTF-8"),
        (b"#" * (1 << 20) + b"##", "larger than 1 MiB"),
        ("a: " + "[" * 5000, "job.yaml"),
        (GOOD.replace("total_epochs: 2", ""), "train.total_epochs: missing"),
        (GOOD.replace("source: synthetic", ""), "data.source: missing"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_job_is_named_with_its_line(job_file, text, said):
    with pytest.raises(JobError) as caught:
        job_file(text)
    assert said in str(caught.value)


def test_every_fault_of_a_file_is_told_at_once(job_file):
    with pytest.raises(JobError) as caught:
        job_file(GOOD, "train.x=1", "model.y=2")
    assert len(str(caught.value).splitlines()) == 2


def test_missing_files_and_folders_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(JobError, match=r"no such file; did you mean jobs/quickstart\.yaml\?"):
        read_job("jobs/quickstrt.yaml")
    with pytest.raises(JobError, match="Is a directory"):
        read_job(tmp_path)


def test_a_value_is_overridden_and_a_variable_expanded(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(GOOD + "storage: ${WHERE:-file:///default}\n")
    job = read_job(path, ["train.lr=1.0e-4", "model.read_n=null"], env={"WHERE": "s3://b/p"})
    assert (job.train.lr, job.model.read_n, job.storage) == (1e-4, None, "s3://b/p")
    assert read_job(path, env={}).storage == "file:///default"


def test_a_job_that_was_written_out_reads_back_equal(job_file):
    job = job_file(GOOD, "train.optimizer.kind=sgd", "train.schedule.kind=cosine")
    assert job_file(dump_job(job)) == job


def test_the_run_id_depends_on_what_decides_the_result_and_on_nothing_else(job_file):
    same = run_id(job_file(GOOD), manifest())
    for other in ("cluster.workers=3", "storage=file:///elsewhere", "cluster.max_failures=9"):
        assert run_id(job_file(GOOD, other), manifest()) == same
    for change in ("train.seed=1", "model.steps=9", "data.binarisation=grey", "train.lr=0.1"):
        assert run_id(job_file(GOOD, change), manifest()) != same
    assert run_id(job_file(GOOD), manifest("b" * 64)) != same


def test_the_command_line_ends_with_the_documented_codes(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(GOOD)

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *words], cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "DRAW_STORAGE": f"file://{tmp_path}/storage"},
        )  # fmt: skip

    secret = call("check", str(path), "--set", "storage=s3://key:hunter2@bucket/x", "--json")
    assert secret.returncode == 4
    assert "hunter2" not in secret.stdout + secret.stderr
    good, bad = call("check", str(path), "--json"), call("check", str(path), "--set", "x=1")
    assert (good.returncode, json.loads(good.stdout)["name"]) == (0, "tiny")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in bad.stderr
    assert json.loads(call("check", str(path), "--set", "x=1", "--json").stdout)["exit_code"] == 2
    assert "exit codes:" in call("run", "--help").stdout
