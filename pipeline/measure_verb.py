"""What the verb ``measure`` does, from words on the command line to findings."""

import argparse
from typing import Any

from pipeline.errors import JobError
from pipeline.terminal import Terminal
from pipeline.values import to_plain
from pipeline.verbs import home_of, whole_id


def measure(options: argparse.Namespace, terminal: Terminal) -> Any:
    """Measures a finished run; its findings by name."""
    from pipeline.measure import measure as measure_run
    from pipeline.measures.contract import Wanted, open_finished

    for name in ("samples", "first", "count"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise JobError(f"--{name} {value}: write 1 or more")
    home, run_id, storage = home_of(options)

    def opened(other: str | None) -> Any:
        return None if other is None else open_finished(storage, whole_id(storage, other))

    wanted = Wanted(
        split=options.split,
        samples=options.samples,
        first=options.first,
        count=options.count,
        seed=options.seed,
        against=opened(options.against),
        classifier=opened(options.classifier),
    )
    finished = open_finished(storage, run_id)
    findings = measure_run(finished, wanted, options.names, terminal.stage)
    for finding in findings:
        terminal.table(f"{finding.title}: {run_id}", finding.rows)
    terminal.say(f"page: {home.address('index.html')}")
    return {finding.name: to_plain(finding) for finding in findings}
