"""Serve, check and try fixtures from the command line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whmcs_mock import __version__
from whmcs_mock.errors import FixtureError, ListenError

if TYPE_CHECKING:
    from whmcs_mock.journal import Call
    from whmcs_mock.model import Ledger

__all__ = ["main"]

EXIT_FIXTURES = 1
EXIT_LISTEN = 3

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, text: str, **rest: Any) -> Callable[[F], F]:
    """Make an option that can come from the environment as well."""
    variable = f"WHMCS_MOCK_{name.upper()}"
    shown: dict[str, Any] = {"show_default": True, "show_envvar": True}
    return click.option(f"--{name}", envvar=variable, help=text, **shown, **rest)


_paths = click.argument("paths", nargs=-1, type=click.Path(), envvar="WHMCS_MOCK_FIXTURES")
_profile = _option(
    "profile",
    "Answer as the documentation shows, or as installed systems do.",
    type=click.Choice(["documented", "live"]),
    default="documented",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="whmcs-mock")
def main() -> None:
    """Stand in for the WHMCS billing API in tests and during development.

    Example: whmcs-mock serve fixtures/
    """


@main.command(short_help="Serve fixtures until Ctrl-C.")
@_paths
@_option("host", "Listen on this name or address.", default="127.0.0.1")
@_option("port", "Listen on this port; 0 takes a free one.", type=click.IntRange(0, 65535), default=8421)
@_profile
def serve(paths: tuple[str, ...], host: str, port: int, profile: str) -> None:
    """Serve the fixtures in PATHS until Ctrl-C: YAML files, or folders of them.

    Without PATHS (or WHMCS_MOCK_FIXTURES) it serves the example of WHMCS's documentation. The access
    log goes to stderr.

    Example: whmcs-mock serve --port 9000 fixtures/
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, lambda *_: sys.exit(0))
    ledger = _loaded(paths)
    from whmcs_mock.server import MockServer

    server = MockServer(ledger, host=host, port=port, profile=profile, on_call=_log)
    stopping: list[int] = []
    for number in signals:
        signal.signal(number, lambda number, _frame: stopping.append(number))
    try:
        server.start()
    except ListenError as error:
        click.echo(f"whmcs-mock: {error}", err=True)
        sys.exit(EXIT_LISTEN)
    with server:
        click.echo(
            f"whmcs-mock ready {_reachable(server.url)} clients={len(ledger.clients)} credits={_credits(ledger)}"
        )
        while not stopping:
            time.sleep(0.1)  # returns to run signal handlers on Windows, too
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # once is enough: more must not disturb the end


@main.command(short_help="Report what is wrong in fixture files.")
@_paths
def check(paths: tuple[str, ...]) -> None:
    """Report every problem in the fixtures in PATHS (or WHMCS_MOCK_FIXTURES), or that there is none.

    Without PATHS it checks the example that serve serves then.

    Example: whmcs-mock check fixtures/
    """
    ledger = _loaded(paths, err=False)
    counts = [(len(ledger.sources), "file"), (len(ledger.clients), "client"), (_credits(ledger), "credit")]
    click.echo("ok: " + ", ".join(f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts))


@main.command(short_help="Print an answer without a server.")
@click.argument("action")
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@_option("fixtures", "A YAML file, or a folder of them; may be given again.", multiple=True, type=click.Path())
@_profile
def call(action: str, params: tuple[str, ...], fixtures: tuple[str, ...], profile: str) -> None:
    """Print the answer to ACTION with the given parameters, without a server; an error is an answer, too.

    Example: whmcs-mock call GetCredits clientid=1 responsetype=xml
    """
    sent = {"action": action}
    for param in params:
        name, equals, value = param.partition("=")
        if not (equals and name):
            raise click.UsageError("a parameter is written NAME=VALUE, such as clientid=1")
        sent[name] = value
    ledger = _loaded(fixtures)
    from whmcs_mock import api
    from whmcs_mock.formats import response_type, written
    from whmcs_mock.model import Books, checked_profile

    known = checked_profile(profile)
    answer = api.answer(sent, "127.0.0.1", Books(ledger))
    click.echo(written(answer.body, response_type(sent.get("responsetype", ""), known), known, sent["action"]))


def _loaded(paths: tuple[str, ...], *, err: bool = True) -> Ledger:
    from whmcs_mock.fixtures import load_fixtures

    try:
        return load_fixtures(*paths)
    except FixtureError as error:
        stream = sys.stderr if err else sys.stdout
        if isinstance(stream, io.TextIOWrapper):  # a name from a file may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
        click.echo(str(error), err=err)
        sys.exit(EXIT_FIXTURES)


def _log(call: Call) -> None:
    line = f"{call.time:%H:%M:%S} {call}"
    if sys.stderr and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        line = click.style(line, fg="green" if call.result == "success" else "red")
    with contextlib.suppress(OSError, ValueError):  # stderr is closed: the answer matters more
        click.echo(line, err=True)


def _reachable(url: str) -> str:
    """Name this machine in the URL of a server that listens on all its addresses."""
    return url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:")


def _credits(ledger: Ledger) -> int:
    return sum(len(client.credits) for client in ledger.clients)
