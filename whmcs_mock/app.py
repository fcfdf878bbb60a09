"""Speak HTTP for the API: parameters out of a request, a response out of an answer, as a WSGI application."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from whmcs_mock import api
from whmcs_mock.faults import Fault, Faults, Reply, ResetConnection
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.formats import CONTENT_TYPES, response_type, written
from whmcs_mock.journal import Call, Journal, is_secret, redactor
from whmcs_mock.model import Books, Ledger, Profile, checked_profile

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["ENDPOINT", "MAX_BODY", "PLAIN", "App", "Refused", "Setup", "create_app", "is_endpoint", "read_body"]

ENDPOINT = "/includes/api.php"
MAX_BODY = 1024 * 1024  # bytes
PLAIN = "text/plain; charset=utf-8"

_METHODS = "GET, POST, HEAD, OPTIONS"
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_REASONS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


@dataclass(slots=True)
class Setup:
    """Hold all that a reset replaces: what there is to tell, how, what goes wrong, and what was asked."""

    books: Books
    profile: Profile
    name: str = ""  # whose setup this is: a test's
    actions: dict[str, api.Action] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    journal: Journal = field(default_factory=Journal)
    secrets: set[str] = field(default_factory=set)

    def learn_secrets(self, ledger: Ledger) -> None:
        """Let the journal redact the secrets of a ledger, wherever they stand."""
        for one in ledger.credentials:
            self.secrets |= {one.secret, one.wire_secret}
        if ledger.access and ledger.access.key:
            self.secrets.add(ledger.access.key)


@dataclass(frozen=True, slots=True)
class _Request:
    """Hold what the API sees of an HTTP request."""

    method: str
    path: str
    address: str
    query: Mapping[str, str]
    params: Mapping[str, str]
    unread: str = ""  # the type of a body that holds no parameters


class Refused(Exception):
    """Answer below the API: one line of text; ``unread`` when the body is left where it is."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str], unread: bool = False) -> None:
        super().__init__(text)
        self.unread = unread
        self.reply = Reply(status, PLAIN, f"{text}\n".encode(), headers)


class App:
    """Answer WHMCS API calls: a WSGI application for any server.

    Args:
        ledger: What there is to tell.
        profile: ``documented`` or ``live``.
        on_call: Called with each ``Call`` before its answer is sent.
        on_error: Called with an exception that is nobody's answer, such as one out of a function given
            to ``server.action``.
    """

    def __init__(
        self,
        ledger: Ledger,
        profile: str = "documented",
        *,
        on_call: Callable[[Call], None] | None = None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._on_call = on_call
        self._on_error = on_error
        self.setup = _setup(ledger, profile, "")

    def reset(self, ledger: Ledger, profile: str, name: str = "") -> None:
        """Begin anew with a ledger; calls that are still being answered keep what they began with."""
        before, self.setup = self.setup, _setup(ledger, profile, name)
        before.faults.end()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        reply = self.respond(environ)
        length = len(reply.body) if reply.length is None else reply.length
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(length)), *reply.headers]
        bodiless = reply.status in (204, 304)
        start_response(_REASONS.get(reply.status) or f"{reply.status} -", [*reply.headers] if bodiless else headers)
        return [] if bodiless or environ["REQUEST_METHOD"] == "HEAD" else [reply.body]

    def respond(self, environ: MutableMapping[str, Any]) -> Reply:
        """Return the response to one request, and record the call.

        Raises:
            ResetConnection: A fault wants no answer but a reset of the connection.
        """
        setup, begun = self.setup, (datetime.now(), time.perf_counter())
        request, kind = _head(environ), ""
        reply: Reply | None = None
        try:
            request = _read(environ, request)
            kind = response_type(request.params.get("responsetype", ""), setup.profile)
            answer, reply = _answered(setup, request, kind, setup.faults.take())
        except Refused as refusal:
            reply = refusal.reply
            environ["whmcs_mock.unread"] = refusal.unread
            answer = api.Answer({}, reply.status, str(refusal))
        except ResetConnection:
            answer, kind = api.Answer({}, 0, "fail_next: reset"), ""
        except BaseException as error:  # pytest.fail() in a function is no Exception
            if self._on_error is None:
                raise
            setup.secrets |= {value for key, value in request.params.items() if value and is_secret(key)}
            self._on_error(error)
            text = f"whmcs-mock: the function for {request.params.get('action')} raised {error!r}"
            text = redactor(request.params, setup.secrets)(text)
            reply, kind = Refused(500, text).reply, ""
            answer = api.Answer({}, 500, text)
        self._record(environ, setup, request, answer, kind, begun)
        if reply is None:
            raise ResetConnection
        return reply

    def stubbed(self, environ: MutableMapping[str, Any], status: int) -> None:
        """Record a call that an expectation of pytest-httpserver answered."""
        setup, begun = self.setup, (datetime.now(), time.perf_counter())
        request = _head(environ)
        with contextlib.suppress(Refused):  # not the API's
            request = _read(environ, request)
        self._record(environ, setup, request, api.Answer({}, status, "answered by expect_request"), "", begun)

    def _record(
        self,
        environ: Mapping[str, Any],
        setup: Setup,
        request: _Request,
        answer: api.Answer,
        kind: str,
        begun: tuple[datetime, float],
    ) -> None:
        redact = redactor(request.params, setup.secrets)
        sent = {redact(key): redact(value) for key, value in request.params.items()}
        call = Call(
            action=sent.get("action", ""),
            clientid=sent.get("clientid"),
            params=sent,
            result=str(answer.body.get("result", "")),
            message=redact(str(answer.body.get("message", ""))),
            status=answer.status,
            response_type=kind,
            duration=time.perf_counter() - begun[1],
            why=redact(answer.why),
            advice=_advice(request) if is_endpoint(request.path) else (),
            method=request.method,
            path=redact(request.path),
            time=begun[0],
            late=_late(setup, self.setup, environ),
        )
        setup.journal.add(call)
        if setup is not self.setup:
            self.setup.journal.late.append(call)
        if self._on_call is not None:
            self._on_call(call)


