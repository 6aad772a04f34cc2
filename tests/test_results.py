"""The table of what others report and what runs here reach."""

import json
import re
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from pipeline.errors import DataError
from pipeline.fault_costs import Fault, FaultCosts, write_fault_costs
from pipeline.findings import Finding
from pipeline.job_file import check_job
from pipeline.listing import read_metrics
from pipeline.measures.classes import Classes
from pipeline.records import RECORD, RunRecord, run_path
from pipeline.report import write_storage_page
from pipeline.results import (
    Answer,
    Item,
    Table,
    joined,
    markdown,
    read_table,
    rows,
    write_results,
)
from pipeline.results_shows import share
from pipeline.run import run
from pipeline.storage import Storage, open_storage
from pipeline.study import STUDY, TrialRecord, study_path
from pipeline.terminal import Terminal
from pipeline.values import to_json
from tests.made_study import made_view, stored
from tests.tiny import PLAIN, tiny_job


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Storage, RunRecord]:
    storage = open_storage(f"file://{tmp_path_factory.mktemp('results')}/store")
    job = replace(tiny_job(storage.url), name="mnist")
    return storage, run(job, Terminal(quiet=True), without_ray=True).record


def test_a_run_answers_with_its_bound_setting_cost_and_address(made):
    storage, record = made
    (row,) = rows(storage, [Item(id="000-18", what="x", jobs=("mnist",), show="bound")])
    (answer,) = row.answers
    test = record.results["test"]
    assert answer.found.startswith(f"{test.loss:.2f} ± {1.96 * test.stderr:.2f} nats (bernoulli")
    assert f"{record.job['train']['total_epochs']} epochs" in answer.setting
    assert answer.data == "70 synthetic"
    assert record.machine in answer.cost
    assert (answer.run, answer.page) == (record.id, f"runs/{record.id}/index.html")


def test_data_that_are_a_part_of_a_set_are_called_one(made):
    storage, record = made
    manifest = json.loads(storage.read(f"{record.dataset}/manifest.json"))
    item = Item(id="1", what="x", jobs=("cifar",), show="time")
    for name, origin, said in (
        ("cifar10", "CIFAR-10, a part: 4,000 of the 60,000 pictures, from a.npz",
         "70 cifar10, a part: 4,000 of the 60,000 pictures"),
        ("cifar10", "CIFAR-10, Krizhevsky 2009", "70 cifar10"),
        ("quickdraw", "Google", "70 quickdraw, a part: Google's files have 100,000 and more of a "
         "category"),
    ):  # fmt: skip
        key = f"datasets/{name}/one"
        storage.write(f"{key}/manifest.json",
                      json.dumps(manifest | {"name": name, "origin": origin}).encode())  # fmt: skip
        other = replace(record, id="cifar-0000000001", name="cifar", dataset=key)
        storage.write(f"{run_path(other.id)}/{RECORD}", to_json(other))
        assert rows(storage, [item])[0].answers[0].data == said
    strewn = manifest | {"name": "cluttered", "source": {"draws": "fresh"}}
    storage.write(f"{key}/manifest.json", json.dumps(strewn).encode())
    started = replace(other, job=other.job | {"start": {"run": "earlier-1"}})
    storage.write(f"{run_path(other.id)}/{RECORD}", to_json(started))
    answer = rows(storage, [item])[0].answers[0]
    assert answer.data == "70 cluttered, with new clutter at every step"
    assert answer.setting.endswith(", from earlier-1")
    assert answer.cost.endswith(", after earlier-1, whose time is not known here")
    moved = {"degrees": 10.0, "shear": 7.5, "scale": 0.1}
    job = other.job | {
        "data": other.job["data"] | {"affine": moved},
        "model": other.job["model"] | {"zoom_to": 0.2},
        "train": other.job["train"] | {"optimizer": {"kind": "soap"}},
        "start": {"run": "a-1", "also": [{"run": "b-2", "step": 9000}]},
    }
    moving = replace(other, job=job)
    storage.write(f"{run_path(other.id)}/{RECORD}", to_json(moving))
    told = rows(storage, [item])[0].answers[0].setting
    assert ", lr 0.01 with soap, zoom_to 0.2" in told
    assert told.endswith(
        ", digits turned ± 10°, sheared ± 7.5°, scaled ± 10%, "
        "from the mean of a-1 and b-2 at step 9,000"
    )
    storage.write(f"{key}/manifest.json", b"{")
    assert "not JSON" in rows(storage, [item])[0].answers[0].data


