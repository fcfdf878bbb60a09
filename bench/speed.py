"""Measure whmcs-mock and similar servers in one run, and print the ratios to pytest-httpserver.

pytest-httpserver answers with a handler that parses the form. WireMock and mountebank are taken from npm
(``npm install wiremock mountebank`` in the working directory), localstripe from its command on the PATH or
in ``LOCALSTRIPE``; missing ones are skipped. ``--long`` adds the memory after a million calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from measure import ENVIRONMENT, PATH, RawClient, machine, table

ROUNDS, CALLS, LAUNCHES = 15, 100, 20
BASE = "pytest-httpserver"
MOCK = "whmcs-mock"

HTTPSERVER = """
import sys
from pytest_httpserver import HTTPServer
from werkzeug import Response
answer = open(sys.argv[2], "rb").read()
def respond(request):
    assert request.form["action"] == "GetCredits"
    return Response(answer, content_type="application/json")
server = HTTPServer(port=int(sys.argv[1]))
server.expect_request("/includes/api.php", method="POST").respond_with_handler(respond)
with server:
    sys.stdin.read()
"""
#: The listener of whmcs-mock with a ready-made answer.
STATIC = """
import sys
from whmcs_mock.listener import Listener
from whmcs_mock.response import Response
answer = open(sys.argv[2], "rb").read()
headers = [("Content-Type", "application/json")]
Listener("127.0.0.1", int(sys.argv[1]), lambda request: Response(200, headers, answer)).serve_forever()
"""


class Contender(NamedTuple):
    """How a server is launched on a port, and how it is called."""

    command: Callable[[int], Sequence[str]]
    request: bytes | None = None


def documented() -> bytes:
    """Return the documented answer."""
    command = [sys.executable, "-m", "whmcs_mock", "call", "GetCredits", "clientid=1", "responsetype=json"]
    return subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT).stdout.removesuffix(b"\n")


def contenders(folder: Path) -> dict[str, Contender]:
    """Return the servers that are installed."""
    answer = folder / "answer.json"
    answer.write_bytes(documented())
    stub = [sys.executable, "-c", HTTPSERVER]
    found = {
        BASE: Contender(lambda port: [*stub, str(port), str(answer)]),
        MOCK: Contender(lambda port: [sys.executable, "-m", "whmcs_mock", "serve", "--port", str(port)]),
    }
    jar = next(Path("node_modules/wiremock").rglob("*.jar"), None) if Path("node_modules/wiremock").exists() else None
    if jar and shutil.which("java"):
        found["WireMock"] = Contender(lambda port: wiremock(folder, jar, port))
    mountebank = Path("node_modules/.bin/mb")
    if mountebank.exists():
        found["mountebank"] = Contender(lambda port: imposter(folder, mountebank, port))
    localstripe = os.environ.get("LOCALSTRIPE") or shutil.which("localstripe")
    if localstripe:
        head = b"GET /v1/customers?limit=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk_test_1\r\n\r\n"
        found["localstripe"] = Contender(lambda port: [localstripe, "--port", str(port)], head)
    return found


def wiremock(folder: Path, jar: Path, port: int) -> Sequence[str]:
    """Write a mapping that parses the form, and return the command that serves it without journal and log."""
    mappings = folder / "mappings"
    mappings.mkdir(exist_ok=True)
    asked = {"method": "POST", "url": PATH, "formParameters": {"action": {"equalTo": "GetCredits"}}}
    response = {"status": 200, "headers": {"Content-Type": "application/json"}, "body": documented().decode()}
    (mappings / "getcredits.json").write_text(json.dumps({"request": asked, "response": response}))
    tuned = ["--no-request-journal", "--disable-request-logging", "--async-response-enabled", "true"]
    return ["java", "-jar", str(jar), "--port", str(port), "--root-dir", str(folder), *tuned]


def imposter(folder: Path, command: Path, port: int) -> Sequence[str]:
    """Write an imposter that reads the body, and return the command that serves it without log."""
    asked = {"contains": {"method": "POST", "path": PATH, "body": "action=GetCredits"}}
    response = {"is": {"headers": {"Content-Type": "application/json"}, "body": documented().decode()}}
    one = {"port": port, "protocol": "http", "stubs": [{"predicates": [asked], "responses": [response]}]}
    config = folder / "imposters.json"
    config.write_text(json.dumps({"imposters": [one]}))
    quiet = ["--nologfile", "--loglevel", "error", "--pidfile", str(folder / "mb.pid")]
    return [str(command), "start", "--configfile", str(config), "--port", str(free_port()), *quiet]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Running:
    """A launched server, and a client for it."""

    def __init__(self, contender: Contender) -> None:
        self.port = free_port()
        self.contender = contender
        begun = time.perf_counter()
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = contender.command(self.port)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=ENVIRONMENT, **quiet)
        self.kept = self.client(kept=True)
        while time.perf_counter() < begun + 60:
            try:
                self.kept.call()
            except (ConnectionError, RuntimeError):
                self.kept.close()
                assert self.process.poll() is None, command
                time.sleep(0.002)
            else:
                self.seconds = time.perf_counter() - begun
                break

    def client(self, *, kept: bool) -> RawClient:
        """Return a client that keeps its connection open, or one that does not."""
        client = RawClient(f"http://127.0.0.1:{self.port}{PATH}", kept=kept)
        if request := self.contender.request:
            client.request = request if kept else request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        return client

    def cpu(self) -> float:
        """Return the processor time that the server has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> float:
        """Return the peak of the server's memory, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def running(found: dict[str, Contender]) -> Iterator[dict[str, Running]]:
    """Launch all servers, and stop them at the end."""
    servers = {name: Running(contender) for name, contender in found.items()}
    try:
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def one_by_one(servers: dict[str, Running], *, kept: bool) -> dict[str, tuple[float, float]]:
    """Return for each server the median time and the processor time of a call, in seconds."""
    clients = {name: server.kept if kept else server.client(kept=False) for name, server in servers.items()}
    times: dict[str, list[float]] = {name: [] for name in servers}
    used: dict[str, float] = dict.fromkeys(servers, 0.0)
    for turn in range(ROUNDS + 3):
        for name, client in clients.items():
            before = servers[name].cpu()
            for _ in range(CALLS):
                begun = time.perf_counter()
                client.call()
                if turn >= 3:
                    times[name].append(time.perf_counter() - begun)
            if turn >= 3:
                used[name] += servers[name].cpu() - before
    return {name: (median(times[name]), used[name] / len(times[name])) for name in servers}


class Pipe:
    """One of several connections, with what it has received of the current answer."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request)
        self._received = b""

    def receive(self) -> tuple[bool, bool]:
        """Return whether an answer is complete, and whether the connection has ended."""
        data = self.socket.recv(65536)
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        lower = head.lower()
        if b"content-length: " in lower:
            whole = bool(end) and len(body) >= int(lower.partition(b"content-length: ")[2].split()[0])
        else:
            whole = body.endswith(b"0\r\n\r\n")
        if whole:
            self._received = b""
        return whole, not data or (whole and b"connection: close" in lower)