def create_app(*paths: str | os.PathLike[str] | Ledger, profile: str = "documented") -> App:
    """Make a WSGI application of fixture files, for ``gunicorn`` and its like.

    Args:
        paths: Files and folders as for ``load_fixtures``, or one ready ``Ledger``.
        profile: ``documented`` or ``live``.

    Raises:
        FixtureError: Something is wrong in the files.
        ValueError: There is no such profile.
    """
    if len(paths) == 1 and isinstance(paths[0], Ledger):
        return App(paths[0], profile)
    return App(load_fixtures(*paths), profile)  # type: ignore[arg-type]  # a Ledger among paths is told as such


def is_endpoint(path: str) -> bool:
    """Tell whether a path is that of the API, below whatever base path."""
    return path.endswith(ENDPOINT)


def _setup(ledger: Ledger, profile: str, name: str) -> Setup:
    if not isinstance(ledger, Ledger):
        raise TypeError(f"a Ledger is wanted, such as load_fixtures(...) returns, not {ledger!r}")
    setup = Setup(Books(ledger), checked_profile(profile), name)
    setup.learn_secrets(ledger)
    return setup


def _answered(setup: Setup, request: _Request, kind: str, fault: Fault | None) -> tuple[api.Answer, Reply]:
    params, address = request.params, request.address
    answer = fault.answer(params, address) if fault else None
    reply = None
    if fault and not answer and (reply := fault.page()):
        answer = api.Answer({})
    if answer is None:
        answer = api.answer(params, address, setup.books, setup.actions)
    if fault:
        answer = fault.told(answer, kind)
    if reply is None:
        body = written(answer.body, kind, setup.profile, params.get("action", ""))
        reply = Reply(answer.status, CONTENT_TYPES[kind], body)
    if fault:
        if fault.name == "slow":
            setup.faults.sleep(fault.seconds)
        reply = fault.spoiled(reply)
        because = f"; {answer.why}" if answer.why else ""
        answer = api.Answer(answer.body, reply.status, f"fail_next: {fault}{because}")
    return answer, reply


# Requests: what the API sees of them.


