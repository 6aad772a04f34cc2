"""What the verbs about retraining do; every one returns plain values for ``--json``."""

import argparse
import os
import sys
from datetime import UTC
from typing import Any

from pipeline.errors import JobError
from pipeline.terminal import Terminal
from pipeline.values import to_plain
from pipeline.verbs import DEFAULT_STORAGE


def retrain(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.job_file import read_job
    from pipeline.retrain import retrain as tick

    done = tick(
        read_job(options.job, options.set), terminal, without_ray=options.without_ray,
        at_once=options.now,
    )  # fmt: skip
    made = done.decision
    word = "decided already: " if done.already else ""
    terminal.say(f"tick {made.tick}: {word}decision {made.number}, {made.kind}: {made.reason}")
    _say_old(done.old, terminal)
    terminal.say(f"page: {done.page}")
    return {"already": done.already, "page": done.page, **to_plain(made)}


def schedule(options: argparse.Namespace, terminal: Terminal) -> Any:
    import time
    from itertools import islice

    from pipeline.job_file import read_job
    from pipeline.schedule import due_after
    from pipeline.schedule_render import from_root, render

    job = read_job(options.job, options.set)
    if job.retrain is None:
        raise JobError(f"{options.job}: no retrain section; write retrain.cron and retrain.zone")
    if options.action == "render":
        text = render(job, from_root(options.job), options.kind)
        if not options.json:
            sys.stdout.write(text)
        return {"as": options.kind, "text": text}
    times = list(islice(due_after(job.retrain.cron, job.retrain.zone, time.time()), 5))
    rows = [
        {"zone": one.isoformat(), "utc": one.astimezone(UTC).isoformat()} for one in times
    ]  # fmt: skip
    if not options.json:
        for one in times:
            there, here = one.strftime("%a %Y-%m-%d %H:%M %Z"), one.astimezone(UTC)
            print(f"{there:26} {here:%a %Y-%m-%d %H:%M} UTC")
    return rows


def champion(options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline import champion as decisions
    from pipeline import retrain_manual
    from pipeline.storage import open_storage

    url = options.storage or os.environ.get("DRAW_STORAGE") or DEFAULT_STORAGE
    storage, name = open_storage(url), options.name
    if options.action == "history":
        rows = decisions.history(storage, name)
        if not rows:
            decisions.known(storage, name)
        for row in rows:
            if not options.json:
                print(_line(row))
        return [to_plain(row) for row in rows]
    if options.action == "prune":
        return _prune(storage, options, terminal)
    if options.action == "show":
        decision = decisions.known(storage, name)
    else:
        from pipeline.retrain_page import write_champion_page

        storage.preflight().require_create_once()
        if options.action == "rollback":
            decision = retrain_manual.rollback(storage, name, options.to, options.why)
        else:
            decision = retrain_manual.pin(storage, name, options.action == "pin", options.why)
        write_champion_page(storage, name)
    state = decision.after
    terminal.table(name, [
        ("champion", state.champion.run if state.champion else "none yet"),
        ("since", f"decision {state.champion.since}" if state.champion else "–"),
        ("pinned", "yes" if state.pinned else "no"),
        (f"decision {decision.number}", f"{decision.kind}: {decision.reason}"),
    ])  # fmt: skip
    return to_plain(decision)


def _prune(storage: Any, options: argparse.Namespace, terminal: Terminal) -> Any:
    from pipeline.champion import known
    from pipeline.retrain_retention import old_checkpoints, remove

    if options.keep < 1:
        raise JobError(f"--keep {options.keep}: write 1 or more")
    known(storage, options.name)
    old = old_checkpoints(storage, options.name, options.keep)
    if options.delete:
        remove(storage, old)
    else:
        terminal.say("a dry run: --delete removes the checkpoints of")
    _say_old(old, terminal)
    return {"deleted": options.delete, "runs": [to_plain(one) for one in old]}


def _say_old(old: list[Any], terminal: Terminal) -> None:
    for one in old:
        terminal.say(f"old checkpoints: {one.run}, {one.bytes / 1e6:,.1f} MB")


def _line(row: Any) -> str:
    if hasattr(row, "fault"):
        return f"{row.number:6}  damaged    {row.fault}"
    place = row.after.champion.run if row.after.champion else "–"
    return f"{row.number:6}  {row.kind:10} {row.at[:16]}  {place:30} {row.reason}"
