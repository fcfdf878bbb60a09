"""The server survives forks, socket guards, resource limits, disconnecting clients, and responses it cannot send."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme
from werkzeug import Response
from wire import ENDPOINT, Connection, get, is_plain_line, post, request

from whmcs_mock import FaultRule, MockServer, listener
from whmcs_mock.access_log import AccessLog

ASK = {"action": "GetCredits", "clientid": 9, "responsetype": "json"}
NOT_FOUND = b'{\n    "result": "error",\n    "message": "Client ID Not Found"\n}'
TESTS = Path(__file__).parent
Serve: TypeAlias = Callable[..., MockServer]

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork() or limits")


def run(code: str) -> str:
    """Run Python code with this folder on its path; assert that stderr is empty, and return its output."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    # Python 3.12 warns about fork() in a process with threads, which is what is tested here.
    forking = "-Wignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, forking, "-c", code], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


@contextlib.contextmanager
def command(*arguments: str, **options: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run ``whmcs-mock serve``; yield the process and its port."""
    line = [sys.executable, "-m", "whmcs_mock", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    with process:
        try:
            assert process.stdout
            ready = process.stdout.readline()
            found = re.search(r":(\d+)/includes/api\.php", ready)
            assert found, ready
            yield process, int(found[1])
        finally:
            process.kill()


# Forks.


@posix
@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit()", "server.stop(); os._exit(0)", "pass"])
def test_forked_child(leave: str) -> None:
    """A forked child that exits, or stops its copy of the server, does not stop the server of its parent."""
    told = run(f"""
import os, sys, wire
from whmcs_mock import MockServer
with MockServer() as server, wire.Connection(server) as kept:
    kept.ask(wire.request())
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print(kept.ask(wire.request()).status, wire.post(server).status)
    else:
        {leave}
""")
    assert told == "400 400\n"


@posix
def test_forked_child_lives() -> None:
    """A stopped server's port refuses connections and can be reused at once, even while a forked child lives."""
    told = run("""
import os, signal, socket, wire
from whmcs_mock import MockServer
server = MockServer()
server.start()
wire.post(server)
child = os.fork()
if not child:
    signal.pause()
server.stop()
try:
    socket.create_connection(("127.0.0.1", server.port), timeout=20)
except ConnectionRefusedError:
    print("refused")
server.start()
print(wire.post(server).status)
server.stop()
os.kill(child, signal.SIGKILL)
""")
    assert told == "refused\n400\n"


@posix
def test_child_that_is_not_told(serve: Serve) -> None:
    """The same holds if another process still has the file descriptors, as after a fork in C."""
    server = serve()
    copies = [os.dup(server.server.fileno())]  # type: ignore[union-attr]
    try:
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port))
        server.start()
        assert post(server, ASK).body == NOT_FOUND
    finally:
        os.close(copies[0])


# Resource limits.


def ask_at_once(port: int, count: int) -> set[socket.socket]:
    """Connect many clients at once and send a request from each; they keep their connections."""
    clients = {socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)}
    for client in clients:
        client.sendall(request())
    return clients


def pick_answered(waiting: set[socket.socket], patience: float) -> set[socket.socket]:
    """Remove the clients with an answer from those that wait, until no more answers arrive, and return them."""
    answered: set[socket.socket] = set()
    while waiting and (ready := select.select(waiting, [], [], patience)[0]):
        answered |= set(ready)
        waiting -= answered
    return answered


def leave_in_turn(answered: set[socket.socket], waiting: set[socket.socket]) -> None:
    """Disconnect the answered clients to make room for the waiting ones, until all are answered."""
    while answered:
        for client in answered:
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
            client.close()
        answered = set(select.select(waiting, [], [], 20)[0]) if waiting else set()
        waiting -= answered
    assert not waiting


