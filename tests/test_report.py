import io
import math
import re
import time
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from draw_model import ConvDraw, ConvDrawConfig, DrawConfig, build
from pipeline import pictures, report
from pipeline.ending import noted
from pipeline.errors import DataError, Interrupted, StorageError
from pipeline.listing import RunRow, list_runs, read_metrics
from pipeline.manifest import Manifest, Shard
from pipeline.publish import kernels
from pipeline.records import Result, RunRecord
from pipeline.storage import Storage, open_storage
from pipeline.values import to_json

NAN = float("nan")
VOID = {"meta", "img", "br", "link", "hr", "use", "path"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(f"file://{tmp_path}/store")


def result(split: str, **changes) -> Result:
    terms = {"reconstruction": 73.0, "kl": 25.25, "kl_per_step": [20.0, 5.25]}
    values = {"split": split, "examples": 10000, "loss": 98.25, "stderr": 0.125, "terms": terms}
    values |= {"dimensions": 784, "nats_per_dimension": 0.12532, "chance": 543.427}
    return Result(**{**values, "binarisation": "dynamic", "likelihood": "bernoulli", **changes})


def record(**changes) -> RunRecord:
    values = {
        "version": 1,
        "id": "digits-0123456789",
        "name": "digits",
        "job": {"storage": "s3://draw"},
    }
    values |= {"dataset": "datasets/mnist/abc", "manifest_content": "f" * 64}
    values |= {"parameters": 1234567, "steps": 4000, "epochs": 10.0, "examples_seen": 512000}
    values |= {"best_step": 3600, "skipped_steps": 1, "workers": 2, "device": "cpu"}
    values |= {"results": {"test": result("test"), "val": result("val", loss=99.5)}}
    values |= {"machine": "2 × some processor", "attempts": 2, "train_seconds": 3723.0}
    values |= {"examples_per_second": 1234.5, "started": "2025-01-02T10:00:00+00:00"}
    values |= {"finished": "2025-01-02T11:12:13+00:00", "versions": {"torch": "2.6.0"}}
    return RunRecord(**{**values, **changes})


def metrics(first: int, last: int, loss: float = 100.0, **more: list[object]) -> pa.Table:
    steps = list(range(first, last + 1))
    columns = {"step": steps, "epoch": [s / 100 for s in steps], "loss": [loss] * len(steps)}
    return pa.table({**columns, **more})


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def drawn_pictures() -> dict[str, bytes]:
    images, canvases = torch.rand(4, 1, 8, 8), torch.rand(4, 3, 1, 8, 8)
    windows = torch.tensor([4.0, 4.0, 3.0, 1.0]).expand(4, 3, 4)
    made = {"images": images, "canvases": canvases, "write_windows": windows}
    return pictures.of_model(made, images, made)


def page(of: RunRecord | None, **changes) -> str:
    values = {"run_id": "digits-0123456789", "job_yaml": "name: digits\n", "tables": {}}
    return report.run_page(of, **{**values, "pictures": {}, "state": {}, **changes})


def text(html: str) -> str:
    html = re.sub(r"<(style|svg).*?</\1>", "", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


class Checker(HTMLParser):
    """Collects what is not closed, what refers outwards, and pictures without a text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.open += [tag] if tag not in VOID else []
        for name in ("src", "href", "action", "data"):
            value = values.get(name) or ""
            if re.match(r"(\w+:)?//|\w+:", value) and not value.startswith("data:image/"):
                self.faults.append(f"{tag} {name}={value[:60]}")
        if tag == "img" and not values.get("alt"):
            self.faults.append("img without alt")
        if tag in ("script", "iframe", "object", "link") or any(n.startswith("on") for n in values):
            self.faults.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(f"</{tag}> closes nothing")


def check(html: str) -> None:
    checker = Checker()
    checker.feed(html)
    assert checker.faults == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_a_loss_is_called_a_bound_only_where_it_has_no_other_part() -> None:
    assert result("test").bound
    assert result("test", loss=98.25 * (1 + 1e-7)).bound, "float32 sums round"
    assert not result("test", loss=98.25 + 0.03).bound, "the cost of classes, almost learned"
    assert not result("test", terms={"cross_entropy": 98.25}).bound


def test_a_finished_run_shows_bound_coin_pictures_curves_facts_and_how_to_go_on() -> None:
    steps = [[2.0, 1.0]] * 100
    html = page(
        record(),
        pictures=drawn_pictures(),
        tables={
            "train": metrics(1, 100, kl_per_step=steps, memory_mb=[812.0] * 100),
            "validation": metrics(100, 100, stderr=[0.5]),
        },
        state={"attempts": [{"started": "2025-01-02T10:00", "from_step": 0, "workers": 2,
                             "device": "cpu"}]},
    )  # fmt: skip
    check(html)
    words = text(html)
    for expected in (
        "98.25 ± 0.12 nats test bound · 0.1253 nats/dim · a uniform guess: 543.43 nats",
        "· target: bernoulli, dynamic Mean over 10,000 examples",
        "99.50 ± 0.12 98.25 ± 0.12",
        "KL 25.25 25.25",
        "1,234,567",
        "1 h 02 min 03 s",
        "4,000 (1)",
        "812 MB",
        "2 × some processor",
        "name: digits",
        "python -m pipeline run job.yaml python -m pipeline evaluate digits-0123456789 "
        "--storage s3://draw python -m pipeline measure digits-0123456789 "
        "--storage s3://draw python -m pipeline sample",
        "draw_model.from_plain",
    ):
        assert expected in words
    assert html.count("data:image/png;base64,") == 6, "4 pictures, the map of the KL and its bar"
    assert html.count("data:image/gif;base64,") == 1
    assert "not there" not in words


def test_names_and_jobs_are_escaped() -> None:
    evil = "<script>alert(1)</script>"
    html = page(
        record(name=evil, machine=evil, versions={evil: evil}),
        job_yaml=f"name: {evil}",
        run_id=evil,
        pictures={f"{evil}.png": b"\x89PNG"},
    )
    assert "<script" not in html
    check(html)
    row = RunRow(id=evil, name=evil, status="complete", page=True, when=evil, dataset=evil)
    index = report.storage_page([row])
    assert "<script" not in index
    check(index)


def test_what_is_missing_or_not_finite_is_shown_as_missing() -> None:
    broken = result("test", loss=NAN, stderr=NAN, nats_per_dimension=NAN, terms={"kl": math.inf})
    html = page(record(results={"test": broken}, train_seconds=NAN), job_yaml="")
    check(html)
    assert "– ± – nats test loss · – nats/dim" in text(html)
    assert "This model makes no pictures." in text(html)
    assert "nan" not in text(html).lower()
    check(page(record(results={})))


def test_splits_with_different_terms_stand_in_one_table() -> None:
    classifier = result("test", terms={"errors": 0.031})
    words = text(page(record(results={"test": classifier, "val": result("val")})))
    assert "errors – 0.03" in words
    assert "98.25 ± 0.12 nats test loss" in words


@pytest.mark.parametrize(
    ("likelihood", "chance", "words"),
    [
        ("characters", 228.2, "target: characters"),
        ("class", 2.303, "a uniform guess: 2.30 nats · target: classes of grey pictures"),
        ("adversarial", None, "nats/dim · target: none, adversarial on grey pictures"),
    ],
)
def test_only_pixels_that_are_a_target_are_called_one(likelihood, chance, words) -> None:
    one = result("test", likelihood=likelihood, chance=chance, binarisation="grey", terms={})
    html = text(page(record(results={"test": one})))
    assert f"{words} Mean" in html
    assert ("a uniform guess" in html) == (chance is not None)


def test_the_wrong_characters_of_a_text_are_no_wrong_answers(storage: Storage) -> None:
    one = result("test", likelihood="characters", binarisation="grey", terms={"correct": 0.5})
    assert "50.00 % wrong characters" in text(page(record(results={"test": one})))
    storage.write("runs/a/run.json", to_json(record(results={"test": one})))
    index = text(report.storage_page(list_runs(storage)))
    assert "50.00 % mnist/abc characters 10.0" in index
    assert "grey" not in index


def test_an_unfinished_run_shows_what_is_known_and_that_it_can_be_resumed() -> None:
    tables = {"train": metrics(1, 120, 101.5), "validation": metrics(100, 100, 99.0, stderr=[0.5])}
    html = page(None, tables=tables, state={"checkpoint_step": 100})
    check(html)
    expected = (
        "Unfinished step 120 · epoch 1.20 · training loss 101.50 nats · validation 99.00 ± 0.50"
    )
    assert expected in text(html)
    assert "resumed from the checkpoint at step 100" in text(html)
    assert "<svg" in html
    bare = page(None)
    check(bare)
    assert "No checkpoint was written" in text(bare)


def test_parts_of_metrics_are_joined_by_step_and_the_last_row_of_a_step_wins(
    storage: Storage,
) -> None:
    folder = "runs/r/metrics"
    storage.write(f"{folder}/train-00000001-00000003.parquet", parquet(metrics(1, 3, 1.0)))
    later = metrics(3, 4, 2.0, kl=[7.0, 8.0])
    storage.write(f"{folder}/train-00000003-00000004.parquet", parquet(later))
    storage.write(f"{folder}/notes.txt", b"not ours")
    tables = read_metrics(storage, "r")
    assert list(tables) == ["train"]
    assert tables["train"].column("step").to_pylist() == [1, 2, 3, 4]
    assert tables["train"].column("loss").to_pylist() == [1.0, 1.0, 2.0, 2.0]
    assert tables["train"].column("kl").to_pylist() == [None, None, 7.0, 8.0]
    assert read_metrics(storage, "another") == {}


@pytest.mark.parametrize("data", [b"PAR1 cut off", b"", parquet(pa.table({"loss": [1.0]}))])
def test_a_damaged_part_of_metrics_is_named(storage: Storage, data: bytes) -> None:
    storage.write("runs/r/metrics/train-00000001-00000002.parquet", data)
    with pytest.raises(DataError, match=r"metrics/train-00000001-00000002\.parquet: .*remove"):
        read_metrics(storage, "r")


def test_parts_that_do_not_fit_together_are_named(storage: Storage) -> None:
    for name, loss in (("train-1-1", 1.0), ("train-2-2", "high")):
        table = pa.table({"step": [1], "loss": [loss]})
        storage.write(f"runs/r/metrics/{name}.parquet", parquet(table))
    with pytest.raises(DataError, match="runs/r/metrics: parts do not fit together"):
        read_metrics(storage, "r")


def test_a_run_page_is_made_of_what_is_stored(storage: Storage) -> None:
    run = storage.below("runs/digits-0123456789")
    run.write("run.json", to_json(record()))
    run.write("job.yaml", b"name: digits  # as submitted\n")
    run.write("metrics/train-00000001-00000100.parquet", parquet(metrics(1, 100)))
    run.write("attempts/000001.json", b'{"started": "2025-01-02T10:00:00", "from_step": 0}')
    run.write("attempts/000002.json", b"damaged")
    for name, data in drawn_pictures().items():
        run.write(f"pictures/{name}", data)
    key = report.write_run_page(storage, "digits-0123456789")
    html = storage.read(key).decode()
    check(html)
    assert key == "runs/digits-0123456789/index.html"
    assert "# as submitted" in html
    assert html.count("<img") == 5
    assert "2025-01-02 10:00 0 – – – – – –" in text(html)


def test_damaged_and_unfinished_runs_are_rows_too(storage: Storage) -> None:
    storage.write("runs/a/run.json", to_json(record(id="a")))
    storage.write("runs/b/run.json", b'{"version": 1, ')
    storage.write("runs/c/checkpoints/step-00000500/checksums.json", b"{}")
    storage.write("runs/c/checkpoints/step-00001000/model.safetensors", b"half-written")
    storage.write("runs/d/job.yaml", b"name: d")
    for name, status in (("e", "failed"), ("f", "stopped")):
        storage.write(f"runs/{name}/checkpoints/step-00000007/checksums.json", b"{}")
        with suppress(StorageError, Interrupted), noted(storage.below(f"runs/{name}")):
            raise {"failed": StorageError, "stopped": Interrupted}[status](f"<b>{name}")
    storage.write("runs/f/attempts/000002.json", b"{}")  # it has been started again since
    storage.write("runs/g/ended.json", b"{")
    rows = {row.id: row for row in list_runs(storage)}
    assert {k: (r.status, r.step) for k, r in rows.items()} == {
        "a": ("complete", None),
        "b": ("damaged", None),
        "c": ("unfinished", 500),
        "d": ("unfinished", None),
        "e": ("failed", 7),
        "f": ("unfinished", 7),
        "g": ("unfinished", None),
    }
    assert rows["e"].reason == "<b>e"
    assert 'title="&lt;b&gt;e">failed, step 7<' in report.storage_page(list(rows.values()), {})
    assert rows["a"].loss == 98.25
    assert list(rows)[-1] == "a", "finished before the others were written"


def test_the_storage_page_links_runs_and_lists_data_sets(storage: Storage) -> None:
    shard = Shard(file="x.tar", split="train", first=0, examples=5, bytes=2500000, sha256="0")
    manifest = Manifest(
        version=1, name="mnist", id="abc", source={}, shape=(1, 28, 28), classes=(),
        splits={"train": 50000}, class_counts={}, shards=(shard,), origin="o", licence="CC BY 4.0",
    )  # fmt: skip
    storage.write("datasets/mnist/abc/manifest.json", to_json(manifest))
    storage.write("datasets/mnist/half/train-000000.tar", b"no manifest yet")
    storage.write("datasets/svhn/xyz/manifest.json", b"{")
    storage.write("runs/digits-0123456789/run.json", to_json(record()))
    report.write_run_page(storage, "digits-0123456789")
    html = storage.read(report.write_storage_page(storage)).decode()
    check(html)
    assert '<a href="runs/digits-0123456789/index.html">digits</a>' in html
    for expected in (
        "98.25 ± 0.12 0.1253 – mnist/abc bernoulli, dynamic 10.0",
        "1 × 28 × 28 train 50,000 2.5 MB",
    ):
        assert expected in text(html)
    assert "svhn/xyz damaged manifest" in text(html)
    assert "mnist/half" not in html


def test_the_first_kernels_of_a_model_that_has_some_stand_on_its_page() -> None:
    model = build(ConvDrawConfig(model="each_step", kernels=3), (1, 12, 12))
    assert isinstance(model, ConvDraw)
    first = model.first_kernels().zero_()  # (3, 2, 5, 5), the model's own
    first[1, 0, 2, 3], first[2, 1, 0, 4] = 3, -3
    drawn = kernels(model)
    with Image.open(io.BytesIO(drawn["kernels.png"])) as picture:
        assert picture.size == (2 + 3 * 34, 2 + 2 * 34)  # 5 × 6 pixels, a frame, a gap
        seen = {
            (k, c, row, column): picture.getpixel((3 + 34 * k + 6 * column, 3 + 34 * c + 6 * row))
            for k, c, row, column in np.ndindex(3, 2, 5, 5)
        }
    assert seen.pop((1, 0, 2, 3)) == (255, 255, 255)
    assert seen.pop((2, 1, 0, 4)) == (0, 0, 0)
    assert set(seen.values()) == {(128, 128, 128)}
    assert "First kernels. A column for each kernel" in text(page(record(), pictures=drawn))
    assert kernels(build(DrawConfig(), (1, 12, 12))) == {}


def test_an_empty_storage_has_a_page(storage: Storage) -> None:
    check(storage.read(report.write_storage_page(storage)).decode())


def test_400_runs_are_listed_quickly_newest_first(storage: Storage) -> None:
    some = record()
    for i in range(400):
        finished = f"2025-01-{1 + i % 28:02d}T00:{i % 60:02d}:00+00:00"
        one = replace(some, id=f"run-{i:03d}", finished=finished)
        storage.write(f"runs/run-{i:03d}/run.json", to_json(one))
    started = time.perf_counter()
    rows = list_runs(storage)
    html = report.storage_page(rows)
    assert time.perf_counter() - started < 5
    assert html.count("<tr><td>") == 400
    assert [r.when for r in rows] == sorted((r.when for r in rows), reverse=True)
