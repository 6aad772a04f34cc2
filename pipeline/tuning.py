"""What Ray Tune is given: where trials come from, when one stops, and who writes down what happens.

All of it is rebuilt from a study's records at each start, so nothing depends on Ray Tune's own
memory: it forgets the rungs when it is restored.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

from pipeline.errors import PipelineError
from pipeline.space import Asha, Median, Search
from pipeline.study import Report, Status, TrialRecord
from pipeline.values import from_json, to_json

WORST = 1e30
"""Stands for a value that is not finite; Ray's rules compare with it, NaN they would let pass."""


@dataclass(frozen=True)
class Token:
    """A trial as Ray's stopping rules see it: they ask for a name that never changes."""

    trial_id: str


class Rule:
    """Ray's stopping rule over the numbers of trials, fed from records as from live trials."""

    def __init__(self, search: Search, full: float) -> None:
        scheduler = search.scheduler
        self.unit: str = scheduler.unit
        self.full, self.metric, self.mode = full, search.metric, search.mode
        self.rungs = scheduler.rungs(full)
        self.reached: list[dict[int, float]] = [{} for _ in self.rungs]
        self.rule = _ray_rule(search, full, self.rungs)
        self.known: set[int] = set()

    def judge(self, number: int, report: Report) -> str:
        """Why the trial has to stop now; empty if it goes on."""
        token = Token(f"{number:06d}")
        amount = getattr(report, self.unit)
        worst = WORST if self.mode == "min" else -WORST
        value = worst if report.value is None else report.value
        for rung, there in zip(self.rungs, self.reached, strict=True):
            if amount >= rung:
                there.setdefault(number, value)
        if amount >= self.full:
            return f"full {self.unit}" if self.unit == "seconds" else ""
        if number not in self.known:
            self.known.add(number)
            self.rule.on_trial_add(None, token)
        row = {self.unit: amount, self.metric: value}
        if self.rule.on_trial_result(None, token, row) != TrialScheduler.STOP:
            return ""
        place = max((i for i, there in enumerate(self.reached) if number in there), default=0)
        others = sorted(self.reached[place].values(), reverse=self.mode == "max")
        return (
            f"{self.metric} {value:.4g} at {amount:,.0f} {self.unit}: place "
            f"{others.index(self.reached[place][number]) + 1} of {len(others)} that came to "
            f"{self.rungs[place]:,.0f}"
        )


def _ray_rule(search: Search, full: float, rungs: list[float]) -> Any:
    scheduler = search.scheduler
    common = {"metric": search.metric, "mode": search.mode}
    if isinstance(scheduler, Asha) and rungs:
        return ASHAScheduler(
            time_attr=scheduler.unit,
            max_t=full,
            grace_period=rungs[0],
            reduction_factor=scheduler.reduction,
            **common,
        )
    if isinstance(scheduler, Median):
        return MedianStoppingRule(
            time_attr=scheduler.unit,
            grace_period=rungs[0],
            min_samples_required=scheduler.min_trials,
            min_time_slice=math.inf,  # never pauses a trial: there is nothing it could go on from
            **common,
        )
    return FIFOScheduler()


