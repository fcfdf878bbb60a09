"""Serve the application in threads, with the expectations of pytest-httpserver: start, stop, reset."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from pytest_httpserver import HTTPServer, HTTPServerError
from werkzeug import Request as ExpectedRequest

from whmcs_mock.api import ActionT
from whmcs_mock.app import App, error_response
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.journal import Call
from whmcs_mock.ledger import Ledger, Profile, parse_profile
from whmcs_mock.listener import Listener
from whmcs_mock.reader import IDLE_SECONDS, REQUEST_SECONDS
from whmcs_mock.redaction import redactor
from whmcs_mock.request import ENDPOINT, Request, is_endpoint, is_steering
from whmcs_mock.response import HTTPError, Response
from whmcs_mock.world import World

_MAX_EXPECTED = 256 * 1024 * 1024  # maximum bytes of a request to anything but the API


class MockServer(HTTPServer):
    """Serves a ledger in threads, as ``with MockServer(ledger) as server: server.url``.

    It is a ``pytest_httpserver.HTTPServer``: requests that match an expectation such as
    ``expect_request`` are answered by it, all others by the API.

    Args:
        ledger: The fixtures; by default the documented example.
        host: The name or address to listen on.
        port: The port; 0 takes a free one.
        profile: ``documented`` or ``live``; changeable while running.
        ssl_context: Serves https.
        on_call: Called with each ``Call`` before its answer is sent.
        request_seconds: How long a request may take from its first byte to its last.
        idle_seconds: How long a connection may be idle between two requests.
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
        request_seconds: float = REQUEST_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        super().__init__(host, port, ssl_context, threaded=True)
        self.app = App(
            load_fixtures() if ledger is None else ledger, profile, on_call=on_call, on_error=self.keep_error
        )
        self.mismatches: list[tuple[float, str]] = []  # times and descriptions of clients that used the wrong protocol
        self._seconds: dict[str, Any] = {"request_seconds": request_seconds, "idle_seconds": idle_seconds}

    def keep_error(self, error: BaseException) -> None:
        """Keep an exception of a function or handler for pytest-httpserver's ``check_handler_errors()``."""
        self.handler_errors.append(error)  # type: ignore[arg-type]  # pytest.fail() raises no Exception

    @property
    def world(self) -> World:
        """Return the world that paths without one lead to."""
        return self.app.worlds[self.app.worlds.current]

    @property
    def ledger(self) -> Ledger:
        """Return the fixtures."""
        return self.app.worlds.ledger

    @property
    def base_url(self) -> str:
        """Return the URL of the server, without a trailing slash."""
        return self.url_for("/")[:-1]

    @property
    def url(self) -> str:
        """Return the URL of the API."""
        return self.url_for(ENDPOINT)

    @property
    def profile(self) -> Profile:
        """Return the profile: ``documented`` or ``live``."""
        return self.world.profile

    @profile.setter
    def profile(self, name: str) -> None:
        self.world.profile = parse_profile(name)

    def action(self, name: str) -> Callable[[ActionT], ActionT]:
        """Answer an action with a function of the parameters.

        The function returns a mapping, whose ``result`` is ``success`` unless it says otherwise, raises
        ``ApiError``, or returns None to leave the call to the fixtures and built-in actions.

        Args:
            name: The action, case-insensitive.

        Raises:
            TypeError: The name is missing.
        """
        return self.world.action(name)

    def start(self) -> None:
        """Bind, and serve in a thread; the server is listening when this returns.

        Raises:
            AddressInUseError: Another program is listening there.
            ListenError: The server cannot listen there.
        """
        if self.is_running():
            raise HTTPServerError("the server is already running")
        self.server = Listener(
            self.host,
            self.port,
            self.respond,
            tls=self.ssl_context,
            refuse=self.app.refuse,
            limit=self._body_limit,
            on_mismatch=lambda text: self.mismatches.append((time.time(), text)),
            on_error=self.keep_error,
            **self._seconds,
        )
        self.port = self.server.port
        self.server_thread = threading.Thread(target=self.thread_target, daemon=True, name="whmcs-mock")
        self.server_thread.start()

    def stop(self) -> None:
        """Stop serving: send the answers that are held back, and close every connection."""
        server, thread = self.server, self.server_thread
        if not isinstance(server, Listener) or thread is None:
            raise HTTPServerError("the server is not running")
        self.app.worlds.release()
        server.shutdown()
        thread.join()
        server.end_connections()
        self.server = self.server_thread = None

    def reset(self, ledger: Ledger | None = None, *, profile: str | None = None) -> None:
        """Restore the ledger; drop faults, calls, actions and expectations.

        Args:
            ledger: New fixtures; by default those that the server was created with.
            profile: ``documented`` or ``live``; by default the one that the server was created with.
        """
        self.clear()
        self.app.worlds.reset(self.app.worlds.current, ledger, profile)

    # Expectations come first.

    def respond(self, request: Request) -> Response:
        """Return the response to one request: of an expectation that matches it, or else of the API."""
        is_api = is_endpoint(request.path) or is_steering(request.path)
        is_expecting = bool(self.ordered_handlers or self.oneshot_handlers or self.handlers)
        if is_api and not is_expecting:
            return self.app.respond(request)
        current, found = self.world, self._find(request.path)
        is_late = found is not None and found[0] is not current  # no expectation or assertion of this test is about it
        if is_expecting and found and not is_late and (response := self._expected(*found, request)):
            return response
        if is_api:
            return self.app.respond(request)
        if not is_late:
            # Reported like pytest-httpserver does, but without what may contain a secret.
            self.respond_nohandler(ExpectedRequest(_environ(request, self, bare=True)))
            del self.assertions[:-100]
        return self.app.respond(request, steerable=False)

    def _body_limit(self, path: str) -> int:
        return self.app.body_limit(path) if is_endpoint(path) or is_steering(path) else _MAX_EXPECTED

    def _find(self, path: str) -> tuple[World, str] | None:
        """Return the world that a path leads to and the path within it, or None if the name of the world is invalid."""
        with contextlib.suppress(HTTPError):
            return self.app.worlds.find(path)
        return None

    def _expected(self, world: World, path: str, request: Request) -> Response | None:
        environ = _environ(request, self, path)
        asked = ExpectedRequest(environ)
        asked.get_data()
        handlers = self.ordered_handlers[:1] + self.oneshot_handlers + self.handlers
        matched = False
        with contextlib.suppress(ValueError):  # a JSON matcher, and the body is not JSON
            matched = any(handler.matcher.match(asked) for handler in handlers)
        if not matched:
            return None
        return self.app.respond_expected(world, request, path, lambda: self._run_handler(world, request, environ))

    def _run_handler(self, world: World, request: Request, environ: dict[str, Any]) -> Response:
        errors = len(self.handler_errors)
        environ["wsgi.input"].seek(0)
        application = ExpectedRequest.application(self.application)
        started: list[Any] = []
        written: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: Any = None
        ) -> Callable[[bytes], object]:
            started[:] = status, headers
            return written.append

        try:
            parts: Iterable[bytes] = application(environ, start_response)
            body = b"".join([*parts, *written])
            getattr(parts, "close", list)()
            status, headers = started
            lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
        except BaseException as error:  # noqa: BLE001  # from a handler that a test has passed to expect_request
            if not isinstance(error, Exception):  # pytest.fail(); pytest-httpserver keeps other exceptions
                self.keep_error(error)
            text = f"whmcs-mock: a request handler raised {type(error).__name__}: {error}"
            return error_response(world, request, text)
        if status[:3] == "500" and len(self.handler_errors) > errors:  # the error may also be another request's
            return error_response(world, request, body.decode("utf-8", "replace").rstrip())
        if not re.fullmatch("[2-5][0-9][0-9]", status[:3]):
            return Response.plain(500, f"whmcs-mock: a status is a number from 200 to 599, not {status}")
        framing = ("content-length", "connection", "transfer-encoding", "date")
        close = any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)
        length = lengths[0] if lengths and lengths[0] != len(body) else None
        return Response(
            int(status[:3]),
            [pair for pair in headers if pair[0].lower() not in framing],
            body,
            length=length,
            close=close or (length or 0) > len(body),
            why="answered by expect_request",
        )


def _environ(request: Request, server: MockServer, path: str = "", *, bare: bool = False) -> dict[str, Any]:
    """Return the WSGI environment of a request, which is what expectations are matched against."""
    redact = redactor(server.world.store.secrets) if bare else str
    path = redact(path or request.path)
    body = b"" if bare else request.body
    query = b"" if bare else request.query_string
    environ = {
        "REQUEST_METHOD": redact(request.method),
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "REQUEST_URI": path,
        "SERVER_NAME": server.host,
        "SERVER_PORT": str(server.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.address,
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if request.secure else "http",
        "wsgi.input": BytesIO(body),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    hidden = ("content-type", "content-length", "transfer-encoding")
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items() if name not in hidden
    }
    return {**environ, **headers}
