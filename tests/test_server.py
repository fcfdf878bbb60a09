"""The server: sockets and threads, HTTP/1.1, TLS, and the API of pytest-httpserver."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from pytest_httpserver import HTTPServerError
from werkzeug import Request, Response

from whmcs_mock import AddressInUseError, Client, Credit, Ledger, ListenError, MockServer

MAX_BODY = 1024 * 1024
NOT_FOUND = b'{\n    "result": "error",\n    "message": "Client ID Not Found"\n}'
ASK = b"action=GetCredits&clientid=9&responsetype=json"
FORM = b"Host: whmcs.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"
POST = b"POST /includes/api.php HTTP/1.1\r\n" + FORM
GET = b"GET /includes/api.php?action=GetCredits&clientid=9 HTTP/1.1\r\nHost: whmcs.example\r\n"
CLOSE = b"Connection: close\r\n"


def posted(body: bytes, more: bytes = b"", start: bytes = POST) -> bytes:
    return b"%s%sContent-Length: %d\r\n\r\n%s" % (start, more, len(body), body)


def chunked(*chunks: bytes, trailer: bytes = b"", more: bytes = b"") -> bytes:
    return b"".join([POST, more, b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n", trailer, b"\r\n"])


@contextlib.contextmanager
def connected(server: MockServer) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        yield connection


class Answer(http.client.HTTPResponse):
    """The next answer on a connection, which may be kept alive."""

    def __init__(self, connection: socket.socket, method: str = "POST") -> None:
        super().__init__(connection, method=method)
        self.begin()
        self.body = self.read()


def whole(server: MockServer, sent: bytes) -> bytes:
    """Close the sending side, and return everything the server sends until it closes the connection."""
    with connected(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def first(server: MockServer, sent: bytes) -> Answer:
    with connected(server) as connection:
        connection.sendall(sent)
        return Answer(connection)


@pytest.fixture
def server() -> Iterator[MockServer]:
    """Serve the documented example."""
    with MockServer() as server:
        yield server


# Start and stop.


def test_start() -> None:
    """start() returns once the server listens on a free port of 127.0.0.1; after stop() it no longer listens."""
    server = MockServer()
    server.start()
    port = server.port
    assert first(server, posted(ASK)).body == NOT_FOUND
    assert server.url == f"http://127.0.0.1:{port}/includes/api.php"
    assert server.base_url == f"http://127.0.0.1:{port}"
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_restart(server: MockServer) -> None:
    """The server can be restarted at once on the same port, even while a client keeps its connection open."""
    url = server.url
    for _ in range(3):
        with connected(server) as held:
            held.sendall(GET + b"\r\n")
            assert Answer(held).body == NOT_FOUND
            server.stop()
            server.start()
    assert server.url == url
    assert first(server, posted(ASK)).status == 200


def test_twice(server: MockServer) -> None:
    """A running server cannot be started, and a stopped one cannot be stopped."""
    with pytest.raises(HTTPServerError, match="running"):
        server.start()
    with pytest.raises(HTTPServerError, match="running"):
        MockServer().stop()


@pytest.mark.parametrize("listening", [True, False])
def test_port_taken(listening: bool) -> None:
    """A port in use raises AddressInUseError, which names host and port, until the port is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        port = taken.getsockname()[1]
        server = MockServer(port=port)
        with pytest.raises(AddressInUseError, match=rf"127\.0\.0\.1\b.*\b{port}\b"):
            server.start()
        assert not server.is_running()
    with server:
        assert first(server, posted(ASK)).status == 200


