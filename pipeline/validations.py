"""How a run's validations went: when each was, and what it found."""

import numpy as np

from pipeline.errors import DataError
from pipeline.listing import read_metrics
from pipeline.records import run_path
from pipeline.storage import Storage


def validations(storage: Storage, run_id: str, value: str, *others: str) -> list[np.ndarray]:
    """Hours in steps, ``value`` and other columns of each validation with a finite value, of all
    starts together. Raises DataError where a run has no such row."""
    tables = read_metrics(storage, run_id)
    train, rows = tables.get("train"), tables.get("validation")
    none = f"{storage.address(run_path(run_id))}: no validation with a finite number; leave it out"
    if train is None or rows is None:
        raise DataError(none)
    spent = np.cumsum(train["seconds"].to_numpy()) / 3600
    places = np.searchsorted(train["step"].to_numpy(), rows["step"].to_numpy(), "right") - 1
    values = np.array(rows[value].to_pylist(), dtype=float)
    finite = np.isfinite(values)
    if not finite.any():
        raise DataError(none)
    columns = (rows[name].to_numpy()[finite] for name in others)
    return [spent[places][finite], values[finite], *columns]
