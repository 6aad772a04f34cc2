"""Whether a run's published weights load and imagine something, in a process that knows nothing."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.errors import DataError, PipelineError
from pipeline.publish import finished_run
from pipeline.records import run_path
from pipeline.storage import Storage, open_storage

SAMPLES = 8
SECONDS = 600.0
"""A process that takes longer is ended, and its run refused."""


@torch.no_grad()
def check(storage: Storage, run: str) -> None:
    """Loads the run's model and lets it imagine and measure. Raises DataError where it cannot."""
    _, _, model = finished_run(storage, run)
    made = model.sample(SAMPLES, seed=0)
    made |= model(model.fake_batch(2))
    wrong = [name for name, value in made.items() if not torch.isfinite(value.float()).all()]
    images = made.get("images")
    if images is not None and not ((images >= 0) & (images <= 1)).all():
        wrong.append("images outside [0, 1]")
    if wrong:
        raise DataError(f"{storage.address(run_path(run))}: not finite: {', '.join(wrong)}")


def fault_in_clean_process(storage: Storage, run: str, seconds: float = SECONDS) -> str | None:
    """What a new process says that cannot load or sample the run; None when it can."""
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    command = [sys.executable, "-m", "pipeline.retrain_check", storage.url, run]
    try:
        done = subprocess.run(
            command, env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True,
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"nothing was imagined within {seconds:.0f} s"
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else f"exit code {done.returncode}") if done.returncode else None


def main(arguments: Sequence[str]) -> int:
    url, run = arguments
    try:
        check(open_storage(url), run)
    except PipelineError as fault:
        print(fault, file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