def test_of_equals_the_longest_run_answers_and_one_with_other_values_where_they_are_asked_for(made):
    storage, record = made
    longer = replace(record, id="mnist-0000000001", examples_seen=record.examples_seen + 1)
    job = {**record.job, "data": {**record.job["data"], "train": 7}}
    other = replace(record, id="mnist-0000000002", job=job)
    for one in (longer, other):
        storage.write(f"{run_path(one.id)}/{RECORD}", to_json(one))
    item = Item(id="1", what="x", jobs=("mnist",), show="time")
    assert rows(storage, [item])[0].answers[0].run == longer.id
    assert rows(storage, [replace(item, where={"data.train": 7})])[0].answers[0].run == other.id
    (nobody,) = rows(storage, [replace(item, where={"data.train": 8})])[0].answers
    assert not nobody.run
    assert nobody.found == (
        "not run yet: python -m pipeline run jobs/mnist.yaml --set data.train=8"
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([("loss", 2.0, 0.1), ("loss", 1.0, 0.3)], 1),  # the better validation
        ([("error", 1.0, 0.3), ("error", 2.0, 0.1)], 1),  # by what chose the weights
        ([("last", 1.0, 0.1), ("last", 2.0, 0.3)], 0),  # nothing chose: the longer run
    ],
)
def test_the_run_of_the_better_validation_answers_even_if_it_was_shorter(made, values, found):
    storage, record = made
    ids = []
    for number, (by, loss, error) in enumerate(values):
        result = replace(record.results["val"], loss=loss, terms={"correct": 1 - error})
        one = replace(
            record, id=f"chosen-{number}", name="chosen", examples_seen=100 - number,
            job=record.job | {"train": record.job["train"] | {"keep_best": by}},
            results=record.results | {"val": result},
        )  # fmt: skip
        storage.write(f"{run_path(one.id)}/{RECORD}", to_json(one))
        ids.append(one.id)
    item = Item(id="1", what="x", jobs=("chosen",), show="time")
    assert rows(storage, [item])[0].answers[0].run == ids[found]


# Where a loss chose the weights an error says nothing.
@pytest.mark.parametrize(("by", "found"), [("error", 1), ("last", 1), ("loss", 0)])
def test_further_validation_pictures_come_before_those_that_chose_the_weights(made, by, found):
    storage, record = made
    for number, further in enumerate((0.5, 0.4)):
        result = replace(record.results["val"], loss=1.0 + number, terms={"correct": 0.9})
        one = replace(
            record, id=f"{by}-further-{number}", name=f"{by}-further",
            job=record.job | {"train": record.job["train"] | {"keep_best": by}},
            results={"val": result, "test": result},
        )  # fmt: skip
        storage.write(f"{run_path(one.id)}/{RECORD}", to_json(one))
        for split, name, error in (("val", "further-val", further), ("test", "further", 0.25)):
            told = [(f"further {split} error", f"{error:.2%}: of 8"), ("most often", "1 taken")]
            more = {"title": "t", "about": "a", "rows": told, "value": {"error": error}}
            finding = Finding(run=one.id, name=name, **more)
            storage.write(f"{run_path(one.id)}/measures/{name}.json", to_json(finding))
    item = Item(id="1", what="x", jobs=(f"{by}-further",), show="error")
    (answer,) = rows(storage, [item])[0].answers
    assert answer.run == f"{by}-further-{found}"
    assert answer.score == (1.0 if by == "loss" else 0.4)
    assert answer.found.endswith(" error; further test error: 25.00%: of 8")
    for number in (0, 1):
        storage.write(f"{run_path(f'{by}-further-{number}')}/measures/further-val.json", b"{")
    (answer,) = rows(storage, [item])[0].answers
    assert answer.score == {"error": pytest.approx(0.1), "last": None, "loss": 1.0}[by]
    assert "further-val.json: not JSON" in answer.found


def test_a_run_that_goes_on_from_others_costs_their_time_too(made):
    storage, record = made

    def after(number: int, *, start: int | None) -> RunRecord:
        job = record.job | {"start": start and {"run": f"chain-{start}"}}
        one = replace(record, id=f"chain-{number}", name="chain", job=job, train_seconds=60.0,
                      examples_seen=100 - number)  # fmt: skip
        storage.write(f"{run_path(one.id)}/{RECORD}", to_json(one))
        return one

    def answer() -> Answer:
        return rows(storage, [item])[0].answers[0]

    item = Item(id="1", what="x", jobs=("chain",), show="time")
    after(1, start=None)
    assert "after" not in answer().cost
    after(2, start=1)
    last = after(3, start=2)
    told = f"1 min 00 s on 1 × cpu, {last.machine}, after 2 min 00 s of the runs it goes on from"
    # The weights of the last have seen the examples of all three, those of the first only its own.
    assert (answer().run, answer().seen, answer().cost) == (last.id, 99 + 98 + 97, told)
    after(1, start=3)  # a bucket may say what it wants
    assert (answer().seen, answer().cost) == (99 + 98 + 97, told)


