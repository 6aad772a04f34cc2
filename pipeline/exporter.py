"""What a storage says, for Prometheus: its newest survey as series, over HTTP."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Set
from http import HTTPStatus
from threading import Event, Thread
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.champion import CHAMPIONS
from pipeline.errors import JobError, PipelineError
from pipeline.serve import Handler, Server
from pipeline.storage import Storage
from pipeline.study import Status
from pipeline.survey import RunStatus, Survey
from pipeline.surveyor import Surveyor

log = logging.getLogger(__name__)
HOST, PORT, EVERY_S = "127.0.0.1", 9105, 60.0
SERIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "storage_objects": ("Objects below a top folder", ("folder",)),
    "storage_bytes": ("Bytes below a top folder", ("folder",)),
    "storage_damaged_records": ("Records that cannot be read", ("folder",)),
    "runs": ("Runs; those in training have not said that they ended", ("status",)),
    "run_started_timestamp_seconds": ("Newest start of an unfinished run", ("run", "status")),
    "run_checkpoint_timestamp_seconds": ("Its newest checkpoint", ("run", "status")),
    "run_ended_timestamp_seconds": ("When it stopped or failed", ("run", "status")),
    "study_trials": ("Trials of a search", ("study", "status")),
    "study_trials_wanted": ("Trials that its job asks for", ("study",)),
    "study_best": ("Best value of its metric on validation", ("study", "metric")),
    "study_complete": ("Whether all its trials are settled", ("study",)),
    "champion_decisions": ("Decisions so far", ("champion",)),
    "champion_decision_timestamp_seconds": ("Newest decision", ("champion", "kind")),
    "champion_promoted_timestamp_seconds": ("When it took its place", ("champion",)),
    "champion_pinned": ("Whether it is pinned: no tick trains", ("champion",)),
    "schedule_success_timestamp_seconds": ("When a tick was decided last", ("champion",)),
    "schedule_tick_timestamp_seconds": ("When that tick had been due", ("champion",)),
    "schedule_due_timestamp_seconds": ("When the first undecided tick is due", ("champion",)),
    "lease_held": ("Whether a live process is at work", ("champion", "study")),
    "lease_stuck": ("Whether one died at work and none took over", ("champion", "study")),
    "lease_since_timestamp_seconds": ("When it began", ("champion", "study")),
}
"""Name without ``draw_`` → help and labels. Times are seconds since the epoch."""
Point = tuple[str, tuple[str, ...], float | None]
"""Name, labels' values, value; what is None is not known and left out."""


def points(survey: Survey) -> Iterator[Point]:
    """All values of a survey, by the names of ``SERIES``."""
    for top, size in survey.sizes.items():
        yield "storage_objects", (top,), size.objects
        yield "storage_bytes", (top,), size.bytes
        damaged = sum(key.startswith(f"{top}/") for key in survey.damaged)
        yield "storage_damaged_records", (top,), damaged
    for status in get_args(RunStatus):
        yield "runs", (status,), sum(run.status == status for run in survey.runs)
    for run in survey.runs:
        # A search leaves hundreds of stopped trials, and of finished runs nothing changes.
        if run.status != "finished" and not run.settled:
            whose = (run.id, run.status)
            yield "run_started_timestamp_seconds", whose, run.started
            yield "run_checkpoint_timestamp_seconds", whose, run.checkpoint
            yield "run_ended_timestamp_seconds", whose, run.ended
    for study in survey.studies:
        for status in get_args(Status):
            count = sum(trial.status == status for trial in study.trials)
            yield "study_trials", (study.id, status), count
        yield "study_trials_wanted", (study.id,), study.wanted
        yield "study_best", (study.id, study.metric), study.best
        yield "study_complete", (study.id,), study.complete
    for champion in survey.champions:
        tag = (champion.name,)
        yield "champion_decisions", tag, champion.decisions
        yield (
            "champion_decision_timestamp_seconds", (champion.name, champion.kind), champion.decided
        )  # fmt: skip
        yield "champion_promoted_timestamp_seconds", tag, champion.promoted
        yield "champion_pinned", tag, champion.pinned
        yield "schedule_success_timestamp_seconds", tag, champion.success
        yield "schedule_tick_timestamp_seconds", tag, champion.tick
        yield "schedule_due_timestamp_seconds", tag, champion.due
    for lease in survey.leases:
        place = (lease.name, "") if lease.top == CHAMPIONS else ("", lease.name)
        yield "lease_held", place, lease.held
        yield "lease_stuck", place, lease.stuck
        yield "lease_since_timestamp_seconds", place, lease.since