def test_guarded_sockets(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replacing socket.socket, as pytest-socket does, stops neither a server nor its connections."""
    server = serve()

    class Guarded(socket.socket):
        def __new__(cls, *_args: Any, **_options: Any) -> Guarded:  # noqa: PYI034  # Self is new in Python 3.11
            raise RuntimeError("a test tried to use a socket")

    with Connection(server) as kept:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Guarded)
            assert kept.ask(request()).status == 400
            code = f"import urllib.request as u; print(u.urlopen('{server.url}?action=GetCredits&clientid=1').status)"
            assert run(code) == "200\n"
        assert kept.ask(request()).status == 400
    assert post(server, ASK).body == NOT_FOUND


@posix
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not show a process's time")
def test_no_descriptors() -> None:
    """With 64 file descriptors, 120 clients cost hardly any CPU time while they wait, and all are served in the end."""
    import resource

    def used() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    limit = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (64, 64))
    with command("--no-watch", preexec_fn=limit) as (process, port):
        waiting = ask_at_once(port, 120)
        answered = pick_answered(waiting, 0.5)
        before = used()
        assert not select.select(waiting, [], [], 1)[0]
        assert used() - before < 0.05
        assert 0 < len(answered) < 64
        leave_in_turn(answered, waiting)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[1].count(" -> 400 ") == 120
        assert process.returncode == 0


def test_no_threads() -> None:
    """If no thread can be started, kept connections are answered, others wait, and nothing is printed."""
    told = run("""
import select, threading, wire
from whmcs_mock import MockServer
start = threading.Thread.start
tried = threading.Event()
def refuse(self):
    tried.set()
    raise RuntimeError("can't start new thread")
with MockServer() as server, wire.Connection(server) as kept:
    kept.ask(wire.request())
    with wire.Connection(server) as first:
        first.ask(wire.request())
        threading.Thread.start = refuse
        waiting = [wire.Connection(server) for _ in range(10)]
        for connection in waiting:
            connection.send(wire.request())
        tried.wait(20)
        for _ in range(10):
            assert kept.ask(wire.request()).status == 400
        threading.Thread.start = start
        print([connection.read().status for connection in waiting] == 10 * [400])
        for connection in waiting:
            connection.__exit__(None, None, None)
""")
    assert told == "True\n"


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root has no limit of threads")
def test_limit_of_threads() -> None:
    """If the system limits threads, kept connections are answered, and others wait."""
    import resource

    count = len(subprocess.run(["ps", "-LU", str(os.getuid())], capture_output=True, check=True).stdout.splitlines())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (count + 12, count + 12))

    with command("--no-watch", preexec_fn=limit) as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as kept:
            kept.sendall(request())
            assert kept.recv(65536).startswith(b"HTTP/1.1 400 ")
            waiting = ask_at_once(port, 60)
            answered = pick_answered(waiting, 0.5)
            assert 0 < len(answered) < 60
            leave_in_turn(answered, waiting)
            kept.sendall(request())
            assert kept.recv(65536).startswith(b"HTTP/1.1 400 ")
        process.send_signal(signal.SIGTERM)
        assert "Traceback" not in process.communicate(timeout=60)[1]
        assert process.returncode == 0


def test_start_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose first worker thread cannot be started serves requests as soon as it can."""
    started = threading.Event()

    def refuse(worker: threading.Thread, start: Callable[[threading.Thread], None] = threading.Thread.start) -> None:
        if worker.name.startswith("whmcs-mock-worker") and not started.is_set():
            started.set()
            raise RuntimeError("can't start new thread")
        start(worker)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with MockServer() as server:
        assert post(server, ASK).body == NOT_FOUND
    assert started.is_set()


def workers(server: MockServer) -> int:
    """Return the number of worker threads of a server."""
    assert isinstance(server.server, listener.Listener)
    return len(server.server._workers)


def test_idle_workers_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 200 concurrent clients, the workers are soon reduced to 8 idle ones and the one that accepts."""
    monkeypatch.setattr(listener, "_SPARE_SECONDS", 0.05)
    server = serve()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(server)) for _ in range(200)]
        assert all(connection.ask(request()).status == 400 for connection in connections)
        assert workers(server) >= 200
    ended = threading.Event()
    for _ in range(400):
        if workers(server) <= 9:
            break
        ended.wait(0.05)
    assert workers(server) == 9
    for _ in range(20):
        assert post(server, ASK).body == NOT_FOUND


# Invalid responses and bugs.


@pytest.mark.parametrize(
    ("name", "value"), [("X-Name", "Łódź"), ("X-Łódź", "1"), ("X-Name", "\N{EURO SIGN}")], ids=["value", "name", "euro"]
)
def test_unsendable_header(serve: Serve, name: str, value: str) -> None:
    """A header that is not latin-1 causes a 500 with the reason, which is also recorded; the connection is kept."""
    server = serve()
    server.expect_request("/hook").respond_with_data("x", headers={name: value})
    server.expect_request(ENDPOINT, query_string="x=1").respond_with_data("x", headers={name: value})
    with Connection(server) as connection:
        for target in ("/hook", f"{ENDPOINT}?x=1"):
            answer = connection.ask(request("GET", target))
            assert answer.status == 500
            assert b"cannot be sent" in answer.body
            assert b"latin-1" in answer.body
            assert is_plain_line(answer)
    call = server.world.journal.calls()[-1]
    assert call.status == 500
    assert "cannot be sent" in call.why
    assert "cannot be sent" in str(call)


@pytest.mark.parametrize("value", ["a\r\nX-More: b", "a\nb", "a\rb", "a\0b"])
def test_unsendable_line_break(serve: Serve, value: str) -> None:
    """A header value with a line break or NUL is never sent."""

    class Unchecked(Response):
        def get_wsgi_headers(self, environ: Any) -> Any:  # noqa: ARG002  # Werkzeug's parameter name
            class Headers(list[tuple[str, str]]):
                def to_wsgi_list(self) -> list[tuple[str, str]]:
                    return [*self]

            return Headers([("X-Name", value), ("Content-Length", "1")])

    server = serve()
    server.expect_request("/hook").respond_with_handler(lambda _: Unchecked("x"))
    answer = get(server, path="/hook")
    assert answer.status == 500
    assert is_plain_line(answer)
    assert "x-more" not in answer.headers


def test_unsendable_length(serve: Serve) -> None:
    """A Content-Length that is not a number causes a 500 that quotes it."""
    server = serve()
    server.expect_request("/hook").respond_with_handler(
        lambda _: Response(iter([b"x"]), headers={"Content-Length": "many"})
    )
    answer = get(server, path="/hook")
    assert answer.status == 500
    assert b"many" in answer.body


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("a bug"), RuntimeError("a bug")], ids=repr)
def test_bug(serve: Serve, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An unexpected exception causes a 500 and is raised in the test; the connection is kept."""
    server = serve()

    def fail(*_args: Any) -> Any:
        raise error

    with Connection(server) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(server.app, "respond", fail)
            answer = connection.ask(request())
        assert answer.status == 500
        assert type(error).__name__.encode() in answer.body
        assert is_plain_line(answer)
        assert connection.ask(request()).status == 400
    with pytest.raises(type(error), match="a bug"):
        server.check_handler_errors()


def test_bug_of_a_listener_of_calls(serve: Serve) -> None:
    """An exception in on_call is raised in the test, and the server continues."""
    failing = [True]

    def told(_call: Any) -> None:
        if failing and failing.pop():
            raise LookupError("a bug")

    server = serve(on_call=told)
    with Connection(server) as connection:
        connection.send(request())
        connection.read()
    assert post(server, ASK).body == NOT_FOUND
    with pytest.raises(LookupError, match="a bug"):
        server.check_handler_errors()


# Clients that disconnect.


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_client_leaves_slow(leave: str, tls: bool) -> None:
    """A client that disconnects while its answer is delayed is noticed soon, which frees its worker."""
    authority, context, trusting = trustme.CA(), None, ssl.create_default_context()
    authority.configure_trust(trusting)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    with MockServer(ssl_context=context) as server:
        server.world.faults.add([FaultRule("slow", seconds=600)])
        client = socket.create_connection((server.host, server.port), timeout=20)
        client = trusting.wrap_socket(client, server_hostname="127.0.0.1") if tls else client
        client.sendall(request("POST", f"{ENDPOINT}?action=GetCredits"))
        held = server.world.journal.wait_for(lambda call: not call.is_answered, 20)
        assert held
        if leave == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert server.world.journal.wait_for(lambda call: call.is_answered, 20) is held
        assert str(held).endswith("-> client left")
        assert held.status == 0
        assert 0 < workers(server) <= 2


# The access log.


def test_log_that_nobody_reads() -> None:
    """Calls are answered even if nobody reads stderr, and the command still exits promptly with code 0."""
    with command() as (process, port), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        asked = request("POST", ENDPOINT, b"action=GetCredits&clientid=1&description=" + 500 * b"x")
        for _ in range(3000):
            connection.sendall(asked)
            assert connection.recv(65536)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_log_says_what_it_dropped() -> None:
    """Log lines are dropped while nobody reads them; later the log says how many, and continues."""
    reading, writing = os.pipe()
    log = AccessLog(writing)
    for number in range(10_000):
        log.write(functools.partial(str, f"{number} {100 * 'x'}"))
    with ThreadPoolExecutor(1) as pool, open(reading) as file:
        lines = pool.submit(file.readlines)
        log.close()
        os.close(writing)
        told = [
            re.fullmatch(r"\((\d+) lines were dropped, since the reader was too slow\)\n", line)
            for line in lines.result()
        ]
    assert told[-1]
    assert sum(int(line[1]) if line else 1 for line in told) == 10_000


def test_log_outlives_a_bug() -> None:
    """An error while formatting a log line is logged, and the following lines are written."""
    reading, writing = os.pipe()
    log = AccessLog(writing)
    log.write(lambda: str(1 // 0))
    log.write(lambda: "fine")
    log.close()
    os.close(writing)
    with open(reading) as file:
        bug, fine = file.readlines()
    assert "ZeroDivisionError" in bug
    assert fine == "fine\n"


def test_log_lines_are_short() -> None:
    """A line of the access log has at most 8 KiB even with many parameters, and each call has its own line."""
    body = b"&".join([b"action=GetCredits", *(b"name%d=%b" % (number, 50 * b"x") for number in range(2000))])
    with command() as (process, port):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                head = "Content-Type: application/x-www-form-urlencoded"
                connection.sendall(request("POST", ENDPOINT, body, head))
                assert connection.recv(65536)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0
    assert log.count("GetCredits name0=") == 3
    assert max(map(len, log.encode().splitlines(keepends=True))) <= 8192
