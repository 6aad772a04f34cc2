"""Fetching against a real server that misbehaves: one line each, and nothing half-fetched."""

import hashlib
import random
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.errors import DataError
from pipeline.fetch import Patience, Remote, find_or_fetch

DATA = random.Random(0).randbytes(200_000)
MD5 = hashlib.md5(DATA).hexdigest()
QUICK = Patience(timeout=0.3, attempt=0.6, attempts=2, pause=0.01)


class Misbehaving(BaseHTTPRequestHandler):
    """Answers according to the path; ``seen`` counts the requests for each."""

    seen: dict[str, int]

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if kind == "missing":
            self.send_error(404)
        elif kind == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
        elif kind == "flaky" and self.seen[kind] < 3:
            self.send_error(503)
        elif kind == "silent":
            time.sleep(1)
        elif kind != "closes":
            self.send_body(kind)

    def send_body(self, kind: str) -> None:
        body = {"html": b"<!doctype html><p>log in", "wrong": DATA[::-1]}.get(kind, DATA)
        self.send_response(200)
        if kind != "endless":
            self.send_header("Content-Length", "many" if kind == "odd" else str(len(body)))
        self.end_headers()
        if kind == "drips":
            for byte in body[:40]:
                time.sleep(0.05)
                self.wfile.write(bytes([byte]))
            return
        self.wfile.write(body[:1000] if kind == "cut" else body * (30 if kind == "endless" else 1))

    def log_message(self, *_: object) -> None:
        """Says nothing: the tests' output is theirs."""

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            return  # the client had seen enough, which is what these tests want


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Misbehaving.seen = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def remote(server: ThreadingHTTPServer, kind: str) -> Remote:
    address = f"http://127.0.0.1:{server.server_address[1]}/{kind}/file.gz"
    return Remote(address=address, md5=MD5, most_bytes=1_000_000)


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_file_is_fetched_once_with_progress(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    for _ in range(2):
        path = find_or_fetch(
            remote(server, "good"), (), tmp_path / "mnist", lambda *call: calls.append(call), QUICK
        )
        assert path.read_bytes() == DATA
    assert Misbehaving.seen == {"good": 1}
    assert calls[-1] == ("file.gz", len(DATA), len(DATA))
    assert left_behind(tmp_path) == ["file.gz"]


@pytest.mark.parametrize(
    ("kind", "words", "requests"),
    [
        ("missing", "answered 404 Not Found", 1),
        ("cut", "cut off after 1000 of 200000 bytes (2 attempts)", 2),
        ("html", "an HTML page instead of the file", 2),
        ("wrong", f"md5 {hashlib.md5(DATA[::-1]).hexdigest()}, expected md5 {MD5}", 2),
        ("silent", "no answer in time", 2),
        ("drips", "bytes in 0.6 s", 2),
        ("loop", "redirects in a loop", None),
        ("closes", "no connection or a broken one", 2),
        ("endless", "more than 1000000 bytes came", 1),
    ],
)
def test_bad_answer_is_one_line_and_leaves_nothing(
    server: ThreadingHTTPServer, tmp_path: Path, kind: str, words: str, requests: int | None
) -> None:
    own = (tmp_path / "own" / "mnist", tmp_path / "own")
    with pytest.raises(DataError) as error:
        find_or_fetch(remote(server, kind), own, tmp_path / "cache", None, QUICK)
    text = str(error.value)
    assert words in text
    assert "\n" not in text
    for part in (f"/{kind}/file.gz", str(own[0]), str(tmp_path / "cache"), "by hand into"):
        assert part in text
    assert requests in (None, Misbehaving.seen[kind])
    assert left_behind(tmp_path) == []


def test_no_network_is_one_line(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    gone = Remote(address="http://127.0.0.1:9/file.gz", md5=MD5)
    with pytest.raises(DataError, match=r"Connection refused.*2 attempts.*below \$DRAW_DATA"):
        find_or_fetch(gone, (), tmp_path / "mnist", None, QUICK)


@pytest.mark.parametrize("kind", ["flaky", "odd"])
def test_passing_trouble_is_overcome(
    server: ThreadingHTTPServer, tmp_path: Path, kind: str
) -> None:
    patience = Patience(timeout=1, attempts=3, pause=0.01)
    assert find_or_fetch(remote(server, kind), (), tmp_path, None, patience).read_bytes() == DATA


def test_own_file_is_taken_if_right_and_named_if_wrong(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    own = tmp_path / "file.gz"
    own.write_bytes(DATA)
    assert find_or_fetch(remote(server, "good"), (tmp_path,), tmp_path / "cache") == own
    own.write_bytes(DATA[:-1])
    with pytest.raises(DataError, match=f"file.gz: md5 [0-9a-f]{{32}}, expected {MD5}; replace it"):
        find_or_fetch(remote(server, "good"), (tmp_path,), tmp_path / "cache")
    assert own.read_bytes() == DATA[:-1]
    assert Misbehaving.seen == {}


def test_damaged_file_in_the_cache_is_fetched_again(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    (tmp_path / "file.gz").write_bytes(DATA[:-1])
    assert find_or_fetch(remote(server, "good"), (), tmp_path).read_bytes() == DATA


def test_cache_that_cannot_be_written_is_one_line(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cache: .*; set DRAW_CACHE"):
        find_or_fetch(remote(server, "good"), (), tmp_path / "cache", None, QUICK)