def eight_at_once(server: Running, seconds: float) -> float:
    """Return the calls per second over eight connections."""
    request = server.client(kept=True).request
    done, until = 0, time.perf_counter() + seconds
    with selectors.DefaultSelector() as selector:

        def connect() -> None:
            pipe = Pipe(server.port, request)
            selector.register(pipe.socket, selectors.EVENT_READ, pipe)

        for _ in range(8):
            connect()
        while time.perf_counter() < until:
            for key, _ in selector.select(1):
                whole, ended = key.data.receive()
                done += whole
                if ended:
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
                    connect()
                elif whole:
                    key.data.socket.sendall(request)
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return done / seconds


def throughput(servers: dict[str, Running]) -> dict[str, float]:
    """Return the calls per second of each server, the median of all turns."""
    turns: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(17):
        for name, server in servers.items():
            calls = eight_at_once(server, 0.5)
            if turn:
                turns[name].append(calls)
    return {name: median(calls) for name, calls in turns.items()}


def launches(found: dict[str, Contender]) -> dict[str, float]:
    """Return the median time from launch to the first correct answer."""
    times: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(LAUNCHES + 1):
        for name, contender in found.items():
            server = Running(contender)
            server.stop()
            if turn:
                times[name].append(server.seconds)
    return {name: median(seconds) for name, seconds in times.items()}


