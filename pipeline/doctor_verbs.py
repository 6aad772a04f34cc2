"""What the verb ``doctor`` prints of its findings."""

import argparse
import os
from typing import Any

from pipeline.terminal import Terminal
from pipeline.values import to_plain
from pipeline.verbs import DEFAULT_STORAGE


def doctor(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.doctor import examine, verdict
    from pipeline.storage import open_storage

    url = options.storage or os.environ.get("DRAW_STORAGE") or DEFAULT_STORAGE
    findings = examine(open_storage(url))
    signs = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}
    for one in findings:
        lines = [f"{signs[one.state]}  {one.check}: {one.found}"]
        terminal.say("\n      → ".join([*lines, one.advice] if one.advice else lines))
    value = {"findings": [to_plain(one) for one in findings]}
    if fault := verdict(findings):
        fault.details = value
        raise fault
    return value