def test_shares_have_wilsons_interval(made):
    _, record = made
    result = replace(
        record.results["test"], examples=10_000, terms={"correct": 1 - 0.0336}, loss=0.1
    )
    low, high = binomtest(336, 10_000).proportion_ci(method="wilson")
    assert share(result, right=False) == f"3.36% ({low:.2%} to {high:.2%}) error"
    assert share(result, right=True).startswith("96.64% (")


def test_page_and_markdown_hold_every_row_and_nothing_of_a_run_is_markup(made):
    storage, _ = made
    table = write_results(storage)
    page, text = (storage.read(name).decode() for name in ("results.html", "RESULTS.md"))
    for row in table:
        assert f"| {row.item.id} |" in text
    answered = [answer.run for row in table for answer in row.answers if answer.run]
    assert answered
    assert all(run in page for run in answered)
    assert "<script" not in page
    assert 'href="results.html"' in storage.read(write_storage_page(storage)).decode()
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line[:1] == "|"}
    assert widths == {10}
    evil = replace(table[0].item, what="<b>|")
    assert "\\|" in markdown([replace(table[0], item=evil)], None)
    assert "What published faults cost" not in page + text


def test_a_second_table_holds_what_published_faults_cost_where_that_was_measured(made):
    storage, _ = made
    faults = (
        Fault(name="one noise <b>|", item="002-45", prints=(75.0, 76.0), worth=(700.0, 790.0)),
        Fault(name="KL with −T/2", item="003-16", prints=(183.0, 187.0), worth=(138.0, 142.0)),
    )
    costs = FaultCosts(setting="9 steps", machine="m", right=(138.0, 142.0), faults=faults)
    write_fault_costs(storage, costs)
    try:
        write_results(storage)
    finally:
        page, text = (storage.read(name).decode() for name in ("results.html", "RESULTS.md"))
        storage.delete("faults.json")
    assert "| none |  | 140.00 ± 2.00 | 140.00 ± 2.00 | – |" in text
    assert "| one noise <b>\\| | 002-45 | 75.50 ± 0.50 | 745.00 ± 45.00 | 605.00 ± 43.00 |" in text
    assert "| 185.00 ± 2.00 | 140.00 ± 2.00 | 0, but prints another number |" in text
    assert "one noise &lt;b&gt;|" in page
    assert "605.00 ± 43.00" in page
    storage.write("faults.json", b"{}")
    with pytest.raises(DataError, match=r"faults\.json: setting: field required"):
        write_results(storage)
    storage.delete("faults.json")


def test_a_table_of_another_storage_stands_beside_where_its_run_saw_more(made):
    storage, record = made
    item = Item(id="1", what="x", jobs=("mnist", "svhn", "cifar10"), show="bound")
    own = rows(storage, [item])
    first = own[0].answers[0]
    seen, score = first.seen, first.score
    assert seen >= record.examples_seen
    assert score is not None

    def other(*answers: tuple[str, int], score: float | None = None, by: str = first.by) -> Table:
        return Table(answers={"1": tuple(
            Answer(job=job, found="f", run=f"{job}-9", seen=n, score=score, page="runs/there.html",
                   by=by if score is not None else "")
            for job, n in answers
        )})  # fmt: skip

    (row,) = joined(own, [other(("mnist", seen - 1)), other(("svhn", 1), ("svhn", 3))])
    assert [a.run for a in row.answers] == [first.run, "svhn-9", ""]
    assert not row.answers[1].page
    for better in (other(("mnist", 1), score=score - 1), other(("mnist", 1), score=9, by="error")):
        (row,) = joined(own, [better])
        assert row.answers[0].run == "mnist-9"
    less = other(("mnist", 1), score=score - 1, by="loss, another target")
    for worse in (other(("mnist", seen + 1)), other(("mnist", seen + 1), score=score + 1), less):
        (row,) = joined(own, [worse])
        assert row.answers[0].run == first.run
    elsewhere = replace(item, where={"model.steps": 8})
    (row,) = joined([replace(own[0], item=elsewhere)], [other(("mnist", 1), score=score - 1)])
    assert row.answers[0].run == first.run
    # Of a run that is here, too, an older table may say what was measured otherwise since.
    (row,) = joined(own, [other(("mnist", 1), score=score - 1)], ["mnist-9"])
    assert row.answers[0].run == first.run


