"""Training by hand, without a cluster: sameness across kills, workers and accumulation."""

import math
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from safetensors.torch import load, save

from draw_model import noise
from pipeline import checkpoint
from pipeline.errors import DataError, TrainingError
from pipeline.job import run_id
from pipeline.job_file import check_job
from pipeline.listing import read_attempts, read_metrics
from pipeline.optimizer import lr_at, make_optimizer
from pipeline.records import WEIGHTS
from pipeline.retrain_values import Start
from pipeline.train import Training, seeded_model, train
from pipeline.worker import Worker
from tests.forks import FORKS
from tests.tiny import PLAIN, column, home_of, losses, prepared, root_of, same, tiny_job, weights


class Killed(BaseException):
    """What a SIGKILL is to the code that it hits."""


def kill_at(*steps):
    """A progress callback that ends the process, as it were, right after these steps."""
    left = set(steps)

    def progress(row):
        if row["step"] in left:
            left.remove(row["step"])
            raise Killed

    return progress


@pytest.fixture(autouse=True)
def _one_thread_and_own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(job, worker=None):
    manifest, storage = prepared(job)
    outcome = train(job, manifest, storage, worker or Worker())
    return outcome, home_of(job, manifest, storage)


def test_loss_falls_and_the_outcome_is_whole(tmp_path):
    job = tiny_job(f"file://{tmp_path}/a", train={"total_epochs": 20})
    outcome, home = run(job)
    seen = losses(home)
    assert len(seen) == outcome.step == outcome.total_steps == 100
    assert sum(seen[-10:]) < 0.8 * sum(seen[:10])
    test = outcome.results["test"]
    assert test.examples == 20
    assert math.isclose(test.loss, test.terms["kl"] + test.terms["reconstruction"], rel_tol=1e-6)
    assert math.isclose(sum(test.terms["kl_per_step"]), test.terms["kl"], rel_tol=1e-6)
    assert math.isclose(test.chance, 144 * math.log(2))
    assert test.stderr > 0


def test_the_first_losses_of_one_seed_stay_what_they_were(tmp_path):
    """Golden numbers: a change that should not change training must not change these."""
    _, home = run(tiny_job(f"file://{tmp_path}/a"))
    assert losses(home)[:5] == pytest.approx(GOLDEN, rel=1e-5)


def test_steps_after_a_checkpoint_say_when_it_was_written_and_how_long_it_took(tmp_path):
    before, heard = time.time(), []
    job = tiny_job(f"file://{tmp_path}/a", train={"total_epochs": 1, "checkpoint_every_steps": 1})
    _, home = run(job, Worker(progress=heard.append))
    assert "checkpoint_time" not in heard[0]
    times = [row["checkpoint_time"] for row in heard[2:]]  # written while the next step is trained
    assert before < times[0] <= times[-1] <= time.time()
    assert all(0 < row["checkpoint_seconds"] < time.time() - before for row in heard[2:])
    assert "checkpoint_time" not in read_metrics(*root_of(home))["train"].column_names


@pytest.mark.parametrize("kills", [(1,), (5, 6), (3, 7, 8, 14, 15)])
@pytest.mark.parametrize("average", [0.0, 0.8])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_a_run_that_was_killed_and_resumed_equals_the_straight_one_bit_for_bit(
    tmp_path, kills, optimizer, average
):
    values = {"optimizer": {"kind": optimizer}, "lr": 0.003, "average": average}
    straight, home = run(tiny_job(f"file://{tmp_path}/a", train=values))
    job = tiny_job(f"file://{tmp_path}/b", train=values)
    worker = Worker(progress=kill_at(*kills))
    for _ in kills:
        with pytest.raises(Killed):
            run(job, worker)
    resumed, other = run(job, worker)
    assert same(weights(home), weights(other))
    assert losses(home) == losses(other)
    assert resumed == straight
    assert len(read_attempts(*root_of(other))) == len(kills) + 1


def test_the_average_of_the_weights_is_what_is_validated_kept_and_evaluated(tmp_path):
    plain, home = run(tiny_job(f"file://{tmp_path}/a", train={"keep_best": "last"}))
    values = {"keep_best": "last", "average": 0.9}
    outcome, other = run(tiny_job(f"file://{tmp_path}/b", train=values))
    assert losses(home) == losses(other)  # training itself is the same
    assert not same(weights(home), weights(other))
    validated = read_metrics(*root_of(other))["validation"]["loss"].to_pylist()
    assert outcome.results["val"].loss == pytest.approx(validated[-1], rel=1e-6)
    assert outcome.results["val"].loss != plain.results["val"].loss


def test_a_request_to_stop_writes_a_checkpoint_and_leaves(tmp_path):
    _, home = run(tiny_job(f"file://{tmp_path}/a"))
    job = tiny_job(f"file://{tmp_path}/b", train={"checkpoint_every_steps": 1000})
    asked = []
    worker = Worker(progress=lambda row: asked.append(row["step"]), stop=lambda: len(asked) >= 3)
    stopped, other = run(job, worker)
    assert (stopped.finished, stopped.step) == (False, 4)
    assert checkpoint.steps(other) == [4]
    finished, other = run(job)
    assert finished.finished
    assert same(weights(home), weights(other))


