"""What there is to train on at a tick: what is new, and what the challengers begin with."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import draw_model
from pipeline.champion import Champion, Seen, require_weights
from pipeline.errors import JobError
from pipeline.job import Job, deciding, made_of
from pipeline.loader import model_of
from pipeline.manifest import Manifest
from pipeline.records import read_record
from pipeline.retrain_compare import check_metric
from pipeline.retrain_values import News, Retrain, Start
from pipeline.storage import Storage
from pipeline.values import digest, to_plain


def digest_of_test(manifest: Manifest) -> str:
    """Of what the test examples are: the shards' own sha256, in order."""
    return digest([[s.first, s.examples, s.sha256] for s in manifest.of("test")])


@lru_cache(maxsize=1)
def code_version() -> str:
    """A hash of this program's own source: what would train a run now."""
    found = sha256()
    for root in (Path(draw_model.__file__).parent, Path(__file__).parent):
        for path in sorted(root.rglob("*.py")):
            found.update(f"{root.name}/{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def seen_now(job: Job, manifest: Manifest) -> Seen:
    """What a challenger of this tick would be made of."""
    return Seen(data=manifest.content, code=code_version(), job=digest(made_of(job))[:12])


def news(section: Retrain, before: Seen | None, now: Seen) -> list[News]:
    """Which of what the section lists differs from what was last decided on."""
    if before is None:
        return list(section.new)
    return [what for what in section.new if getattr(before, what) != getattr(now, what)]


def starts(section: Retrain, champion: Champion | None, seen: Seen) -> Sequence[Start]:
    """What each challenger begins with: the champion's weights, the seed alone, or each."""
    code = seen.code if "code" in section.new else ""
    cold = Start(code=code)
    if champion is None or section.start == "cold":
        return [cold]
    warm = Start(run=champion.run, weights_sha256=champion.weights_sha256, code=code)
    return [warm, cold] if section.start == "both" else [warm]


def check_fit(
    job: Job, manifest: Manifest, section: Retrain, champion: Champion | None, storage: Storage
) -> None:
    """Before anything is trained: raises JobError for a metric that the model has not, and for a
    champion of another model where its weights are wanted; DataError for one that is damaged."""
    check_metric(model_of(job, manifest), section.gate.metric)
    if champion is None:
        return
    require_weights(storage, champion)
    theirs = deciding("model", read_record(storage, champion.run).job.get("model") or {})
    ours = deciding("model", to_plain(job.model))
    if section.start != "cold" and theirs != ours:
        raise JobError(
            f"retrain.start is {section.start}, but champion {champion.run} is another model "
            f"({_difference(theirs, ours)}); write cold"
        )


def _difference(theirs: dict[str, object], ours: dict[str, object]) -> str:
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name)}, here {ours.get(name)}" for name in names)
