"""digitStruct.mat, which says where the digits are in SVHN's full numbers: HDF5, read warily."""

import re
from math import isfinite
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5r, h5s

from pipeline.errors import DataError
from pipeline.sources.own_files import BROKEN

FIELDS = ("left", "top", "width", "height", "label")
MOST_BOXES, MOST_NAME, MOST_PICTURES = 32, 32, 1 << 20

LABELS = frozenset(range(1, 11))

Id = Any
"""A file, group or data set of h5py's lower half: the upper one takes five times as long."""

Row = tuple[int, float, float, float, float, int]
"""Picture number; left, top, right, bottom of the box around all digits; how many digits."""


def read_boxes(path: Path) -> list[Row]:
    """Every number of a digitStruct.mat, in the file's order; pixels are counted from 0.

    It is HDF5: ``digitStruct`` holds columns of references, ``name`` to characters and ``bbox`` to
    groups of five columns, which hold one value, or a reference to one for each digit.
    Raises DataError for anything else: no other link, reference or kind of storage is followed, and
    nothing is read before its size is known.
    """
    where = "the top"
    try:
        with h5py.File(path, "r") as opened:
            file = opened.id
            top = _member(file, "digitStruct", h5g.GroupID)
            names, boxes = (_references(_member(top, n, h5d.DatasetID)) for n in ("name", "bbox"))
            if len(names) != len(boxes):
                raise ValueError(f"{len(names)} names and {len(boxes)} boxes")
            rows = []
            for place, (name, box) in enumerate(zip(names, boxes, strict=True)):
                where = f"entry {place + 1}"
                rows.append((_number(file, name), *_around(file, box)))
            return rows
    except BROKEN as fault:
        reason = " ".join(str(fault).split())[:120]
        raise DataError(f"{path}: {where}: {reason}; get the official file") from None


def _number(file: Id, reference: Any) -> int:
    codes = _values(_target(file, reference, h5d.DatasetID), MOST_NAME, "u")
    name = "".join(map(chr, codes.tolist()))
    if not re.fullmatch(r"\d{1,7}\.png", name, re.ASCII):
        raise ValueError(f"a picture named {name!r}, expected a number and .png")
    return int(name[:-4])


def _around(file: Id, reference: Any) -> tuple[float, float, float, float, int]:
    group = _target(file, reference, h5g.GroupID)
    columns = [_column(file, _member(group, field, h5d.DatasetID)) for field in FIELDS]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"columns of {[len(column) for column in columns]} values")
    left, top, width, height, label = columns
    if not all(isfinite(value) for column in columns for value in column):
        raise ValueError("a box that is not finite")
    if not all(value in LABELS for value in label):
        raise ValueError(f"labels {label}, expected 1 to 10")
    right = max(a + b for a, b in zip(left, width, strict=True))
    bottom = max(a + b for a, b in zip(top, height, strict=True))
    if right <= min(left) or bottom <= min(top):
        raise ValueError("a box without area")
    return min(left), min(top), right, bottom, len(label)


def _column(file: Id, data: Id) -> list[float]:
    """One value stored as such, or one for each reference."""
    if data.dtype.kind != "O":
        return [float(_values(data, 1, "f")[0])]
    targets = (_target(file, one, h5d.DatasetID) for one in _references(data, MOST_BOXES))
    return [float(_values(target, 1, "f")[0]) for target in targets]


def _references(data: Id, most: int = MOST_PICTURES) -> np.ndarray:
    if h5py.check_ref_dtype(data.dtype) is not h5py.Reference:
        raise ValueError(f"{data.dtype} {data.shape}, expected a column of references")
    return _values(data, most, "O")


def _values(data: Id, most: int, kind: str) -> np.ndarray:
    """The values of a column that is in this file itself."""
    how = data.get_create_plist()
    if how.get_layout() == h5d.VIRTUAL or how.get_external_count():
        raise ValueError("values that lie in another file; refused")
    found, shape = data.dtype, data.shape
    if found.kind != kind or len(shape) != 2 or shape[1] != 1 or not 1 <= shape[0] <= most:
        raise ValueError(f"{found} {shape}, expected a column of 1 to {most} of kind {kind}")
    values = np.empty(shape, found)
    data.read(h5s.ALL, h5s.ALL, values)
    return values[:, 0]


def _member(group: Id, name: str, kind: type[Id]) -> Id:
    """A member that is in this file itself: a soft or external link leads who knows where."""
    key = name.encode()
    if not group.links.exists(key) or group.links.get_info(key).type != h5l.TYPE_HARD:
        raise ValueError(f"{name} is missing or a link to elsewhere")
    return _expected(h5o.open(group, key), kind, name)


def _target(file: Id, reference: Any, kind: type[Id]) -> Id:
    if not reference:
        raise ValueError("an empty reference")
    return _expected(h5r.dereference(reference, file), kind, "a reference")


def _expected(found: Id, kind: type[Id], what: str) -> Id:
    if not isinstance(found, kind):
        raise ValueError(f"{what} leads to a {type(found).__name__}, expected {kind.__name__}")
    return found
