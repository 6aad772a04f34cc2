"""What ``results.yaml`` lists of what others reported."""

import re
from pathlib import Path

from pipeline.job_file import read_job
from pipeline.results import read_items

ROOT = Path(__file__).parents[1]
REPORTED = {
    "000": "06 07 08 09 10 15 16 17 18 23 24",
    "001": "01 11 12 13 14 15 16 17 18 21 23 25 27 28 29 30",
    "002": "08 09 10 11 12 13 14 15 16 17 18 19 20 21 22 30 33 35 40 56 59 64 65 66 67",
    "003": "19 20 21 22 23 24 25 26",
    "004": "05 06 07 08 09 12 13 14 15 21 22 24 26 27 28 29 30 31 33 34 38",
}
"""Every experiment, evaluation and reported number of the source documents."""


def ids(text: str) -> set[str]:
    """Of one entry: "002-08 to -14" are seven, "001-12, -27" two."""
    source, found = text[:3], set[str]()
    for part in text[3:].split(","):
        ends = re.findall(r"-(\d\d)", part)
        if " to " in part:
            found |= {f"{source}-{n:02}" for n in range(int(ends[0]), int(ends[1]) + 1)}
        else:
            found |= {f"{source}-{n}" for n in ends}
    return found


def test_every_experiment_and_number_of_the_documents_has_a_row():
    there = set().union(*(ids(item.id) for item in read_items()))
    wanted = {f"{source}-{n}" for source, all in REPORTED.items() for n in all.split()}
    assert wanted <= there


def test_every_row_names_jobs_that_there_are_and_values_that_a_job_can_have():
    for item in read_items():
        assert item.jobs or item.ours
        for job in item.jobs:
            path = ROOT / "jobs" / f"{job}.yaml"
            read_job(path, [f"{key}={value}" for key, value in item.where.items()])
