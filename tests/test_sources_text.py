"""Text: what becomes of characters that are not ASCII, how it is cut, and files that are none."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.sources import dataset_id
from pipeline.sources.text import MOST_BYTES, Text, plain
from tests.test_sources import REAL, arrays


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    return tmp_path / "text"


def put(folder: Path, text: str, name: str = "own.txt") -> Text:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return Text(file=name, length=9)


@pytest.mark.parametrize(
    ("text", "kept", "dropped"),
    [
        ("café naïve", "cafe naive", 0),
        ("ﬁne ½ ② Å", "fine 12 2 A", 1),
        ("a\r\nb\rc\n", "a\nb\nc\n", 0),
        ("a\tb", "a b", 0),
        ("“so” — it’s", "so  its", 4),
        ("日本 ok", " ok", 2),
        ("\x00a\x1b[1m\x7f", "a[1m", 3),
        ("😀~!", "~!", 1),
    ],
)
def test_unicode_becomes_printable_ascii(text: str, kept: str, dropped: int) -> None:
    assert plain(text) == (kept, dropped)


def test_pieces_follow_each_other_and_the_splits_do_too(folder: Path) -> None:
    letters = "".join(chr(33 + k % 90) for k in range(1007))
    source = put(folder, letters)
    assert source.splits() == {"train": 90, "val": 5, "test": 5}
    assert source.about().shape == (10,)
    rows, labels = zip(*(arrays(source, s, 0, n) for s, n in source.splits().items()), strict=True)
    assert np.concatenate(rows).tobytes().decode() == letters[:1000]
    assert rows[0].dtype == np.uint8
    assert not np.concatenate(labels).any()
    np.testing.assert_array_equal(arrays(source, "val", 2, 4)[0], rows[1][2:4])


def test_what_was_left_out_is_counted_in_the_origin(folder: Path) -> None:
    source = put(folder, "\ufeff" + "日é" * 300)
    assert "300 characters; 300 others were left out" in source.about().origin


def test_identity_follows_the_content_not_the_name(folder: Path) -> None:
    one, two = put(folder, "a" * 500, "one.txt"), put(folder, "a" * 500, "two.txt")
    assert dataset_id(one) == dataset_id(two)
    assert dataset_id(one) != dataset_id(Text(file="one.txt", length=10))
    put(folder, "b" * 501, "one.txt")
    assert dataset_id(one) != dataset_id(two)


def test_file_may_lie_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    put(tmp_path / "elsewhere", "word " * 100)
    assert Text(file=str(tmp_path / "elsewhere" / "own.txt"), length=4).splits()["train"] == 90


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 characters, expected 200 or more for pieces of 9"),
        (b"short " * 30, "180 characters, expected 200"),
        ("日本".encode() * 400, "0 characters, expected 200"),
        (b"good until here \xff\xfe", "byte 16 is not UTF-8; save it as UTF-8"),
    ],
)
def test_bad_text_is_one_line(folder: Path, data: bytes, words: str) -> None:
    (folder / "own.txt").write_bytes(data)
    with pytest.raises(DataError, match=words) as error:
        Text(file="own.txt", length=9).splits()
    assert str(folder / "own.txt") in str(error.value)
    assert "\n" not in str(error.value)


def test_too_large_and_missing_files_are_one_line(folder: Path) -> None:
    with (folder / "large.txt").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(DataError, match=f"{MOST_BYTES + 1} bytes, at most {MOST_BYTES}"):
        Text(file="large.txt").splits()
    with pytest.raises(DataError, match=rf"no.txt: not in {folder}.*give the path of a UTF-8"):
        Text(file="no.txt").splits()
    with pytest.raises(DataError, match="no regular file; put the file itself there"):
        Text(file=str(folder)).splits()
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe.txt: no regular file; put the file itself there"):
        Text(file="pipe.txt").splits()


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="length: 0"):
        Text(length=0)
    with pytest.raises(ValueError, match="binarisation: 'dynamic'; known are grey"):
        Text(binarisation="dynamic")


def test_tiny_shakespeare_is_whole_where_it_is_at_hand(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another text under its name, which is not taken for it."""
    if (REAL / "text" / "tinyshakespeare.txt").is_file():
        monkeypatch.setenv("DRAW_DATA", str(REAL))
        assert Text().splits() == {"train": 19_684, "val": 1_093, "test": 1_093}
        assert "1,115,394 characters; 0 others" in Text().about().origin
        assert "Shakespeare" in Text().about().licence
        first = arrays(Text(), "train", 0, 1)[0]
        assert first.tobytes() == b"First Citizen:\nBefore we proceed any further, hear "
    monkeypatch.setenv("DRAW_DATA", str(folder.parent))
    put(folder, "another text " * 200, "tinyshakespeare.txt")
    assert "the user's own" in Text().about().licence
