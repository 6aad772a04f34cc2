"""How a job reads its shards: crops, texts, and a model that does not fit what it would read."""

import numpy as np
import pytest
import torch

from draw_model.char_rnn import ALPHABET
from pipeline.errors import DataError, JobError
from pipeline.job_file import check_job
from pipeline.loader import as_text, cropped, model_of
from pipeline.manifest import Shard
from pipeline.shards import read_shard, sha256_of, write_shard
from tests.tiny import PLAIN, loader_over, prepared


def pictures(count=6, size=8):
    """Each pixel of each picture is another number, so that a crop says where it was taken."""
    values = np.arange(count * size * size) % 251
    return values.astype(np.uint8).reshape(count, 1, size, size)


def corner(crop, picture):
    """Row and column at which ``crop`` (k, k) is found in ``picture`` (H, W)."""
    side = len(crop)
    for row, column in np.ndindex(*(np.array(picture.shape) - side + 1)):
        if (picture[row : row + side, column : column + side] == crop).all():
            return row, column
    raise AssertionError("not cut from this picture")


def test_training_crops_anywhere_evaluation_in_the_middle():
    stored = pictures(64)
    training = loader_over(stored, crop=5, training=True)
    ids = training.ids(0)
    cut = (training.batch(0, range(64)).x * 255).round().numpy()[:, 0]
    places = {corner(cut[k], stored[ids[k], 0]) for k in range(64)}
    assert places == {(a, b) for a in range(4) for b in range(4)}, "all 16 places come up"
    evaluation = loader_over(stored, crop=5, training=False)
    cut = (evaluation.batch(0, range(64)).x * 255).round().numpy()[:, 0]
    assert {corner(cut[k], stored[k, 0]) for k in range(64)} == {(1, 1)}


def test_a_crop_is_a_function_of_seed_step_and_place():
    training, again = (loader_over(pictures(64), crop=5, training=True) for _ in range(2))
    whole = training.batch(1, range(64)).x
    parts = [training.batch(1, range(a, a + 16)).x for a in (0, 16, 32, 48)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole, again.batch(1, range(64)).x)


@pytest.mark.parametrize("shape", [(1, 4, 9), (40,)])
def test_what_cannot_be_cropped_is_one_line(shape):
    with pytest.raises(DataError, match="crop is 5"):
        cropped(shape, 5)


def texts():
    return ["To be, or\nnot", "that is ~ the", " question:\n\n "]


def test_texts_are_plain_members_of_a_shard_and_come_back(tmp_path):
    path = tmp_path / "train-000000.tar"
    codes = [np.frombuffer(text.encode(), np.uint8) for text in texts()]
    counts = write_shard(path, ((one, 0) for one in codes), first=7)
    assert counts == {0: 3}
    assert b"To be, or\nnot" in path.read_bytes()
    shard = Shard(file=path.name, split="train", first=7, examples=3,
                  bytes=path.stat().st_size, sha256=sha256_of(path))  # fmt: skip
    x, y = read_shard(path, shard, (13,))
    assert [row.tobytes().decode() for row in x] == texts()
    assert y.tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [b"caf\xc3\xa9 is mocha"[:13], b"a tab\there is", b"short"])
def test_a_shard_with_other_characters_or_another_length_is_refused(tmp_path, bad):
    path = tmp_path / "train-000000.tar"
    write_shard(path, [(np.frombuffer(bad, np.uint8), 0)], first=0)
    shard = Shard(file=path.name, split="train", first=0, examples=1,
                  bytes=path.stat().st_size, sha256=sha256_of(path))  # fmt: skip
    with pytest.raises(DataError, match=r"000000\.txt: not 13 characters of printable ASCII"):
        read_shard(path, shard, (13,))


def test_a_text_becomes_characters_and_back():
    codes = np.stack([np.frombuffer(text.encode(), np.uint8) for text in texts()])
    batch = loader_over(codes, training=False).batch(0, range(3))
    assert batch.x.dtype == torch.int64
    assert [as_text(row) for row in batch.x] == texts()
    assert batch.x[0, :3].tolist() == [ALPHABET.index(character) for character in "To "]


def test_a_model_that_cannot_read_the_data_is_one_line_before_anything_starts(tmp_path):
    plain = {**PLAIN, "storage": f"file://{tmp_path}", "model": {"kind": "char_rnn"}}
    job = check_job(plain, "tiny")
    manifest, _ = prepared(job)
    with pytest.raises(JobError, match="does not fit synthetic: kind char_rnn reads texts"):
        model_of(job, manifest)
