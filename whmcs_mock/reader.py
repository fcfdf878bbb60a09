"""Read the requests of one connection, with llhttp, the HTTP parser of Node."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

import httptools

from whmcs_mock.request import MAX_BODY, METHODS, Request, split_target
from whmcs_mock.response import HTTPError
from whmcs_mock.writer import is_tls

MAX_HEAD = 64 * 1024  # bytes
MAX_HEADERS = 100
REQUEST_SECONDS = 30.0
IDLE_SECONDS = 75.0
NOT_TLS = "Bad request: this port speaks http, not https"

_CHUNK = 65536
_FOREVER = 1e6  # seconds; practically unlimited
_HEAD_END = re.compile(rb"\n\r?\n")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) (HTTP/([0-9])\.([0-9])\r\n)")
_TARGET = "!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\""
_METHODS = frozenset((b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PATCH", b"TRACE"))
#: Whether a socket takes the timeout of a read as two 64-bit numbers.
_TIMEVAL = hasattr(socket, "AF_UNIX") and struct.calcsize("@l") == 8


class Limits(NamedTuple):
    """Limits on the duration and size of requests.

    Args:
        request_seconds: How long a request may take from its first byte to its last.
        idle_seconds: How long a connection may be idle between two requests.
        body: Returns how many bytes the body of a request to a path may have.
    """

    request_seconds: float = REQUEST_SECONDS
    idle_seconds: float = IDLE_SECONDS
    body: Callable[[str], int] = lambda _path: MAX_BODY


class Reader:
    """Read the requests of one connection, one after the other.

    Args:
        connection: The socket.
        address: The IP address of the client.
        limits: How long and how large requests may be.
        server: The name or address that the server listens on.
    """

    def __init__(self, connection: socket.socket, address: str, limits: Limits, server: str = "") -> None:
        self._connection, self._address, self._limits, self._server = connection, address, limits, server
        self._secure = is_tls(connection)
        self._data = b""  # received but not read yet
        self._parser = httptools.HttpRequestParser(self)
        self._timed = self._secure or not _TIMEVAL
        self._patience = 0.0  # seconds that a read currently waits
        self._until = 0.0  # when the idle connection times out, or the request must be complete
        self._begun = False
        self._headers: dict[str, str] = {}
        self._in_body = self._complete = False
        self._body = bytearray()
        self.keep_alive = False

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers after a chunked body are ignored."""
        if not self._in_body:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Note that the body follows, and save what llhttp forgets after it."""
        self._in_body = True
        self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Add a part of the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._complete = True

    # Reading.

    path = ""  # of the request that is being read

    def read(self) -> Request | None:
        """Return the next request, or None at the end of the connection.

        Raises:
            HTTPError: The request cannot be read; the connection ends with the answer.
            OSError: The connection is gone.
        """
        head = self._read_head()
        if head is None:
            return None
        line = _check_line(head)
        method, target, version, _, minor = line.groups()
        path, query = split_target(target)
        self.path = path
        if method not in _METHODS or not target.isascii():  # llhttp would refuse these, although they are HTTP
            known = method if method in _METHODS else b"PUT"
            head = b"%b %b %b%b" % (known, quote(target, safe=_TARGET).encode(), version, head[line.end() :])
        self._headers, self._body, self._in_body, self._complete = {}, bytearray(), False, False
        self._feed(head)
        if "," in self._headers.get("host", "") and head.lower().count(b"\nhost:") > 1:
            raise HTTPError(400, "Bad request: there is more than one Host")
        self._check_headers(old=minor == b"0")
        if not self._complete:
            self._read_body(self._limits.body(path), expects=minor != b"0")
        if self._timed:
            self._connection.settimeout(None)  # the answer may take its time
            self._patience = 0.0
        return Request(
            method.decode(), path, query, self._headers, bytes(self._body), self._address, self._secure, self._server
        )

    def _read_head(self) -> bytes | None:
        """Return everything up to the first empty line, whose line end may be invalid; llhttp checks that."""
        self._begun, self._until = False, time.monotonic() + self._limits.idle_seconds
        sought = 0
        while True:
            if empty := self._data.startswith(b"\r\n") and _EMPTY_LINES.match(self._data):
                self._data = self._data[empty.end() :]
            if self._data.startswith(b"\x16"):
                raise HTTPError(400, NOT_TLS)
            end = _HEAD_END.search(self._data, max(0, sought - 3))
            if end or len(self._data) > MAX_HEAD:
                break
            sought = len(self._data)
            if not self._receive(begun=sought > 0):
                if not sought:
                    return None
                raise HTTPError(400, "Bad request: the request is incomplete")
        cut = end.end() if end else len(self._data)
        if cut > MAX_HEAD:
            status, what = (
                (431, "Request header fields too large") if b"\n" in self._data[:MAX_HEAD] else (414, "URI too long")
            )
            raise HTTPError(status, f"{what}: the request line and headers may have at most {MAX_HEAD} bytes")
        head, self._data = self._data[:cut], self._data[cut:]
        return head

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # llhttp would stop here, but an upgrade may be ignored: hide the header
            headers, self._headers = self._headers, {}
            self._parser, self._in_body, self._complete = httptools.HttpRequestParser(self), False, False
            self._feed(re.sub(rb"(?i)\nupgrade:", b"\nIgnored:", data))
            self._headers = headers
        except httptools.HttpParserError as error:
            if "overflow" in str(error):
                raise _too_large(MAX_BODY) from None
            raise HTTPError(400, f"Bad request: {error}") from None

    def _check_headers(self, *, old: bool) -> None:
        """Check what llhttp does not, and note whether the connection ends."""
        headers = self._headers
        if "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise HTTPError(501, "Not implemented: the only Transfer-Encoding is chunked")
            self.keep_alive = self.keep_alive and not old
        said = headers.get("connection", "").lower()
        if "close" in said and "close" in (word.strip() for word in said.split(",")):
            self.keep_alive = False  # llhttp does not find it among other words

    def _read_body(self, limit: int, *, expects: bool) -> None:
        length = self._headers.get("content-length")
        left = int(length.lstrip("0")[:20] or 0) if length is not None else 0
        if left > limit:
            raise _too_large(limit)
        if expects and not self._data and self._headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if length is None:
            self._read_chunks(limit)
        while not self._complete:
            self._require()
            piece, self._data = self._data[:left], self._data[left:]
            left -= len(piece)
            self._feed(piece)

    def _read_chunks(self, limit: int) -> None:
        """Read up to an empty line at a time, as a chunked body ends with one and another request may follow."""
        framing = 0  # bytes that are not content
        fed = b""  # the last bytes that were fed
        while not self._complete:
            self._require()
            data, at = fed + self._data, len(fed)
            while at < len(data) and not self._complete:
                found = data.find(b"\r\n\r\n", max(at - 3, 0))
                end = found + 4 if found >= 0 else len(data)
                before = len(self._body)
                self._feed(data[at:end])
                framing += end - at - len(self._body) + before
                at = end
                if len(self._body) > limit:
                    raise _too_large(limit)
                if framing > MAX_HEAD + 16 * len(self._body):
                    raise HTTPError(400, "Bad request: the chunks contain too little content")
            fed, self._data = data[max(at - 3, 0) : at], data[at:]

    def _require(self) -> None:
        if not self._data and not self._receive(begun=True):
            raise HTTPError(400, "Bad request: the body is incomplete")

    def _receive(self, *, begun: bool) -> bool:
        """Wait for data; return False at the end of the stream, or when an idle connection times out."""
        limits, now = self._limits, time.monotonic()
        if begun and not self._begun:
            self._begun, self._until = True, now + limits.request_seconds
        while (left := self._until - now) > 0:
            self._be_patient(min(left, limits.request_seconds, limits.idle_seconds))
            try:
                data = self._connection.recv(_CHUNK)
            except (BlockingIOError, TimeoutError):
                now = time.monotonic()
                continue
            self._data = self._data + data if self._data else data
            return bool(data)
        if begun:
            raise HTTPError(408, f"Request timeout: the request was not complete after {limits.request_seconds:g} s")
        return False

    def _be_patient(self, seconds: float) -> None:
        """Set the timeout in seconds, rounded so that few requests need a system call."""
        seconds = min(seconds, _FOREVER)
        if seconds <= self._patience <= seconds * 1.02 + 0.001:
            return
        self._patience = seconds
        if self._timed:
            self._connection.settimeout(seconds)
        else:  # a timeout set in Python would cost another system call per read
            timeval = struct.pack("@ll", int(seconds), max(int(seconds % 1 * 1e6), 1))
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)


def _check_line(head: bytes) -> re.Match[bytes]:
    """Return the parts of the request line: method, target, version, and the version as numbers."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise HTTPError(400, "Bad request: the first line is not METHOD TARGET HTTP/1.1")
    if line[4] != b"1":
        raise HTTPError(505, "HTTP version not supported: write HTTP/1.1")
    if line[1] == b"CONNECT":
        raise HTTPError(405, "Method not allowed: this is not a proxy", ("Allow", METHODS))
    if head.count(b"\n") > MAX_HEADERS + 2:
        raise HTTPError(431, f"Request header fields too large: a request may have at most {MAX_HEADERS} headers")
    return line


def _too_large(limit: int) -> HTTPError:
    return HTTPError(413, f"Content too large: a request may have at most {limit} bytes")