def _head(environ: Mapping[str, Any]) -> _Request:
    path = _text(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
    return _Request(environ["REQUEST_METHOD"], path, environ.get("REMOTE_ADDR") or "", {}, {})


def _read(environ: MutableMapping[str, Any], request: _Request) -> _Request:
    """Read the parameters of a request for the API; refuse any other."""
    if not is_endpoint(request.path):
        raise Refused(404, f"Not found: the WHMCS API is at {ENDPOINT} (or any path that ends so)")
    if request.method == "OPTIONS":
        raise Refused(200, f"The WHMCS API takes {_METHODS}", ("Allow", _METHODS))
    if request.method not in ("GET", "POST", "HEAD"):
        raise Refused(405, f"Method not allowed: the WHMCS API takes {_METHODS}", ("Allow", _METHODS))
    query = _form(_bytes(environ.get("QUERY_STRING", "")))
    body = read_body(environ)
    content_type = environ.get("CONTENT_TYPE", "")
    media_type = content_type.partition(";")[0].strip().lower()
    sent: dict[str, str] = {}
    if request.method == "POST" and media_type in (_FORM, _MULTIPART):
        sent = _form(body) if media_type == _FORM else _multipart(body, content_type)
    looks_json = body.lstrip()[:1] in (b"{", b"[")
    unread = "JSON" if looks_json else media_type or "of no type" if body and not sent else ""
    return replace(request, query=query, params={**query, **sent}, unread=unread)


def read_body(environ: Mapping[str, Any]) -> bytes:
    """Read the body of a request; ``Refused`` when it is too large or breaks off."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length and not (length.isascii() and length.isdigit()):
        raise Refused(400, "Bad request: Content-Length is no number", unread=True)
    ends = not length and environ.get("wsgi.input_terminated")
    wanted = MAX_BODY + 1 if ends else int(length.lstrip("0")[:19] or 0)  # more digits are too much as well
    body = bytearray()
    if ends or wanted <= MAX_BODY:
        try:
            while len(body) < wanted and (part := environ["wsgi.input"].read(wanted - len(body))):
                body += part
        except Exception:  # noqa: BLE001  # each WSGI server has its own
            ends = False
        if not ends and len(body) < wanted:
            raise Refused(400, "Bad request: the body breaks off", unread=True)
        wanted = len(body)
    if wanted > MAX_BODY:
        raise Refused(413, f"Content too large: a call has at most {MAX_BODY} bytes", unread=True)
    return bytes(body)


def _form(data: bytes) -> dict[str, str]:
    """Read a urlencoded form; of a parameter given twice the last counts, as in PHP."""
    return dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"))


def _multipart(data: bytes, content_type: str) -> dict[str, str]:
    from werkzeug.formparser import FormDataParser
    from werkzeug.http import parse_options_header

    options = parse_options_header(content_type)[1]
    parser = FormDataParser(stream_factory=lambda *_args, **_kwargs: BytesIO())
    form = parser.parse(BytesIO(data), _MULTIPART, len(data), options)[1]
    return {name: value for name, value in form.items(multi=True) if name}


def _bytes(text: str) -> bytes:
    return text.encode("latin-1", "replace")  # WSGI carries bytes as latin-1


def _text(text: str) -> str:
    return _bytes(text).decode("utf-8", "replace")


# What the journal says of a request beside its answer.


def _advice(request: _Request) -> tuple[str, ...]:
    advice = []
    secrets = [key for key in ("secret", "password", "accesskey") if request.query.get(key)]
    if secrets:
        advice.append(f"{' and '.join(secrets)} came in the query string, where servers log it; send it in the body")
    if request.unread:
        advice.append(f"the body is {request.unread}, which WHMCS does not read; send a form ({_FORM})")
    if not request.params.get("responsetype"):
        advice.append("no responsetype was sent, for which a real WHMCS may answer NVP; send responsetype=json")
    elif request.params["responsetype"].lower() not in CONTENT_TYPES:
        advice.append("the responsetype is unknown to WHMCS; send json, xml or nvp")
    given = [key for key in ("identifier", "secret", "username", "password") if request.params.get(key)]
    if not given:
        advice.append("no credentials were sent, which a real WHMCS refuses; send identifier and secret")
    elif len(given) == 1:
        advice.append(f"of the credentials only {given[0]} was sent, which a real WHMCS refuses; send both of the pair")
    clientid = request.params.get("clientid")
    if clientid is not None and api.parse_clientid(clientid) is None:
        advice.append("clientid is no whole number; send one such as 1")
    return tuple(advice)


def _late(setup: Setup, now: Setup, environ: Mapping[str, Any]) -> str:
    opened = environ.get("whmcs_mock.opened", setup)
    if setup is not now:
        return f"late: it began in {setup.name or 'an earlier test'}"
    if origin := environ.get("whmcs_mock.origin"):
        return f"late? it comes from a thread that {origin} started"
    if opened is not setup:
        return f"late? its connection was opened in {opened.name or 'an earlier test, or before the first'}"
    return ""