def memory(found: dict[str, Contender], counts: Sequence[int]) -> dict[str, list[float]]:
    """Return the peak memory after the given number of calls."""
    peaks: dict[str, list[float]] = {}
    for name in (BASE, MOCK):
        server, done = Running(found[name]), 1
        peaks[name] = []
        for count in counts if name == MOCK else counts[:1]:
            for _ in range(count - done):
                server.kept.call()
            done = count
            peaks[name].append(server.peak())
        server.stop()
    return peaks


def large_log(folder: Path) -> tuple[float, float]:
    """Return the median time of a call for 50,000 entries, and of a call for the same bytes ready-made."""
    fixtures = folder / "large.yaml"
    with fixtures.open("w") as file:
        file.write("clients:\n  - id: 1\n    credits:\n")
        for number in range(1, 50_001):
            file.write(f"      - {{id: {number}, date: 2016-01-01, description: Entry {number}, amount: 1.00}}\n")
    serve = [sys.executable, "-m", "whmcs_mock", "serve", str(fixtures), "--port"]
    mock = Running(Contender(lambda port: [*serve, str(port)]))
    answer = folder / "large.json"
    answer.write_bytes(mock.kept.call())
    static = Running(Contender(lambda port: [sys.executable, "-c", STATIC, str(port), str(answer)]))
    times: dict[str, list[float]] = {"mock": [], "static": []}
    for _ in range(25):
        for name, server in (("mock", mock), ("static", static)):
            begun = time.perf_counter()
            server.kept.call()
            times[name].append(time.perf_counter() - begun)
    mock.stop()
    static.stop()
    return median(times["mock"][5:]), median(times["static"][5:])


def ratios(title: str, values: dict[str, float], unit: str, goal: str, *, more: bool = False) -> None:
    """Print values, their ratios to pytest-httpserver, and the goal."""
    rows = [(name, f"{value:,.1f} {unit}", f"{value / values[BASE]:.2f}") for name, value in values.items()]
    table(f"{title} (goal: {goal}{', more is better' if more else ''})", ("", "median", "ratio"), *rows)


def main() -> None:
    """Measure everything."""
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = contenders(folder)
        both = {name: found[name] for name in (BASE, MOCK)}
        with running(found) as servers:
            kept = one_by_one(servers, kept=True)
            micro = {name: seconds * 1e6 for name, (seconds, _) in kept.items()}
            ratios("a call on a kept connection", micro, "µs", "0.3 x, below WireMock")
            micro = {name: seconds * 1e6 for name, (_, seconds) in kept.items()}
            ratios("processor time of that call", micro, "µs", "0.3 x")
            fresh = {name: seconds * 1e6 for name, (seconds, _) in one_by_one(servers, kept=False).items()}
            ratios("a new connection for each call", fresh, "µs", "0.75 x, below mountebank")
            ratios("calls a second, 8 connections", throughput(servers), "/s", "3 x, above mountebank", more=True)
        ratios("launch to the first right answer", {n: s * 1e3 for n, s in launches(both).items()}, "ms", "1.0 x")
        counts = [10_000, 100_000, 1_000_000] if "--long" in sys.argv else [10_000, 30_000]
        peaks = memory(found, counts)
        ratios(f"peak memory after {counts[0]:,} calls", {n: p[0] for n, p in peaks.items()}, "MB", "0.9 x")
        print("   flat:", ", ".join(f"{n:,} calls {p:.1f} MB" for n, p in zip(counts, peaks[MOCK], strict=True)))
        mock, static = large_log(folder)
        rows = (
            ("ready-made bytes", f"{static * 1e3:.2f} ms", "1.00"),
            (MOCK, f"{mock * 1e3:.2f} ms", f"{mock / static:.2f}"),
        )
        table("one client with 50,000 entries (goal: 2 x the same bytes)", ("", "median", "ratio"), *rows)


if __name__ == "__main__":
    main()
