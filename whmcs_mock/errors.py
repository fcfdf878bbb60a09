"""Define the exceptions, and helpers for their messages."""

from collections.abc import Iterable
from typing import NamedTuple


class WhmcsMockError(Exception):
    """The base class of all errors raised by whmcs-mock."""


class WhmcsMockWarning(UserWarning):
    """Warns about what a test left behind, such as an unused fault."""


class Problem(NamedTuple):
    """A mistake in a fixture file and its position; lines and columns count from 1."""

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


class FixtureError(WhmcsMockError):
    """Lists every problem in the fixture files; ``str()`` returns one line for each."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    def __reduce__(self) -> "tuple[type[FixtureError], tuple[tuple[Problem, ...]]]":
        return type(self), (self.problems,)


class ListenError(WhmcsMockError):
    """The server cannot listen on the given host and port."""


class AddressInUseError(ListenError):
    """Another program is already listening on that port."""


class ApiError(WhmcsMockError):
    """Answers a call with a WHMCS error; raise it in a function registered by ``server.action``.

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
    """Return the names most similar to a text, best first; none below ``cutoff``, from 0 to 1."""
    import difflib  # needed only for mistakes

    return difflib.get_close_matches(text[:100], list(names), n=most, cutoff=cutoff)


def shorten(items: Iterable[object], limit: int = 50) -> list[str]:
    """Return the texts of the first items, and the number of the others."""
    lines = list(map(str, items))
    return lines[:limit] + ([f"and {len(lines) - limit} more"] if len(lines) > limit else [])


def quote(text: str) -> str:
    """Quote a value for a message: on one line, printable, and truncated if long."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short) + '"'
