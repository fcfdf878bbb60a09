"""Answer requests: calls to the API, which are recorded in the journal of their world, and control requests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from whmcs_mock import api, faults
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.formats import CONTENT_TYPES, FLAT_ACTIONS, LIVE_HEADERS, encode, parse_response_type
from whmcs_mock.journal import Call
from whmcs_mock.ledger import Client, Ledger, Profile
from whmcs_mock.redaction import redactor, secrets_of
from whmcs_mock.request import MAX_BODY, MAX_POST, Request, is_control, is_steering
from whmcs_mock.response import Answer, HTTPError, Response, status_line
from whmcs_mock.world import World, Worlds

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_PREPARED = 64 * 1024 * 1024  # bytes of prepared answers to keep


class App:
    """Answer WHMCS API calls; also a WSGI application, for any server.

    Args:
        ledger: The fixtures.
        profile: ``documented`` or ``live``.
        on_call: Called with each ``Call`` before its answer is sent.
        on_error: Called with an unexpected exception, such as one raised by a function registered
            by ``server.action``.
        on_event: Called with a line about other events, such as a refused request.
        steerable: Whether to serve the control API and the page.
    """

    def __init__(
        self,
        ledger: Ledger,
        profile: str = "documented",
        *,
        on_call: Callable[[Call], None] | None = None,
        on_error: Callable[[BaseException], None] | None = None,
        on_event: Callable[[str], None] = lambda _text: None,
        steerable: bool = True,
    ) -> None:
        self.on_event = on_event
        self.steerable = steerable
        self.problems: tuple[str, ...] = ()  # of the last reload
        self.facts: dict[str, Any] = {}  # further entries of health
        self.worlds = Worlds(ledger, profile)
        self._on_call = on_call
        self._on_error = on_error
        self._prepared: dict[tuple[int, str, str], tuple[Client, bytes]] = {}  # written answers of unchanged logs
        self._prepared_size = 0  # bytes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request of a WSGI server."""
        try:
            request = self._from_environ(environ)
            response = self.respond(request)
        except HTTPError as error:
            response = self.refuse(_path(environ), error.response)
        if response.delay and response.released:
            response.released.wait(response.delay)
        if response.finish:
            response.finish(True)
        if not response.status:
            raise ConnectionResetError("a fault resets this connection")
        length = len(response.body) if response.length is None else response.length
        headers = [*response.headers, ("Content-Length", str(length))] if response.has_body else response.headers
        start_response(status_line(response.status), [*headers])
        return [response.body] if response.has_body and environ["REQUEST_METHOD"] != "HEAD" else []

    def respond(self, request: Request, *, steerable: bool = True) -> Response:
        """Return the response to one request; its ``finish`` records whether it was sent."""
        try:
            world, path = self.worlds.find(request.path)
        except HTTPError as error:
            return self.refuse(request.path, error.response)
        if steerable and self.steerable and is_control(path):
            from whmcs_mock import control

            return control.respond(self, world, request, path)
        return self._respond_call(world, request, path)

    def _respond_call(self, world: World, request: Request, path: str) -> Response:
        refusal = None
        try:
            request.read_params()
        except HTTPError as error:
            refusal = error.response
        call = self._record(world, request, path)
        try:
            response = refusal or self._answer(world, request)
        except BaseException as error:  # noqa: BLE001  # pytest.fail() in a function raises no Exception
            response = self._failed(world, request, error)
        self._finish(world, call, response)
        return response

    def refuse(self, path: str, response: Response) -> Response:
        """Return a refusal, as a JSON error if the path belongs to the control API."""
        if not (self.steerable and is_steering(path)):
            return response
        from whmcs_mock import control

        return control.refuse(response)

    def body_limit(self, path: str) -> int:
        """Return the maximum size in bytes of the body of a request to a path."""
        return MAX_POST if self.steerable and is_steering(path) else MAX_BODY

    def _from_environ(self, environ: dict[str, Any]) -> Request:
        """Return the request described by a WSGI environment."""
        from werkzeug.datastructures import EnvironHeaders

        headers = {name.lower(): str(value) for name, value in EnvironHeaders(environ)}
        path = _path(environ)
        return Request(
            method=environ["REQUEST_METHOD"],
            path=path,
            query_string=_bytes(environ.get("QUERY_STRING", "")),
            headers=headers,
            body=_read_body(environ, self.body_limit(path)),
            address=environ.get("REMOTE_ADDR") or "",
            secure=environ.get("wsgi.url_scheme") == "https",
            server=environ.get("SERVER_NAME") or "",
        )

    def respond_expected(self, world: World, request: Request, path: str, answer: Callable[[], Response]) -> Response:
        """Record a request that an expectation of pytest-httpserver answers, and return its answer."""
        with contextlib.suppress(HTTPError):  # not a request to the API
            request.read_params()
        call = self._record(world, request, path)
        response = answer()
        self._finish(world, call, response)
        return response

    def _record(self, world: World, request: Request, path: str) -> Call:
        call = Call(request, world.store, path)
        world.journal.add(call)
        if path is not request.path:
            self.worlds.record_late(world.name, call)
        return call

    def _finish(self, world: World, call: Call, response: Response) -> None:
        def finish(sent: bool) -> None:  # noqa: FBT001  # by position, from the listener
            again = call.is_answered
            world.journal.complete(call, response, sent=sent)
            if self._on_call is not None and not again:
                self._on_call(call)

        response.finish = finish
        if response.delay:
            response.released = world.faults.released
            world.journal.hold(call, f"slow, {response.delay:g} s")

    def _answer(self, world: World, request: Request) -> Response:
        params, profile = request.params, world.profile
        response_type = parse_response_type(params.get("responsetype", ""), profile)

        def write(answer: Answer) -> Response:
            return self._write(answer, response_type, profile, params.get("action", ""))

        def right() -> Response:
            return write(api.answer(params, request.address, world.store, world.actions))

        rule = world.faults.take(params) if world.faults else None
        if rule is None:
            return right()
        return faults.apply(rule, faults.Asked(params, request.address, response_type, right, write))

    def _write(self, answer: Answer, response_type: str, profile: Profile, action: str) -> Response:
        page = answer.page
        documented = profile == "documented" and response_type == "json"
        if answer.client is not None:
            body = self._write_log(answer.client, response_type, profile)
        elif page and documented and answer.body is page.example:
            body = page.block.encode()
        else:
            body = encode(answer.body, response_type, profile, action, flat=page.flat if page else None)
        flat = (
            documented and (page.flat if page else action.lower() in FLAT_ACTIONS) and answer.text("result") != "error"
        )
        headers = [("Content-Type", CONTENT_TYPES[response_type])]
        if profile == "live":
            headers += LIVE_HEADERS
        return Response(answer.status, headers, body, answer, why=answer.why, flat=flat, type=response_type)

    def _write_log(self, client: Client, response_type: str, profile: Profile) -> bytes:
        """Return the answer of GetCredits for a client; a client whose log has changed is a new object."""
        key = (id(client), response_type, profile)
        if found := self._prepared.get(key):
            return found[1]
        body = encode(api.credit_log(client), response_type, profile, "getcredits")
        if len(body) <= _PREPARED:
            self._prepared_size += len(body)
            if self._prepared_size > _PREPARED or len(self._prepared) >= 10_000:
                self._prepared, self._prepared_size = {}, len(body)
            self._prepared[key] = client, body  # keeping the client ensures that no other object gets its id()
        return body

    def _failed(self, world: World, request: Request, error: BaseException) -> Response:
        if self._on_error is None:
            raise error
        text = f"whmcs-mock: the function for {request.params.get('action')} raised {error!r}"
        response = error_response(world, request, text)
        if world is self.worlds[self.worlds.current]:  # an error of an earlier test does not concern the current one
            self._on_error(error)
        return response


