"""One tick of a schedule: train a challenger on what is new, and decide whether it is better.

A tick is named by the time it was due, or by the minute in which somebody wished for it. All of it
but the decision is repeatable: a tick that was killed is done again, trains on from its checkpoint,
and decides once. Ticks that were missed are not made up for; the newest stands for all.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipeline import champion, lease, retrain_due, retrain_page
from pipeline.champion import Champion, Decision, Kind, State, champion_path
from pipeline.errors import Interrupted, JobError, LeaseError, PipelineError
from pipeline.gate import Verdict
from pipeline.job import Job
from pipeline.lease import Lease, hold
from pipeline.manifest import Manifest
from pipeline.prepare import prepare
from pipeline.records import RunRecord
from pipeline.retrain_check import fault_in_clean_process
from pipeline.retrain_compare import compare
from pipeline.retrain_hook import send
from pipeline.retrain_news import check_fit, digest_of_test, news, seen_now, starts
from pipeline.retrain_retention import Old, old_checkpoints, remove
from pipeline.retrain_values import Retrain
from pipeline.run import run
from pipeline.schedule import last_due, utc
from pipeline.storage import Storage, open_storage
from pipeline.terminal import Terminal
from pipeline.values import to_plain

log = logging.getLogger(__name__)
SENT = "sent"


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """What a tick came to; ``already`` is True when it was decided before."""

    decision: Decision
    already: bool
    page: str
    old: list[Old]
    """Checkpoints that retention names; they are gone where it may delete."""


@dataclass(frozen=True, kw_only=True)
class _Tick:
    """What every part of a tick needs."""

    job: Job
    section: Retrain
    name: str
    due: str
    upon: Decision
    storage: Storage
    terminal: Terminal
    lease: Lease
    without_ray: bool
    now: float

    def decide(
        self, kind: Kind, reason: str, after: State | None = None, **values: object
    ) -> Decision:
        """Writes the decision, if this process still holds the lease."""
        self.lease.require()
        return champion.decide(
            self.storage, self.name, self.upon, kind, reason, tick=self.due,
            after=after or self.upon.after, at=utc(datetime.fromtimestamp(self.now, UTC)), **values,
        )  # fmt: skip


def retrain(
    job: Job,
    terminal: Terminal,
    *,
    without_ray: bool = False,
    at_once: bool = False,
    clock: Callable[[], float] = time.time,
    lease_seconds: float = lease.SECONDS,
) -> Ticked:
    """Does the newest tick that is due, or says how it was decided.

    With ``at_once`` it is the tick of the present minute, whatever the schedule says.
    A dead holder of the lease is waited for; a live one is refused with LeaseError. Raises the
    PipelineError of the stage that could not go on: then nothing is decided, the champion stays,
    and the same command tries again.
    """
    if job.retrain is None:
        raise JobError(f"{job.name}: no retrain section; write retrain.cron and retrain.zone")
    section, name, now = job.retrain, job.retrain.champion or job.name, clock()
    due = (
        datetime.fromtimestamp(now // 60 * 60, UTC) if at_once
        else last_due(section.cron, section.zone, now)
    )  # fmt: skip
    if due is None:
        raise JobError(f"retrain.cron: {section.cron!r} was not due yet; see schedule next")
    storage = open_storage(job.storage)
    with hold(
        storage, f"{champion_path(name)}/lease", seconds=lease_seconds,
        margin=min(lease.MARGIN, lease_seconds / 2), wait=True,
    ) as held:  # fmt: skip
        retrain_due.note(storage, name, section, utc(due), now)
        upon = champion.latest(storage, name)
        decision = decision_of(storage, name, upon, utc(due))
        already = decision is not None
        if decision is None:
            tick = _Tick(
                job=job, section=section, name=name, due=utc(due), upon=upon, storage=storage,
                terminal=terminal, lease=held, without_ray=without_ray, now=now,
            )  # fmt: skip
            decision = _or_failure(tick)
        page = retrain_page.write_champion_page(storage, name)
        _tell(storage, section, decision)
        old = _retained(storage, name, section)
    return Ticked(decision=decision, already=already, page=storage.address(page), old=old)


def decision_of(storage: Storage, name: str, newest: Decision, tick: str) -> Decision | None:
    """The decision of a tick, if it was made. People may have decided since."""
    while newest.number and (newest.tick is None or newest.tick > tick):
        if newest.number == 1:
            return None
        newest = champion.read(storage, name, newest.number - 1)
    return newest if newest.tick == tick else None


def _or_failure(tick: _Tick) -> Decision:
    try:
        return _decided(tick)
    except (LeaseError, Interrupted):
        raise
    except Exception as fault:
        known = isinstance(fault, PipelineError)
        reason = str(fault) if known else f"{type(fault).__name__}, a fault of the program"
        if tick.section.webhook and "failure" in tick.section.webhook.on:
            record = {"name": tick.name, "tick": tick.due, "reason": reason}
            send(tick.section.webhook, "failure", record)
        raise


def _decided(tick: _Tick) -> Decision:
    upon, state = tick.upon, tick.upon.after
    if state.pinned:
        return tick.decide("skip", "the champion is pinned; nothing was trained")
    with tick.terminal.stage("prepare") as advance:
        manifest = prepare(tick.job.data, tick.storage, progress=advance)
    seen = seen_now(tick.job, manifest)
    fresh = news(tick.section, state.seen, seen)
    if not fresh:
        what = ", ".join(tick.section.new)
        return tick.decide("skip", f"nothing new since decision {upon.number} ({what}: the same)")
    after = replace(state, seen=seen)
    present = state.champion
    if present and present.test != digest_of_test(manifest):
        return tick.decide(
            "refusal",
            f"the test examples of {manifest.path} are not those of {present.dataset}, which the "
            "champion was measured on; keep them as they were, or give retrain.champion another "
            "name to begin anew",
            after,
        )
    check_fit(tick.job, manifest, tick.section, present, tick.storage)
    records = [
        _trained(tick, replace(tick.job, retrain=None, start=start))
        for start in starts(tick.section, present, seen)
    ]
    best = min(records, key=lambda record: _validation(record, tick.section.gate.metric))
    reached: dict[str, object] = {
        "challenger": best.id,
        "trained": tuple(record.id for record in records),
    }
    tick.lease.require()
    with tick.terminal.stage("decide"):
        if fault := fault_in_clean_process(tick.storage, best.id):
            return tick.decide("refusal", f"it does not load and sample: {fault}", after, **reached)
        return _judged(tick, manifest, best, after, reached)


def _judged(
    tick: _Tick, manifest: Manifest, best: RunRecord, after: State, reached: dict[str, object]
) -> Decision:
    present = tick.upon.after.champion
    place = Champion(
        run=best.id, weights_sha256=best.weights_sha256, dataset=manifest.path,
        test=digest_of_test(manifest), since=0,
    )  # fmt: skip
    if present is None:
        reason = "the first of its name: there was nothing to compare it with"
        return tick.decide("promotion", reason, replace(after, champion=place), **reached)
    if present.run == best.id:
        return tick.decide("keep", "it is the champion already", after, **reached)
    verdict: Verdict = compare(
        tick.section.gate, tick.job, manifest, tick.storage, present.run, best.id
    )
    reached["verdict"] = verdict
    if not verdict.better:
        return tick.decide("keep", verdict.reason, after, **reached)
    return tick.decide("promotion", verdict.reason, replace(after, champion=place), **reached)


def _trained(tick: _Tick, job: Job) -> RunRecord:
    """A run to its end, unless another process takes the lease meanwhile."""
    tick.lease.require()
    try:
        return run(
            job, tick.terminal, without_ray=tick.without_ray, also=tick.lease.lost.is_set
        ).record
    except Interrupted:
        tick.lease.require()
        raise


def _validation(record: RunRecord, metric: str) -> float:
    """What challengers of one tick are chosen by: never the test examples."""
    result = record.results["val"]
    if metric == "error" and result.error is not None:
        return result.error
    value = result.terms.get(metric, result.loss)
    return value if isinstance(value, float) else result.loss


def _tell(storage: Storage, section: Retrain, decision: Decision) -> None:
    """Sends the decision, once where the receiver took it."""
    hook, key = section.webhook, f"{champion_path(decision.name)}/{SENT}/{decision.number:06d}"
    if hook is None or decision.kind not in hook.on or storage.exists(key):
        return
    if send(hook, decision.kind, to_plain(decision)):
        storage.write(key, b"")


def _retained(storage: Storage, name: str, section: Retrain) -> list[Old]:
    """What retention names. A fault of it is no fault of the tick."""
    try:
        old = old_checkpoints(storage, name, section.retention.keep)
        if section.retention.delete:
            remove(storage, old)
        return old
    except PipelineError as fault:
        log.warning("%s; no old checkpoints were removed", fault)
        return []
