"""How this project's values become JSON and come back: strictly, canonically, by version."""

import json
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import DataError

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=True)
T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses, tuples and dicts as plain JSON values; keeps the order of fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    return value


def to_json(value: Any) -> bytes:
    """Readable JSON with a final newline; the same value gives the same bytes."""
    return (json.dumps(to_plain(value), indent=1, ensure_ascii=False) + "\n").encode()


def from_json(kind: type[T], data: bytes, where: str) -> T:
    """Reads what ``to_json`` wrote.

    Raises DataError with ``where`` (the object's name) when it is not JSON, has unknown or missing
    fields, or comes from a newer version of this program.
    """
    try:
        plain = json.loads(data)
        known = getattr(kind, "VERSION", None)
        if known is not None and isinstance(plain, dict):
            found = plain.get("version")
            if isinstance(found, int) and found > known:
                raise DataError(
                    f"{where}: written by a newer draw-pipeline (format {found}, this one reads up "
                    f"to {known}); update this installation"
                )
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as fault:
        first = fault.errors()[0]
        path = ".".join(str(part) for part in first["loc"]) or "the top"
        raise DataError(
            f"{where}: {path}: {first['msg'].lower()}; not an object of this program"
        ) from None
    except (ValueError, RecursionError) as fault:  # not JSON, too deep, or too long a number
        raise DataError(f"{where}: not JSON ({fault}); the object is damaged") from None


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value: what it says, not how it is laid out."""
    text = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()
