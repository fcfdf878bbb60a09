"""Serve, check and try fixtures from the command line."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from whmcs_mock import __version__
from whmcs_mock.errors import FixtureError, ListenError, nearest, quote
from whmcs_mock.options import Option, Parser, UsageError, integer, seconds
from whmcs_mock.terminal import fill_descriptors, leave, progress, say, show, written

if TYPE_CHECKING:
    from whmcs_mock.ledger import Ledger
    from whmcs_mock.serve import Service

EXIT_FIXTURES = 1
EXIT_UNHEALTHY = 1
EXIT_USAGE = 2
EXIT_LISTEN = 3

_PATHS = Option("PATHS", "[PATHS]...", multiple=True, variable="WHMCS_MOCK_FIXTURES")
_HOST, _PORT = "127.0.0.1", 8421
_PROFILE = Option(
    "profile",
    "Answer as the documentation shows, or as installed systems do.",
    "documented",
    choices=("documented", "live"),
)


def serve(**options: Any) -> None:
    """Serve the fixtures in PATHS until Ctrl-C: fixture files, documentation pages, or folders of them.

    Without PATHS (or WHMCS_MOCK_FIXTURES) it serves the example from WHMCS's documentation. The access
    log goes to stderr. http://127.0.0.1:8421/ shows the calls in a browser.

    Example: whmcs-mock serve --port 9000 fixtures/
    """
    fill_descriptors()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))  # until the server handles signals: nothing to shut down yet
    _check_tls(options)
    gc.disable()  # imports and fixtures stay in memory: collecting garbage would only take time
    if not (options["tls"] or options["tls_cert"]):
        _import_without_ssl()
    try:
        service = _service(options)
        with service.running() as ready:
            if sys.stdout:
                say(ready)
            service.wait()
    except RuntimeError as error:  # no thread can be started
        leave(EXIT_LISTEN, f"cannot serve: {error}")


def _service(options: dict[str, Any]) -> Service:
    from whmcs_mock.serve import Options, Service

    try:
        service = Service(lambda: _loaded(options["paths"]), Options(**options))
        gc.freeze()
    except ListenError as error:
        leave(EXIT_LISTEN, str(error))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        leave(EXIT_USAGE, _unusable(options, error))
    finally:
        gc.enable()
    return service


def _import_without_ssl() -> None:
    """Import the server without ``ssl``, which saves a tenth of the startup; http does not need it."""
    if "ssl" not in sys.modules:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # makes its import fail
        with contextlib.suppress(ImportError):
            importlib.import_module("whmcs_mock.listener")
        del sys.modules["ssl"]


def _check_tls(options: dict[str, Any]) -> None:
    if bool(options["tls_cert"]) != bool(options["tls_key"]):
        given, missing = ("cert", "key") if options["tls_cert"] else ("key", "cert")
        raise UsageError(f"--tls-{given} also needs --tls-{missing}")
    if options["tls"] and options["tls_cert"]:
        raise UsageError("--tls creates its own certificate; it cannot be combined with --tls-cert")
    if options["tls"]:
        import importlib.util

        if importlib.util.find_spec("trustme") is None:
            raise UsageError("--tls needs trustme: pip install 'whmcs-mock[tls]', or pip install trustme")


def _unusable(options: dict[str, Any], error: Exception) -> str:
    """Return which option cannot be used, and why."""
    if options["tls_cert"] and not getattr(error, "filename", None):
        reason = getattr(error, "reason", None) or "one of them is not a PEM file, or the key has a passphrase"
        why = str(reason).lower().replace("_", " ")
        return f"cannot use the certificate {options['tls_cert']} with the key {options['tls_key']}: {why}"
    return (
        f"cannot use {getattr(error, 'filename', None) or 'these options'}: {getattr(error, 'strerror', None) or error}"
    )


def check(paths: Sequence[str]) -> None:
    """Report every problem in the fixtures in PATHS (or WHMCS_MOCK_FIXTURES), or count what was loaded.

    Without PATHS it checks the documented example. Warnings point out likely mistakes; they do not
    change the exit code.

    Example: whmcs-mock check fixtures/
    """
    from whmcs_mock.fixtures import check_fixtures

    try:
        ledger, warnings = check_fixtures(*paths)
    except FixtureError as error:
        show(error.problems, err=False)
        _show_source(paths)
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
    say("ok: " + ", ".join(f"{count} {noun}{'s' * (count != 1)}" for noun, count in shown.items()))


def call(action: str | None, params: Sequence[str], fixtures: Sequence[str], profile: str) -> None:
    """Print the answer to ACTION with the given parameters, errors included, without a server.

    The reason and any advice go to stderr.

    Example: whmcs-mock call GetCredits clientid=1 responsetype=xml
    """
    from urllib.parse import urlencode

    if not action:
        raise UsageError("ACTION is missing; write one such as GetCredits")
    sent = {"action": action}
    for param in params:
        name, equals, value = param.partition("=")
        if not (equals and name):
            raise UsageError("a parameter is written NAME=VALUE, such as clientid=1")
        sent[name] = value
    ledger = _loaded(fixtures)
    from whmcs_mock.app import App
    from whmcs_mock.request import ENDPOINT, FORM, Request

    app = App(ledger, profile)
    body = urlencode(sent, errors="surrogateescape").encode()
    response = app.respond(Request("POST", ENDPOINT, headers={"content-type": FORM}, body=body, address="127.0.0.1"))
    if response.finish:
        response.finish(True)
    say("", end="")  # raises if stdout is closed
    sys.stdout.buffer.write(response.body + b"\n")
    sys.stdout.flush()  # before the reason, in case both go to the same place
    [made] = app.worlds[""].journal.calls()
    for line in (f"why: {made.why}", *(f"advice: {advice}" for advice in made.advice)):
        say(line, err=True)


def schema() -> None:
    """Print the JSON Schema of fixture files, which editors use to complete and validate them.

    Example: whmcs-mock schema > whmcs-mock.schema.json
    """
    import json

    from whmcs_mock.fixtures import json_schema

    say(json.dumps(json_schema(), indent=2))


def health(url: str | None, wait: float, host: str, port: int, *, tls: bool, tls_cert: str | None) -> None:
    """Exit with 0 if the server at URL answers and has no problems, otherwise with 1.

    Example: whmcs-mock health http://127.0.0.1:8421 --wait 10
    """
    from whmcs_mock.health import ask

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    scheme = "https" if tls or tls_cert else "http"
    url = url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        problem = ask(url, wait)
    except ValueError:
        raise UsageError(f"{url} is not a valid URL; write one such as http://127.0.0.1:8421") from None
    if problem:
        leave(EXIT_UNHEALTHY, problem)
    say("ok")


def _loaded(paths: Sequence[str]) -> Ledger:
    from whmcs_mock.fixtures import load_fixtures

    with progress() as tell:
        try:
            return load_fixtures(*paths, progress=tell)
        except FixtureError as error:
            problems = error.problems
    show(problems)
    _show_source(paths)
    sys.exit(EXIT_FIXTURES)


def _show_source(paths: Sequence[str]) -> None:
    """Say so if the paths of fixtures with problems are from the environment."""
    if list(paths) == os.environ.get(_PATHS.env, "").split(os.pathsep):
        say(f"whmcs-mock: the fixtures are those in {_PATHS.env}", err=True)


class _Command(NamedTuple):
    run: Callable[..., None]
    summary: str
    options: Sequence[Option] = ()


_COMMANDS = {
    "serve": _Command(
        serve,
        "Serve fixtures until Ctrl-C.",
        [
            _PATHS,
            Option("host", "Listen on this name or address.", _HOST),
            Option("port", "Listen on this port; 0 takes a free one.", _PORT, integer(0, 65535)),
            _PROFILE,
            Option("watch", "Reload fixtures when a file changes.", True),
            Option("control", "Serve the control API and the page under /_mock/.", True),
            Option("quiet", "Log problems only.", False),
            Option("log-file", "Append the access log to this file instead of writing it to stderr."),
            Option("tls", "Serve https with a temporary certificate authority (needs the extra tls).", False),
            Option("tls-cert", "Serve https with this certificate, a PEM file."),
            Option("tls-key", "The private key of that certificate, a PEM file."),
            Option("request-timeout", "Seconds that a request may take to arrive.", 30.0, seconds(0.1)),
            Option("idle-timeout", "Seconds that an idle connection is kept.", 75.0, seconds(0.1)),
        ],
    ),
    "check": _Command(check, "Report problems in fixture files.", [_PATHS]),
    "call": _Command(
        call,
        "Print an answer without a server.",
        [
            Option("ACTION", "ACTION"),
            Option("PARAMS", "[NAME=VALUE]...", multiple=True),
            Option("fixtures", "A fixture file, or a folder of them; may be repeated.", multiple=True),
            _PROFILE,
        ],
    ),
    "schema": _Command(schema, "Print the JSON Schema of fixture files."),
    "health": _Command(
        health,
        "Check whether a server is ready and healthy.",
        [
            Option("URL", "[URL]"),
            Option("wait", "Seconds to wait until it is healthy.", 0.0, seconds(0)),
            Option("host", "The host of the server, if no URL is given.", _HOST),
            Option("port", "The port of the server, if no URL is given.", _PORT, integer(1, 65535)),
            Option("tls", "The server uses https, if no URL is given.", False),
            Option("tls-cert", ""),  # only read from the environment, like that of serve
        ],
    ),
}
_USAGE = "whmcs-mock [OPTIONS] COMMAND [ARGS]..."
_HELP = f"""Usage: {_USAGE}

