"""Write the access log of the command without ever delaying an answer."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

_LINE = 8 * 1024  # bytes
_LINES = 2_000  # that are buffered while nobody reads
_SIZE = 8 * 1024 * 1024  # bytes that the buffered lines may keep in memory
_BATCH = 100  # lines in one write, which costs less than many writes
_PAUSE = 0.02  # seconds for which lines are collected
_PATIENCE = 0.2  # seconds to wait for a reader at the end


class AccessLog:
    """Writes lines to a file descriptor in its own thread; while nobody reads, lines are dropped and counted.

    Args:
        descriptor: The file descriptor, written to directly so that no lock is held at exit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[Callable[[], str]] = deque()
        self._size = self._dropped = 0
        self._came, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="whmcs-mock-log")
        self._thread.start()

    def write(self, line: Callable[[], str], size: int = 0) -> None:
        """Write a line; ``line`` is called in the log's own thread and keeps ``size`` bytes in memory until then."""
        if len(self._lines) >= _LINES or self._size > _SIZE:
            self._dropped += 1
            return
        self._size += size
        self._lines.append(line)
        if not self._came.is_set():
            self._came.set()

    def close(self) -> None:
        """Write pending lines, unless nobody reads them."""
        self._closing.set()
        self._came.set()
        waiting = -1
        while self._thread.is_alive() and waiting != len(self._lines):
            waiting = len(self._lines)
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        while not self._closing.is_set() or self._lines:
            self._came.wait()
            if len(self._lines) < _BATCH:
                self._closing.wait(_PAUSE)
            self._came.clear()
            texts = [_text(self._lines.popleft()) for _ in range(min(len(self._lines), _BATCH))]
            self._size = 0 if not self._lines else self._size
            if self._lines:
                self._came.set()
            elif self._dropped:
                texts.append(f"({self._dropped} lines were dropped, since the reader was too slow)")
                self._dropped = 0
            try:
                self._write(b"".join(map(_encode, texts)))
            except OSError:  # the log is closed: answering calls matters more
                return

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # a pipe that its reader has made non-blocking is full
                time.sleep(_PAUSE)


def _text(line: Callable[[], str]) -> str:
    try:
        return line()
    except Exception as error:  # noqa: BLE001  # a bug; it is logged, and logging continues
        return f"whmcs-mock: a line cannot be written: {error!r}"


def _encode(text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > _LINE - 1:
        data = data[: _LINE - 4].decode("utf-8", "ignore").encode() + b"..."
    return data + b"\n"
