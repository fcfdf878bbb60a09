"""Serve, check and try fixtures from the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whmcs_mock import __version__
from whmcs_mock.errors import FixtureError, ListenError
from whmcs_mock.terminal import Argument, Commands, Option, Seconds, fill_descriptors, leave, progress, show

if TYPE_CHECKING:
    from whmcs_mock.ledger import Ledger

__all__ = ["main"]

EXIT_FIXTURES = 1
EXIT_UNHEALTHY = 1
EXIT_USAGE = 2
EXIT_LISTEN = 3

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, text: str, **rest: Any) -> Callable[[F], F]:
    """Return an option that can also be set in the environment."""
    variable = f"WHMCS_MOCK_{name.partition('/')[0].upper().replace('-', '_')}"
    settings = {"show_default": "is_flag" not in rest, "show_envvar": True, **rest}
    return click.option(f"--{name}", envvar=variable, help=text, cls=Option, **settings)


_paths = click.argument(
    "paths", cls=Argument, nargs=-1, type=click.Path(), envvar="WHMCS_MOCK_FIXTURES", metavar="[PATHS]..."
)
_profile = _option(
    "profile",
    "Answer as the documentation shows, or as installed systems do.",
    type=click.Choice(["documented", "live"]),
    default="documented",
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="whmcs-mock")
def main() -> None:
    """Mock the WHMCS billing API in tests and development.

    Example: whmcs-mock serve fixtures/
    """


@main.command(short_help="Serve fixtures until Ctrl-C.")
@_paths
@_option("host", "Listen on this name or address.", default="127.0.0.1")
@_option("port", "Listen on this port; 0 takes a free one.", type=click.IntRange(0, 65535), default=8421)
@_profile
@_option("watch/--no-watch", "Reload fixtures when a file changes.", default=True)
@_option("control/--no-control", "Serve the control API and the page under /_mock/.", default=True)
@_option("quiet", "Log problems only.", is_flag=True)
@_option("log-file", "Append the access log to this file instead of writing it to stderr.", type=click.Path())
@_option("tls", "Serve https with a throw-away authority (needs the extra tls).", is_flag=True)
@_option("tls-cert", "Serve https with this certificate, a PEM file.", type=click.Path())
@_option("tls-key", "The private key of that certificate, a PEM file.", type=click.Path())
@_option("request-timeout", "Seconds that a request may take to arrive.", type=Seconds(0.1), default=30.0)
@_option("idle-timeout", "Seconds that an idle connection is kept.", type=Seconds(0.1), default=75.0)
def serve(**options: Any) -> None:
    """Serve the fixtures in PATHS until Ctrl-C: fixture files, documentation pages, or folders of them.

    Without PATHS (or WHMCS_MOCK_FIXTURES) it serves the example of WHMCS's documentation. The access
    log goes to stderr. http://127.0.0.1:8421/ shows the calls in a browser.

    Example: whmcs-mock serve --port 9000 fixtures/
    """
    fill_descriptors()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # until the server handles them: nothing to shut down yet
    _check_tls(options)
    from whmcs_mock.serve import Options, Service

    try:
        service = Service(lambda: _loaded(options["paths"]), Options(**options))
    except ListenError as error:
        leave(EXIT_LISTEN, str(error))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        leave(EXIT_USAGE, _unusable(options, error))
    with service.running() as ready:
        click.echo(ready)
        service.wait()


def _check_tls(options: dict[str, Any]) -> None:
    if bool(options["tls_cert"]) != bool(options["tls_key"]):
        given, missing = ("cert", "key") if options["tls_cert"] else ("key", "cert")
        raise click.UsageError(f"--tls-{given} also needs --tls-{missing}")
    if options["tls"] and options["tls_cert"]:
        raise click.UsageError("--tls creates its own certificate; it cannot be combined with --tls-cert")
    if options["tls"]:
        import importlib.util

        if importlib.util.find_spec("trustme") is None:
            raise click.UsageError("--tls needs trustme: pip install 'whmcs-mock[tls]', or pip install trustme")


def _unusable(options: dict[str, Any], error: Exception) -> str:
    """Return which option cannot be used, and why."""
    if options["tls_cert"] and not getattr(error, "filename", None):
        reason = getattr(error, "reason", None) or "one is no PEM file, or the key has a passphrase"
        why = str(reason).lower().replace("_", " ")
        return f"cannot use the certificate {options['tls_cert']} with the key {options['tls_key']}: {why}"
    return (
        f"cannot use {getattr(error, 'filename', None) or 'these options'}: {getattr(error, 'strerror', None) or error}"
    )


@main.command(short_help="Report what is wrong in fixture files.")
@_paths
def check(paths: tuple[str, ...]) -> None:
    """Report every problem in the fixtures in PATHS (or WHMCS_MOCK_FIXTURES), or count what is fine.

    Without PATHS it checks the documented example. Warnings point out likely mistakes; they do not
    change the exit code.

    Example: whmcs-mock check fixtures/
    """
    from whmcs_mock.fixtures import check_fixtures

    try:
        ledger, warnings = check_fixtures(*paths)
    except FixtureError as error:
        show(error.problems, err=False)
        sys.exit(EXIT_FIXTURES)
    show(warnings, "warning: ", err=False)
    files = {page.source for page in ledger.pages}.union(name for name in ledger.sources if not os.path.isdir(name))
    counted = {
        "file": len(files),
        "client": len(ledger.clients),
        "credit": sum(len(client.credits) for client in ledger.clients),
        "answer": len(ledger.answers),
        "action": len(ledger.pages),
    }
    shown = {noun: count for noun, count in counted.items() if count or noun in ("file", "client", "credit")}
    click.echo("ok: " + ", ".join(f"{count} {noun}{'s' * (count != 1)}" for noun, count in shown.items()))


@main.command(short_help="Print an answer without a server.")
@click.argument("action", cls=Argument)
@click.argument("params", nargs=-1, metavar="[NAME=VALUE]...")
@_option("fixtures", "A fixture file, or a folder of them; may be repeated.", multiple=True, type=click.Path())
@_profile
def call(action: str, params: tuple[str, ...], fixtures: tuple[str, ...], profile: str) -> None:
    """Print the answer to ACTION with the given parameters, without a server, errors included.

    The reason and any advice go to stderr.

    Example: whmcs-mock call GetCredits clientid=1 responsetype=xml
    """
    from urllib.parse import urlencode

    sent = {"action": action}
    for param in params:
        name, equals, value = param.partition("=")
        if not (equals and name):
            raise click.UsageError("a parameter is written NAME=VALUE, such as clientid=1")
        sent[name] = value
    ledger = _loaded(fixtures)
    from whmcs_mock.app import App
    from whmcs_mock.request import ENDPOINT, FORM, Request

    app = App(ledger, profile)
    body = urlencode(sent, errors="surrogateescape").encode()
    response = app.respond(Request("POST", ENDPOINT, headers={"content-type": FORM}, body=body, address="127.0.0.1"))
    if response.finish:
        response.finish(True)
    click.echo(response.body)
    [made] = app.worlds[""].journal.calls()
    for line in (f"why: {made.why}", *(f"advice: {advice}" for advice in made.advice)):
        click.echo(line, err=True)


@main.command(short_help="Print the JSON Schema of fixture files.")
def schema() -> None:
    """Print the JSON Schema of fixture files, by which editors complete and check them.

    Example: whmcs-mock schema > whmcs-mock.schema.json
    """
    import json

    from whmcs_mock.fixtures import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command(short_help="Check whether a server is ready and healthy.")
@click.argument("url", cls=Argument, required=False)
@_option("wait", "Seconds to wait until it is healthy.", type=Seconds(0), default=0.0)
@_option("host", "The host of the server, without URL.", default="127.0.0.1")
@_option("port", "The port of the server, without URL.", type=click.IntRange(1, 65535), default=8421)
@_option("tls", "The server speaks https, without URL.", is_flag=True)
@_option("tls-cert", "Likewise: what serve takes from the environment.", type=click.Path(), hidden=True)
def health(url: str | None, wait: float, host: str, port: int, *, tls: bool, tls_cert: str | None) -> None:
    """Exit with 0 if the server at URL answers and has no problems, else with 1.

    Example: whmcs-mock health http://127.0.0.1:8421 --wait 10
    """
    from whmcs_mock.health import ask

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    scheme = "https" if tls or tls_cert else "http"
    url = url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        problem = ask(url, wait)
    except ValueError:
        raise click.UsageError(f"{url} is no URL; write one such as http://127.0.0.1:8421") from None
    if problem:
        leave(EXIT_UNHEALTHY, problem)
    click.echo("ok")


def _loaded(paths: tuple[str, ...]) -> Ledger:
    from whmcs_mock.fixtures import load_fixtures

    with progress() as tell:
        try:
            return load_fixtures(*paths, progress=tell)
        except FixtureError as error:
            problems = error.problems
    show(problems)
    sys.exit(EXIT_FIXTURES)