def test_port_contested() -> None:
    """When several servers start on one port at once, one succeeds and the others raise AddressInUseError."""
    for _ in range(10):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        servers = [MockServer(port=port) for _ in range(8)]
        barrier = threading.Barrier(len(servers))

        def begin(server: MockServer, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                server.start()
            except BaseException as error:  # noqa: BLE001  # a SystemExit must not go unnoticed
                return type(error).__name__
            return "started"

        with ThreadPoolExecutor(len(servers)) as pool:
            outcomes = sorted(pool.map(begin, servers))
        for server in servers:
            if server.is_running():
                server.stop()
        assert outcomes == 7 * ["AddressInUseError"] + ["started"]


@pytest.mark.parametrize("host", ["203.0.113.7", "a b", "h" * 300, "[::1]"])
def test_wrong_host(host: str) -> None:
    """A host that is not an address of this machine raises ListenError, but not AddressInUseError."""
    with pytest.raises(ListenError, match="cannot listen on") as caught:
        MockServer(host=host).start()
    assert not isinstance(caught.value, AddressInUseError)


@pytest.mark.parametrize("port", [-1, 65536])
def test_wrong_port(port: int) -> None:
    """An invalid port raises ListenError or ValueError."""
    with pytest.raises((ListenError, ValueError), match=str(port)):
        MockServer(port=port).start()


def test_ipv6() -> None:
    """The server can listen on ::1; its URL then has brackets."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with MockServer(host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}/includes/api.php"
        assert requests.post(server.url, ASK, headers={"Content-Type": "application/x-www-form-urlencoded"}).ok


STALLED = {
    "silent": b"",
    "half a line": b"POST /incl",
    "half a head": POST,
    "half a body": POST + b"Content-Length: 100\r\n\r\naction=",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nac",
    "half a large body": POST + b"Content-Length: 5000000\r\n\r\naction=",
    "idle": posted(ASK),
    "half a handshake": b"\x16\x03\x01",
}


@pytest.mark.parametrize("tls", [False, True])
def test_stalled(tls: bool, context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """Stalled clients block neither other clients nor stop(), which leaves no thread running."""
    threads = set(threading.enumerate())
    server = MockServer(ssl_context=context if tls else None)
    server.start()
    with contextlib.ExitStack() as stack:
        stalled = []
        for sent in STALLED.values():
            connection = stack.enter_context(connected(server))
            if tls and sent and sent[:1] != b"\x16":
                connection = stack.enter_context(trusting.wrap_socket(connection, server_hostname="127.0.0.1"))
            connection.sendall(sent)
            stalled.append(connection)
        for _ in range(3):
            connection = stack.enter_context(connected(server))
            if tls:
                connection = stack.enter_context(trusting.wrap_socket(connection, server_hostname="127.0.0.1"))
            connection.sendall(posted(ASK))
            assert Answer(connection).body == NOT_FOUND
        server.stop()
        assert set(threading.enumerate()) <= threads
        for connection in stalled:
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                while connection.recv(65536):
                    pass


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not show a process's open files")
def test_files_closed() -> None:
    """No file descriptor stays open after stop(), or after a failed start()."""
    before = len(os.listdir("/proc/self/fd"))
    with MockServer() as server, connected(server) as held:
        held.sendall(posted(ASK))
        with pytest.raises(AddressInUseError):
            MockServer(port=server.port).start()
        server.stop()
    assert len(os.listdir("/proc/self/fd")) == before


def test_stop_while_sending() -> None:
    """stop() returns even if a client does not read a long answer."""
    day = datetime.date(2016, 1, 1)
    credits = [Credit(id, day, 1000 * "x", Decimal(1)) for id in range(1, 20_001)]
    threads = set(threading.enumerate())
    server = MockServer(Ledger([Client(1, credits)]))
    with server, connected(server) as held:
        held.sendall(GET.replace(b"=9", b"=1") + b"\r\n")
        assert held.recv(1)
        server.stop()
    assert set(threading.enumerate()) <= threads


# Connections: keep-alive, closing, and many at once.


@pytest.mark.parametrize(
    ("version", "said", "closed"),
    [
        (b"1.1", b"", False),
        (b"1.1", b"keep-alive", False),
        (b"1.1", b"close", True),
        (b"1.1", b"Close", True),
        (b"1.0", b"", True),
        (b"1.0", b"Keep-Alive", False),
    ],
)
def test_closed(version: bytes, said: bytes, closed: bool, server: MockServer) -> None:
    """The connection is kept or closed as the client or else the HTTP version asks, and the answer says so."""
    head = GET.replace(b"1.1", version) + (b"Connection: %s\r\n" % said if said else b"")
    with connected(server) as connection:
        connection.sendall(head + b"\r\n")
        answer = Answer(connection)
        assert (answer.body, answer.will_close) == (NOT_FOUND, closed)
        assert answer.getheader("Content-Length") == str(len(NOT_FOUND))
        connection.settimeout(None if closed else 0.05)
        with contextlib.nullcontext() if closed else pytest.raises(TimeoutError):
            assert connection.recv(1) == b""


def test_many(server: MockServer) -> None:
    """A hundred concurrent clients, each on its own keep-alive connection, get their own answers."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(server)) for _ in range(100)]
        for times in range(2):
            for id, connection in enumerate(connections):
                connection.sendall(posted(b"action=GetCredits&responsetype=nvp&clientid=%d" % (id + times)))
            for id, connection in enumerate(connections):
                found = Answer(connection).body.startswith(b"result=success;totalresults=2;clientid=1;")
                assert found is (id + times == 1)


def test_empty_line(server: MockServer) -> None:
    """An empty line before a request, as sent by old clients after a body, is ignored (RFC 9112, 2.2)."""
    with connected(server) as connection:
        for sent in (posted(ASK) + b"\r\n", posted(ASK)):
            connection.sendall(sent)
            assert Answer(connection).body == NOT_FOUND


# Strict HTTP.


def test_largest_body(server: MockServer) -> None:
    """A body of 1 MiB is accepted, with a Content-Length or chunked."""
    body = ASK + b"&x=" + (MAX_BODY - len(ASK) - 3) * b"x"
    assert first(server, posted(body)).body == NOT_FOUND
    assert first(server, chunked(b"%x\r\n%s\r\n" % (len(body), body))).body == NOT_FOUND


def test_too_large_sent_on(server: MockServer) -> None:
    """A client that sends its whole body before reading still receives the 413."""
    answer = requests.post(server.url, data=(8 * MAX_BODY) * b"x", timeout=10)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET / x HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /%s HTTP/1.1\r\n\r\n" % (100_000 * b"x"), 414),
        (GET + b"X: %s\r\n\r\n" % (100_000 * b"x"), 431),
        (GET + 1000 * b"X: y\r\n" + b"\r\n", 431),
        (POST + b"Content-Length: many\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: +1\r\n\r\nx", 400),
        (POST + b"Content-Length: \xb2\r\n\r\nxx", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nxxyy\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nxx", 400),
        (POST + b"Content-Length: 5\r\n\r\nxx", 400),
        (POST + b"Content-Length: %d\r\n\r\nxx" % MAX_BODY, 400),
    ],
)
def test_broken(sent: bytes, status: int, server: MockServer) -> None:
    """Invalid or incomplete HTTP gets one line of plain text, never HTML, and the server continues."""
    received = whole(server, sent)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Type: text/plain" in head
    assert b"\r\nConnection: close" in head
    assert body.count(b"\n") == 1
    assert first(server, posted(ASK)).body == NOT_FOUND


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the certificate authority that the tests trust."""
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS context of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS context of a client that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_tls(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """The server supports https with keep-alive connections."""
    with MockServer(ssl_context=context) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with connected(server) as plain, trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            for body in (ASK, ASK + 200_000 * b"x"):
                connection.sendall(posted(body))
                assert Answer(connection).body == NOT_FOUND
            connection.sendall(POST + b"Content-Length: 2000000\r\n\r\n")
            assert Answer(connection).status == 413


def test_tls_refused(context: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """A plain http request or an aborted handshake on an https server does not affect other clients."""
    with MockServer(ssl_context=context) as server:
        with connected(server) as plain, contextlib.suppress(ConnectionResetError):
            plain.sendall(GET + b"\r\n")
            assert b"200 OK" not in plain.recv(65536)
        with connected(server) as plain:
            plain.sendall(b"\x16\x03\x01")
        with connected(server) as plain, pytest.raises(ssl.SSLError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")
        with connected(server) as plain, trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(GET + b"\r\n")
            assert Answer(connection).body == NOT_FOUND


# The API of pytest-httpserver.


def test_expect_request(server: MockServer) -> None:
    """An expected request is answered as set up, and the API stays available."""
    server.expect_request("/hook").respond_with_json({"ok": True})
    assert requests.get(server.url_for("/hook")).json() == {"ok": True}
    assert requests.get(server.url_for("/includes/api.php"), {"action": "GetCredits"}).content == NOT_FOUND
    server.check()


MATCHED = [
    ({"data": "a=b"}, {"data": "a=b"}),
    ({"json": {"a": 1}}, {"json": {"a": 1}}),
    ({"headers": {"X-Who": "me"}}, {"headers": {"X-Who": "me"}, "data": "a=b"}),
    ({"query_string": {"a": "1"}}, {"params": {"a": "1"}, "data": "a=b"}),
]


@pytest.mark.parametrize(("expected", "sent"), MATCHED)
@pytest.mark.parametrize("path", ["/hook", "/includes/api.php"])
def test_expected(path: str, expected: dict[str, Any], sent: dict[str, Any], server: MockServer) -> None:
    """A request is matched by all criteria of pytest-httpserver, and the handler can read its body."""

    def respond(request: Request) -> Response:
        return Response(b"read " + request.get_data())

    server.expect_request(path, method="POST", **expected).respond_with_handler(respond)
    answer = requests.post(server.url_for(path), **sent, timeout=10)
    assert answer.content in (b"read a=b", b'read {"a": 1}')
    server.check()


@pytest.mark.parametrize(("expected", "_sent"), MATCHED)
def test_not_expected(expected: dict[str, Any], _sent: object, server: MockServer) -> None:
    """A call that does not match an expectation is answered by the API."""
    server.expect_request("/includes/api.php", method="POST", **expected).respond_with_data("expected")
    with connected(server) as connection:
        for sent in (posted(ASK), chunked(b"%x\r\n%s\r\n" % (len(ASK), ASK))):
            connection.sendall(sent)
            assert Answer(connection).body == NOT_FOUND


def test_large_expected(server: MockServer) -> None:
    """An expected request may be larger than the limit of the API."""
    server.expect_request("/upload").respond_with_handler(lambda request: Response(str(len(request.get_data()))))
    assert requests.post(server.url_for("/upload"), (3 * MAX_BODY) * b"x", timeout=10).text == str(3 * MAX_BODY)


def test_unexpected(server: MockServer) -> None:
    """An unexpected request outside the API fails check_assertions(); a call to the API does not."""
    requests.get(server.url, {"action": "GetCredits"}, timeout=10)
    server.check_assertions()
    assert requests.get(server.url_for("/elsewhere"), timeout=10).status_code == 404
    with pytest.raises(AssertionError, match="/elsewhere"):
        server.check_assertions()
    server.clear()
    server.check_assertions()


def test_oneshot(server: MockServer) -> None:
    """A one-shot expectation takes precedence over the API and is used exactly once, even with concurrent requests."""
    server.expect_oneshot_request("/includes/api.php").respond_with_data("once")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: first(server, posted(ASK)).body, range(24)))
    assert sorted(answers) == sorted([b"once"] + 23 * [NOT_FOUND])
    server.check()


def test_ordered(server: MockServer) -> None:
    """Ordered expectations must be requested in order; another order fails check_assertions()."""
    for path in ("/one", "/two"):
        server.expect_ordered_request(path).respond_with_data(path)
    assert [requests.get(server.url_for(path), timeout=10).text for path in ("/one", "/two")] == ["/one", "/two"]
    server.check()
    for path in ("/one", "/two"):
        server.expect_ordered_request(path).respond_with_data(path)
    requests.get(server.url_for("/two"), timeout=10)
    with pytest.raises(AssertionError):
        server.check_assertions()


@pytest.mark.parametrize(("path", "result"), [("/hook", True), ("/elsewhere", False)])
def test_wait(path: str, result: bool, server: MockServer) -> None:
    """Waiting ends when all expected requests have been answered, or at the first unexpected one."""
    server.expect_oneshot_request("/hook").respond_with_data("hooked")
    client = threading.Thread(target=requests.get, args=(server.url_for(path),), kwargs={"timeout": 10})
    with server.wait(raise_assertions=False, stop_on_nohandler=True, timeout=5) as waiting:
        client.start()
    client.join()
    assert waiting.result is result
    assert waiting.elapsed_time < 5


def test_expected_call_is_recorded_at_arrival(server: MockServer) -> None:
    """A call that an expectation answers is recorded when it arrives, while its handler still runs."""
    ready = threading.Event()
    server.expect_request("/includes/api.php").respond_with_handler(lambda _: Response(str(ready.wait(30))))
    client = threading.Thread(target=requests.get, args=(server.url,), kwargs={"timeout": 30})
    client.start()
    try:
        until = time.monotonic() + 10
        while not (calls := server.world.journal.calls()) and time.monotonic() < until:
            time.sleep(0.01)
        assert [call.status for call in calls] == [0]
    finally:
        ready.set()
        client.join()
    assert calls[0].status == 200


def test_late_request_is_not_unexpected(server: MockServer) -> None:
    """A request to the world of an earlier test does not fail check_assertions() of the current one."""
    server.app.worlds.begin("1-earlier", server.ledger, "documented")
    server.app.worlds.end("1-earlier", "test_earlier")
    server.app.worlds.begin("2-current", server.ledger, "documented")
    assert requests.get(f"{server.base_url}/world/1-earlier/hook", timeout=10).status_code == 404
    server.check_assertions()
    requests.get(f"{server.base_url}/world/2-current/hook", timeout=10)
    with pytest.raises(AssertionError, match="2-current/hook"):
        server.check_assertions()


@pytest.mark.parametrize("status", [0, 99, 100, 600])
def test_status_that_cannot_be_sent(status: int, server: MockServer) -> None:
    """A status of a handler that is no final HTTP status gives a 500 that says so, in the journal as well."""
    server.expect_request("/includes/api.php").respond_with_data("a", status=status)
    answer = requests.get(server.url, timeout=10)
    assert (answer.status_code, "a status is a number from 200 to 599" in answer.text) == (500, True)
    assert [call.status for call in server.world.journal.calls()] == [500]


def test_handler_error(server: MockServer) -> None:
    """An exception in a handler gives the client a 500, and is raised in the test."""
    server.expect_request("/hook").respond_with_handler(lambda _: Response(str(1 // 0)))
    assert requests.get(server.url_for("/hook"), timeout=10).status_code == 500
    with pytest.raises(ZeroDivisionError):
        server.check_handler_errors()


@pytest.mark.parametrize(("status", "body"), [(204, b""), (304, b""), (200, b"a stream"), (599, b"odd")])
def test_any_response(status: int, body: bytes, server: MockServer) -> None:
    """The connection stays usable after any response of a handler."""
    server.expect_request("/hook").respond_with_handler(lambda _: Response(iter([body]) if body else None, status))
    with connected(server) as connection:
        for method in ("GET", "HEAD", "GET"):
            connection.sendall(f"{method} /hook HTTP/1.1\r\n\r\n".encode())
            answer = Answer(connection, method)
            assert (answer.status, answer.body) == (status, b"" if method == "HEAD" else body)
