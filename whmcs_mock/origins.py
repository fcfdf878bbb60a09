"""Know which test a connection comes from, so that a call that arrives late can be shown as such.

A thread that an earlier test left behind opens connections that look like any other on the wire. In
the process of the tests, an audit hook sees which thread opens a connection to the server.
"""

from __future__ import annotations

import socket
import sys
import threading
import weakref
from collections import deque
from typing import Any

__all__ = ["Origins"]


class Origins:
    """Remember the threads that tests leave behind, and the connections these open."""

    def __init__(self) -> None:
        self.port = 0  # of the server
        self._hooked = False
        self._test = ""
        self._threads: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()
        self._opened: deque[tuple[weakref.ref[socket.socket], str]] = deque(maxlen=1000)

    def begin(self, test: str) -> None:
        """Begin a test; threads that no test left behind belong to wider fixtures."""
        self._mark("")
        self._test = test
        self._opened.clear()
        if not self._hooked:
            self._hooked = True
            sys.addaudithook(self._audit)

    def end(self) -> None:
        """End the test: the threads that have come since it began are its own."""
        self._mark(self._test)

    def _mark(self, test: str) -> None:
        for thread in threading.enumerate():
            self._threads.setdefault(thread, test)

    def of(self, port: int) -> str:
        """Return the earlier test whose thread opened the connection from a port; empty when none did."""
        for reference, test in list(self._opened):
            opened = reference()
            try:
                if opened is not None and opened.getsockname()[1] == port:
                    return test
            except OSError:
                pass  # closed already
        return ""

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and self.port and isinstance(args[1], tuple) and args[1][1] == self.port:
            test = self._threads.get(threading.current_thread())
            if test:
                self._opened.append((weakref.ref(args[0]), test))