class Exporter(Collector):
    """The newest survey. A scrape waits for no storage, and none can fail it: while a storage does
    not answer, ``draw_storage_up`` is 0 and there is no series of what it would say."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time) -> None:
        self.storage, self.clock = storage, clock
        self._surveyor = Surveyor(storage, clock)
        self._survey: Survey | None = None
        self._taken = self._seconds = 0.0
        self._damaged: Set[str] = set()
        self._told = False

    def read(self) -> None:
        """Takes a survey; says what is damaged, and when the storage does not answer, once each."""
        began = time.perf_counter()
        try:
            survey = self._surveyor.survey()
            for key in survey.damaged.keys() - self._damaged:
                log.warning("%s", survey.damaged[key])
            self._damaged, self._told = survey.damaged.keys(), False
            self._taken, self._seconds = self.clock(), time.perf_counter() - began
            self._survey = survey
        except Exception as fault:  # none may end the exporter, which has to tell of it
            self._survey = None
            if not self._told:
                known = isinstance(fault, PipelineError)
                log.warning("%s; draw_storage_up is 0 until it answers", fault,
                            exc_info=None if known else fault)  # fmt: skip
            self._told = True

    def keep_reading(self, every: float, over: Event) -> None:
        while not over.is_set():
            self.read()
            over.wait(every)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        survey = self._survey
        up = GaugeMetricFamily("draw_storage_up", "Whether the storage answers", labels=("url",))
        up.add_metric([self.storage.url], survey is not None)
        yield up
        if survey is None:
            return
        for name, text, value in (
            ("timestamp_seconds", "When the storage was read last", self._taken),
            ("seconds", "How long reading it took", self._seconds),
        ):
            yield GaugeMetricFamily(f"draw_storage_read_{name}", text, value=value)
        families = {
            name: GaugeMetricFamily(f"draw_{name}", text, labels=labels)
            for name, (text, labels) in SERIES.items()
        }
        for name, tags, point in points(survey):
            if point is not None:
                families[name].add_metric(tags, float(point))
        yield from families.values()


class ExporterServer(Server):
    """Answers with the series of an exporter, from its making on."""

    def __init__(self, exporter: Exporter, host: str = HOST, port: int = PORT) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(exporter)
        super().__init__(exporter.storage, host, port, Page)


class Page(Handler):
    """``/metrics`` alone."""

    server: ExporterServer

    def _answer(self, with_body: bool) -> None:
        if not self._asked_for_here():
            url = self.server.url
            return self._line(HTTPStatus.MISDIRECTED_REQUEST, f"this server answers at {url}")
        if self.path.partition("?")[0] != "/metrics":
            return self._line(HTTPStatus.NOT_FOUND, "no such page; the series are at /metrics")
        data = generate_latest(self.server.registry)
        self._head(HTTPStatus.OK, CONTENT_TYPE_LATEST, {"Content-Length": str(len(data))})
        if with_body:
            self.wfile.write(data)


def export(
    storage: Storage,
    host: str = HOST,
    port: int = PORT,
    every: float = EVERY_S,
    say: Callable[[str], None] = print,
) -> None:
    """Serves until Ctrl-C or SIGTERM; reads the storage anew ``every`` seconds after each survey.

    ``say`` is told where, once it answers; ``port`` 0 is any free one. Raises JobError for an
    address that cannot be had, or a time that is none.
    """
    if not 0 < every < 86400:
        raise JobError(f"--every {every:g}: write seconds, more than 0 and less than a day")
    exporter, over = Exporter(storage), Event()
    # The first process of a container is not ended by a SIGTERM that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExporterServer(exporter, host, port) as server:
        Thread(target=exporter.keep_reading, args=(every, over), daemon=True).start()
        say(f"{storage.url} at {server.url}metrics until Ctrl-C")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("stopped")
        finally:
            over.set()
