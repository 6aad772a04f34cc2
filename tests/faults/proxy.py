"""What a network and a failing server can do to one HTTP request, in front of a real server."""

import socket
import socketserver
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request. The fields left out leave it as it is.

    method: only to requests of this method. delay: seconds before anything is passed on. answer:
    status line sent in the server's place. request_bytes, reply_bytes: the connection is cut after
    so many bytes of the body of the request, or of the whole reply, have gone through; for the
    request it is held open before that for ``stall`` seconds.
    without_header: a header (lower case) that the server does not get to see; the request is signed
    anew, since the signature covers it.
    """

    method: str = ""
    delay: float = 0
    answer: str = ""
    request_bytes: int | None = None
    stall: float = 0
    reply_bytes: int | None = None
    without_header: str = ""


SLOW_DOWN = Fault(answer="503 Slow Down")
LOST_REPLY = Fault(method="PUT", reply_bytes=0)


class Signer(S3SigV4Auth):
    """Takes the hash of the body from the request: the body itself is still on its way."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        self._set_necessary_date_headers(request)


class Proxy(socketserver.ThreadingTCPServer):
    """Passes requests on to ``target``; each of ``faults`` befalls one request, ``always`` all."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str, faults: Iterable[Fault] = (), always: Fault | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = urlsplit(target)
        self.faults = list(faults)
        self.always = always or Fault()
        self.requests: list[str] = []
        self.stalled = Event()
        self._lock = Lock()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_fault(self, request_line: str) -> Fault:
        with self._lock:
            self.requests.append(request_line)
            for place, fault in enumerate(self.faults):
                if request_line.startswith(fault.method):
                    return self.faults.pop(place)
        return self.always

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, *_fault: Any) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class Handler(socketserver.StreamRequestHandler):
    """One request a connection: so each fault meets exactly one request."""

    server: Proxy
    timeout = SECONDS

    def handle(self) -> None:
        with suppress(OSError):  # either side may go when it likes
            self._pass_on()

    def _pass_on(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b"", b"\r\n"):
            lines.append(line)
        if not lines:
            return
        fault = self.server.next_fault(lines[0].decode().strip())
        time.sleep(fault.delay)
        headers = {line.split(b":")[0].lower().decode(): line for line in lines[1:]}
        length = int(headers.get("content-length", b":0").split(b":")[1])
        if headers.pop("expect", None) and not fault.answer:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault.answer:
            self._answer(fault.answer)
            return
        if headers.pop(fault.without_header, None):
            self._sign(lines[0].decode(), headers)
        headers["connection"] = b"Connection: close\r\n"
        with socket.create_connection((self.server.target.hostname, self.server.target.port)) as to:
            to.settimeout(SECONDS)
            to.sendall(b"".join([lines[0], *headers.values(), b"\r\n"]))
            self._send_body(to, length, fault.request_bytes)
            if fault.request_bytes is None:
                self._send_reply(to, fault.reply_bytes)
            else:
                self.server.stalled.set()
                time.sleep(fault.stall)
                self._cut()

    def _sign(self, request_line: str, headers: dict[str, bytes]) -> None:
        """Replaces the signature by one over these headers; the body's hash is among them."""
        method, path, _ = request_line.split()
        signed = ("host", "content-type", "content-md5", "x-amz-content-sha256")
        request = AWSRequest(
            method=method,
            url=self.server.url + path,
            headers={
                n: headers[n].decode().split(": ", 1)[1].strip() for n in signed if n in headers
            },
        )
        credentials = botocore.session.Session().get_credentials()
        Signer(credentials, "s3", "us-east-1").add_auth(request)
        for name in ("Authorization", "X-Amz-Date"):
            headers[name.lower()] = f"{name}: {request.headers[name]}\r\n".encode()

    def _answer(self, status: str) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self.wfile.write(head.encode())

    def _send_body(self, to: socket.socket, length: int, limit: int | None) -> None:
        left = length if limit is None else min(limit, length)
        while left and (block := self.rfile.read1(min(left, 1 << 16))):
            to.sendall(block)
            left -= len(block)

    def _send_reply(self, to: socket.socket, limit: int | None) -> None:
        while block := to.recv(1 << 16):  # to its end, so the server has done what was asked
            self.wfile.write(block if limit is None else block[:limit])
            limit = None if limit is None else max(0, limit - len(block))
        if limit is not None:
            self._cut()

    def _cut(self) -> None:
        """Ends the connection as a crash would: with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
