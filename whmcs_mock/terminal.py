"""Write problems, progress and the final message of a command to a terminal, pipe or file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TextIO

from whmcs_mock.errors import Problem

EXIT_OUTPUT = 4

_SHOWN = 50  # problems
_SLOW = 1.0  # seconds after which the progress is shown
_PAUSE = 0.1  # seconds between two updates


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Write a text to stdout or stderr; raise ``OSError`` if stdout is closed."""
    if stream := sys.stderr if err else sys.stdout:
        stream.write(f"{text}{end}")
        stream.flush()
    elif not err:
        raise OSError(errno.EBADF, "it is closed")


def leave(code: int, message: str, prefix: str = "whmcs-mock: ") -> NoReturn:
    """End the command with an exit code and one sentence."""
    try:
        say(f"{prefix}{message}", err=True)
    except OSError:
        _discard(sys.stderr)
    sys.exit(code)


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, since what is left in its buffer cannot be written at exit either."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fill_descriptors() -> None:
    """Open closed standard streams on the null device, so that no socket gets their file descriptors."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


@contextlib.contextmanager
def written() -> Iterator[None]:
    """End the command with one sentence if its output cannot be written."""
    try:
        try:
            yield
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        if sys.stdout:
            _discard(sys.stdout)
        leave(EXIT_OUTPUT, f"cannot write the output: {error.strerror}")


@contextlib.contextmanager
def progress() -> Iterator[Callable[[int], None] | None]:
    """Yield a function that shows the number of credits read so far, if there is a terminal."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield None
        return
    begun = last = time.monotonic()

    def tell(credits: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - begun > _SLOW and now - last > _PAUSE:
            last = now
            say(f"\rloading: {credits:,} credits", err=True, end="")

    yield tell
    if last != begun:
        say(f"\r{' ' * 40}\r", err=True, end="")


def show(problems: Iterable[Problem], prefix: str = "", *, err: bool = True) -> None:
    """Print problems; on a terminal, each with its line of the file."""
    stream = sys.stderr if err else sys.stdout
    if isinstance(stream, io.TextIOWrapper):  # a name from a file may contain characters that the terminal cannot show
        stream.reconfigure(errors="backslashreplace")
    every = list(problems)
    for problem in every[:_SHOWN]:
        line = f"{problem.path}:{problem.line}:{problem.column}: {prefix}{problem.message}"
        say(
            "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line), err=err
        )  # a path may hold anything
        if stream and stream.isatty():
            from whmcs_mock.excerpt import excerpt

            if shown := excerpt(problem):
                say(shown, err=err)
    if len(every) > _SHOWN:
        say(f"and {len(every) - _SHOWN} more", err=err)
