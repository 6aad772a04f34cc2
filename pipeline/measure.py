"""Which measures there are, which of them fit a run, and where their findings go."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from draw_model import CharRnn
from pipeline.errors import JobError
from pipeline.findings import MEASURES, Finding
from pipeline.measures.against import against
from pipeline.measures.answers import answers
from pipeline.measures.classes import classes
from pipeline.measures.contract import (
    Advance,
    Finished,
    Found,
    Wanted,
    classifies,
    imagines,
    weighs,
)
from pipeline.measures.further import further
from pipeline.measures.importance import importance
from pipeline.measures.nearest import nearest
from pipeline.measures.reach import reach
from pipeline.measures.text import text
from pipeline.measures.thousand import thousand
from pipeline.records import run_path
from pipeline.report import write_run_page
from pipeline.values import to_json, to_plain


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A measure, and what a run has to be for it, in a word of code and in words."""

    find: Callable[[Finished, Wanted, Advance], Found]
    fits: Callable[[Finished], bool]
    needs: str
    asked: Callable[[Wanted], bool] = lambda wanted: True
    """Whether what it needs besides the run was named."""
    option: str = ""


KINDS = {
    "importance": Kind(
        find=importance, fits=lambda run: weighs(run.model), needs="a likelihood with latents"
    ),
    "thousand": Kind(
        find=thousand, fits=lambda run: weighs(run.model), needs="a likelihood with latents"
    ),
    "answers": Kind(find=answers, fits=lambda run: classifies(run.model), needs="class answers"),
    "further": Kind(
        find=further,
        fits=lambda run: classifies(run.model) and getattr(run.job.data, "endless", False),
        needs="class answers to pictures that are made by chance", option="--further N",
        asked=lambda wanted: wanted.further is not None,
    ),
    "against": Kind(
        find=against, fits=lambda run: run.model.measure().likelihood != "adversarial",
        needs="a loss that orders models", option="--against RUN",
        asked=lambda wanted: wanted.against is not None,
    ),
    "classes": Kind(
        find=classes, fits=lambda run: imagines(run.model), needs="pictures of its own",
        option="--classifier RUN", asked=lambda wanted: wanted.classifier is not None,
    ),
    "nearest": Kind(
        find=nearest, fits=lambda run: imagines(run.model), needs="pictures of its own"
    ),
    "reach": Kind(
        find=reach, fits=lambda run: run.model.measure().likelihood != "adversarial",
        needs="a loss that falls", option="--target NATS",
        asked=lambda wanted: wanted.target is not None,
    ),
    "text": Kind(find=text, fits=lambda run: isinstance(run.model, CharRnn), needs="text"),
}  # fmt: skip
"""Name → measure, in the order in which they are made."""


def chosen(finished: Finished, wanted: Wanted, names: Sequence[str]) -> list[str]:
    """The measures to make: those named, else all that fit the run and have what they need.

    Raises JobError for a name that is none, or that does not fit.
    """
    for name in names:
        if name not in KINDS:
            raise JobError(f"{name!r} is no measure; write some of {', '.join(KINDS)}")
        kind = KINDS[name]
        if not kind.asked(wanted):
            raise JobError(f"measure {name} needs {kind.option}")
        if not kind.fits(finished):
            raise JobError(
                f"measure {name} needs {kind.needs}, which {finished.run} (kind "
                f"{finished.job.model.kind}) has not; leave it out for those that fit"
            )
    if names:
        return list(dict.fromkeys(names))
    fitting = [name for name, kind in KINDS.items() if kind.asked(wanted) and kind.fits(finished)]
    if wanted.classifier is not None and "classes" not in fitting:
        raise JobError(f"--classifier: {finished.run} makes no pictures that it could name")
    return fitting


def measure(
    finished: Finished,
    wanted: Wanted,
    names: Sequence[str],
    stage: Callable[[str], AbstractContextManager[Advance]],
) -> list[Finding]:
    """Makes the measures; writes each, and the run's page, as soon as it is known.

    The finding is written after its picture or text, so that none is named that is not there.
    """
    home, findings = finished.storage.below(run_path(finished.run)), []
    for kind in chosen(finished, wanted, names):
        with stage(kind) as advance:
            found = KINDS[kind].find(finished, wanted, advance)
        name = f"{kind}-{found.of}" if found.of else kind
        finding = Finding(
            run=finished.run,
            name=name,
            title=found.value.TITLE,
            about=found.value.ABOUT,
            rows=found.value.rows(),
            value=to_plain(found.value),
        )
        for ending, data in found.files.items():
            home.write(f"{MEASURES}/{name}.{ending}", data)
        home.write(f"{MEASURES}/{name}.json", to_json(finding))
        findings.append(finding)
        write_run_page(finished.storage, finished.run)
    return findings
