"""What faults that others published cost: the record that ``tests.benchmarks.faults`` leaves.

All numbers are nats an example of the test set; one value for each seed, in the same order.
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.listing import read_optional
from pipeline.storage import Storage
from pipeline.values import STRICT, from_json, to_json

FAULTS = "faults.json"
"""In the storage's root."""


def spread(values: Sequence[float]) -> str:
    """Mean and half the range."""
    half = (max(values) - min(values)) / 2
    return f"{sum(values) / len(values):.2f} ± {half:.2f}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fault:
    """``prints``: the bound that the faulty program would tell. ``worth``: the true one."""

    name: str
    item: str = ""
    """The source document's item that has it, as 002-45."""
    prints: tuple[float, ...]
    worth: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FaultCosts:
    """The same model trained without a fault and with each."""

    VERSION: ClassVar[int] = 1

    version: int = 1
    setting: str
    machine: str
    right: Annotated[tuple[float, ...], Field(min_length=1)]
    """The bound without any fault."""
    faults: tuple[Fault, ...] = field(default_factory=tuple)

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Fault, item, what it prints, what it is worth, and what it costs: worth less right."""
        rows = [("none", "", spread(self.right), spread(self.right), "–")]
        for one in self.faults:
            costs = [a - b for a, b in zip(one.worth, self.right, strict=True)]
            cost = spread(costs) if any(costs) else "0, but prints another number"
            rows.append((one.name, one.item, spread(one.prints), spread(one.worth), cost))
        return rows


def write_fault_costs(storage: Storage, costs: FaultCosts) -> None:
    storage.write(FAULTS, to_json(costs))


def read_fault_costs(storage: Storage) -> FaultCosts | None:
    """None where nobody measured them. Raises DataError for a damaged record."""
    data = read_optional(storage, FAULTS)
    return None if data is None else from_json(FaultCosts, data, storage.address(FAULTS))
