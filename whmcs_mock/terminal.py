"""Write problems, progress and the final sentence of a command to a terminal, pipe or file."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TextIO

import click

from whmcs_mock.errors import Problem

__all__ = ["EXIT_OUTPUT", "Argument", "Commands", "Option", "Seconds", "fill_descriptors", "leave", "progress", "show"]

EXIT_OUTPUT = 4

_SHOWN = 50  # problems
_SLOW = 1.0  # seconds after which the progress is shown
_PAUSE = 0.1  # seconds between two times


def leave(code: int, message: str) -> NoReturn:
    """End the command with an exit code and one sentence."""
    try:
        click.echo(f"whmcs-mock: {message}", err=True)
    except OSError:
        _discard(sys.stderr)
    sys.exit(code)


def _discard(stream: TextIO) -> None:
    """Lead a stream to the null device: what is left in its buffer cannot be written at exit either."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fill_descriptors() -> None:
    """Open the standard streams that are closed on the null device, so that no socket takes their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


class Commands(click.Group):
    """A group of commands that report in one sentence if the output cannot be written."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments, which may print the help or the version."""
        with _written():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _written():
            return super().invoke(ctx)


@contextlib.contextmanager
def _written() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        _discard(sys.stdout)
        leave(EXIT_OUTPUT, f"cannot write the output: {error.strerror}")


class _Filled(click.Parameter):
    """A parameter that refuses an empty value, as left by an unset shell variable."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value of a parameter that is not empty."""
        if "" in (value if isinstance(value, (tuple, list)) else (value,)):
            name = self.opts[0] if isinstance(self, click.Option) else str(self.name).upper()
            raise click.BadParameter("it is empty; is a shell variable unset?", ctx, param_hint=name)
        return super().type_cast_value(ctx, value)


class Seconds(click.FloatRange):
    """A number of seconds; ``nan``, which a float may be, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number of seconds."""
        seconds: float = super().convert(value, param, ctx)
        if seconds != seconds:  # noqa: PLR0124  # nan
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


class Option(_Filled, click.Option):
    """An option that must not be empty."""


class Argument(_Filled, click.Argument):
    """An argument that must not be empty."""


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
            click.echo(f"\rloading: {credits:,} credits", err=True, nl=False)

    yield tell
    if last != begun:
        click.echo(f"\r{' ' * 40}\r", err=True, nl=False)


def show(problems: Iterable[Problem], prefix: str = "", *, err: bool = True) -> None:
    """Print problems; on a terminal, each with its line of the file."""
    stream = sys.stderr if err else sys.stdout
    if isinstance(stream, io.TextIOWrapper):  # a name from a file may hold what the terminal cannot show
        stream.reconfigure(errors="backslashreplace")
    every = list(problems)
    for problem in every[:_SHOWN]:
        click.echo(f"{problem.path}:{problem.line}:{problem.column}: {prefix}{problem.message}", err=err)
        if stream and stream.isatty():
            from whmcs_mock.excerpt import excerpt

            if line := excerpt(problem):
                click.echo(line, err=err)
    if len(every) > _SHOWN:
        click.echo(f"and {len(every) - _SHOWN} more", err=err)
