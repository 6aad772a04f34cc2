"""What the columns of the results table say of a run: its setting, its data, its cost."""

from collections.abc import Sequence

from pipeline.errors import DataError
from pipeline.lineage import started_from
from pipeline.listing import read_optional
from pipeline.manifest import Manifest
from pipeline.records import RunRecord
from pipeline.report import duration
from pipeline.storage import Storage
from pipeline.values import from_json

SKETCHES = 100_000
"""Of the smallest category of Quick, Draw!"""
USUAL = {"window_sigma": 1.0, "window_rate": 1.0, "zoom_to": None, "match_after": 46_900}
"""Values of a model that its row names where they are others."""


def setting(record: RunRecord) -> str:
    """What of a run's model and training tells it from others: T 8, hidden 256, …"""
    model, train = record.job["model"], record.job["train"]
    known = {"steps": "T", "hidden": "hidden", "latent": "z", "read_n": "read", "write_n": "write"}
    parts = [f"{name} {model[key]}" for key, name in known.items() if model.get(key) is not None]
    kind = train.get("optimizer", {}).get("kind", "adam")
    rate = f"lr {train['lr']:g}" + (f" with {kind}" if kind != "adam" else "")
    parts += [f"{record.epochs:g} epochs", f"batch {train['batch_size']}", rate]
    told = ((key, model.get(key, usual)) for key, usual in USUAL.items())
    parts += [f"{key} {value:g}" for key, value in told if value != USUAL[key]]
    if train["precision"] != "float32":
        parts.append(train["precision"])
    if affine := record.job["data"].get("affine"):
        moved = "digits turned ± {degrees:g}°, sheared ± {shear:g}°, scaled ± {scale:.0%}"
        parts.append(moved.format(**affine))
    if starts := started_from(record):
        named = [run + (f" at step {step:,}" if step else "") for run, step in starts]
        parts.append(f"from {'the mean of ' if len(named) > 1 else ''}{' and '.join(named)}")
    return ", ".join(parts)


def cost(line: Sequence[RunRecord], lost: str | None) -> str:
    """A run's time and machine, and the time of all the runs before it whose weights it took."""
    record, *before = line
    place = f"{record.workers} × {record.device}, {record.machine}"
    own = f"{duration(record.train_seconds)} on {place}"
    if lost:
        return f"{own}, after {lost}, whose time is not known here"
    spent = duration(sum(one.train_seconds for one in before))
    return f"{own}, after {spent} of the runs it goes on from" if before else own


def data(storage: Storage, record: RunRecord) -> str:
    """How many examples of what it was trained on, and whether that is all there is of it."""
    found = read_optional(storage, f"{record.dataset}/manifest.json")
    if found is None:
        return f"{record.dataset}: gone since"
    try:
        manifest = from_json(Manifest, found, storage.address(f"{record.dataset}/manifest.json"))
    except DataError as fault:
        return str(fault)
    parts = [words for words in manifest.origin.split(", ") if words.startswith("a part")]
    if manifest.name == "quickdraw" and sum(manifest.splits.values()) < SKETCHES * len(
        manifest.classes
    ):
        parts = [f"a part: Google's files have {SKETCHES:,} and more of a category"]
    if manifest.source.get("draws") == "fresh":
        parts.append("with new clutter at every step")
    return ", ".join([f"{manifest.splits['train']:,} {manifest.name}", *parts])
