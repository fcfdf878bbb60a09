"""No input makes the API answer 500 or HTML, raise, or stop answering: from a socket, and from any WSGI server."""

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
CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])  # which no header may hold
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
    """Give the documented example, and a ledger with everything a fixture file can say."""
    if request.param == "open":
        return load_fixtures()
    path = tmp_path_factory.mktemp("fixtures") / "all.yaml"
    path.write_text(FIXTURES)
    return load_fixtures(path)


@pytest.fixture(scope="module")
def server(ledger: Ledger) -> Iterator[MockServer]:
    """Give one server for all examples; beside the secured API it has an expectation that looks at each request."""
    with MockServer(ledger) as server:
        if ledger.access:
            server.expect_request("/never", json={"x": 1}).respond_with_data()
        yield server


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Hold what is true of every answer: no 500, no HTML, and readable in its own content type."""
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
    """Tell whether a plain call on a new connection gets an answer of the API."""
    answer = post(server, {"action": "GetCredits", "clientid": 1, "responsetype": "nvp"})
    return answer.body.startswith(b"result=")


# From a socket.


@quick
@given(
    st.lists(
        st.binary(max_size=60) | st.sampled_from([b"GET ", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b": "]), max_size=12
    )
)
def test_any_bytes(server: MockServer, pieces: list[bytes]) -> None:
    """Bytes that are hardly HTTP are answered in plain text or not at all."""
    with Connection(server) as connection:
        connection.send(b"".join(pieces))
        connection.end()
        while answer := connection.read():
            check(*answer)
    assert still_answers(server)


@quick
@given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"]), forms, content_types, bodies)
def test_any_parameters(server: MockServer, method: str, query: bytes, content_type: bytes, body: bytes) -> None:
    """Any query, content type and body is answered by the API, on a connection that goes on."""
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
    """Any header is answered, in plain text when it is none."""
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
    """Any value of a header that means something is answered, in plain text when it makes no sense."""
    with Connection(server) as connection:
        connection.send(request("POST", ENDPOINT, b"action=GetCredits", name + b": " + value, f"Content-Type: {FORM}"))
        connection.end()
        if answer := connection.read():
            check(*answer)
    assert still_answers(server)


@quick
@given(st.binary(max_size=60))
def test_any_path(server: MockServer, path: bytes) -> None:
    """Any path is the API's or 404."""
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
    """Anything where a chunked body should be is answered by the API or refused in plain text."""
    head = request("POST", f"{path}?action=GetCredits", b"", f"Content-Type: {FORM}")
    with Connection(server) as connection:
        connection.send(head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"".join(pieces))
        connection.end()
        while answer := connection.read():
            check(*answer)
    assert still_answers(server)


def _token(target: bytes) -> bytes:
    """Leave out what a target cannot hold."""
    return target.translate(None, bytes([*range(0x21), 0x7F]))


# From any WSGI server.


class Ended(Exception):
    """Say, as gunicorn and others do with exceptions of their own, that the body cannot be read."""


class Body(io.RawIOBase):
    """Give a body in pieces, then an end or an exception; count what was asked for."""

    def __init__(self, data: bytes = b"", error: Exception | None = None) -> None:
        self.left, self.error, self.given = data, error, 0

    def read(self, size: int = -1) -> bytes:
        if not self.left and self.error:
            raise self.error
        part = self.left[: min(7 + self.given, size) if size >= 0 else None]
        self.left, self.given = self.left[len(part) :], self.given + len(part)
        return part


def call(app: Any, **environ: Any) -> Answer:
    """Call a WSGI application with a minimal environment, as PEP 3333 has it."""
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
    """A body that comes in pieces is read to its Content-Length, and not beyond."""
    body = Body(BODY + b"&clientid=2", AssertionError("read beyond the body"))
    answer = call(create_app(), CONTENT_LENGTH=str(len(BODY)), **{"wsgi.input": body})
    assert json.loads(answer.body)["result"] == "success"


def test_body_without_a_length() -> None:
    """A body without a length is read to its end when the server says that it has one, as for chunks."""
    body = Body(BODY)
    answer = call(create_app(), **{"wsgi.input": body, "wsgi.input_terminated": True})
    assert json.loads(answer.body)["result"] == "success"
    assert body.left == b""


@pytest.mark.parametrize("length", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_body_without_a_length_or_end(length: dict[str, str]) -> None:
    """Without a length a body is not read, since reading it might never end."""
    body = Body(BODY, AssertionError("this blocks"))
    answer = call(create_app(), QUERY_STRING="action=GetCredits&clientid=1", **{"wsgi.input": body}, **length)
    assert json.loads(answer.body)["result"] == "success"
    assert body.given == 0


@pytest.mark.parametrize("error", [OSError("gone"), Ended("bad chunk"), ValueError("closed"), EOFError()], ids=repr)
@pytest.mark.parametrize("length", [{"CONTENT_LENGTH": "1000"}, {"wsgi.input_terminated": True}], ids=str)
def test_body_that_breaks_off(error: Exception, length: dict[str, Any]) -> None:
    """A body that cannot be read is 400 in one line of text, whatever the server's own exception for it is."""
    answer = call(create_app(), **{"wsgi.input": Body(b"action=", error)}, **length)
    assert answer.status == 400
    assert is_plain_line(answer)


def test_body_that_ends_early() -> None:
    """A body that is shorter than its Content-Length is 400, not half a call."""
    body = Body(b"action=AddCredit&clientid=1&amount=10")
    answer = call(create_app(), CONTENT_LENGTH="40", **{"wsgi.input": body})
    assert answer.status == 400
    assert is_plain_line(answer)


@pytest.mark.parametrize("length", ["-1", "five", "1.0", "\u0661", "+1", " ", "1,1", "0x1"])
def test_content_length_that_is_no_number(length: str) -> None:
    """A Content-Length that is no number of bytes is 400 in one line of text."""
    answer = call(create_app(), CONTENT_LENGTH=length, **{"wsgi.input": Body(BODY)})
    assert answer.status == 400
    assert is_plain_line(answer)


@pytest.mark.parametrize(
    "length",
    [{"CONTENT_LENGTH": str(1024 * 1024 + 1)}, {"CONTENT_LENGTH": "9" * 5000}, {"wsgi.input_terminated": True}],
)
def test_body_too_large(length: dict[str, Any]) -> None:
    """A body over 1 MiB is 413, and not read to its end."""
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
    """The application may be mounted anywhere, as long as the whole path ends in the API's."""
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
    """The message to an address that is not allowed tells it in its short form, without a colon before it."""
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
    """Any environment a server may give is answered, and no exception leaves the application."""
    answer = call(create_app(ledger), **environ)
    if environ["REQUEST_METHOD"] != "HEAD":
        if not answer.headers["content-type"].startswith("text/html"):  # the page
            check(*answer)
        assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", [ENDPOINT, "/"])
def test_wsgi_rules(method: str, path: str) -> None:
    """The standard library's validator finds nothing in the application to complain about."""
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
    """Werkzeug's test client gets from the application what a socket gets from the server."""
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
