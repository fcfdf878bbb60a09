"""Measure starting and stopping a server in a test process: whmcs-mock and pytest-httpserver.

Start is the time from the constructor to the end of ``start()`` and, in a separate column, to the first
answer. Stop is the time of ``stop()`` while one client has sent half a request and another keeps an idle
connection. pytest-httpserver is threaded here: with a single thread, it could not stop at all in that case.
"""

from __future__ import annotations

import logging
import socket
import statistics
import time
from collections.abc import Callable

from measure import PATH, RawClient, machine, table
from pytest_httpserver import HTTPServer

from whmcs_mock import MockServer

ROUNDS, WARM_UP = 30, 3
PROMISE = 0.020


def stubbed() -> HTTPServer:
    """Return a pytest-httpserver that answers every call."""
    server = HTTPServer(threaded=True)
    server.expect_request(PATH).respond_with_data("{}", content_type="application/json")
    return server


def measured(make: Callable[[], HTTPServer]) -> tuple[float, float, float]:
    """Return the seconds to start, to the first answer, and to stop."""
    begun = time.perf_counter()
    server = make()
    server.start()
    started = time.perf_counter()
    idle = RawClient(server.url_for(PATH))
    idle.call()
    answered = time.perf_counter()
    idle.call()
    with socket.create_connection((server.host, server.port)) as half:
        half.sendall(b"POST /includes/api.php HTTP/1.1\r\nHost: exam")
        time.sleep(0.02)  # until the server has read it
        stopping = time.perf_counter()
        server.stop()
        stopped = time.perf_counter()
    idle.close()
    return started - begun, answered - begun, stopped - stopping


def main() -> None:
    """Let both servers take turns."""
    print(machine())
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no access log among the tables
    results: dict[str, list[tuple[float, float, float]]] = {"pytest-httpserver, threaded": [], "whmcs-mock": []}
    for turn in range(WARM_UP + ROUNDS):
        for times, make in zip(results.values(), (stubbed, MockServer), strict=True):
            result = measured(make)
            if turn >= WARM_UP:
                times.append(result)
    rows = []
    for name, times in results.items():
        columns = list(zip(*times, strict=True))
        cells = (f"{statistics.median(column) * 1e3:.1f} ms (max {max(column) * 1e3:.1f})" for column in columns)
        rows.append((name, *cells))
    table(f"Medians of {ROUNDS}", ("", "start", "to the first answer", "stop"), *rows)
    start, _, stop = (statistics.median(column) for column in zip(*results["whmcs-mock"], strict=True))
    base = [statistics.median(column) for column in zip(*results["pytest-httpserver, threaded"], strict=True)]
    print(f"ratios: start {start / base[0]:.2f}, stop {stop / base[2]:.4f}")
    print(f"promised: under {PROMISE * 1e3:.0f} ms each; {'kept' if max(start, stop) < PROMISE else 'BROKEN'}")


if __name__ == "__main__":
    main()
