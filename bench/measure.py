"""Measure contenders side by side, interleaved and after a warm-up; print their medians in one table."""

from __future__ import annotations

import os
import platform
import socket
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

#: The environment of a measured process: it may cache its bytecode, as an installed package does.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: One GetCredits call, and the documented answer to it.
CALL = b"action=GetCredits&clientid=1&responsetype=json&identifier=bench&secret=bench"
PATH = "/includes/api.php"
FORM = "application/x-www-form-urlencoded"


def interleaved(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Let the contenders take turns, so that other load on the machine affects all of them.

    Args:
        contenders: What to measure, by name; each returns its own measurement.
        rounds: How many turns each contender has.
        warm_up: Additional turns before those, which do not count.
    """
    results: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warm_up + rounds):
        for name, measured in contenders.items():
            result = measured()
            if turn >= warm_up:
                results[name].append(result)
    return results


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the given percentile of the values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def table(title: str, head: Sequence[str], *rows: Sequence[str]) -> None:
    """Print a table; the first column is the contender."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for row in (head, *rows):
        first, *rest = (
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *rest]))


def machine() -> str:
    """Return what the numbers were measured on."""
    return f"{platform.system()}, {os.cpu_count()} cores, {platform.python_implementation()} {sys.version.split()[0]}"


class RawClient:
    """A client on a plain socket, which costs next to nothing; it reconnects only if the server has closed.

    Args:
        url: Where to call.
        kept: Whether to keep the connection open if the server does.

    Attributes:
        request: What each call sends.
    """

    def __init__(self, url: str, *, kept: bool = True) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {FORM}\r\n"
        head += f"Content-Length: {len(CALL)}\r\nConnection: {'keep-alive' if kept else 'close'}\r\n\r\n"
        self.request = head.encode() + CALL
        self._socket: socket.socket | None = None

    def call(self) -> bytes:
        """Return the body of one answer."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=10)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self.request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._read()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if " 200 " not in f"{status} ":
            raise RuntimeError(f"{status}: {body!r}")
        if "content-length" in headers:
            while len(body) < int(headers["content-length"]):
                body += self._read()
        while headers.get("transfer-encoding") == "chunked" and not body.endswith(b"0\r\n\r\n"):
            body += self._read()
        if headers.get("connection") == "close" or status.startswith("http/1.0"):
            self.close()
        return body

    def _read(self) -> bytes:
        assert self._socket is not None
        if not (part := self._socket.recv(65536)):
            raise ConnectionError("the server closed the connection in an answer")
        return part

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
