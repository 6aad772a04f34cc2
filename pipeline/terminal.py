"""What a person sees while a job runs: one line a stage, a bar on long work, a table at the end.

On a terminal the bar moves; elsewhere (a job's log) a line is printed every few seconds. All of it
goes to standard error, so that standard output is free for ``--json``, which leaves of it only how
far long work is.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pipeline.records import Result, RunRecord

if TYPE_CHECKING:  # it would load torch for every verb, also for those that only list
    from pipeline.estimate import Estimate


class Advance(Protocol):
    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class Terminal:
    """Stages with the time they took. ``quiet`` says only how far long work is."""

    LINE_EVERY_S = 10.0

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet = quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            self._line(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """A long piece of work: call what this yields with (done, total, note)."""
        started = time.monotonic()
        if self.console.is_terminal:
            with self._bar() as bar:
                task = bar.add_task(name, total=None, note="")

                def moving(done: int, total: int, note: str = "") -> None:
                    bar.update(task, completed=done, total=total, note=note)

                yield moving
        else:
            self._line(f"{name} …")
            printed = started

            def lines(done: int, total: int, note: str = "") -> None:
                nonlocal printed
                now = time.monotonic()
                if now - printed >= self.LINE_EVERY_S:
                    printed = now
                    self._line(f"{name}: {done:,} of {total:,}  {note}")

            yield lines
        self._line(f"{name}: done in {time.monotonic() - started:.1f} s")

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        if self.quiet:
            return
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value)
        self.console.print(table)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )


def result_rows(result: Result) -> list[tuple[str, str]]:
    """A result as lines of a table, with all that a number needs to be compared."""
    wrong = "wrong characters" if result.likelihood == "characters" else "wrong answers"
    errors = [] if result.error is None else [(wrong, f"{result.error:.2%}")]
    chance = []
    if result.chance is not None:
        each = result.chance / result.dimensions
        text = f"{result.nats_per_dimension:.4f} nats (a uniform guess: {each:.4f}, "
        chance = [("per dimension", f"{text}{result.chance:.1f} an example)")]
    parts = [f"{name} {value:.2f}" for name, value in result.terms.items() if _scalar(value)]
    return [
        (
            f"{result.split} {'bound' if result.bound else 'loss'}",
            f"{result.loss:.2f} ± {result.stderr:.2f} nats over {result.examples:,} examples "
            f"(target: {result.target})",
        ),
        *errors,
        ("of which", ", ".join(parts)),
        *chance,
    ]


def summary_rows(record: RunRecord) -> list[tuple[str, str]]:
    """What stands at the end of a run."""
    results = [row for result in record.results.values() for row in result_rows(result)]
    return [
        *results,
        ("trained", f"{record.epochs:g} epochs, {record.steps:,} steps, {record.attempts} starts"),
        (
            "speed",
            f"{record.examples_per_second:,.0f} examples/s on {record.workers} × {record.device} "
            f"({record.machine})",
        ),
    ]


def estimate_rows(found: "Estimate") -> list[tuple[str, str]]:
    """What a job would take."""
    counts = ", ".join(f"{name} {count:,}" for name, count in found.splits.items())
    rate = found.flops_a_step / found.step_seconds / 1e9
    return [
        ("an example", f"{' × '.join(map(str, found.shape))}, {found.classes} classes"),
        ("data", f"{counts}; {found.shards} shards"),
        ("parameters", f"{found.parameters:,}"),
        ("steps", f"{found.total_steps:,}, {found.steps_an_epoch:,} an epoch"),
        ("a step", f"{found.flops_a_step / 1e9:,.2f} GFLOP, {1000 * found.step_seconds:,.1f} ms "
         f"in one process here ({rate:,.1f} GFLOP/s)"),
        ("memory", f"{found.memory_mb:,.0f} MB with the whole batch in one process"),
        ("training", f"{found.examples_per_second:,.0f} examples/s here, {found.hours:,.2f} hours "
         "without validation"),
    ]  # fmt: skip


def _scalar(value: object) -> bool:
    return isinstance(value, int | float)
