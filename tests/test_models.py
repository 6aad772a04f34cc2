"""What every kind of model must keep: finite terms, gradients, resume, any number of workers."""

from typing import Any

import pytest
import torch

from draw_model import MODELS, Batch
from draw_model.char_rnn import ALPHABET
from pipeline.job_file import check_job
from pipeline.loader import as_text, model_of
from tests.test_train import Killed, distributed, kill_at, run
from tests.tiny import PLAIN, losses, prepared, same, weights

CONFIGS: dict[str, dict[str, Any]] = {
    "draw": {"steps": 2, "hidden": 16, "latent": 3, "read_n": 3, "write_n": 3},
    "classifier": {"steps": 2, "hidden": 16, "read_n": 4},
    "ram": {"glimpses": 2, "patch": 4, "scales": 2, "hidden": 16},
    "cnn": {"hidden": 8},
    "vae": {},
    "dcgan": {"noise": 8, "dropout": 0.2},
    "char_rnn": {"hidden": 16, "init": 0.3},
    "conv_draw": {},
}
STATISTICS = {"vae", "dcgan"}
"""Models with batch norm: an example's loss depends on its batch, and so on the worker count."""
TEXT = "Whether 'tis nobler in the mind to suffer the slings and arrows.\n" * 40


@pytest.fixture(params=sorted(MODELS))
def job(request, tmp_path, monkeypatch):
    """Three epochs of three steps, the last of them padded, on pictures or text."""
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    kind = request.param
    data: dict[str, Any] = {"source": "synthetic", "size": 28, "train": 40, "val": 16, "test": 16}
    if kind == "char_rnn":
        (tmp_path / "a.txt").write_text(TEXT)
        data = {"source": "text", "file": str(tmp_path / "a.txt"), "length": 59}

    def make(where: str) -> Any:
        plain = {
            **PLAIN,
            "storage": f"file://{tmp_path}/{where}",
            "data": data,
            "model": {"kind": kind, **CONFIGS[kind]},
            "train": {**PLAIN["train"], "lr": 1e-3},
        }
        return check_job(plain, "tiny")

    yield make
    torch.set_num_threads(before)


def test_terms_are_an_examples_own_and_finite_and_gradients_reach_every_parameter(job):
    one = job("a")
    manifest, _ = prepared(one)
    torch.manual_seed(0)
    model = model_of(one, manifest)
    batch = model.fake_batch(6)
    terms = model(batch)
    for name, value in terms.items():
        assert value.shape[0] == 6, name
        assert value.isfinite().all(), name
    terms["loss"].sum().backward()
    silent = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()
    ]
    assert not silent
    measure = model.measure()
    assert measure.dimensions >= 1
    assert measure.likelihood


def test_an_examples_loss_does_not_depend_on_its_batch(job):
    one = job("a")
    manifest, _ = prepared(one)
    torch.manual_seed(0)
    model = model_of(one, manifest).eval()
    batch = model.fake_batch(6)
    part = Batch(
        x=batch.x[2:4],
        y=None if batch.y is None else batch.y[2:4],
        mask=batch.mask[2:4],
        noise={name: value[2:4] for name, value in batch.noise.items()},
    )
    with torch.no_grad():
        whole, alone = model(batch)["loss"][2:4], model(part)["loss"]
    torch.testing.assert_close(alone, whole, rtol=2e-5, atol=1e-5)


def test_a_run_that_was_killed_equals_the_straight_one_bit_for_bit(job):
    from pipeline.worker import Worker

    outcome, straight = run(job("straight"))
    with pytest.raises(Killed):
        run(job("killed"), Worker(progress=kill_at(5)))
    again, resumed = run(job("killed"))
    assert same(weights(straight), weights(resumed))
    assert losses(straight) == losses(resumed)
    assert again.results == outcome.results


def test_two_workers_agree_with_one(job):
    one = job("1")
    outcome, home = run(one)
    [(other, theirs)] = distributed(job("2"), 2)
    if one.model.kind in STATISTICS:
        assert theirs[0] != losses(home)[0], "each worker has statistics of its own half"
        assert theirs == pytest.approx(losses(home), rel=0.2)
    else:
        assert theirs == pytest.approx(losses(home), rel=1e-4)
        assert other.results["test"].loss == pytest.approx(outcome.results["test"].loss, rel=1e-4)


def test_what_a_model_imagines_is_what_the_contract_names(job):
    one = job("a")
    manifest, _ = prepared(one)
    model = model_of(one, manifest).eval()
    drawn = model.sample(3, seed=1)
    again = model.sample(3, seed=1)
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    if "images" in drawn:
        assert drawn["images"].shape == (3, *model.shape)
        assert 0 <= drawn["images"].min() <= drawn["images"].max() <= 1
    if "codes" in drawn:
        assert set(as_text(drawn["codes"].flatten())) <= set(ALPHABET)
