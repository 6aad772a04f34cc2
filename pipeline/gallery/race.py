"""Several runs beside each other: how their validations went."""

from collections.abc import Sequence

from pipeline.errors import JobError
from pipeline.finished import Finished
from pipeline.records import read_record


def race(runs: Sequence[Finished]) -> dict[str, bytes]:
    """``race.png``: error, or loss, over examples and over time. Raises JobError for runs whose
    numbers are not of one kind, and for one without a validation."""
    from pipeline.curve_pictures import Racer, race_png  # Matplotlib, which other pictures need not

    first, *others = results = [read_record(run.storage, run.run).results["val"] for run in runs]
    for run, result in zip(runs[1:], others, strict=True):
        if result.target != first.target:
            raise JobError(
                f"{run.run}: its target is {result.target}, that of {runs[0].run} {first.target}; "
                "numbers of different kinds are not compared"
            )
    answers = all(result.error is not None for result in results)
    racers = []
    for run in runs:
        hours, values, examples = run.validations("correct" if answers else "loss", "examples")
        if not len(values):
            raise JobError(f"{run.run}: no validation with a finite number; leave it out")
        value = 100 * (1 - values) if answers else values
        racers.append(Racer(run.run, examples, hours, value))
    unit = "wrong answers on validation (%)" if answers else f"validation loss ({first.target})"
    return {"race.png": race_png(racers, unit)}
