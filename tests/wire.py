"""Speak HTTP/1.1 over a plain socket, so that tests send and see bytes."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlencode

from whmcs_mock import MockServer

ENDPOINT = "/includes/api.php"
FORM = "application/x-www-form-urlencoded"


class Answer(NamedTuple):
    """Hold an HTTP response; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """Hold one connection to a server; ``with`` closes it."""

    def __init__(self, server: MockServer) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=20)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:  # noqa: PYI034  # Self is new in Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end(self) -> None:
        """Say that no more is sent."""
        with contextlib.suppress(OSError):  # the server was faster
            self.socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        return self._file.readline()

    def read(self, *, head_only: bool = False) -> Answer | None:
        """Read one response; None when the server closed the connection instead."""
        if not (line := self.line()):
            return None
        found = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9]{2}) [^\r\n]*\r\n", line)
        assert found, line
        headers = {}
        while (line := self.line()) != b"\r\n":
            name, colon, value = line.decode("latin-1").partition(": ")
            assert colon, line
            assert value.endswith("\r\n"), line
            headers[name.lower()] = value[:-2]
        status = int(found[1])
        bodiless = head_only or status in (204, 304) or status < 200
        return Answer(status, headers, b"" if bodiless else self._file.read(int(headers["content-length"])))

    def ask(self, data: bytes, *, head_only: bool = False) -> Answer:
        self.send(data)
        answer = self.read(head_only=head_only)
        assert answer, "the server closed the connection without an answer"
        return answer


def request(
    method: str = "POST",
    target: str | bytes = ENDPOINT,
    body: bytes = b"",
    *headers: str | bytes,
) -> bytes:
    """Write a request; its Content-Length is that of the body."""
    lines = [
        method.encode() + b" " + _bytes(target) + b" HTTP/1.1",
        b"Host: localhost",
        *map(_bytes, headers),
        b"Content-Length: %d" % len(body),
    ]
    return b"\r\n".join([*lines, b"", body])


def post(
    server: MockServer,
    params: Mapping[str, object] | str | bytes = b"",
    *headers: str,
    target: str | bytes = ENDPOINT,
    content_type: str = FORM,
) -> Answer:
    """POST a form, or a body of another type."""
    if not isinstance(params, (str, bytes)):
        params = urlencode(params)
    with Connection(server) as connection:
        return connection.ask(request("POST", target, _bytes(params), f"Content-Type: {content_type}", *headers))


def get(server: MockServer, query: Mapping[str, object] | str = "", *, path: str = ENDPOINT) -> Answer:
    """GET with everything in the query string."""
    if not isinstance(query, str):
        query = urlencode(query)
    with Connection(server) as connection:
        return connection.ask(request("GET", f"{path}?{query}"))


def multipart(**fields: str) -> tuple[bytes, str]:
    """Write a form as PHP's cURL does for an array: its body and its content type."""
    parts = [f'--frontier\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    return "".join([*parts, "--frontier--\r\n"]).encode(), "multipart/form-data; boundary=frontier"


def is_plain_line(answer: Answer) -> bool:
    """Tell whether an answer is one line of plain text."""
    return answer.headers["content-type"].startswith("text/plain") and answer.body.strip().count(b"\n") == 0


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
