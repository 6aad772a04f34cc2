"""How far a search is, for all who look: the terminal, the study's page and files, its record."""

import logging
import threading
import time
from datetime import UTC, datetime
from types import TracebackType

import torch

from pipeline.errors import PipelineError
from pipeline.job_file import dump_job
from pipeline.publish import publish_unfinished
from pipeline.records import PAGE, run_path
from pipeline.report import write_storage_page
from pipeline.study import STARTS, STUDY, STUDY_JOB, Start, StudyRecord, TrialRecord, best_trial
from pipeline.study_export import write_exports
from pipeline.study_page import write_study_page
from pipeline.study_run import Study
from pipeline.terminal import Terminal
from pipeline.values import to_json

log = logging.getLogger(__name__)
PACE_S = 10.0
"""Seconds between two writings of the page."""


class Progress:
    """Speaks while the search runs; a thread of its own writes the page after what has changed."""

    def __init__(self, study: Study, trials: dict[int, TrialRecord], terminal: Terminal) -> None:
        self.study, self.trials, self.terminal = study, trials, terminal
        self.start = f"{STARTS}/{len(study.starts) + 1:06d}.json"
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.page = study.home.address(PAGE)
        self._pictured: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._writing, daemon=True)

    def __enter__(self) -> "Progress":
        self.study.home.write(STUDY_JOB, dump_job(self.study.job).encode())
        self._write_start()  # at once: a start that is killed before the first page counts too
        self._stage = self.terminal.stage("search")
        self._advance = self._stage.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None:
            self._picture()
        self._write()
        self._stage.__exit__(kind, fault, trace)

    def turn(self) -> None:
        """Says on the terminal where the search is; called often."""
        trials = list(self.trials.values())
        search = self.study.search
        best = best_trial(trials, search.mode)
        report = best.best(search.mode) if best else None
        note = f"{sum(t.status == 'running' for t in trials)} running"
        if best and report:
            note += f"  best {search.metric} {report.value:.4g} (trial {best.number})"
        self._advance(sum(t.settled for t in trials), search.total, note)

    def finish(self) -> StudyRecord:
        """Writes the study's record; the page follows when the search is left."""
        starts = [*(one.started for one in self.study.starts), self.started]
        record = self.study.record(list(self.trials.values()), min(starts))
        self.study.home.write(STUDY, to_json(record))
        return record

    def _writing(self) -> None:
        """Writes when something has changed; a page that cannot be written ends no search."""
        torch.set_num_threads(1)  # the cores are for the trials
        seen: list[TrialRecord] = []
        while not self._over.wait(PACE_S):
            now = list(self.trials.values())
            if now != seen:
                seen = now
                self._picture()
                try:
                    self._write()
                except PipelineError as fault:
                    log.warning("%s; the page is written again later", fault)

    def _picture(self) -> None:
        """Draws the pictures of trials that were stopped; finished ones bring their own."""
        ended = [t for t in self.trials.values() if t.settled and t.reports]
        for trial in ended:
            if trial.number in self._pictured:
                continue
            self._pictured.add(trial.number)
            if self.study.storage.exists(f"{run_path(trial.run)}/{PAGE}"):
                continue
            shared = self.study.shared
            job = shared.job_of(trial.values, trial.seed)
            try:
                publish_unfinished(job, shared.manifest_of(job), self.study.storage)
            except PipelineError as fault:
                log.warning("%s; trial %d is shown without pictures", fault, trial.number)

    def _write(self) -> None:
        study = self.study
        self._write_start()
        write_exports(study.storage, study.id, study.job, list(self.trials.values()))
        write_study_page(study.storage, study.id)
        if self._over.is_set():
            write_storage_page(study.storage)

    def _write_start(self) -> None:
        seconds = time.monotonic() - self.study.began
        self.study.home.write(self.start, to_json(Start(started=self.started, seconds=seconds)))
