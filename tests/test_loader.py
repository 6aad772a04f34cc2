"""Batches: the same on any number of workers, from a cache that is never wrong."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import plan
from pipeline.cache import ShardCache
from pipeline.errors import DataError
from pipeline.loader import Loader, Split
from pipeline.prepare import prepare
from pipeline.sources import Synthetic
from pipeline.storage import open_storage
from tests.forks import FORKS

SOURCE = Synthetic(size=12, train=70, val=20, test=20)


@pytest.fixture
def shards(tmp_path):
    """A small data set in four training shards."""
    storage = open_storage(f"file://{tmp_path}/store")
    return storage, prepare(SOURCE, storage, shard_examples=20)


@pytest.fixture
def cache(tmp_path):
    return ShardCache(tmp_path / "cache", 10**9)


def loader(cache, shards, *, batch=16, training=True, binarisation="dynamic", split="train"):
    return Loader(
        Split(cache, *shards, split),
        batch_size=batch,
        seed=3,
        binarisation=binarisation,
        shapes={"z": (3, 2)},
        training=training,
    )


def test_gathered_images_are_those_of_the_source(cache, shards):
    split = Split(cache, *shards, "train")
    ids = np.array([0, 19, 20, 69, plan.PADDING, 20])
    x, y = split.gather(ids)
    made = list(SOURCE.examples("train", 0, 70))
    for row, k in enumerate(ids):
        image, label = made[k] if k >= 0 else (0, 0)
        assert (x[row] == image).all()
        assert y[row] == label


@pytest.mark.parametrize("world", [2, 3, 4, 8])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_global_batch_is_the_same_on_any_number_of_workers(cache, shards, world, parts):
    one = loader(cache, shards)
    for step in (0, 4, 5, 12):  # the last of an epoch is padded; epochs differ
        whole = one.batch(step, range(16))
        pieces = [
            loader(cache, shards).batch(
                step, plan.share(plan.share(range(16), rank, world), part, parts)
            )
            for rank in range(world)
            for part in range(parts)
        ]
        for name in ("x", "y", "mask"):
            together = torch.cat([getattr(piece, name) for piece in pieces])
            assert together.equal(getattr(whole, name))
        assert torch.cat([piece.noise["z"] for piece in pieces]).equal(whole.noise["z"])


def test_a_step_needs_no_step_before_it(cache, shards):
    one, other = loader(cache, shards), loader(cache, shards)
    for step in range(11):
        last = one.batch(step, range(16))
    assert other.batch(10, range(16)).x.equal(last.x)


def test_an_epoch_of_batches_holds_each_example_once_and_masks_the_rest(cache, shards):
    one = loader(cache, shards)
    for epoch in range(2):
        ids = np.concatenate([one.ids(epoch * one.steps + b) for b in range(one.steps)])
        masks = [one.batch(epoch * one.steps + b, range(16)).mask for b in range(one.steps)]
        assert sorted(ids[ids >= 0]) == list(range(70))
        assert (torch.cat(masks).numpy() == (ids >= 0)).all()
        assert sum(one.count(epoch * one.steps + b) for b in range(one.steps)) == 70


def test_dynamic_binarisation_is_drawn_anew_each_epoch_with_the_intensity_as_probability(
    cache, shards
):
    grey = loader(cache, shards, training=False, binarisation="grey", batch=70)
    dynamic = loader(cache, shards, training=False, batch=70)
    x = grey.batch(0, range(70)).x
    draws = torch.stack([dynamic.batch(step, range(70)).x for step in range(0, 300)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert draws[0].ne(draws[1]).any()
    assert draws[:, x == 0].eq(0).all()
    assert draws[:, x == 1].eq(1).all()
    error = (draws.mean(0) - x).abs().max()
    assert error < 6 * 0.5 / 300**0.5


def test_threshold_binarisation_is_one_from_half_upwards(cache, shards):
    grey = loader(cache, shards, binarisation="grey").batch(0, range(16)).x
    hard = loader(cache, shards, binarisation="threshold").batch(0, range(16)).x
    assert hard.equal((grey >= 0.5).float())


def test_evaluation_reads_in_order_with_draws_that_stay(cache, shards):
    first = loader(cache, shards, training=False, split="test")
    again = loader(cache, shards, training=False, split="test")
    assert (first.ids(0) == np.arange(16)).all()
    assert first.batch(1, range(16)).x.equal(again.batch(1, range(16)).x)


def test_a_damaged_cache_file_is_decoded_again(cache, shards, caplog):
    Split(cache, *shards, "train")
    victim = sorted(cache.folder.glob("*.npy"))[0]
    data = bytearray(victim.read_bytes())
    data[-5] ^= 1
    victim.write_bytes(data)
    cut = sorted(cache.folder.glob("*.npy"))[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    before = [image for image, _ in SOURCE.examples("train", 0, 70)]
    x, _ = Split(cache, *shards, "train").gather(np.arange(70))
    assert (x == np.stack(before)).all()
    assert len(caplog.records) == 2


def test_a_cache_keeps_its_bound_and_drops_what_was_used_longest_ago(tmp_path, shards):
    storage, manifest = shards
    one = 20 * (12 * 12 + 8)
    cache = ShardCache(tmp_path / "small", 8 * one)
    Split(cache, storage, manifest, "train")
    for seed in range(1, 4):
        other = prepare(Synthetic(size=12, train=70, val=20, test=20, seed=seed), storage,
                        shard_examples=20)  # fmt: skip
        os.utime(next(iter(cache.folder.glob("*.npy"))))
        Split(cache, storage, other, "train")
        held = sum(path.stat().st_size for path in cache.folder.glob("*.npy"))
        assert held <= 8 * one + 8 * 200  # and the headers


def test_a_cache_that_is_too_small_says_what_is_needed(tmp_path, shards):
    with pytest.raises(DataError, match=r"decoded, the cache is limited to .*raise cluster"):
        Split(ShardCache(tmp_path / "tiny", 1000), *shards, "train")


def test_a_flipped_bit_in_a_shard_stops_before_a_sample_of_it_is_used(cache, shards):
    storage, manifest = shards
    key = f"{manifest.path}/{manifest.of('train')[2].file}"
    data = bytearray(storage.read(key))
    data[len(data) // 2] ^= 4
    storage.write(key, bytes(data))
    with pytest.raises(DataError, match=manifest.of("train")[2].file):
        Split(cache, storage, manifest, "train")


def test_a_label_beyond_the_classes_stops_before_training(cache, shards):
    storage, manifest = shards
    with pytest.raises(DataError, match=r"train-000000.tar: .*label .*, expected 0 to 0; refused"):
        Split(cache, storage, replace(manifest, classes=("0",)), "train")


def _fill(folder, url, id, ready, results):
    from pipeline.prepare import load_manifest

    storage = open_storage(url)
    manifest = load_manifest(storage, "synthetic", id)
    ready.wait()
    x, _ = Split(ShardCache(folder, 10**9), storage, manifest, "train").gather(np.arange(70))
    results.put(int(x.sum()))


def test_two_processes_that_fill_a_cache_at_once_both_read_the_right_thing(tmp_path, shards):
    storage, manifest = shards
    ready, results = FORKS.Event(), FORKS.Queue()
    folder = tmp_path / "shared"
    workers = [
        FORKS.Process(target=_fill, args=(folder, storage.url, manifest.id, ready, results))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    ready.set()
    sums = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert len(set(sums)) == 1
    assert len(list(folder.glob("*.npy"))) == 4
    assert not list(folder.glob("filling-*"))


def test_a_process_killed_while_filling_leaves_nothing_wrong(tmp_path, shards):
    storage, manifest = shards
    ready, results = FORKS.Event(), FORKS.Queue()
    ready.set()
    folder = tmp_path / "killed"
    worker = FORKS.Process(target=_fill, args=(folder, storage.url, manifest.id, ready, results))
    worker.start()
    deadline = time.monotonic() + 60
    while not (folder.exists() and any(folder.glob("filling-*"))):
        if not worker.is_alive() or time.monotonic() > deadline:
            break
        time.sleep(0.0005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    x, _ = Split(ShardCache(folder, 10**9), storage, manifest, "train").gather(np.arange(70))
    assert not list(folder.glob("filling-*"))
    made = np.stack([image for image, _ in SOURCE.examples("train", 0, 70)])
    assert (x == made).all()
