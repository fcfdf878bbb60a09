"""Name what can go wrong, each in one sentence that says what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "AddressInUseError",
    "ApiError",
    "FixtureError",
    "ListenError",
    "Problem",
    "WhmcsMockError",
    "WhmcsMockWarning",
    "nearest",
    "quote",
]


class WhmcsMockError(Exception):
    """Be the base of every error that whmcs-mock raises itself."""


class WhmcsMockWarning(UserWarning):
    """Tell what a test left behind, such as a fault that no call met."""


class Problem(NamedTuple):
    """Name one thing that is wrong in a fixture file, and where; lines and columns count from 1."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


class FixtureError(WhmcsMockError):
    """Carry everything that is wrong in the fixture files; ``str()`` gives one line for each problem."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    def __reduce__(self) -> tuple[type[FixtureError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class ListenError(WhmcsMockError):
    """Say that the server cannot listen on the host and port it was given."""


class AddressInUseError(ListenError):
    """Say that another program listens on that port already."""


class ApiError(WhmcsMockError):
    """Answer a call with WHMCS's error body; raise it in a function given to ``server.action``.

    Args:
        message: What the answer says, such as ``Invoice ID Not Found``.
        status: The HTTP status of the answer.
        why: The reason in whmcs-mock's own words, for the journal; never sent to the client.
    """

    def __init__(self, message: str, status: int = 200, *, why: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.why = why


def nearest(text: str, names: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names that are most like a text, the nearest first; none below ``cutoff``, from 0 to 1."""
    import difflib  # only mistakes need it

    return difflib.get_close_matches(text[:100], list(names), n=most, cutoff=cutoff)


def quote(text: str) -> str:
    """Quote a value for a message: on one line, printable, and cut when it is long."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short) + '"'
