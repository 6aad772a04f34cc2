"""What the verb about pictures does; it returns plain values for ``--json``."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import JobError
from pipeline.run_verbs import home_of, written
from pipeline.terminal import Terminal


def pictures(options: argparse.Namespace, terminal: Terminal) -> Any:
    import torch

    from pipeline import gallery
    from pipeline.finished import open_finished
    from pipeline.listing import whole_id
    from pipeline.records import PICTURES
    from pipeline.report import write_run_page

    opened = partial(open_finished, device=torch.device("cpu"))  # a few pictures of each kind
    home, run_id, storage = home_of(options)
    run, steps = opened(storage, run_id), _steps(options.steps)
    drawn: dict[str, bytes] = {}
    if steps:
        drawn |= gallery.chosen_steps(run, steps)
    if options.beside:
        other = opened(storage, whole_id(storage, "runs", options.beside))
        drawn |= gallery.beside(run, other)
    if options.race:
        others = [whole_id(storage, "runs", name) for name in options.race]
        drawn |= gallery.race(storage, [run_id, *others])
    with terminal.stage("pictures") as advance:
        for done, (what, draw) in enumerate(gallery.PICTURES.items(), start=1):
            drawn |= draw(run)
            advance(done, len(gallery.PICTURES), what)
    if options.out:
        files, page = written(Path(options.out), drawn), None
    else:
        for name, data in drawn.items():
            home.write(f"{PICTURES}/{name}", data)
        files = [home.address(f"{PICTURES}/{name}") for name in drawn]
        page = storage.address(write_run_page(storage, run_id))
    missing = gallery.missing(run)
    if not drawn:
        missing.append(f"{run_id}: this model has no other pictures than those on its page")
    terminal.say("\n".join([*files, *missing, *([f"page: {page}"] if page else [])]))
    return {"run": run_id, "files": files, "missing": missing, "page": page}


def _steps(text: str | None) -> list[int]:
    """As 4,7,9. Raises JobError for what are no numbers."""
    try:
        return [int(word) for word in text.split(",")] if text is not None else []
    except ValueError:
        raise JobError(f"--steps {text}: write numbers of steps, as 4,7,9") from None
