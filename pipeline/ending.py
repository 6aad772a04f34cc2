"""How a run was last left unfinished: ``runs/<run id>/ended.json`` says stopped or failed, and why.

One that was killed says nothing; it is known by the age of what it wrote.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from pipeline.errors import Interrupted, PipelineError
from pipeline.storage import Storage
from pipeline.values import STRICT, to_json

ENDING = "ended.json"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ending:
    """Of the newest start that has ended; an attempt or a checkpoint that is newer outdates it."""

    VERSION: ClassVar[int] = 1

    version: int = 1
    status: Literal["stopped", "failed"]
    reason: str
    at: str
    """UTC, ISO 8601."""


@contextmanager
def noted(run: Storage) -> Iterator[None]:
    """Writes the ending of the run in the folder ``run`` when what is inside raises."""
    try:
        yield
    except BaseException as fault:
        failed = isinstance(fault, Exception) and not isinstance(fault, Interrupted)
        told = isinstance(fault, PipelineError) or not failed
        # What is no PipelineError may quote anything, a secret too.
        reason = str(fault) if told else f"{type(fault).__name__}, a fault of the program"
        ending = Ending(
            status="failed" if failed else "stopped",
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with suppress(PipelineError):  # storage may be what failed; the fault itself is told
            run.write(ENDING, to_json(ending))
        raise
