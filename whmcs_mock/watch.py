"""Reload the fixtures when a file changes, by comparing times and sizes, which also works over bind mounts."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence

from whmcs_mock.errors import FixtureError, Problem
from whmcs_mock.fixtures import load_fixtures
from whmcs_mock.ledger import Ledger

_SETTLE = 0.05  # seconds for which files must stay unchanged after they were read
_DOUBT = 0.5  # seconds until files with problems are read again: they may be half written
_SUFFIXES = (".yaml", ".yml", ".json", ".md")

_Seen = tuple[tuple[str, int, int], ...]


class Watch(threading.Thread):
    """Reloads fixtures in its own thread when a file changes or ``reload_now`` is called.

    Changes are detected from its creation on.

    Args:
        paths: The files and folders.
        on_load: Called with the new fixtures.
        on_problems: Called with the problems of the new fixtures; the last good ones stay.
        interval: Seconds between two comparisons; None to compare never.
    """

    def __init__(
        self,
        paths: Sequence[str],
        on_load: Callable[[Ledger], None],
        on_problems: Callable[[Sequence[Problem]], None],
        interval: float | None = 1.0,
    ) -> None:
        super().__init__(daemon=True, name="whmcs-mock-watch")
        self._paths, self._on_load, self._on_problems, self._interval = paths, on_load, on_problems, interval
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._seen = _look(paths)

    def run(self) -> None:
        """Compare, and reload when necessary, until stop()."""
        while True:
            asked = self._wake.wait(self._interval)
            if self._stopped.is_set():
                return
            self._wake.clear()
            if asked or _look(self._paths) != self._seen:
                self._reload()

    def reload_now(self) -> None:
        """Reload at once, whether or not a file has changed."""
        self._wake.set()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._wake.set()

    def _reload(self) -> None:
        doubted = None
        while not self._stopped.is_set():
            before = _look(self._paths)
            ledger, problems = self._load()
            self._stopped.wait(_SETTLE)
            if self._stopped.is_set() or _look(self._paths) != before:
                continue
            if problems and before != doubted:
                doubted = before
                self._stopped.wait(_DOUBT)
                continue
            self._seen = before
            if ledger is None:
                self._on_problems(problems)
            else:
                self._on_load(ledger)
            return

    def _load(self) -> tuple[Ledger | None, Sequence[Problem]]:
        try:
            return load_fixtures(*self._paths), ()
        except FixtureError as error:
            return None, error.problems


def _look(paths: Sequence[str]) -> _Seen:
    """Return the files that are loaded, with their time and size."""
    seen: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            names = sorted(os.listdir(path)) if os.path.isdir(path) else None
        except OSError:
            names = None
        loaded = (name for name in names or () if name.endswith(_SUFFIXES) and name[0] != ".")
        seen += [_stat(path)] if names is None else [_stat(os.path.join(path, name)) for name in loaded]
    return tuple(seen)


def _stat(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return path, 0, 0
    if not stat.S_ISREG(status.st_mode):
        return path, -1, 0  # reading a pipe changes its time
    return path, status.st_mtime_ns, status.st_size
