"""A whole split evaluated: the mean and its standard error, however it is cut into batches."""

import numpy as np
import pytest
import torch

from pipeline.evaluate import evaluate
from pipeline.loader import model_of, open_loader
from tests.tiny import prepared, tiny_job


@pytest.mark.parametrize("batch_size", [1, 16, 20, 64])
def test_mean_and_standard_error_are_those_of_the_examples(tmp_path, monkeypatch, batch_size):
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    job = tiny_job(f"file://{tmp_path}/store", data={"binarisation": "grey"})
    manifest, storage = prepared(job)
    torch.manual_seed(0)
    model = model_of(job, manifest)
    losses, kl = [], []
    shapes = model.noise_shapes()
    loader = open_loader(job, manifest, storage, "test", shapes, batch_size=batch_size)
    with torch.no_grad():
        for step in range(loader.steps):
            batch = loader.batch(step, range(batch_size))
            terms = model(batch)
            losses += terms["loss"][batch.mask].tolist()
            kl += terms["kl"][batch.mask].tolist()
    assert len(losses) == 20
    result = evaluate(model, loader)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert result.terms["kl"] == pytest.approx(np.mean(kl), rel=1e-6)
    assert result.stderr == pytest.approx(np.std(losses, ddof=1) / 20**0.5, rel=1e-4)
    assert result.examples == 20
    assert result.nats_per_dimension == pytest.approx(result.loss / 144)
    assert result.target == "bernoulli, grey"
