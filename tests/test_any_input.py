"""No input makes the API answer 500 or HTML, raise, or hang: over a socket, or from any WSGI server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import Client
from wire import ENDPOINT, FORM, Answer, Connection, is_plain_line, multipart, post, request

from whmcs_mock import Ledger, MockServer, create_app, load_fixtures

FIXTURES = """
access: {addresses: [203.0.113.7], key: k}
credentials: [{identifier: i, secret: s}, {username: u, password: p, actions: []}]
clients: [{id: 1, credits: [{date: 2016-01-01, amount: 1}]}]
answers: [{action: Canned, params: {x: y}, result: {a: {b: [1]}}}]
admins: [1]
"""

words = st.sampled_from(
    [
        *(
            "action",
            "GetCredits",
            "AddCredit",
            "Canned",
            "responsetype",
            "json",
            "xml",
            "nvp",
            "clientid",
            "1",
            "-1",
            "1.00",
        ),
        *("identifier", "i", "secret", "s", "username", "u", "password", "accesskey", "k", "x", "y", "é"),
        *("amount", "date", "2016-01-01", "type", "remove", "adminid"),
        *("&", "=", ";", "[", "]", "[0]", "+", "%", "%00", "%ff", "%ud8"),
    ]
).map(str.encode)
forms = st.lists(words | st.binary(max_size=5), max_size=20).map(b"".join) | st.lists(
    st.tuples(words, words), max_size=8
).map(lambda pairs: b"&".join(b"=".join(pair) for pair in pairs))
header_bytes = st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])  # not allowed in headers
content_types = st.sampled_from(
    [FORM, f"{FORM};charset=utf-7", "multipart/form-data; boundary=b", "application/json", ""]
).map(str.encode) | st.binary(max_size=40).map(lambda data: data.translate(None, CONTROLS))
parts = st.lists(
    words | st.binary(max_size=8) | st.sampled_from([b"--b\r\n", b"--b--\r\n", b"\r\n\r\n", b"\r\n", b"; "])
    | st.sampled_from([b'Content-Disposition: form-data; name="', b'"', b"filename=", b"Content-Type: "]),
    max_size=25,
).map(b"".join)  # fmt: skip
bodies = forms | parts | st.binary(max_size=100)
quick = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module", params=["open", "secured"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Return the documented example, then a ledger that uses every section of a fixture file."""
    if request.param == "open":
        return load_fixtures()
    path = tmp_path_factory.mktemp("fixtures") / "all.yaml"
    path.write_text(FIXTURES)
    return load_fixtures(path)


