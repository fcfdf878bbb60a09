"""Serve the application in threads, beside what pytest-httpserver expects: start, stop, reset."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING

from pytest_httpserver import HTTPServer, HTTPServerError
from werkzeug import Request, Response
from werkzeug.exceptions import HTTPException

from whmcs_mock.api import Action
from whmcs_mock.app import ENDPOINT, App, Refused, is_endpoint, read_body
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.journal import Call
from whmcs_mock.listener import Listener
from whmcs_mock.model import Ledger, Profile, checked_profile
from whmcs_mock.origins import Origins

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["MockServer"]


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
        self.app = App(self.ledger, profile, on_call=on_call, on_error=self.keep_error)
        self.origins = Origins()

    def keep_error(self, error: BaseException) -> None:
        """Keep what a function or handler raised, for ``check_handler_errors()`` of pytest-httpserver."""
        self.handler_errors.append(error)  # type: ignore[arg-type]  # pytest.fail() raises no Exception

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
        self.server = Listener(
            *(self.host, self.port, self.wsgi, self.ssl_context),
            app=self.app,
            origins=self.origins,
            on_error=self.keep_error,
        )
        self.port = self.origins.port = self.server.port
        self.server_thread = threading.Thread(target=self.thread_target, daemon=True, name="whmcs-mock")
        self.server_thread.start()

    def stop(self) -> None:
        """Stop serving: end the answers that are held back, and close every connection."""
        server, thread = self.server, self.server_thread
        if not isinstance(server, Listener) or thread is None:
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

    def wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request: by what is expected, or else by the API."""
        if response := self._expected(environ):
            return response(environ, start_response)
        if not is_endpoint(environ["PATH_INFO"]):
            # Told as pytest-httpserver tells it, but without what may hold a secret.
            bare = {**environ, "QUERY_STRING": "", "CONTENT_LENGTH": "0", "wsgi.input": BytesIO()}
            self.respond_nohandler(Request(bare))
            del self.assertions[:-100]
        return self.app(environ, start_response)

    def _expected(self, environ: WSGIEnvironment) -> Response | None:
        """Return what an expectation answers; None when none takes the request."""
        expected = self.ordered_handlers[:1] + self.oneshot_handlers + self.handlers
        if not expected:
            return None
        try:
            data = read_body(environ) if is_endpoint(environ["PATH_INFO"]) else Request(environ).get_data()
        except (Refused, OSError, HTTPException):
            return None  # the application refuses it too
        environ.update({"wsgi.input": BytesIO(data), "CONTENT_LENGTH": str(len(data))})
        request = Request(environ)
        request.get_data()
        environ["wsgi.input"].seek(0)  # to be read once more, here and by whom it is left to
        with contextlib.suppress(ValueError):  # a matcher wants JSON, and this is none
            if any(handler.matcher.match(request) for handler in expected):
                response = Response.from_app(Request.application(self.application), environ)
                environ["wsgi.input"].seek(0)
                self.app.stubbed(environ, response.status_code)
                return response
        return None
