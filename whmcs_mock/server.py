"""Listen on a socket: threads, connections that are kept, TLS, start and stop in milliseconds."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from pytest_httpserver import HTTPServer, HTTPServerError
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.serving import DechunkedInput, ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.wsgi import LimitedStream

from whmcs_mock.api import Action
from whmcs_mock.app import ENDPOINT, MAX_BODY, App, is_endpoint
from whmcs_mock.errors import AddressInUseError, ListenError
from whmcs_mock.faults import ResetConnection
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.journal import Call
from whmcs_mock.model import Ledger, Profile, checked_profile
from whmcs_mock.origins import Origins

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["MockServer"]

_MAX_LINE = 65536  # bytes of the request line, and of one header
_MAX_HEADERS = 100
_LINGER = 1.0  # seconds that a refused body is still read, so that the client sees the refusal
_STOPPING = 1.0  # seconds that stop() waits for answers that are being given


class MockServer(HTTPServer):
    """Serve a ledger in threads, as ``with MockServer(ledger) as server: server.url``.

    It is a ``pytest_httpserver.HTTPServer``: what ``expect_request`` and its kin match is answered
    by them, everything else by the API.

    Args:
        ledger: What there is to tell; without one, the documented example.
        host: The name or address to listen on.
        port: The port; 0 takes a free one.
        profile: ``documented`` or ``live``; changeable while running.
        ssl_context: Serves https.
        on_call: Called with each ``Call`` before its answer is sent.
    """

    DEFAULT_LISTEN_HOST = "127.0.0.1"

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        host: str = DEFAULT_LISTEN_HOST,
        port: int = 0,
        profile: str = "documented",
        ssl_context: ssl.SSLContext | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        super().__init__(host, port, ssl_context, threaded=True)
        self.ledger = load_fixtures() if ledger is None else ledger
        self.app = App(self.ledger, profile, on_call=on_call, on_error=lambda error: self.handler_errors.append(error))
        self.origins = Origins()

    @property
    def base_url(self) -> str:
        """Give the URL below which everything is served, without a slash at its end."""
        return self.url_for("/")[:-1]

    @property
    def url(self) -> str:
        """Give the URL of the API."""
        return self.url_for(ENDPOINT)

    @property
    def profile(self) -> Profile:
        """Give the profile: ``documented`` or ``live``."""
        return self.app.setup.profile

    @profile.setter
    def profile(self, name: str) -> None:
        self.app.setup.profile = checked_profile(name)

    def action(self, name: str) -> Callable[[Action], Action]:
        """Answer an action with a function of the parameters.

        The function returns a mapping, whose ``result`` is ``success`` unless it says otherwise, or
        raises ``ApiError``.

        Args:
            name: The action; its case does not matter.
        """

        def register(function: Action) -> Action:
            self.app.setup.actions[name.lower()] = function
            return function

        return register

    def start(self) -> None:
        """Bind, and serve in a thread; the server listens when this returns.

        Raises:
            AddressInUseError: Another program listens there.
            ListenError: One cannot listen there.
        """
        if self.is_running():
            raise HTTPServerError("the server is running already")
        self.server = _Server(self.host, self.port, self._wsgi, self.ssl_context, self.app, self.origins)
        self.port = self.origins.port = self.server.port
        self.server_thread = threading.Thread(target=self.thread_target, daemon=True, name="whmcs-mock")
        self.server_thread.start()

    def stop(self) -> None:
        """Stop serving: end the answers that are held back, and close every connection."""
        server, thread = self.server, self.server_thread
        if not isinstance(server, _Server) or thread is None:
            raise HTTPServerError("the server is not running")
        self.app.setup.faults.end()
        server.shutdown()
        thread.join()
        server.end_connections()
        self.server = self.server_thread = None

    def reset(self, ledger: Ledger | None = None, *, profile: str = "documented", name: str = "") -> None:
        """Begin anew: the ledger as it was loaded, and no fault, call, action or expectation.

        Args:
            ledger: What there is to tell from now on; without one, the ledger the server was made with.
            profile: ``documented`` or ``live``.
            name: Whose calls come from now on: a test's name.
        """
        self.clear()
        if name:
            self.origins.begin(name)
        self.app.reset(self.ledger if ledger is None else ledger, profile, name)

    def _wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        expected = self.ordered_handlers[:1] + self.oneshot_handlers + self.handlers
        if expected or not is_endpoint(environ["PATH_INFO"]):
            request = Request(environ)
            if any(handler.matcher.match(request) for handler in expected):
                respond = Request.application(self.application)
                return respond(environ, start_response)
            if not is_endpoint(request.path):
                self.add_assertion(f"No handler found for request {request!r}")
        return self.app(environ, start_response)


class _Server(ThreadedWSGIServer):
    """Accept connections and hand each to a worker thread; idle workers are used again."""

    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port

    def __init__(
        self, host: str, port: int, wsgi: Any, ssl_context: ssl.SSLContext | None, app: App, origins: Origins
    ) -> None:
        self.mock = app
        self.origins = origins
        self._jobs: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._workers: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._waker, self._awakened = socket.socketpair()
        try:
            super().__init__(host, port, wsgi, _Handler, ssl_context=ssl_context)
        except BaseException:
            self._waker.close()
            self._awakened.close()
            raise
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]  # missing in typeshed
            # a worker's business: it may take for ever

    def server_bind(self) -> None:
        # Not the method of http.server, which asks the name service for the host's full name.
        try:
            socketserver.TCPServer.server_bind(self)
        except (OSError, OverflowError) as error:
            where = f"{self.host} port {self.port}"
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                raise AddressInUseError(
                    f"cannot listen on {where}: another program listens there; stop it, or choose another port (0 takes a free one)"
                ) from error
            reason = getattr(error, "strerror", None) or error
            raise ListenError(
                f"cannot listen on {where}: {reason}; choose another host or port (0 takes a free one)"
            ) from error
        self.server_name, self.server_port = self.host, self.server_address[1]

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        # Without the polling of socketserver: a byte from shutdown() ends it at once.
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._awakened, selectors.EVENT_READ)
            while not any(key.fileobj is self._awakened for key, _ in selector.select()):
                self._handle_request_noblock()  # type: ignore[attr-defined]  # socketserver's, missing in typeshed
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
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
                # Linger on with a time of 0 makes close() reset the connection.
                request.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
                )
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
                try:
                    socket.socket.shutdown(request, socket.SHUT_RDWR)  # below TLS
                except OSError:
                    pass  # gone already
        for _ in self._workers:
            self._jobs.put(None)
        until = time.monotonic() + _STOPPING
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        self._waker.close()
        self._awakened.close()


class _Handler(WSGIRequestHandler):
    """Read HTTP/1.1 requests from one connection, and write each response in one piece."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._opened = self.server.mock.setup
        self._origin = self.server.origins.of(self.client_address[1])

    def handle(self) -> None:
        self.close_connection = False
        while not self.close_connection:
            try:
                self._exchange()
            except _BadRequest as error:
                self.close_connection = True
                body = f"{error}\n".encode()
                self._write(error.status, [("Content-Type", "text/plain; charset=utf-8")], body, {})
                self._linger()

    def _exchange(self) -> None:
        self.close_connection = True
        if self.rfile.peek(1)[:1] == b"\x16":  # type: ignore[attr-defined]  # a BufferedReader
            raise _BadRequest("400 Bad Request", "Bad request: this port speaks http, not https")
        while (line := self._line()) == b"\r\n":
            pass
        if not line:
            return
        environ = self._environ(line)
        stream = self._body(environ)
        if stream is None:
            return
        status, headers, body = self._ask(environ)
        version, connection = environ["SERVER_PROTOCOL"], environ.get("HTTP_CONNECTION", "").lower()
        kept = "close" not in connection and (version != "HTTP/1.0" or "keep-alive" in connection)
        said = {name.lower(): value for name, value in headers}
        whole = environ["REQUEST_METHOD"] == "HEAD" or int(said.get("content-length", 0)) <= len(body)
        refused = said.get("connection", "").lower() == "close"
        drained = not refused and self._drained(stream)
        self.close_connection = not (kept and whole and drained)
        self._write(status, headers, body, said)
        if not drained:
            self._linger()

    def _line(self) -> bytes:
        line = self.rfile.readline(_MAX_LINE + 1)
        if len(line) > _MAX_LINE:
            raise _BadRequest("431 Request Header Fields Too Large", "Bad request: a line of the head is too long")
        return line

    def _environ(self, line: bytes) -> dict[str, Any]:
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            raise _BadRequest("400 Bad Request", "Bad request: the first line is not METHOD PATH HTTP/1.1")
        method, target, version = words
        if not version.startswith("HTTP/1."):
            raise _BadRequest("505 HTTP Version Not Supported", "HTTP version not supported: speak HTTP/1.1")
        if target.lower().startswith(("http://", "https://")):
            target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": self.client_address[0],
            "REMOTE_PORT": self.client_address[1],
            "SERVER_NAME": self.server.server_name,
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": version,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http" if self.server.ssl_context is None else "https",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "whmcs_mock.opened": self._opened,
            "whmcs_mock.origin": self._origin,
        }
        for _ in range(_MAX_HEADERS):
            line = self._line()
            if line in (b"\r\n", b"\n", b""):
                return environ
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise _BadRequest("400 Bad Request", "Bad request: a header is not written Name: value")
            if "_" in name:
                continue  # it would pass for the one with a hyphen
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            value = value.strip()
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        raise _BadRequest("431 Request Header Fields Too Large", f"Bad request: more than {_MAX_HEADERS} headers")

    def _body(self, environ: dict[str, Any]) -> Any:
        """Put the body into the environment, read already when it is small; None when the client left."""
        awaited = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
        coding = environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        length = environ.get("CONTENT_LENGTH", "0")
        rfile: Any = self.rfile
        if coding:
            if coding != "chunked":
                raise _BadRequest("501 Not Implemented", "Not implemented: Transfer-Encoding other than chunked")
            environ.pop("CONTENT_LENGTH", None)
            environ["wsgi.input_terminated"] = True
            if awaited:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            stream: Any = DechunkedInput(rfile)
        elif not (length.isascii() and length.isdigit() and len(length) < 19):
            raise _BadRequest("400 Bad Request", "Bad request: Content-Length is no number of bytes")
        else:
            large = int(length) > MAX_BODY
            if awaited and not (large and is_endpoint(environ["PATH_INFO"])):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if large:
                stream = LimitedStream(rfile, int(length))
            else:
                data = self.rfile.read(int(length)) if length != "0" else b""
                if len(data) < int(length):
                    return None
                stream = BytesIO(data)
        environ["wsgi.input"] = stream
        return stream

    def _ask(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[Any] = []
        body: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = status, headers
            return body.append

        try:
            parts = self.server.app(environ, start_response)
            try:
                body.extend(parts)
            finally:
                if hasattr(parts, "close"):
                    parts.close()
        except ResetConnection:
            raise
        except Exception as error:  # out of a handler that a test gave to expect_request
            text = f"whmcs-mock: a request handler raised {error!r}\n".encode()
            return "500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")], text
        return started[0], started[1], b"".join(body)

    def _write(self, status: str, headers: list[tuple[str, str]], body: bytes, said: dict[str, str]) -> None:
        head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if "content-length" not in said and status[:3] not in ("204", "304"):
            head.append(f"Content-Length: {len(body)}")
        if "date" not in said:
            head.append(f"Date: {self.date_time_string()}")
        if "connection" not in said:
            head.append(f"Connection: {'close' if self.close_connection else 'keep-alive'}")
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def _drained(self, stream: Any) -> bool:
        """Read what is left of the body, as long as it is not too much."""
        left = MAX_BODY
        try:
            while left > 0 and (part := stream.read(min(left, _MAX_LINE))):
                left -= len(part)
        except (OSError, HTTPException):
            return False
        return left > 0

    def _linger(self) -> None:
        """Let the client read the answer before the connection goes, though it is still sending."""
        if not isinstance(self.connection, ssl.SSLSocket):
            self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_LINGER / 5)
        until = time.monotonic() + _LINGER
        try:
            while time.monotonic() < until and self.rfile.read1(_MAX_LINE):
                pass
        except OSError:
            pass  # it has gone


class _BadRequest(Exception):
    """Refuse what is not HTTP."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status
