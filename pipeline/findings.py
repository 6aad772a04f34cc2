"""What a finished run was found to be, and where: ``runs/<run id>/measures/<name>.json``."""

from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from pipeline.storage import NotFound, Storage
from pipeline.values import STRICT, from_json

MEASURES = "measures"
"""The folder of all findings below a run's; pictures and texts bear the name of their finding."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finding:
    """One measure of one run, with the words in which a page and a terminal tell it."""

    VERSION: ClassVar[int] = 1

    version: int = VERSION
    run: str
    name: str
    """``kind``, or ``kind-what`` where a run can have several of a kind."""
    title: str
    about: str
    """What the reader of a page has to know to understand the numbers and the picture."""
    rows: list[tuple[str, str]]
    """Label and text of each line of a table."""
    value: dict[str, Any]
    """The numbers themselves: the fields of the measure's own dataclass."""


def read_finding(home: Storage, name: str) -> Finding | None:
    """One finding in a run's folder, None if it was not made. Raises DataError if damaged."""
    key = f"{MEASURES}/{name}.json"
    try:
        return from_json(Finding, home.read(key), home.address(key))
    except NotFound:
        return None


def read_findings(home: Storage) -> list[tuple[Finding, dict[str, bytes]]]:
    """All findings in a run's folder, each with its pictures and texts by file name.

    Raises DataError for a damaged one.
    """
    keys = sorted(entry.key for entry in home.list(MEASURES))
    found = []
    for key in [key for key in keys if key.endswith(".json")]:
        stem = key.removesuffix(".json")
        beside = [k for k in keys if k != key and k.rsplit(".", 1)[0] == stem]
        finding = from_json(Finding, home.read(key), home.address(key))
        found.append((finding, {k.rsplit("/", 1)[-1]: home.read(k) for k in beside}))
    return found
