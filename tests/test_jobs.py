"""Every job file in jobs/: it reads, its model can be built for its data, and its head says why."""

import os
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.job_file import read_job
from pipeline.loader import cropped, model_for

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.yaml"))
HEAD = ("Reproduces: ", "Expected: ", "Costs: ")
SETTINGS = """
000-04 000-05 000-13 000-17 000-18 000-22 000-23 000-26
001-04 001-05 001-06 001-07 001-08 001-09 001-10 001-21 001-23 001-25
002-18 002-19 002-20 002-21 002-22 002-30 002-31 002-33 002-35 002-37 002-40 002-42 002-59 002-61
003-19 003-20 003-21 003-22 003-23 003-24
004-02 004-14 004-17 004-18 004-19 004-22 004-27 004-28 004-30 004-33 004-34 004-35 004-38
""".split()  # noqa: SIM905
"""Rows of the source documents that are a model with its settings, or a study of them."""
PAPER = {
    "cluttered": {"steps": 8, "hidden": 256, "read_n": 12},
    "mnist_paper": {"steps": 64, "hidden": 256, "latent": 100, "read_n": 2, "write_n": 5},
    "svhn_paper": {"steps": 32, "hidden": 800, "latent": 100, "read_n": 12, "write_n": 12},
    "cifar10_paper": {"steps": 64, "hidden": 400, "latent": 200, "read_n": 5, "write_n": 5},
}
"""The paper's Table 3."""


@pytest.fixture(autouse=True)
def own_images(tmp_path, monkeypatch):
    """What jobs/own_images.yaml asks for: a folder of pictures with classes as folders."""
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for k in range(12):
            Image.new("RGB", (70, 80), (k, k, k)).save(tmp_path / name / f"{k}.png")
    monkeypatch.setenv("DRAW_IMAGES", str(tmp_path))


def rows(text):
    """Ids such as 002-30, and those between the two of ``002-30 to 002-32``."""
    found = set(re.findall(r"\d{3}-\d{2}", text))
    for source, first, last in re.findall(r"(\d{3})-(\d{2}) to \1-(\d{2})", text):
        found |= {f"{source}-{k:02d}" for k in range(int(first), int(last) + 1)}
    return found


def head(path):
    lines = [line[2:] for line in path.read_text().splitlines()[3:] if line.startswith("# ")]
    return " ".join(line.strip() for line in lines)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_a_job_reads_says_why_it_is_there_and_its_model_can_be_built(path, tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("All that is gold does not glitter.\n" * 100)
    own = [f"data.file={text}"] if "source: text" in path.read_text() else []
    job = read_job(str(path), own)
    assert job.name == path.stem
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env -S python -m pipeline run\n# yaml-language")
    assert all(part in head(path) for part in HEAD)
    about = job.data.about()
    with torch.device("meta"):
        model = model_for(
            job, cropped(about.shape, getattr(job.data, "crop", None)), len(about.classes)
        )
    assert sum(parameter.numel() for parameter in model.parameters()) > 10_000


def test_the_settings_of_the_documents_each_have_a_job():
    covered = set().union(*(rows(head(path)) for path in JOBS))
    assert not set(SETTINGS) - covered


@pytest.mark.parametrize("name", PAPER)
def test_the_rows_of_the_papers_table_of_settings_are_as_printed(name):
    job = read_job(str(JOBS[0].parent / f"{name}.yaml"), [])
    assert {key: getattr(job.model, key) for key in PAPER[name]} == PAPER[name]
