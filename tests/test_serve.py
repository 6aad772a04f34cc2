"""A storage's pages over real HTTP: what is served, what is refused, and that nothing leaks."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from pipeline.errors import JobError
from pipeline.serve import Server
from pipeline.storage import Storage, open_storage

ROOT = Path(__file__).parents[1]
Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(storage: Storage, host: str = "127.0.0.1") -> Iterator[Server]:
    with Server(storage, host, 0) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: Server, path: str, method: str = "GET", host: str | None = None) -> Reply:
    """Status, headers and body; the path goes over the wire exactly as it is."""
    connection = http.client.HTTPConnection(str(server.server_address[0]), server.port, timeout=30)
    connection.putrequest(method, path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    with connection.getresponse() as reply:
        found = reply.status, {k.lower(): v for k, v in reply.headers.items()}, reply.read()
    connection.close()
    return found


def test_pages_and_objects_come_with_their_types(storage):
    big = os.urandom(3_000_000)
    objects = {
        "index.html": ("<h1>é</h1>".encode(), "text/html; charset=utf-8"),
        "studies/é 1/index.html": (b"<p>study", "text/html; charset=utf-8"),
        "studies/é 1/trials.csv": (b"a,b\n", "text/csv; charset=utf-8"),
        "studies/é 1/trials.json": (b"[]\n", "application/json"),
        "studies/é 1/job.yaml": (b"name: x\n", "text/plain; charset=utf-8"),
        "runs/r/pictures/samples.png": (b"\x89PNG", "image/png"),
        "runs/r/weights.safetensors": (big, "application/octet-stream"),
        "runs/r/picture.svg": (b"<svg/>", "application/octet-stream"),
    }
    for key, (data, _) in objects.items():
        storage.write(key, data)
    with serving(storage) as server:
        for key, (data, type) in objects.items():
            path = f"/{urllib.request.pathname2url(key)}"
            status, headers, body = ask(server, f"{path}?x=1")
            assert (status, headers["content-type"], body) == (200, type, data)
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert int(headers["content-length"]) == len(data)
            assert ask(server, path, "HEAD")[::2] == (200, b"")
        with urllib.request.urlopen(server.url) as reply:
            assert reply.read() == objects["index.html"][0]
        assert ask(server, "/studies/%C3%A9%201/")[2] == b"<p>study"


def test_a_page_that_is_written_again_is_seen_at_once(storage):
    with serving(storage) as server:
        for page in (b"one", b"two"):
            storage.write("index.html", page)
            assert ask(server, "/")[2] == page


def test_a_folder_without_its_slash_leads_to_its_page(storage):
    storage.write("studies/é 1/index.html", b"study")
    with serving(storage) as server:
        for method in ("GET", "HEAD"):
            status, headers, _ = ask(server, "/studies/%C3%A9%201", method)
            assert (status, headers["location"]) == (301, "/studies/%C3%A9%201/")
        assert ask(server, "/studies")[0] == 404


def test_what_is_not_there_is_one_line(storage):
    with serving(storage) as server:
        for path in ("/", "/runs/x/", "/no.html", "/<script>alert(1)</script>", f"/{'k' * 850}"):
            status, headers, body = ask(server, path)
            assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")
            assert headers["x-content-type-options"] == "nosniff"
            assert body.startswith(b"404: ")
            assert body.count(b"\n") == 1
            assert ask(server, path, "HEAD")[::2] == (404, b"")


def test_no_path_leaves_the_storage(tmp_path):
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "root-2").mkdir()
    (tmp_path / "root-2/index.html").write_text("hunter2")
    storage = open_storage(str(tmp_path / "root"))
    storage.write("runs/x.txt", b"x")
    (tmp_path / "root/.tmp-half").write_text("hunter2")
    paths = [
        "/../secret", "/runs/../../secret", "/%2e%2e/secret", "/runs/%2e%2e%2f%2e%2e%2fsecret",
        "/..%5csecret", "//secret", f"/{tmp_path}/secret", f"//{tmp_path}/secret", "/./../secret",
        "/../root-2/", "/runs/x.txt%00", "/runs/%0d%0aSet-Cookie:x", "/.tmp-half", "/%ff%fe",
        "http://127.0.0.1/../secret", "/runs/", "/runs", "/%252e%252e/secret",
        f"/{'../' * 9}secret",
    ]  # fmt: skip
    with serving(storage) as server:
        for path in paths:
            status, headers, body = ask(server, path)
            assert (status, b"hunter2" in body) == (404, False), path
            assert "set-cookie" not in headers
        assert ask(server, "/runs/x.txt")[2] == b"x"


def test_only_reading_is_possible(storage):
    storage.write("index.html", b"page")
    with serving(storage) as server:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            status, headers, _ = ask(server, "/index.html", method)
            assert (status, headers["allow"]) == (405, "GET, HEAD")
        status, headers, body = ask(server, "/index.html", "BREW")
        assert (status, headers["content-type"]) == (501, "text/plain")
        assert b"<" not in body
    assert storage.read("index.html") == b"page"


def test_another_sites_name_that_leads_here_is_refused(storage):
    storage.write("index.html", b"page")
    with serving(storage) as server:
        for host in ("localhost", f"localhost:{server.port}", "127.0.0.1:9", "[::1]:80"):
            assert ask(server, "/", host=host)[0] == 200
        for host in (
            "evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.1",
            "localhost.x",
            "[",
            "",
        ):
            status, _, body = ask(server, "/", host=host)
            assert (status, b"page" in body) == (421, False)
    with serving(storage, "0.0.0.0") as server:
        assert ask(server, "/", host="my-machine:80")[2] == b"page"


def test_many_readers_at_once_and_one_who_leaves(storage, caplog):
    storage.write("runs/r/weights.bin", os.urandom(8_000_000))
    storage.write("index.html", b"page")
    with serving(storage) as server:
        with socket.create_connection(server.server_address[:2]) as leaver:
            leaver.sendall(b"GET /runs/r/weights.bin HTTP/1.0\r\n\r\n")
            leaver.recv(10)
        silent = socket.create_connection(server.server_address[:2])  # never asks anything
        replies: list[int] = []
        readers = [Thread(target=lambda: replies.append(ask(server, "/")[0])) for _ in range(20)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        silent.close()
    assert replies == [200] * 20
    assert not caplog.records


def test_a_store_that_fails_is_one_line_that_holds_no_secret(s3_server, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    storage = open_storage("s3://bucket/x", f"http://127.0.0.1:{port}")
    with serving(storage) as server:
        status, _, body = ask(server, "/")
        assert ask(server, "/", "HEAD")[0] == 502
    assert (status, body.count(b"\n")) == (502, 1)
    assert b"cannot connect to http://127.0.0.1" in body
    assert s3_server.secret_key.encode() not in body


def test_an_address_that_cannot_be_had_is_one_line(tmp_path):
    storage = open_storage(str(tmp_path))
    with serving(storage) as server:
        for host, port in (("127.0.0.1", server.port), ("127.0.0.1", 99999), ("192.0.2.1", 0)):
            with pytest.raises(JobError, match="give another --port, 0 for any") as refused:
                Server(storage, host, port)
            assert "\n" not in str(refused.value)


def test_serving_ends_with_ctrl_c_and_says_where_it_is(tmp_path):
    open_storage(str(tmp_path)).write("index.html", b"page")
    program = (
        # A shell's background jobs ignore SIGINT, and so would their children.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from pipeline.serve import serve; from pipeline.storage import open_storage\n"
        "serve(open_storage(sys.argv[1]), port=0, say=lambda t: print(t, flush=True))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(address) as reply:
            assert reply.read() == b"page"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "stopped\n"
        assert child.wait() == 0
