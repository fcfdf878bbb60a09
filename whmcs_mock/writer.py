"""Write responses to a connection, and detect whether its client is still there."""

from __future__ import annotations

import contextlib
import email.utils
import os
import select
import socket
import struct
import threading
import time

from whmcs_mock.response import Response, status_line

_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # lingering for 0 s makes close() a reset
_LINGER = 1.0  # seconds for which a refused body is still read, so that the client sees the refusal
_LOOK = 0.05  # seconds between two checks whether the client of a slow answer is still there
_JOINED = 65536  # maximum bytes of a body that are sent together with the head
#: The real socket class; a test may have replaced it by one that refuses.
SOCKET: type[socket.socket] = next(kind for kind in socket.socket.__mro__ if kind.__module__ == "socket")

_date = (0, "")


def is_tls(connection: socket.socket) -> bool:
    """Return whether a connection speaks TLS; the module ``ssl`` may not be imported."""
    return hasattr(connection, "do_handshake")


def send(connection: socket.socket, response: Response, *, keep: bool, bare: bool = False) -> bool:
    """Send a response once its delay is over; return False if the connection has ended.

    Args:
        connection: The socket.
        response: The response; if it cannot be sent, a 500 that says why is sent instead.
        keep: Whether the connection is kept.
        bare: Whether to send only the head.
    """
    finish = response.finish or (lambda _sent: None)
    if response.delay and response.released and not _wait(connection, response.delay, response.released):
        finish(False)
        return False
    if not response.status:
        finish(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return False
    try:
        head = _head(response, keep=keep)
    except ValueError as error:
        _replace_unsendable(response, error)
        head = _head(response, keep=keep)
    finish(True)
    body = b"" if bare or not response.has_body else response.body
    try:
        if len(body) <= _JOINED:
            connection.sendall(head + body)
        else:
            connection.sendall(head)
            connection.sendall(body)
    except OSError:  # the client has disconnected
        finish(False)
        return False
    return True


def linger(connection: socket.socket) -> None:
    """Keep a connection open until a client that is still sending has seen the answer."""
    until = time.monotonic() + _LINGER
    with contextlib.suppress(OSError):
        if not is_tls(connection):
            connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_LINGER / 5)
        while time.monotonic() < until and connection.recv(65536):
            pass


def _head(response: Response, *, keep: bool) -> bytes:
    """Return status line and headers; ``ValueError`` if one cannot be sent."""
    global _date  # noqa: PLW0603  # written once a second
    now = int(time.time())
    if _date[0] != now:
        _date = now, email.utils.formatdate(now, usegmt=True)
    lines = [f"HTTP/1.1 {status_line(response.status)}\r\nDate: {_date[1]}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in response.headers]
    text = "".join(lines)
    if not text.count("\n") == text.count("\r") == len(lines) + 1 or "\0" in text:
        raise ValueError("a header contains a line break or a NUL")
    if response.has_body:
        text += f"Content-Length: {len(response.body) if response.length is None else response.length}\r\n"
    return f"{text}Connection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode("latin-1")


def _replace_unsendable(response: Response, error: ValueError) -> None:
    reason = "a header is not latin-1" if isinstance(error, UnicodeError) else error
    other = Response.plain(500, f"whmcs-mock: this response cannot be sent: {reason}")
    response.status, response.headers, response.body, response.why = 500, other.headers, other.body, other.why
    response.length, response.type = None, ""


def _wait(connection: socket.socket, seconds: float, released: threading.Event) -> bool:
    """Hold an answer back; return False if the client disconnects in the meantime."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not released.wait(min(left, _LOOK)):
        if _has_left(connection):
            return False
    return True


def _has_left(connection: socket.socket) -> bool:
    hang_up = getattr(select, "POLLRDHUP", 0)
    if hasattr(select, "poll"):  # select() supports no descriptor above 1023
        poll = select.poll()
        poll.register(connection, hang_up or select.POLLIN)
        ready = bool(poll.poll(0))
    else:
        ready = bool(select.select([connection], [], [], 0)[0])
    return ready and (bool(hang_up) or not SOCKET.recv(connection, 1, socket.MSG_PEEK))
