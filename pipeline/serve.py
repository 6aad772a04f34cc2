"""A storage's pages over HTTP, read-only: what a browser asks for is an object's key."""

import logging
import socket
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from socketserver import ThreadingTCPServer
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pipeline.errors import JobError, StorageError
from pipeline.records import PAGE
from pipeline.storage import NotFound, Storage, checked

log = logging.getLogger(__name__)
HOST, PORT = "127.0.0.1", 8700
SHOWN = {
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "yaml": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "png": "image/png",
    "gif": "image/gif",
    "jpg": "image/jpeg",
    "parquet": "application/vnd.apache.parquet",
}
"""Ending of a key → its type. All other objects are large, and are for programs."""
HEADERS = {
    "Cache-Control": "no-store",  # pages of what still runs are rewritten
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'self'",  # besides what a page demands itself
}


class Server(ThreadingTCPServer):
    """Answers from its making on, once ``serve_forever`` runs; ``url`` is where. ``handler``
    answers a request, by default with the storage's pages."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        storage: Storage,
        host: str = HOST,
        port: int = PORT,
        handler: type["Handler"] | None = None,
    ) -> None:
        self.storage = storage
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), handler or Handler)
        except (OSError, OverflowError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            raise JobError(
                f"cannot serve on {host} port {port}: {reason}; give another --port, 0 for any "
                "that is free, or another --host"
            ) from None
        bound, self.port = str(self.server_address[0]), int(self.server_address[1])
        self.loopback = ip_address(bound).is_loopback
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        fault = sys.exception()
        if not isinstance(fault, ConnectionError | TimeoutError):  # a reader who left is no fault
            log.error("a request failed", exc_info=fault)


class Handler(BaseHTTPRequestHandler):
    """One request. Nothing is written, nothing is listed, and no path leaves the storage."""

    server: Server
    server_version, sys_version = "draw-pipeline", ""
    timeout = 30
    error_message_format, error_content_type = "%(code)d %(message)s\n", "text/plain"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _refuse(self) -> None:
        self._line(HTTPStatus.METHOD_NOT_ALLOWED, "this server only reads; use GET or HEAD",
                   {"Allow": "GET, HEAD"})  # fmt: skip

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse

    def _answer(self, with_body: bool) -> None:
        key = unquote(self.path.partition("?")[0].partition("#")[0]).removeprefix("/")
        if not self._asked_for_here():
            url = self.server.url
            return self._line(HTTPStatus.MISDIRECTED_REQUEST, f"this server answers at {url}")
        key += PAGE if key == "" or key.endswith("/") else ""
        storage = self.server.storage
        try:
            checked(key)
        except StorageError:
            return self._line(HTTPStatus.NOT_FOUND, "no such page; the way in is /")
        try:
            if with_body:
                return self._send(key)
            if storage.exists(key):
                return self._head(HTTPStatus.OK, _type(key), {})
            return self._missing(key)
        except NotFound:
            return self._missing(key)
        except StorageError as fault:
            return self._line(HTTPStatus.BAD_GATEWAY, str(fault))

    def _asked_for_here(self) -> bool:
        """Whether a loopback server was asked under a loopback name. A page of another site may
        have its own name lead here, and would then be let to read what it gets."""
        if not self.server.loopback or "Host" not in self.headers:
            return True
        try:
            name = urlsplit(f"//{self.headers['Host']}").hostname or ""
            return name == "localhost" or ip_address(name).is_loopback
        except ValueError:
            return False

    def _send(self, key: str) -> None:
        """The object: what a browser shows from memory, all else by way of a temporary file."""
        if PurePosixPath(key).suffix[1:].lower() in SHOWN:
            data = self.server.storage.read(key)
            self._head(HTTPStatus.OK, _type(key), {"Content-Length": str(len(data))})
            self.wfile.write(data)
            return
        with TemporaryDirectory(prefix="serve-") as folder:
            path = Path(folder, "object")
            self.server.storage.download(key, path)
            length = {"Content-Length": str(path.stat().st_size)}
            self._head(HTTPStatus.OK, _type(key), length)
            with path.open("rb") as file:
                copyfileobj(file, self.wfile)

    def _missing(self, key: str) -> None:
        """A folder's name without its slash leads to its page."""
        try:
            if len(key) < 800 and self.server.storage.exists(f"{key}/{PAGE}"):
                there = {"Location": f"/{quote(key)}/"}
                return self._line(HTTPStatus.MOVED_PERMANENTLY, "it is a folder", there)
        except StorageError as fault:
            return self._line(HTTPStatus.BAD_GATEWAY, str(fault))
        hint = "the way in is /" if key != PAGE else "a run or a study writes the first one"
        return self._line(HTTPStatus.NOT_FOUND, f"{key}: no such page; {hint}")

    def _line(self, status: HTTPStatus, text: str, more: dict[str, str] | None = None) -> None:
        data = f"{status.value}: {text}\n".encode()
        headers = {"Content-Length": str(len(data)), **(more or {})}
        self._head(status, "text/plain; charset=utf-8", headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: HTTPStatus, type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def serve(
    storage: Storage,
    host: str = HOST,
    port: int = PORT,
    say: Callable[[str], None] = print,
) -> None:
    """Serves until Ctrl-C; ``say`` is told where, once it answers. ``port`` 0 is any free one.

    Raises JobError when the address cannot be had, StorageError when the storage does not answer.
    """
    storage.exists(PAGE)
    with Server(storage, host, port) as server:
        say(f"{storage.url} at {server.url} until Ctrl-C")
        if not server.loopback:
            say("everybody who can reach this machine can read it")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            say("stopped")


def _type(key: str) -> str:
    return SHOWN.get(PurePosixPath(key).suffix[1:].lower(), "application/octet-stream")