class Ledger:
    """The records of a study's trials while it runs. Every change is written at once."""

    def __init__(
        self, trials: Iterable[TrialRecord], rule: Rule, write: Callable[[TrialRecord], None]
    ) -> None:
        self.trials = {trial.number: trial for trial in trials}
        self.rule, self.write = rule, write
        self.fault: PipelineError | None = None
        """Why a record could not be written: the search has to end, Ray Tune must not see it."""
        past = sorted((r.time, t.number, r) for t in self.trials.values() for r in t.reports)
        for _, number, report in past:  # in the order in which they were judged the first time
            reason = rule.judge(number, report)
            if reason and not self.trials[number].settled:  # cut off before it could be judged
                self.change(number, **self._stopped(self.trials[number], report, reason))

    def put(self, trial: TrialRecord) -> None:
        self.trials[trial.number] = trial
        try:
            self.write(trial)
        except PipelineError as fault:
            self.fault = self.fault or fault

    def change(self, number: int, **values: Any) -> None:
        self.put(replace(self.trials[number], **values))

    def heard(self, number: int, result: dict[str, Any]) -> str:
        """Takes in what a trial says; why it has to stop, if it has to."""
        trial = self.trials[number]
        clock = replace(trial.clock, **result.get("clock", {}))
        if "report" not in result:
            over = replace(clock, over=time.time())
            status, values = _ending(result)
            self.change(number, status=status, clock=over, **values)
            return ""
        report = from_json(Report, to_json(result["report"]), f"trial {number}")
        before = [r for r in trial.reports if r.step < report.step]
        again = next((r for r in trial.reports if r.step == report.step), None)
        facts = ("parameters", "flops_an_example")
        changed: dict[str, Any] = {"clock": clock, **{n: result[n] for n in facts if n in result}}
        reason = "" if again else self.rule.judge(number, report)
        if reason:
            changed |= self._stopped(replace(trial, clock=clock), report, reason)
        self.change(number, reports=[*before, again or report], **changed)
        return reason

    def _stopped(self, trial: TrialRecord, report: Report, reason: str) -> dict[str, Any]:
        full = getattr(report, self.rule.unit) >= self.rule.full
        clock = replace(trial.clock, over=time.time())
        return {"status": "finished" if full else "stopped", "reason": reason, "clock": clock}


def _ending(result: dict[str, Any]) -> tuple[Status, dict[str, Any]]:
    if "failed" in result:
        return "failed", {"reason": result["failed"]}
    if "finished" in result:
        return "finished", {"test": result["test"], "test_stderr": result["test_stderr"]}
    return "unfinished", {}


class Forgotten:
    """What Ray Tune pickles for a restore that never happens here: nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Proposals(Forgotten, Searcher):
    """Hands out trials: first those that were cut off, then new ones, until there are none."""

    def __init__(
        self,
        again: list[TrialRecord],
        new: list[int],
        propose: Callable[[int], TrialRecord | None],
        stopping: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.again, self.new = list(again), list(new)
        self.propose, self.stopping = propose, stopping

    def suggest(self, trial_id: str) -> Any:
        if self.stopping():
            return Searcher.FINISHED
        if self.again:
            return _config(self.again.pop(0))
        while self.new:
            if trial := self.propose(self.new.pop(0)):
                return _config(trial)
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: proposals look at the records."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the records are the state."""


def _config(trial: TrialRecord) -> dict[str, Any]:
    return {"number": trial.number, "values": trial.values, "seed": trial.seed}


class Scheduler(Forgotten, FIFOScheduler):
    """Ray Tune's question after each report, answered by the ledger, which writes it down first."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        reason = self.ledger.heard(trial.config["number"], json.loads(result["said"]))
        return TrialScheduler.STOP if reason else TrialScheduler.CONTINUE


class Observer(Forgotten, Callback):
    """Sees trials start, crash and fail, and the loop turn."""

    def __init__(self, ledger: Ledger, turn: Callable[[], None]) -> None:
        self.ledger, self.turn = ledger, turn

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.turn()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ledger.change(trial.config["number"], status="running")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._crashed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = self._crashed(trial)
        crashes = self.ledger.trials[number].crashes
        clock = replace(self.ledger.trials[number].clock, over=time.time())
        reason = f"crashed {crashes} times, last: {_last_line(trial)}"
        self.ledger.change(number, status="failed", reason=reason, clock=clock)

    def _crashed(self, trial: Any) -> int:
        number: int = trial.config["number"]
        crashes = self.ledger.trials[number].crashes + 1
        self.ledger.change(number, crashes=crashes, reason=f"crashed: {_last_line(trial)}")
        return number


def _last_line(trial: Any) -> str:
    """The last line of what a crashed trial's process said of its end."""
    lines = str(trial.get_error() or "it was killed").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it was killed")[:300]


class StopAll(Forgotten, Stopper):
    """Ends Ray Tune's loop when trials that were asked to leave have had the time to."""

    def __init__(self, over: Callable[[], bool]) -> None:
        self.over = over

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.over()
