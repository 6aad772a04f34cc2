"""Which classes a classifier sees in generated pictures, and whether as often as in the data."""

from typing import ClassVar

import torch
from pydantic.dataclasses import dataclass

from draw_model import Batch, noise
from pipeline.contact_sheet import enlarged, framed, png, sheet
from pipeline.errors import JobError
from pipeline.measures.cells import pixels, scale_of
from pipeline.measures.contract import Advance, Finished, Found, Wanted, unlike_default
from pipeline.measures.counts import chi_square, told
from pipeline.measures.thousand import drawn
from pipeline.values import STRICT

SHOWN = 30
COLUMNS = 10
SHOWN_AS = {
    "grey": "their means",
    "dynamic": "Bernoulli draws of their pixels",
    "fixed": "Bernoulli draws of their pixels",
    "threshold": "their means, 1 from 0.5 on",
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Classes:
    """Counts of the classifier's answers to samples, and χ² tests of them."""

    TITLE: ClassVar[str] = "Classes of generated pictures"
    ABOUT: ClassVar[str] = (
        "The first samples of the model, none left out; above each, what the classifier takes it "
        "for and how sure it is. The classifier's own errors are in the counts. A p value below "
        "0.05 says that classes, as it sees them, come more or less often than they should."
    )

    classifier: str
    shown_as: str
    """What the classifier was given of a sample."""
    seed: int
    classes: tuple[str, ...]
    counts: list[int]
    trained_on: list[int]
    """How many of each class the generator was trained on."""
    unsure: float
    """Share of the samples to whose answer the classifier gives a probability below one half."""
    chi_square_training: float
    p_training: float
    chi_square_uniform: float
    p_uniform: float

    def rows(self) -> list[tuple[str, str]]:
        total, trained, degrees = sum(self.counts), sum(self.trained_on), len(self.classes) - 1
        each = [
            (name, f"{count:,} ({count / total:.1%}; of the training images {had / trained:.1%})")
            for name, count, had in zip(self.classes, self.counts, self.trained_on, strict=True)
        ]
        freedom = f"with {degrees} degrees of freedom,"
        return [
            ("classifier", f"{self.classifier}, given {total:,} samples as {self.shown_as}"),
            (
                "against the training images",
                f"χ² {self.chi_square_training:.1f} {freedom} {told(self.p_training)}",
            ),
            (
                "against uniform",
                f"χ² {self.chi_square_uniform:.1f} {freedom} {told(self.p_uniform)}",
            ),
            ("unsure", f"{self.unsure:.1%} of the answers have a probability below one half"),
            *each,
        ]


def classes(finished: Finished, wanted: Wanted, advance: Advance) -> Found:
    """The histogram of ``wanted.count`` samples in the eyes of ``wanted.classifier``.

    Raises JobError for a classifier of other pictures or classes.
    """
    judge = wanted.classifier
    assert judge is not None  # measured only where it was named
    _check(finished, judge)
    names, first = finished.manifest.classes, 0
    found, sure, shown = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
    for images in finished.images(wanted.count, wanted.seed):
        answer, probability = _judged(judge, images, wanted.seed, first)
        found.append(answer)
        sure.append(probability)
        shown.append(images[: max(0, SHOWN - first)].cpu())
        first += len(images)
        advance(first, wanted.count)
    answers, sureness = torch.cat(found), torch.cat(sure)
    counts = torch.bincount(answers, minlength=len(names)).tolist()
    stated = finished.manifest.class_counts["train"]
    trained_on = [stated.get(name, 0) for name in names]
    training, uniform = chi_square(counts, trained_on), chi_square(counts, [1.0] * len(names))
    labels = [
        f"{names[int(a)]}  {float(p):.0%}"
        for a, p in zip(answers[:SHOWN], sureness[:SHOWN], strict=True)
    ]
    return Found(
        value=Classes(
            classifier=judge.run,
            shown_as=SHOWN_AS[judge.job.data.binarisation],
            seed=wanted.seed,
            classes=names,
            counts=counts,
            trained_on=trained_on,
            unsure=float((sureness < 0.5).double().mean()),
            chi_square_training=training[0],
            p_training=training[1],
            chi_square_uniform=uniform[0],
            p_uniform=uniform[1],
        ),
        files={"png": labelled(torch.cat(shown), labels)},
        of=unlike_default(wanted, "count", "seed"),
    )


def labelled(images: torch.Tensor, labels: list[str]) -> bytes:
    """A PNG of images (n, C, H, W) in rows of ten, each below its label."""
    scale = scale_of(images, least=70)
    cells = [framed(enlarged(image, scale)) for image in pixels(images)]
    parts = [slice(i, i + COLUMNS) for i in range(0, len(cells), COLUMNS)]
    rows = [[sheet([cells[part]], headings=labels[part])] for part in parts]
    return png(sheet(rows, gap=0))


@torch.no_grad()
def _judged(
    judge: Finished, images: torch.Tensor, seed: int, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers (n,) to samples (n, C, H, W) from place ``first`` on, and their probabilities."""
    places, binarisation = range(first, first + len(images)), judge.job.data.binarisation
    if binarisation == "threshold":
        images = (images >= 0.5).float()
    elif binarisation != "grey":
        images = drawn(images, seed, places)
    draws = noise.draw(judge.model.noise_shapes(), seed, "sample/judge", 0, places)
    batch = Batch(
        x=images,
        y=None,
        mask=torch.ones(len(images), dtype=torch.bool, device=judge.device),
        noise={name: value.to(judge.device) for name, value in draws.items()},
    )
    with judge.precision():
        scores = judge.model.classify(batch)
    assert scores is not None
    probability, answer = scores.float().softmax(1).max(1)
    return answer.cpu(), probability.cpu()


def _check(finished: Finished, judge: Finished) -> None:
    """Raises JobError, in one line, where the classifier cannot judge these samples."""
    mine, others = tuple(finished.model.shape), tuple(judge.model.shape)
    if judge.model.classify(judge.model.fake_batch(2).to(judge.device)) is None:
        raise JobError(
            f"--classifier {judge.run}: a {judge.job.model.kind} that names no classes; give a "
            "run of a classifier, such as jobs/mnist_cnn.yaml"
        )
    if mine != others:
        raise JobError(
            f"--classifier {judge.run}: it takes pictures of {others}, the samples of "
            f"{finished.run} are {mine}; train one on the same data (jobs/mnist_cnn.yaml is for "
            "28 × 28)"
        )
    stated = finished.manifest.class_counts["train"]
    if none := [name for name in finished.manifest.classes if not stated.get(name)]:
        raise JobError(
            f"{finished.run} was trained on no {none[0]}: its classes cannot be compared with those"
        )
    if finished.manifest.classes != judge.manifest.classes or len(judge.manifest.classes) < 2:
        raise JobError(
            f"--classifier {judge.run}: its classes are {', '.join(judge.manifest.classes)}, those "
            f"of {finished.run} are {', '.join(finished.manifest.classes)}; train one on the same "
            "data"
        )