def test_accumulation_changes_nothing_but_the_order_of_additions(tmp_path):
    _, whole = run(tiny_job(f"file://{tmp_path}/a"))
    _, parts = run(tiny_job(f"file://{tmp_path}/b", train={"accumulation": 4}))
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


def _ddp(rank, world, meeting, job, queue, bad_steps):
    torch.set_num_threads(1)
    if rank == world - 1:
        noise.draw = poisoning(bad_steps)
    dist.init_process_group(
        "gloo", f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    manifest, storage = prepared(job)
    outcome = train(job, manifest, storage, Worker(rank=rank, world=world, local_rank=rank))
    if rank == 0:
        queue.put((outcome, losses(home_of(job, manifest, storage))))
    dist.destroy_process_group()


def _begin(rank, world, meeting, job, queue, _):
    """Says what a rank's weights are before its first step.

    Each for itself: gloo's thread lets go of the tensors of a collective a moment later, and aborts
    a process that is ending by then (one in four that gathered here, torch 2.13)."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{meeting}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    training = Training(job, *prepared(job), Worker(rank=rank, world=world, local_rank=rank))
    queue.put(sha256(save(training.model.state_dict())).hexdigest())
    dist.destroy_process_group()


def distributed(job, world, bad_steps=(), act=_ddp):
    queue = FORKS.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (world, f"{folder}/meeting", job, queue, bad_steps)
        multiprocessing.start_processes(act, arguments, world, start_method="forkserver")
        answers = []
        while not queue.empty():
            answers.append(queue.get())
        return answers


def test_two_and_four_workers_agree_with_one(tmp_path):
    outcome, home = run(tiny_job(f"file://{tmp_path}/1"))
    for world in (2, 4):
        [(other, theirs)] = distributed(tiny_job(f"file://{tmp_path}/{world}"), world)
        assert theirs == pytest.approx(losses(home), rel=1e-5)
        for split, result in outcome.results.items():
            assert other.results[split].loss == pytest.approx(result.loss, rel=1e-5)
            assert other.results[split].stderr == pytest.approx(result.stderr, rel=1e-4)


def test_two_workers_keep_the_average_that_one_keeps(tmp_path):
    values = {"average": 0.9, "weight_decay": 0.1, "keep_best": "last"}
    outcome, home = run(tiny_job(f"file://{tmp_path}/1", train=values))
    [(other, theirs)] = distributed(tiny_job(f"file://{tmp_path}/2", train=values), 2)
    assert theirs == pytest.approx(losses(home), rel=1e-5)
    for split, result in outcome.results.items():
        assert other.results[split].loss == pytest.approx(result.loss, rel=1e-5)


def test_two_workers_both_begin_with_the_champions_weights(tmp_path):
    first = tiny_job(f"file://{tmp_path}/a", train={"total_epochs": 1})
    _, home = run(first)
    champion = checkpoint.read(home, checkpoint.steps(home)[-1])[checkpoint.MODEL]
    home.write(WEIGHTS, champion)
    start = Start(run=root_of(home)[1], weights_sha256=sha256(champion).hexdigest())
    named = sha256(save(load(champion))).hexdigest()
    assert distributed(replace(first, start=start), 2, act=_begin) == [named, named]


def test_a_nan_on_one_rank_skips_the_same_step_on_all_and_parts_may_be_empty(tmp_path):
    """Four workers take parts of 16 examples in 8 pieces: some pieces have no example."""
    job = tiny_job(f"file://{tmp_path}/a", train={"accumulation": 8})
    [(outcome, _)] = distributed(job, 4, bad_steps=(3, 8))
    assert (outcome.finished, outcome.skipped_steps, outcome.workers) == (True, 2, 4)
    assert math.isfinite(outcome.results["test"].loss)


def poisoning(steps, drawn=noise.draw):
    """``noise.draw`` with a NaN in the first place that this worker takes in these steps."""

    def draw(shapes, seed, purpose, step, places):
        values = drawn(shapes, seed, purpose, step, places)
        if purpose == "train" and step in steps and len(places):
            values["z"][0] = float("nan")
        return values

    return draw


def poisoned(monkeypatch, steps):
    monkeypatch.setattr(noise, "draw", poisoning(steps))


def test_a_damaged_best_checkpoint_is_replaced_by_the_newest_whole_one(tmp_path, caplog):
    job = tiny_job(f"file://{tmp_path}/a")
    outcome, home = run(job)
    newest = checkpoint.steps(home)[-1]
    files = checkpoint.read(home, newest)
    state = files[checkpoint.STATE].replace(
        f'"best_step": {outcome.best_step}'.encode(), b'"best_step": 1'
    )
    checkpoint.commit(home, newest, {**files, checkpoint.STATE: state}, ())
    again, _ = run(job)
    assert again.best_step == newest
    assert "stands in for the best" in caplog.text


def test_a_damaged_shard_stops_before_the_first_step(tmp_path):
    job = tiny_job(f"file://{tmp_path}/a")
    manifest, storage = prepared(job)
    key = f"{manifest.path}/{manifest.of('test')[0].file}"
    storage.write(key, storage.read(key)[:-1] + b"x")
    steps = []
    with pytest.raises(DataError, match=manifest.of("test")[0].file):
        train(job, manifest, storage, Worker(progress=steps.append))
    assert not steps


# A VAE's batch norm moves its means in the forward pass, before anyone knows of the NaN.
@pytest.mark.parametrize("model", [PLAIN["model"], {"kind": "vae", "latent": 2}])
def test_a_step_that_is_not_finite_is_skipped_counted_and_changes_nothing(
    tmp_path, monkeypatch, model
):
    plain = {**PLAIN, "model": model, "data": PLAIN["data"] | {"size": 28}}
    job = check_job({**plain, "storage": f"file://{tmp_path}/a"}, "tiny")
    manifest, storage = prepared(job)
    poisoned(monkeypatch, {1})
    training = Training(job, manifest, storage, Worker())
    training.step()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    row = training.step()
    assert row["skipped"]
    assert same(before, training.model.state_dict())
    assert training.state.skipped_steps == 1
    assert not training.step()["skipped"]
    outcome, home = run(job)
    assert outcome.skipped_steps == 1
    assert column(read_metrics(*root_of(home))["train"], "skipped").count(True) == 1


def test_too_many_steps_that_are_not_finite_end_training_with_the_last_good_checkpoint(
    tmp_path, monkeypatch
):
    job = tiny_job(f"file://{tmp_path}/a", train={"max_skipped_steps": 2})
    poisoned(monkeypatch, range(6, 100))
    with pytest.raises(TrainingError, match=r"3 steps had a loss.*at step 9.*lower train\.lr"):
        run(job)
    manifest, storage = prepared(job)
    files = checkpoint.latest(home_of(job, manifest, storage), run_id(job, manifest))[1]
    model = seeded_model(job, manifest)
    checkpoint.restore(files, model)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_bfloat16_trains_to_nearly_the_same_loss(tmp_path):
    _, full = run(tiny_job(f"file://{tmp_path}/a"))
    _, half = run(tiny_job(f"file://{tmp_path}/b", train={"precision": "bfloat16"}))
    assert losses(half) == pytest.approx(losses(full), rel=0.05)
    assert losses(half) != losses(full)


def test_gradients_are_clipped_to_the_norm_that_the_job_names(tmp_path):
    job = tiny_job(
        f"file://{tmp_path}/a",
        train={"clip_norm": 1e-3, "optimizer": {"kind": "sgd"}, "lr": 1.0, "total_epochs": 1},
    )
    manifest, storage = prepared(job)
    training = Training(job, manifest, storage, Worker())
    before = [p.detach().clone() for p in training.model.parameters()]
    row = training.step()
    moved = math.sqrt(
        sum(
            float((p.detach() - q).square().sum())
            for p, q in zip(training.model.parameters(), before, strict=True)
        )
    )
    assert row["gradient_norm"] > 1
    assert moved == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"kind": "constant"}, [1, 1, 1, 1]),
        ({"kind": "linear", "final_lr": 0.2}, [1, 0.8, 0.6, 0.4]),
        ({"kind": "linear", "start": 0.5}, [1, 1, 1, 0.5]),
        ({"kind": "cosine"}, [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
        ({"kind": "exponential", "factor": 0.1, "every_steps": 1, "final_lr": 0.05},
         [1, 0.1, 0.05, 0.05]),
    ],
)  # fmt: skip
def test_learning_rates_follow_their_schedule(schedule, expected):
    job = tiny_job(train={"lr": 1.0, "schedule": schedule})
    assert [lr_at(job.train, step, 4) for step in range(4)] == pytest.approx(expected)


def test_warm_up_climbs_in_a_straight_line():
    train = replace(tiny_job(train={"lr": 1.0}).train, warmup_steps=4)
    assert [lr_at(train, step, 9) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]


def test_each_optimiser_is_torchs_with_the_jobs_numbers():
    manifest, _ = prepared(tiny_job(f"file://{tempfile.mkdtemp()}"))
    for values, kind in (
        ({"kind": "adam", "beta1": 0.5}, torch.optim.Adam),
        ({"kind": "rmsprop", "alpha": 0.9}, torch.optim.RMSprop),
        ({"kind": "sgd", "momentum": 0.9}, torch.optim.SGD),
    ):
        job = tiny_job(train={"optimizer": values, "lr": 0.5})
        made = make_optimizer(job.train, seeded_model(job, manifest))
        assert type(made) is kind
        for name in ("beta1", "alpha", "momentum"):
            if name in values:
                kept = made.defaults["betas"][0] if name == "beta1" else made.defaults[name]
                assert kept == values[name]
        assert made.defaults["lr"] == 0.5


GOLDEN = [101.02804, 99.93911, 98.93967, 98.011, 97.30893]
