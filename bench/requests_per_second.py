"""Answer one GetCredits call over loopback: whmcs-mock beside pytest-httpserver with the same answer stubbed.

The server runs in another process than the client. The clients: a plain socket (which costs next to
nothing, so that the server's cost shows), and requests with and without a Session. A client that may
keep its connection keeps it where the server does; pytest-httpserver closes after every answer. Its
access log, on by default, goes to the null device.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import requests
from measure import CALL, FORM, PATH, RawClient, interleaved, machine, percentile, table

SERVERS = ("pytest-httpserver", "pytest-httpserver, threaded", "whmcs-mock")
ROUNDS, CALLS = 20, 50


def serve(name: str) -> None:
    """Serve in this process until standard input ends; print the URL."""
    from pytest_httpserver import HTTPServer

    from whmcs_mock import MockServer

    server: HTTPServer
    if name == "whmcs-mock":
        server = MockServer()
    else:
        server = HTTPServer(threaded=name.endswith("threaded"))
        with MockServer() as mock:
            answer = requests.post(mock.url, CALL, headers={"Content-Type": FORM}, timeout=10)
        server.expect_request(PATH, method="POST").respond_with_data(answer.content, content_type="application/json")
    with server:
        print(server.url_for(PATH), flush=True)
        sys.stdin.read()


def timed(call: Callable[[], bytes], expected: bytes) -> Callable[[], float]:
    """Make a function of a call that returns the time it took."""

    def measured() -> float:
        begun = time.perf_counter()
        body = call()
        seconds = time.perf_counter() - begun
        assert body == expected, body
        return seconds

    return measured


def clients(url: str) -> dict[str, Callable[[], bytes]]:
    """Return the ways to call, by name."""
    session = requests.Session()
    options: dict[str, Any] = {"data": CALL, "headers": {"Content-Type": FORM}, "timeout": 10}
    return {
        "plain socket, kept where the server does": RawClient(url).call,
        "plain socket, a connection for each call": RawClient(url, kept=False).call,
        "requests with a Session": lambda: session.post(url, **options).content,
        "requests without a Session": lambda: requests.post(url, **options).content,
    }


def main() -> None:
    """Start the servers, and let them take turns with each client."""
    print(machine())
    command = [sys.executable, __file__]
    quiet: dict[str, Any] = {"stderr": subprocess.DEVNULL}  # Werkzeug's access log, which is on by default
    running = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **quiet)
        for name in SERVERS
    }
    urls = {name: process.stdout.readline().strip() for name, process in running.items() if process.stdout}
    ways = {name: clients(url) for name, url in urls.items()}
    for way in ways[SERVERS[0]]:
        expected = ways["whmcs-mock"][way]()
        calls = {name: timed(ways[name][way], expected) for name in SERVERS}
        results: dict[str, list[float]] = {name: [] for name in SERVERS}
        for _ in range(ROUNDS):  # turns of many calls each, as a switch between servers costs the first call
            for name, call in calls.items():
                results[name] += interleaved({name: call}, CALLS, warm_up=5)[name]
        base = results[SERVERS[0]]
        table(
            f"{way}, {ROUNDS} turns of {CALLS} calls",
            ("", "p50", "p99", "calls/s", "p50 ratio", "p99 ratio"),
            *(
                (
                    name,
                    f"{median(times) * 1e6:,.0f} µs",
                    f"{percentile(times, 99) * 1e6:,.0f} µs",
                    f"{len(times) / sum(times):,.0f}",
                    f"{median(times) / median(base):.2f}",
                    f"{percentile(times, 99) / percentile(base, 99):.2f}",
                )
                for name, times in results.items()
            ),
        )
    for process in running.values():
        process.communicate()


if __name__ == "__main__":
    serve(*sys.argv[1:]) if sys.argv[1:] else main()