@pytest.fixture(scope="module")
def server(ledger: Ledger) -> Iterator[MockServer]:
    """Start one server for all examples; with the secured ledger it has an expectation that checks each request."""
    with MockServer(ledger) as server:
        if ledger.access:
            server.expect_request("/never", json={"x": 1}).respond_with_data()
        yield server


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Assert what holds for every answer: no 500, no HTML, and a body that matches its content type."""
    assert status != 500, body
    kind = headers["content-type"].partition(";")[0]
    if kind == "application/json":
        json.loads(body)
    elif kind == "application/xml":
        ET.fromstring(body)
    else:
        assert kind == "text/plain"
        body.decode("utf-8")


def still_answers(server: MockServer) -> bool:
    """Return whether a plain call on a new connection gets an answer from the API."""
    answer = post(server, {"action": "GetCredits", "clientid": 1, "responsetype": "nvp"})
    return answer.body.startswith(b"result=")


# Over a socket.


@quick
@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"GET ", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b": "]), max_size=12
    )
)
def test_any_bytes(server: MockServer, pieces: list[bytes]) -> None:
    """Arbitrary bytes are answered in plain text or not at all."""
    with Connection(server) as connection:
        connection.send(b"".join(pieces))
        connection.end()
        while answer := connection.read():
            check(*answer)
    assert still_answers(server)


@quick
@given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"]), forms, content_types, bodies)
def test_any_parameters(server: MockServer, method: str, query: bytes, content_type: bytes, body: bytes) -> None:
    """A call with any query, content type and body is answered by the API, and the connection is kept."""
    target = ENDPOINT.encode() + b"?" + b"".join(b"%%%02x" % c if c < 0x21 or c == 0x23 else bytes([c]) for c in query)
    call = request(method, _token(target), body, b"Content-Type: " + content_type)
    with Connection(server) as connection:
        answer = connection.ask(call, head_only=method == "HEAD")
        check(*answer) if method != "HEAD" else None
        assert answer.status in {"GET": (200, 400, 403), "POST": (200, 400, 403), "PUT": (405,)}.get(
            method, (200, 400, 403)
        )
        assert connection.ask(request("OPTIONS")).status == 200


@quick
@given(st.lists(st.tuples(header_bytes, header_bytes), max_size=5), bodies)
def test_any_headers(server: MockServer, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """A request with arbitrary headers is answered; invalid headers are refused in plain text."""
    lines = [name + b": " + value for name, value in headers]
    with Connection(server) as connection:
        connection.send(request("POST", ENDPOINT, body, *lines, f"Content-Type: {FORM}"))
        connection.end()
        if answer := connection.read():
            check(*answer)
    assert still_answers(server)


@quick
@given(st.sampled_from([
    b"Host", b"Expect", b"Connection", b"Transfer-Encoding", b"Content-Length", b"Content-Encoding", b"Upgrade", b"Range",
    b"X-HTTP-Method-Override", b"Cookie", b"Authorization", b"If-None-Match", b"Accept", b"Accept-Encoding", b"Referer",
]), header_bytes)  # fmt: skip
def test_any_value_of_a_known_header(server: MockServer, name: bytes, value: bytes) -> None:
    """Any value of a known header is answered; an invalid value is refused in plain text."""
    with Connection(server) as connection:
        connection.send(request("POST", ENDPOINT, b"action=GetCredits", name + b": " + value, f"Content-Type: {FORM}"))
        connection.end()
        if answer := connection.read():
            check(*answer)
    assert still_answers(server)


@quick
@given(st.binary(max_size=60))
def test_any_path(server: MockServer, path: bytes) -> None:
    """Any path either leads to the API or returns 404."""
    with Connection(server) as connection:
        answer = connection.ask(request("GET", b"/" + _token(path)))
    check(*answer)
    assert answer.status == 404 or ENDPOINT.encode() in path


@quick
@given(
    st.sampled_from([ENDPOINT, "/hook"]),
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b"a\r\n", b"0\r\n", b"\r\n", b"clientid=1", b"ffffffff\r\n"]),
        max_size=10,
    ),
)
def test_any_chunks(server: MockServer, path: str, pieces: list[bytes]) -> None:
    """An arbitrary chunked body is answered by the API or refused in plain text."""
    head = request("POST", f"{path}?action=GetCredits", b"", f"Content-Type: {FORM}")
    with Connection(server) as connection:
        connection.send(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"".join(pieces))
        connection.end()
        while answer := connection.read():
            check(*answer)
    assert still_answers(server)


def _token(target: bytes) -> bytes:
    """Remove the bytes that a request target must not contain."""
    return target.translate(None, bytes([*range(0x21), 0x7F]))


# From any WSGI server.


class Ended(Exception):
    """An error that says, like those of gunicorn and others, that the body cannot be read."""


class Body(io.RawIOBase):
    """A body read in pieces, followed by an end or an exception; it counts the bytes read."""

    def __init__(self, data: bytes = b"", error: Exception | None = None) -> None:
        self.left, self.error, self.given = data, error, 0

    def read(self, size: int = -1) -> bytes:
        if not self.left and self.error:
            raise self.error
        part = self.left[: min(7 + self.given, size) if size >= 0 else None]
        self.left, self.given = self.left[len(part) :], self.given + len(part)
        return part


def call(app: Any, **environ: Any) -> Answer:
    """Call a WSGI application with a minimal environment, as in PEP 3333."""
    started: list[Any] = []
    whole = {"REQUEST_METHOD": "POST", "PATH_INFO": ENDPOINT, "CONTENT_TYPE": FORM, "wsgi.input": Body(), **environ}

    def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        started[:] = status, headers

    parts = app(whole, start_response)
    body = b"".join(parts)
    status, headers = started
    return Answer(int(status[:3]), {name.lower(): value for name, value in headers}, body)


BODY = b"action=GetCredits&clientid=1"


def test_body_in_pieces() -> None:
    """A body that arrives in pieces is read up to its Content-Length and no further."""
    body = Body(BODY + b"&clientid=2", AssertionError("read beyond the body"))
    answer = call(create_app(), CONTENT_LENGTH=str(len(BODY)), **{"wsgi.input": body})
    assert json.loads(answer.body)["result"] == "success"


def test_body_without_a_length() -> None:
    """A body without a length, such as a chunked one, is read to its end if the server marks it as terminated."""
    body = Body(BODY)
    answer = call(create_app(), **{"wsgi.input": body, "wsgi.input_terminated": True})
    assert json.loads(answer.body)["result"] == "success"
    assert body.left == b""


@pytest.mark.parametrize("length", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_body_without_a_length_or_end(length: dict[str, str]) -> None:
    """A body without a length is not read if it might never end."""
    body = Body(BODY, AssertionError("this blocks"))
    answer = call(create_app(), QUERY_STRING="action=GetCredits&clientid=1", **{"wsgi.input": body}, **length)
    assert json.loads(answer.body)["result"] == "success"
    assert body.given == 0


@pytest.mark.parametrize("error", [OSError("gone"), Ended("bad chunk"), ValueError("closed"), EOFError()], ids=repr)
@pytest.mark.parametrize("length", [{"CONTENT_LENGTH": "1000"}, {"wsgi.input_terminated": True}], ids=str)
def test_body_that_breaks_off(error: Exception, length: dict[str, Any]) -> None:
    """A body that cannot be read gets a 400 in one line of text, whichever exception the server raises."""
    answer = call(create_app(), **{"wsgi.input": Body(b"action=", error)}, **length)
    assert answer.status == 400
    assert is_plain_line(answer)


def test_body_that_ends_early() -> None:
    """A body shorter than its Content-Length gets a 400, and is not treated as a call."""
    body = Body(b"action=AddCredit&clientid=1&amount=10")
    answer = call(create_app(), CONTENT_LENGTH="40", **{"wsgi.input": body})
    assert answer.status == 400
    assert is_plain_line(answer)


@pytest.mark.parametrize("length", ["-1", "five", "1.0", "\u0661", "+1", " ", "1,1", "0x1"])
def test_content_length_that_is_no_number(length: str) -> None:
    """An invalid Content-Length gets a 400 in one line of text."""
    answer = call(create_app(), CONTENT_LENGTH=length, **{"wsgi.input": Body(BODY)})
    assert answer.status == 400
    assert is_plain_line(answer)


@pytest.mark.parametrize(
    "length",
    [{"CONTENT_LENGTH": str(1024 * 1024 + 1)}, {"CONTENT_LENGTH": "9" * 5000}, {"wsgi.input_terminated": True}],
)
def test_body_too_large(length: dict[str, Any]) -> None:
    """A body over 1 MiB gets a 413, and is not read to its end."""
    body = Body(b"x" * (2 * 1024 * 1024))
    answer = call(create_app(), **{"wsgi.input": body}, **length)
    assert answer.status == 413
    assert body.given <= 1024 * 1024 + 1


@pytest.mark.parametrize(
    ("script", "path", "status"),
    [
        ("", ENDPOINT, 200),
        ("/billing", ENDPOINT, 200),
        (ENDPOINT, "", 200),
        ("/includes", "/api.php", 200),
        ("", "/billing" + ENDPOINT, 200),
        ("/billing", "/", 404),
        ("", "", 404),
        (ENDPOINT, "/", 404),
        ("", "/\xff", 404),
    ],
)
def test_mounted(script: str, path: str, status: int) -> None:
    """The application can be mounted anywhere, as long as the full path ends in the path of the API."""
    environ = {"SCRIPT_NAME": script, "PATH_INFO": path, "QUERY_STRING": "action=GetCredits&clientid=1"}
    answer = call(create_app(), REQUEST_METHOD="GET", **environ)
    assert answer.status == status
    check(*answer)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_address(tmp_path: Any, address: str, told: str) -> None:
    """The error for a forbidden address shows it in compressed form, or as IPv4 if it is mapped."""
    path = tmp_path / "access.yaml"
    path.write_text("access: {addresses: ['2001:DB8:0::7', 203.0.113.7]}\nclients: [{id: 1}]")
    app = create_app(path)
    answer = call(app, REMOTE_ADDR=address)
    assert (answer.status, json.loads(answer.body)["message"]) == (403, f"Invalid IP {told}")
    for allowed in ("2001:db8::7", "2001:0db8::0007", "::ffff:203.0.113.7"):
        assert call(app, REMOTE_ADDR=allowed).status == 400


@quick
@given(
    st.fixed_dictionaries(
        {"REQUEST_METHOD": st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", ""]) | st.text(max_size=5)},
        optional={
            "SCRIPT_NAME": st.text(st.characters(max_codepoint=255), max_size=9),
            "PATH_INFO": st.sampled_from([ENDPOINT, "//a" + ENDPOINT])
            | st.text(st.characters(max_codepoint=255), max_size=9),
            "QUERY_STRING": forms.map(lambda data: data.decode("latin-1")) | st.text(max_size=20),
            "CONTENT_TYPE": content_types.map(lambda data: data.decode("latin-1")) | st.text(max_size=20),
            "CONTENT_LENGTH": st.integers(-5, 200).map(str) | st.text(max_size=5),
            "REMOTE_ADDR": st.ip_addresses().map(str) | st.text(max_size=20),
            "HTTP_HOST": st.text(max_size=20),
            "wsgi.input_terminated": st.booleans(),
            "wsgi.input": st.builds(Body, bodies, st.sampled_from([None, OSError(), Ended(), ValueError()])),
        },
    )
)
def test_any_environment(ledger: Ledger, environ: dict[str, Any]) -> None:
    """Any WSGI environment is answered, and the application never raises."""
    answer = call(create_app(ledger), **environ)
    if environ["REQUEST_METHOD"] != "HEAD":
        if not answer.headers["content-type"].startswith("text/html"):  # the page
            check(*answer)
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", [ENDPOINT, "/"])
def test_wsgi_rules(method: str, path: str) -> None:
    """The application passes the WSGI validator of the standard library."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "action=GetCredits&clientid=1"}
    environ |= {
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": "3",
        "wsgi.input": io.BytesIO(b"a=b"),
        "REMOTE_ADDR": "127.0.0.1",
    }
    parts: Any = validator(create_app())(environ, lambda *_args: lambda _data: None)
    body = b"".join(parts)
    parts.close()
    assert bool(body) == (method != "HEAD")


@pytest.mark.parametrize("profile", ["documented", "live"])
def test_werkzeugs_test_client(profile: str) -> None:
    """Werkzeug's test client gets the same answers as a client of the server."""
    client = Client(create_app(profile=profile))
    data, content_type = multipart(action="GetCredits", clientid="1", responsetype="json")
    with MockServer(profile=profile) as server:
        expected = post(server, data, content_type=content_type).body
    form = {"action": "GetCredits", "clientid": "1", "responsetype": "json"}
    assert client.get(ENDPOINT, query_string=form).data == expected
    assert client.post(ENDPOINT, data=form).data == expected
    assert client.post(ENDPOINT, data=data, content_type=content_type).data == expected
    assert client.post(ENDPOINT, data=form, base_url="http://localhost/billing").data == expected
    assert client.post(ENDPOINT, json=form).status_code == 400
    assert client.get("/elsewhere").status_code == 404
