"""What people decide about a champion: an earlier one comes back, or the present one is held."""

from dataclasses import replace

from pipeline.champion import Decision, decide, history, known, require_weights
from pipeline.errors import JobError
from pipeline.storage import Storage


def rollback(storage: Storage, name: str, to: int | None = None, why: str = "") -> Decision:
    """Puts an earlier champion back: that of decision ``to``, or the one before the present one.

    Raises JobError where there is no such one, and what ``decide`` raises.
    """
    upon = known(storage, name)
    present = upon.after.champion
    places = [
        d for d in history(storage, name)
        if isinstance(d, Decision) and d.after.champion and d.after.champion.since == d.number
    ]  # fmt: skip
    if to is None:
        others = [
            d for d in places
            if present and d.after.champion and d.number < present.since
            and d.after.champion.run != present.run
        ]  # fmt: skip
    else:
        others = [d for d in places if d.number == to]
    if not others or others[-1].after.champion is None:
        there = ", ".join(str(d.number) for d in places) or "none"
        raise JobError(
            f"champion {name}: no earlier champion{'' if to is None else f' at decision {to}'} to "
            f"go back to; decisions that made one: {there}"
        )
    target = others[-1].after.champion
    require_weights(storage, target)
    was = f" from {present.run}" if present else ""
    reason = f"back to {target.run} of decision {others[-1].number}{was}"
    return decide(
        storage, name, upon, "rollback", f"{reason}: {why}" if why else reason,
        after=replace(upon.after, champion=target),
    )  # fmt: skip


def pin(storage: Storage, name: str, pinned: bool, why: str = "") -> Decision:
    """Holds the champion where it is, or lets ticks go on. Raises JobError where it is so."""
    upon = known(storage, name)
    if upon.after.champion is None or upon.after.pinned == pinned:
        state = "has no run yet" if upon.after.champion is None else "is as asked already"
        raise JobError(f"champion {name}: {state}; see champion show {name}")
    words = "no tick trains or promotes until it is unpinned" if pinned else "ticks go on"
    return decide(
        storage, name, upon, "pin" if pinned else "unpin", f"{why}; {words}" if why else words,
        after=replace(upon.after, pinned=pinned),
    )  # fmt: skip
