"""How a champion and all decisions about it look to a reader: one self-contained page."""

from pipeline.champion import Damaged, champion_path, history, latest
from pipeline.errors import DataError
from pipeline.records import PAGE
from pipeline.report import render
from pipeline.storage import Storage


def write_champion_page(storage: Storage, name: str) -> str:
    """Writes the page and returns its key. Damaged decisions are rows of it, not errors."""
    rows = history(storage, name)
    try:
        state, fault = latest(storage, name).after, ""
    except DataError as problem:
        state, fault = None, str(problem)
    page = render(
        "champion.html",
        name=name,
        champion=state.champion if state else None,
        pinned=bool(state and state.pinned),
        fault=fault,
        rows=[{"damaged": isinstance(row, Damaged), "row": row} for row in reversed(rows)],
    )
    key = f"{champion_path(name)}/{PAGE}"
    storage.write(key, page.encode())
    return key