def test_a_storages_table_says_in_another_storage_what_it_said_in_its_own(made, tmp_path):
    storage, _ = made
    costs = FaultCosts(setting="9 steps", machine="m", right=(138.0, 142.0))
    write_fault_costs(storage, costs)
    write_results(storage)
    storage.delete("faults.json")
    path = tmp_path / "RESULTS.json"
    path.write_bytes(storage.read("RESULTS.json"))
    empty = open_storage(f"file://{tmp_path}/empty")
    write_results(empty, [read_table(path)])
    assert empty.read("RESULTS.md") == storage.read("RESULTS.md")
    page = empty.read("results.html").decode()
    assert 'href="runs/' not in page
    path.write_bytes(b"{}")
    with pytest.raises(DataError, match=r"RESULTS\.json: answers: field required"):
        read_table(path)
    with pytest.raises(DataError, match=r"none\.json: No such file or directory; name a RESULTS"):
        read_table(tmp_path / "none.json")


def test_a_game_is_told_by_its_losses_and_by_what_a_classifier_makes_of_its_pictures(made):
    storage, record = made
    test = record.results["test"]
    terms = {"generator": 2.0, "discriminator_real": 0.4, "discriminator_fake": 0.5}
    game = replace(record, id="game-0000000001", name="game",
                   results=record.results | {"test": replace(test, terms=terms)})  # fmt: skip
    storage.write(f"{run_path(game.id)}/{RECORD}", to_json(game))
    item = Item(id="1", what="x", jobs=("game",), show="players_and_digits")
    losses = "generator 2.00, discriminator real 0.40, discriminator fake 0.50 nats; "
    command = "python -m pipeline measure game-0000000001 classes --classifier <run of mnist_cnn>"
    assert rows(storage, [item])[0].answers[0].found == losses + command
    measured = Classes(
        classifier="c", shown_as="their means", seed=0, classes=("0", "1"), counts=[40, 60],
        trained_on=[50, 50], unsure=0.04, chi_square_training=4.0, p_training=0.0455,
        chi_square_uniform=4.0, p_uniform=0.0455,
    )  # fmt: skip
    seen = Finding(
        run=game.id, name="classes", title="t", about="a", rows=measured.rows(), value={}
    )
    storage.write(f"{run_path(game.id)}/measures/classes.json", to_json(seen))
    assert rows(storage, [item])[0].answers[0].found == losses + (
        "against the training images: χ² 4.0 with 1 degrees of freedom, p = 0.0455; "
        "unsure: 4.0% of the answers have a probability below one half"
    )


def test_right_answers_on_training_images_are_those_of_the_last_epoch_alone(tmp_path):
    plain = {**PLAIN, "name": "cluttered", "storage": f"file://{tmp_path}/store"}
    job = check_job({**plain, "model": {"kind": "classifier", "steps": 2, "read_n": 3}}, "tiny")
    storage, record = open_storage(job.storage), run(job, Terminal(quiet=True), without_ray=True)
    item = Item(id="1", what="x", jobs=("cluttered",), show="train_right")
    (answer,) = rows(storage, [item])[0].answers
    correct = read_metrics(storage, record.record.id)["train"]["correct"].to_pylist()
    assert len(correct) == 15
    hits = round(16 * sum(correct[10:14]) + 6 * correct[14])  # 70 images: four 16s and a 6
    assert answer.found == f"{hits / 70:.2%} of the last epoch's training images right"
    part = next(e.key for e in storage.list(f"{run_path(record.record.id)}/metrics"))
    storage.write(part, b"cut off")
    assert "no Parquet" in rows(storage, [item])[0].answers[0].found


@pytest.mark.parametrize("metric", ["error", "generator"])
def test_a_search_answers_with_its_best_values_and_that_of_a_gan_with_all(tmp_path, metric):
    view = made_view(5, metric=metric)
    storage, item = stored(view, tmp_path), Item(id="a", what="", jobs=("made",), show="study")
    (before,) = rows(storage, [item])[0].answers
    assert before == Answer(
        job="made", found="not run yet: python -m pipeline run jobs/made.yaml"
    )  # it has not come to its end
    storage.below(study_path(view.id)).write(STUDY, b"{}")
    (answer,) = rows(storage, [item])[0].answers
    assert (answer.run, answer.setting) == (view.id, "5 trials")
    assert answer.cost.endswith(" of training")
    told = [f"{min(known(t)):.4g}" for t in view.trials]
    best = min(view.trials, key=lambda trial: min(known(trial)))
    if metric == "error":
        assert answer.found.startswith(f"best on validation: error {min(known(best)):.4g} with ")
        told = [f"steps {best.values['model.steps']}, ", f"lr {best.values['train.lr']:.4g}, "]
    else:
        assert "no loss ranks GANs" in answer.found
    assert all(words in answer.found for words in told)


def known(trial: TrialRecord) -> list[float]:
    return [report.value for report in trial.reports if report.value is not None]
