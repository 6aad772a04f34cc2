"""What of a finished run answers a row of the results table: a bound, an error, a time."""

import math
from collections.abc import Callable
from functools import partial

from pipeline.errors import DataError
from pipeline.findings import read_finding
from pipeline.listing import read_metrics
from pipeline.measures.counts import wilson
from pipeline.records import Result, RunRecord, run_path
from pipeline.report import duration
from pipeline.storage import Storage


def _bound(_storage: Storage, record: RunRecord) -> str:
    """The bound; of a model that pays for answers too, the bound alone, its error not known."""
    test = record.results["test"]
    alone = test.terms.get("bound")
    nats = alone if isinstance(alone, float) else test.loss
    around = "" if isinstance(alone, float) else f" ± {1.96 * test.stderr:.2f}"
    chance = "" if test.chance is None else f", a coin {test.chance:.1f}"
    return (
        f"{nats:.2f}{around} nats ({test.target}, {nats / test.dimensions:.4f} a dimension{chance})"
    )


def share(result: Result, *, right: bool) -> str:
    """The share of right, or wrong, answers in per cent with Wilson's 95 % interval.

    Without one for a text: its examples are pieces, its answers characters that hang together.
    """
    if result.error is None:
        return "–"
    word = "right" if right else "error"
    if result.likelihood == "characters":
        return f"{1 - result.error if right else result.error:.2%} {word}"
    wrong = round(result.error * result.examples)
    hits = result.examples - wrong if right else wrong
    low, high = wilson(hits, result.examples)
    return f"{hits / result.examples:.2%} ({low:.2%} to {high:.2%}) {word}"


def further_error(storage: Storage, record: RunRecord) -> float | None:
    """The error on further validation pictures, where it was measured: ``measures.further``.

    A damaged finding is no measurement; the row of its run says what is wrong with it.
    """
    try:
        finding = read_finding(storage.below(run_path(record.id)), "further-val")
    except DataError:
        return None
    return float(finding.value["error"]) if finding else None


def _error(storage: Storage, record: RunRecord) -> str:
    told = share(record.results["test"], right=False)
    damage = _told(storage, record, "further-val", labels=("",))  # what it says only chose the run
    return "; ".join([told, *_told(storage, record, "further", ("further test error",)), *damage])


def _train_right(storage: Storage, record: RunRecord) -> str:
    """Of the last epoch's training examples, each answered just before it was learnt from."""
    try:
        table = read_metrics(storage, record.id).get("train")
    except DataError as fault:
        return str(fault)
    if table is None or "correct" not in table.column_names:
        return "–"
    rows = [row for row in table.to_pylist() if row["epoch"] > record.epochs - 1]
    examples = sum(row["examples"] for row in rows)
    hits = sum(row["correct"] * row["examples"] for row in rows)
    return f"{hits / examples:.2%} of the last epoch's training images right" if rows else "–"


def _losses(_storage: Storage, record: RunRecord) -> str:
    val = record.results["val"]
    return f"validation {val.loss:.4f} ± {1.96 * val.stderr:.4f} nats"


def _time(_storage: Storage, record: RunRecord) -> str:
    return f"{duration(record.train_seconds)} for {record.steps:,} minibatches"


def _parts(_storage: Storage, record: RunRecord) -> str:
    test = record.results["test"]
    lx, lz = (test.terms.get(name) for name in ("reconstruction", "kl"))
    if not isinstance(lx, float) or not isinstance(lz, float):
        return "–"
    return f"Lx {lx:.2f}, Lz {lz:.2f}, sum {test.loss:.2f} ± {1.96 * test.stderr:.2f} nats"


def _bits(_storage: Storage, record: RunRecord) -> str:
    test = record.results["test"]
    bits = test.nats_per_dimension / math.log(2)
    return f"{bits:.3f} bits a character, {share(test, right=True)}"


def _players(_storage: Storage, record: RunRecord) -> str:
    terms = record.results["test"].terms
    shown = ("generator", "discriminator_real", "discriminator_fake")
    known = [f"{name.replace('_', ' ')} {terms[name]:.2f}" for name in shown if name in terms]
    return ", ".join(known) + " nats"


def _found(
    storage: Storage,
    record: RunRecord,
    kind: str,
    options: str = "",
    words: str = "",
    labels: tuple[str, ...] = (),
) -> str:
    """The finding of this name, or the command for it; ``words`` if it is called otherwise.
    ``labels``: of those that are told, where not all are."""
    told = _told(storage, record, kind, labels)
    return "; ".join(told) or f"python -m pipeline measure {record.id} {words or kind}{options}"


def _told(
    storage: Storage, record: RunRecord, kind: str, labels: tuple[str, ...] = ()
) -> list[str]:
    """A text for each line of the finding of this name; what is damaged says so."""
    try:
        finding = read_finding(storage.below(run_path(record.id)), kind)
    except DataError as fault:
        return [str(fault)]
    known = finding.rows if finding else []
    return [f"{label}: {text}" for label, text in known if not labels or label in labels]


def _thousand(storage: Storage, record: RunRecord) -> str:
    """Source 001's average / σ / maximum, where it was measured, beside the bound."""
    return f"{_bound(storage, record)}; {_found(storage, record, 'thousand')}"


def _and_reach(storage: Storage, record: RunRecord, target: float) -> str:
    """The bound, and how long the paper's would take by this run's own curve, if it was asked."""
    hours = _found(storage, record, f"reach-{target:g}", "", f"reach --target {target:g}")
    return f"{_bound(storage, record)}; {hours}"


JUDGE = " --classifier <run of mnist_cnn>"


def _digits(storage: Storage, record: RunRecord) -> str:
    return _found(storage, record, "classes", JUDGE)


def _players_and_digits(storage: Storage, record: RunRecord) -> str:
    """A game's losses say little of its pictures: what a classifier takes them for says more."""
    labels = ("against the training images", "unsure")
    seen = _found(storage, record, "classes", JUDGE, labels=labels)
    return f"{_players(storage, record)}; {seen}"


SHOWS: dict[str, Callable[[Storage, RunRecord], str]] = {
    "bound": _bound,
    "right": lambda _, record: share(record.results["test"], right=True),
    "error": _error,
    "error_and_time": lambda storage, record: (
        f"{share(record.results['test'], right=False)}, {_time(storage, record)}"
    ),
    "train_right": _train_right,
    "val_loss": _losses,
    "time": _time,
    "parts": _parts,
    "bits": _bits,
    "players": _players,
    "players_and_digits": _players_and_digits,
    "bound_and_80.97": partial(_and_reach, target=80.97),
    "bound_and_87.40": partial(_and_reach, target=87.4),
    "thousand": _thousand,
    "digits": _digits,
    "pictures": lambda _, record: "on the run's page",
}
"""What of a finished run answers an item."""
