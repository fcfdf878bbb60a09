"""Speak HTTP on a socket: accept connections, keep them, answer in one write, and stop at once.

HTTP is read by http.server and werkzeug; what stands here is what they leave open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from email.errors import FirstHeaderLineIsContinuationDefect, HeaderDefect, MissingHeaderBodySeparatorDefect
from http import HTTPStatus
from io import BytesIO, RawIOBase
from queue import SimpleQueue
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import LimitedStream

from whmcs_mock.app import MAX_BODY, PLAIN, App, is_endpoint
from whmcs_mock.errors import AddressInUseError, ListenError
from whmcs_mock.faults import ResetConnection
from whmcs_mock.origins import Origins

__all__ = ["Listener"]

_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # lingering for 0 s makes close() a reset
_HEAD_DEFECTS = (MissingHeaderBodySeparatorDefect, FirstHeaderLineIsContinuationDefect, HeaderDefect)
_LINGER = 1.0  # seconds that a refused body is still read, so that the client sees the refusal
_STOPPING = 1.0  # seconds that the end waits for answers that are being given


def _listening(host: str, port: int) -> socket.socket:
    # Werkzeug's own way prints and exits the process when it cannot listen.
    if not 0 <= port <= 65535:
        raise ListenError(f"there is no port {port}; ports go from 1 to 65535 (0 takes a free one)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host or None, port, family)  # create_server leaves a socket open for a host that is none
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        reason = "another program listens there" if taken else getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (")[0]  # the place is told here
        hint = "stop it, or choose another port" if taken else "choose another host or port"
        raise (AddressInUseError if taken else ListenError)(
            f"cannot listen on {host} port {port}: {reason}; {hint} (0 takes a free one)"
        ) from error


class Listener(ThreadedWSGIServer):
    """Accept connections and hand each to a worker thread; idle workers are used again.

    Args:
        host: The name or address to listen on.
        port: The port; 0 takes a free one.
        wsgi: The WSGI application that answers.
        tls: Serves https.
        app: Whose setup a connection was opened in is told with each request.
        origins: Whose thread opened a connection is told likewise.
        on_error: Takes what a handler raised that is no ``Exception``, as ``pytest.fail()`` does.

    Raises:
        AddressInUseError: Another program listens there.
        ListenError: One cannot listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        wsgi: Any,
        tls: ssl.SSLContext | None,
        *,
        app: App,
        origins: Origins,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.whmcs, self.origins, self.on_error = app, origins, on_error
        self._jobs: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._workers: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        with _listening(host, port) as listening:
            super().__init__(host, port, wsgi, _Handler, ssl_context=tls, fd=listening.fileno())
        self._waker, self._awakened = socket.socketpair()
        self.socket.settimeout(1)  # a connection that is gone before it is accepted must not hold stop() up
        if isinstance(self.socket, ssl.SSLSocket):
            # A handshake may take for ever, so it is a worker's business.
            self.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]  # missing in typeshed

    def serve_forever(self, _poll_interval: float = 0.5) -> None:
        """Accept connections until shutdown(), whose one byte ends the waiting at once."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._awakened, selectors.EVENT_READ)
            while not any(key.fileobj is self._awakened for key, _ in selector.select()):
                self._handle_request_noblock()  # type: ignore[attr-defined]  # socketserver's, missing in typeshed
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a worker."""
        with self._lock:
            self._open.add(request)
        self._jobs.put((request, client_address))
        if not self._idle.acquire(blocking=False):
            worker = threading.Thread(target=self._work, daemon=True, name=f"whmcs-mock-{len(self._workers) + 1}")
            self._workers.append(worker)
            worker.start()

    def _work(self) -> None:
        while job := self._jobs.get():
            request, address = job
            try:
                self.finish_request(request, address)
                self.shutdown_request(request)
            except ResetConnection:
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                request.close()
            except (OSError, ValueError):  # the client went away, or stop() closed the connection
                request.close()
            finally:
                with self._lock:
                    self._open.discard(request)
            self._idle.release()

    def shutdown(self) -> None:
        """End the accepting, every connection and every worker."""
        self._waker.send(b".")

    def end_connections(self) -> None:
        """Close every connection, and wait for the workers that are still answering."""
        with self._lock:
            for request in self._open:
                with contextlib.suppress(OSError):  # gone already
                    socket.socket.shutdown(request, socket.SHUT_RDWR)  # below TLS
        for _ in self._workers:
            self._jobs.put(None)
        until = time.monotonic() + _STOPPING
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        self._waker.close()
        self._awakened.close()