Mock the WHMCS billing API in tests and development.

Example: whmcs-mock serve fixtures/

options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

commands:
""" + "\n".join(f"  {name:10}  {command.summary}" for name, command in _COMMANDS.items())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the process; errors raise ``SystemExit``."""
    args = sys.argv[1:] if args is None else args
    name, rest = (args[0], args[1:]) if args else ("", ())
    prog, usage = "whmcs-mock", _USAGE
    try:
        with written():
            if (command := _COMMANDS.get(name)) is None:
                _run_without(name)
                return
            prog = f"whmcs-mock {name}"
            parser = Parser(prog, (command.run.__doc__ or "").replace("\n    ", "\n").strip(), command.options)
            usage = str(parser.usage)
            command.run(**parser.read(rest))
    except UsageError as error:
        leave(EXIT_USAGE, f"Usage: {usage}\nTry '{prog} --help' for help.\n\nError: {error}", "")


def _run_without(name: str) -> None:
    """Show the help or the version, or say that there is no such command."""
    if name in ("-h", "--help"):
        say(_HELP)
    elif name == "--version":
        say(f"whmcs-mock, version {__version__}")
    else:
        near = nearest(name, _COMMANDS)
        hint = f"did you mean {near[0]}?" if near else f"write one of {', '.join(_COMMANDS)}"
        raise UsageError(f"no such command {quote(name)}; {hint}" if name else f"a command is missing; {hint}")