def error_response(world: World, request: Request, text: str) -> Response:
    """Return the response for an exception; from now on, the secrets of the request are redacted in the whole world."""
    world.store.secrets |= secrets_of(request.params)
    return Response.plain(500, redactor(world.store.secrets)(text))


def create_app(*paths: str | os.PathLike[str] | Ledger, profile: str = "documented") -> App:
    """Return a WSGI application that serves fixture files, for ``gunicorn`` and similar.

    Args:
        paths: Files and folders as for ``load_fixtures``, or a single ``Ledger``.
        profile: ``documented`` or ``live``.

    Raises:
        FixtureError: Something is wrong in the files.
        ValueError: There is no such profile.
    """
    if len(paths) == 1 and isinstance(paths[0], Ledger):
        return App(paths[0], profile)
    return App(load_fixtures(*paths), profile)  # type: ignore[arg-type]  # a Ledger among paths raises an error that says so


def _path(environ: Mapping[str, Any]) -> str:
    return _bytes(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).decode("utf-8", "replace")


def _read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    length = environ.get("CONTENT_LENGTH") or ""
    if length and not (length.isascii() and length.isdigit()):
        raise HTTPError(400, "Bad request: Content-Length is not a number")
    ends = not length and environ.get("wsgi.input_terminated")
    wanted = limit + 1 if ends else int(length.lstrip("0")[:19] or 0)  # more digits are too large as well
    body = bytearray()
    if ends or wanted <= limit:
        try:
            while len(body) < wanted and (part := environ["wsgi.input"].read(wanted - len(body))):
                body += part
        except Exception:  # noqa: BLE001  # each WSGI server has its own
            ends = False
        if not ends and len(body) < wanted:
            raise HTTPError(400, "Bad request: the body is incomplete")
        wanted = len(body)
    if wanted > limit:
        raise HTTPError(413, f"Content too large: a request may have at most {limit} bytes")
    return bytes(body)


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")  # WSGI carries bytes as latin-1
