"""What stands at the head of a study's page: how far it is, how trials were stopped, the answer."""

from collections import Counter
from typing import Any

from pipeline.job_file import dump_job
from pipeline.report import duration
from pipeline.space import Asha, Median
from pipeline.study_answer import answer
from pipeline.study_view import StudyView

ORDER = ("finished", "stopped", "failed", "unfinished", "running", "waiting")


def header(view: StudyView) -> dict[str, Any]:
    """State, progress, rules and sentences of one study, as texts for the template."""
    counts: Counter[str] = Counter(trial.status for trial in view.trials)
    settled = sum(trial.settled for trial in view.trials)
    total = max(view.search.total, len(view.trials))
    seconds = view.record.seconds if view.record else 3600 * view.hours
    return {
        "id": view.id,
        "name": view.job.name,
        "done": view.record is not None,
        "progress": f"{settled:,} of {total:,} trials settled",
        "counts": ", ".join(f"{counts[name]:,} {name}" for name in ORDER if counts[name]),
        "time": duration(seconds) if seconds else "",
        "ended": view.record.ended if view.record else None,
        "machine": view.record.machine if view.record else "",
        "metric": view.search.metric,
        "better": "less" if view.search.mode == "min" else "more",
        "intervals": intervals(view.search.metric),
        "stopping": stopping(view),
        "spared": spared(view),
        "answer": answer(view),
        "pictured": len(view.pictures),
        "trials": len(view.trials),
        "job_yaml": dump_job(view.job),
    }


def intervals(metric: str) -> str:
    """What an interval on the page is."""
    if metric == "error":
        return "Intervals are Wilson's, 95 %, over the validation examples"
    return "Intervals are ± 1.96 standard errors over the validation examples"


def stopping(view: StudyView) -> str:
    """How trials were stopped, and what that means for a fair comparison."""
    rule, unit = view.search.scheduler, view.unit
    amounts = _listed([f"{rung:,.0f}" for rung in view.rungs]) or "each rung (not known yet)"
    if isinstance(rule, Asha):
        how = (
            f"Trials were stopped by asynchronous successive halving: after {amounts} training "
            f"{unit}, a trial went on only if it was among the best 1 / {rule.reduction:g} of "
            "those that had come there."
        )
    elif isinstance(rule, Median):
        how = (
            f"From {amounts} training {unit} on, a trial was stopped when its best value was worse "
            "than the median of what the others had at the same amount."
        )
    else:
        return "No trial was stopped early: each trained in full, so their ends can be compared."
    if unit == "examples":
        fair = "All were judged after equally many examples, so costlier settings got more time"
    else:
        fair = "All were judged after equal time, so cheaper settings saw more examples"
    return f"{how} {fair}. Compare trials at a rung: at their ends, some had trained longer."


def spared(view: StudyView) -> str:
    """What of the training at full length the stopped trials left out; nothing without any."""
    stopped = [trial for trial in view.trials if trial.status == "stopped"]
    if not stopped or view.full is None:
        return ""
    over = [t for t in view.trials if t.status in ("stopped", "finished")]
    spent = sum(min(float(getattr(trial, view.unit)), view.full) for trial in over)
    share = 100 * (1 - spent / (view.full * len(over)))
    return f"Stopping spared {share:.0f} % of the {view.unit} of {len(over):,} full trials."


def _listed(texts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