class _Handler(WSGIRequestHandler):
    """Answer the requests of one connection, each in one write, and keep the connection."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    server: Listener

    def handle(self) -> None:
        self._opened = self.server.whmcs.setup
        self._origin = self.server.origins.of(self.client_address[1])
        if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]  # a BufferedReader
            self.send_error(400, "this port speaks http, not https")
        else:
            super().handle()

    def parse_request(self) -> bool:
        if self.raw_requestline.strip():
            return super().parse_request()
        self.close_connection = False
        return False  # an empty line, as some clients send it behind a body

    def handle_expect_100(self) -> bool:
        return True  # _body() says "100 Continue", or refuses

    def log(self, *_args: Any) -> None:
        pass  # the access log is the application's

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not HTTP in one line of text."""
        phrase = HTTPStatus(code).phrase
        text = message or explain or "the request is not HTTP as whmcs-mock reads it"
        self.close_connection = True
        self._write(f"{code} {phrase}", [("Content-Type", PLAIN)], f"{phrase}: {text}\n".encode())
        self._linger()

    def run_wsgi(self) -> None:
        """Answer one request."""
        try:
            self._check_head()
            self.environ = environ = self.make_environ()
            environ["QUERY_STRING"] = self.path.partition("?")[2]  # Werkzeug would encode raw UTF-8 once more
            stream = self._body(environ)
        except ValueError as error:
            self.send_error(400, str(error))
            return
        environ.update({"whmcs_mock.opened": self._opened, "whmcs_mock.origin": self._origin})
        status, headers, body = self._ask(environ)
        said = {name.lower(): value for name, value in headers}
        whole = self.command == "HEAD" or int(said.get("content-length", 0)) <= len(body)
        drained = not environ.get("whmcs_mock.unread") and self._drained(stream)
        close = said.get("connection", "").lower() == "close"
        self.close_connection = self.close_connection or close or not (whole and drained)
        self._write(status, headers, body)
        if not drained:
            self._linger()

    def _check_head(self) -> None:
        """Refuse what http.server lets pass and what would be read in two ways."""
        if self.request_version == "HTTP/0.9":
            raise ValueError("the first line is not METHOD PATH HTTP/1.1")
        if any(isinstance(defect, _HEAD_DEFECTS) for defect in self.headers.defects):
            raise ValueError("a header is not written Name: value")
        if len(set(self.headers.get_all("Content-Length", ["0"]))) > 1:
            raise ValueError("there are two Content-Lengths")
        if self.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
            raise ValueError("the Transfer-Encoding is not chunked")

    def _body(self, environ: dict[str, Any]) -> Any:
        """Return the stream of the body, which ends where the body ends; a small one is read already."""
        rfile: Any = self.rfile
        length = environ.get("CONTENT_LENGTH", "0")
        chunked = environ.get("wsgi.input_terminated", False)
        if not chunked and not (length.isascii() and length.isdigit()):
            raise ValueError("Content-Length is no number of bytes")
        size = int(length.lstrip("0")[:19] or 0)  # more digits are too large as well
        large = not chunked and size > MAX_BODY
        awaited = self.headers.get("Expect", "").lower() == "100-continue" and self.request_version != "HTTP/1.0"
        if awaited and not (large and is_endpoint(environ["PATH_INFO"])):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if chunked:
            environ.pop("CONTENT_LENGTH", None)  # the chunks override it
            environ["wsgi.input"] = _Chunks(rfile)
        elif large:
            environ["wsgi.input"] = LimitedStream(rfile, size)
        else:
            data = rfile.read(size) if size else b""
            if len(data) < size:
                raise ValueError("the body breaks off")
            environ["wsgi.input"] = BytesIO(data)
        return environ["wsgi.input"]

    def _ask(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[Any] = []
        body: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            started[:] = status, headers
            return body.append

        try:
            parts = self.server.app(environ, start_response)
            body.extend(parts)
            getattr(parts, "close", list)()
        except ResetConnection:
            raise
        except BaseException as error:  # noqa: BLE001  # out of a handler that a test gave to expect_request
            if not isinstance(error, Exception):  # pytest.fail(): pytest-httpserver keeps the others
                self.server.on_error(error)
            text = f"whmcs-mock: a request handler raised {type(error).__name__}: {error}\n".encode()
            return "500 Internal Server Error", [("Content-Type", PLAIN)], text
        return started[0], started[1], b"".join(body)

    def _write(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        said = {name.lower() for name, _ in headers}
        lines = [
            f"HTTP/1.1 {status}",
            f"Date: {self.date_time_string()}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        if "content-length" not in said and status[:3] not in {"204", "304"}:
            lines.append(f"Content-Length: {len(body)}")
        if "connection" not in said:
            lines.append(f"Connection: {'close' if self.close_connection else 'keep-alive'}")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def _drained(self, stream: Any) -> bool:
        """Read what is left of the body, as long as it is not too much."""
        left = MAX_BODY
        try:
            while left > 0 and (part := stream.read(min(left, 65536))):
                left -= len(part)
        except (OSError, HTTPException):
            return False
        return left > 0

    def _linger(self) -> None:
        """Let a client that is still sending see the answer before the connection goes."""
        rfile: Any = self.rfile
        until = time.monotonic() + _LINGER
        with contextlib.suppress(OSError):
            if not isinstance(self.connection, ssl.SSLSocket):
                self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_LINGER / 5)
            while time.monotonic() < until and rfile.read1(65536):
                pass


class _Chunks(RawIOBase):
    """Read a chunked body; werkzeug's reader crashes the process when the client leaves in a chunk."""

    def __init__(self, rfile: Any) -> None:
        self._rfile = rfile
        self._left = 0  # bytes of the chunk
        self._ended = False
        self._broken = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not (self._left or self._ended):
            line = b"" if self._broken else self._rfile.readline(65536).partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", line):
                self._broken = True  # who reads on must not wait for more
                raise OSError("a chunk does not begin with its size")
            self._left = int(line, 16)
            self._ended = not self._left
            while self._ended and line.strip():
                line = self._rfile.readline(65536)  # a trailer, or the empty line at the end
            if self._ended and not line:
                raise OSError("the client has gone")
        wanted = min(len(buffer), self._left)
        data = self._rfile.read(wanted)
        self._left -= wanted
        if len(data) < wanted or (wanted and not self._left and self._rfile.readline(3).strip()):
            raise OSError("a chunk does not end where it should")
        buffer[:wanted] = data
        return wanted
