"""Provide the pytest fixtures ``whmcs_mock_server`` and ``whmcs_mock``.

Nothing heavy is imported until a test requests one of them.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from whmcs_mock.options import Option, integer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterator

    from whmcs_mock.handle import WhmcsMock
    from whmcs_mock.ledger import Ledger
    from whmcs_mock.server import MockServer
    from whmcs_mock.world import Worlds

_MARK_ARGUMENTS = ("fixtures", "profile", "strict")
_PROFILES = ("documented", "live")  # as in ledger, which is not imported here
_SECTION = "WHMCS mock: calls in this test"
_LATE_SECTION = "WHMCS mock: calls from tests that had ended"
_MOCK: pytest.StashKey[tuple[WhmcsMock, bool]] = pytest.StashKey()  # per test: its mock, and whether it is strict
_sessions: list[_Session] = []  # the current one last: a session that tests a plugin may run others

_SETTINGS = (
    Option("profile", "answer as documented, or as live systems do", "documented", choices=_PROFILES),
    Option("strict", "fail tests on advice and unused faults", False),
    Option("tls", "serve https (needs the extra tls)", False),
    Option("host", "listen on this name or address", "127.0.0.1"),
    Option("port", "listen on this port; 0 takes a free one", 0, integer(0, 65535)),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line and ini options."""
    group = parser.getgroup("whmcs-mock", "whmcs-mock: a WHMCS billing API for tests")
    paths = "fixture file or folder to serve; may be repeated (environment: WHMCS_MOCK_FIXTURES)"
    group.addoption("--whmcs-mock-fixtures", action="append", metavar="PATH", help=paths)
    parser.addini("whmcs_mock_fixtures", "files or folders that whmcs-mock serves", type="paths", default=[])
    for one in _SETTINGS:
        shown = f"{{{','.join(one.choices)}}}" if one.choices else "VALUE"
        kind: dict[str, Any] = {"action": "store_const", "const": "true"} if one.is_flag else {"metavar": shown}
        group.addoption(f"--whmcs-mock-{one.name}", default=None, help=f"{one.help} (environment: {one.env})", **kind)
        parser.addini(f"whmcs_mock_{one.name}", one.help, default=str(one.default))


def _setting(config: pytest.Config, option: Option) -> Any:
    """Return a setting; ``pytest.UsageError`` names the source of an invalid value."""
    sources = {
        f"--whmcs-mock-{option.name}": config.getoption(f"whmcs_mock_{option.name}"),
        option.env: os.environ.get(option.env) or None,
        f"whmcs_mock_{option.name}": config.getini(f"whmcs_mock_{option.name}"),
    }
    where, value = next((where, value) for where, value in sources.items() if value is not None)
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)  # a list in TOML
    try:
        return option.read(text)
    except ValueError as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, check the settings as far as possible without imports, and add the fixtures."""
    line = "whmcs_mock(fixtures=..., profile=..., strict=...): what the fixture whmcs_mock serves in this test, and how"
    config.addinivalue_line("markers", line)
    _sessions.append(_Session(config))
    config.pluginmanager.register(_sessions[-1], "whmcs_mock_session")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget the session."""
    _sessions[:] = [session for session in _sessions if session.config is not config]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse invalid markers."""
    if hasattr(config, "workerinput"):
        return  # a pytest-xdist worker cannot refuse here; the fixture does
    for item in items:
        _marked(item)


def _marked(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of the markers of a test; raise ``pytest.UsageError`` if one is invalid."""
    marks = list(item.iter_markers("whmcs_mock"))  # the closest first
    marked = {key: value for mark in reversed(marks) for key, value in mark.kwargs.items()}
    unknown = [repr(value) for mark in marks for value in mark.args]
    unknown += [key for key in marked if key not in _MARK_ARGUMENTS]
    if unknown:
        known = "=, ".join(_MARK_ARGUMENTS[:-1]) + f"= and {_MARK_ARGUMENTS[-1]}="
        raise pytest.UsageError(f"{item.nodeid}: the marker whmcs_mock takes {known}, not {', '.join(unknown)}")
    if marked.get("profile", "live") not in _PROFILES:
        raise pytest.UsageError(f'{item.nodeid}: profile= is "documented" or "live", not {marked["profile"]!r}')
    if not isinstance(marked.get("strict", True), bool):
        raise pytest.UsageError(f"{item.nodeid}: strict= is True or False, not {marked['strict']!r}")
    return marked


def _configured_fixtures(config: pytest.Config) -> tuple[str, list[Path]]:
    """Return the source of the configured fixtures, and their paths."""
    folder = config.invocation_params.dir
    if given := config.getoption("whmcs_mock_fixtures"):
        if not all(given):
            raise pytest.UsageError("--whmcs-mock-fixtures: empty; write a path")
        return "--whmcs-mock-fixtures", [folder / path for path in given]
    if given := [path for path in os.environ.get("WHMCS_MOCK_FIXTURES", "").split(os.pathsep) if path]:
        return "WHMCS_MOCK_FIXTURES", [folder / path for path in given]
    return "the ini option whmcs_mock_fixtures", config.getini("whmcs_mock_fixtures")


class _Session:
    """Holds what the fixtures and hooks of one session share."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings = {one.name: _setting(config, one) for one in _SETTINGS}
        self.source, self.paths = _configured_fixtures(config)
        self.numbers = itertools.count(1)
        self.ledgers: dict[Any, Ledger] = {}  # by path and modification time
        self.ca_path: Path | None = None
        self.worlds: Worlds | None = None  # once the server runs
        self.strict: set[str] = set()  # the tests that were strict
        self.late: list[tuple[str, str, bool]] = []  # a test, its late calls in words, whether the test was strict

    def ledger(self, given: Any, folder: Path | None = None) -> Ledger:
        """Load the configured, overridden or marked fixtures; a marker's paths are relative to ``folder``."""
        from whmcs_mock.errors import FixtureError
        from whmcs_mock.fixtures import load_fixtures
        from whmcs_mock.handle import find_paths
        from whmcs_mock.ledger import Ledger

        if isinstance(given, Ledger):
            return given
        paths = [given] if isinstance(given, (str, os.PathLike)) else given
        where = self.source
        if folder or paths != self.paths:
            where = "the marker whmcs_mock(fixtures=...)" if folder else "the fixture whmcs_mock_fixtures"
        if not isinstance(paths, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
            _fail(f"whmcs-mock: {where} must be a path, a list of paths or a Ledger, not {given!r}")
        here = self.config.invocation_params.dir
        try:
            names = tuple(map(_short, find_paths(paths, [folder, here] if folder else [here])))
            key = names, tuple(os.stat(name).st_mtime_ns for name in names)
            if key not in self.ledgers:
                self.ledgers[key] = load_fixtures(*names)
        except FixtureError as error:
            _fail(f"whmcs-mock: the fixtures of {where} have problems\n{error}")
        return self.ledgers[key]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a strict test on advice, unused faults, and exceptions in the server."""
        __tracebackhide__ = True
        result = yield
        mock, strict = item.stash.get(_MOCK, (None, False))
        if mock is not None and strict:
            advice = [f"call {n}: {advice}" for n, call in enumerate(mock.calls, 1) for advice in call.advice]
            if problems := mock.problems() + advice:
                _fail("\n".join(["failed by whmcs-mock's strict mode:", *problems]))
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the calls of the test to a failure, on the terminal and in junit XML."""
        report = yield
        mock, _ = item.stash.get(_MOCK, (None, False))
        if mock is None:
            return report
        if report.failed and not (call.excinfo and call.excinfo.value is mock.told):
            if isinstance(report.longrepr, str):
                report.longrepr += f"\n\n{_SECTION}\n{mock.report()}"
            elif add_section := getattr(report.longrepr, "addsection", None):
                add_section(_SECTION, mock.report())
        if call.when == "teardown":
            mock.clear_calls()
            del item.stash[_MOCK]
        return report

    # Code that a test leaves running keeps calling the world of that test.

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Collect the calls from tests that had ended; fail the session if one of these was strict."""
        if worlds := self.worlds:
            found = [(test, f"made this call: {call}") for test, calls in worlds.late.items() for call in calls]
            found += [(test, f"made {more} more calls") for test, more in worlds.unlisted.items()]
            self.late += [(test, what, test in self.strict) for test, what in found]
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["whmcs_mock_late"] = self.late
        elif any(strict for _, _, strict in self.late) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Collect the late calls of a pytest-xdist worker."""
        late = getattr(node, "workeroutput", {}).get("whmcs_mock_late", ())
        self.late += [(test, what, strict) for test, what, strict in late]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List the calls from tests that had ended, with those tests."""
        if self.late:
            terminalreporter.section(_LATE_SECTION)
        for (test, what, _), times in Counter(self.late).items():
            line = f"{test} left code running that {what}"
            terminalreporter.line(line + (f" ({times} times)" if times > 1 else ""))


# pytest resolves what a fixture depends on anew for each test, so they depend on little: not on pytestconfig, for one.


@pytest.fixture(scope="session")
def whmcs_mock_fixtures() -> Any:
    """Return the paths of the fixtures, or a ``Ledger``; override it to choose them in code."""
    return _sessions[-1].paths


@pytest.fixture(scope="session")
def whmcs_mock_ssl_context() -> ssl.SSLContext | None:
    """Return the ``ssl.SSLContext`` of the server, None for http; override it to use your own."""
    session = _sessions[-1]
    if not session.settings["tls"]:
        return None
    import ssl

    ca = _trustme().CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*dict.fromkeys(("127.0.0.1", "localhost", session.settings["host"]))).configure_cert(context)
    folder = tempfile.TemporaryDirectory(prefix="whmcs-mock-")
    session.config.add_cleanup(folder.cleanup)
    session.ca_path = Path(folder.name, "ca.pem")
    ca.cert_pem.write_to_path(session.ca_path)
    return context


@pytest.fixture(scope="session")
def whmcs_mock_server(whmcs_mock_fixtures: Any, whmcs_mock_ssl_context: ssl.SSLContext | None) -> Iterator[MockServer]:
    """Return the running ``MockServer``, one for the session (under pytest-xdist, one for each worker)."""
    from whmcs_mock.errors import ListenError
    from whmcs_mock.server import MockServer

    session = _sessions[-1]
    ledger = session.ledger(whmcs_mock_fixtures)
    given = {name: session.settings[name] for name in ("profile", "host", "port")}
    server = MockServer(ledger, ssl_context=whmcs_mock_ssl_context, **given)
    try:
        server.start()
    except ListenError as error:
        _fail(f"whmcs-mock: {error}; the options are --whmcs-mock-host and --whmcs-mock-port")
    session.worlds = server.app.worlds
    yield server
    server.stop()


@pytest.fixture
def whmcs_mock(
    request: pytest.FixtureRequest, whmcs_mock_server: MockServer, whmcs_mock_fixtures: Any
) -> Iterator[WhmcsMock]:
    """Return the ``WhmcsMock`` of this test, which has its own world with the fixtures as loaded."""
    from whmcs_mock.errors import WhmcsMockWarning
    from whmcs_mock.handle import WhmcsMock

    item, session, worlds = request.node, _sessions[-1], whmcs_mock_server.app.worlds
    try:
        marked = {**session.settings, **_marked(item)}
    except pytest.UsageError as error:
        _fail(str(error))
    folder = item.path.parent
    given = marked.get("fixtures", whmcs_mock_fixtures)  # which may be overridden just for this module
    ledger = session.ledger(given, folder if "fixtures" in marked else None)
    name = f"{next(session.numbers)}-{re.sub('[^A-Za-z0-9._-]+', '-', item.name)[:40].strip('-')}"
    whmcs_mock_server.clear()
    worlds.begin(name, ledger, marked["profile"])
    mock = WhmcsMock(whmcs_mock_server, folder, session.ca_path, name=name)
    item.stash[_MOCK] = mock, marked["strict"]
    yield mock
    problems = mock.problems()
    worlds.end(name, item.nodeid)
    if marked["strict"]:
        session.strict.add(item.nodeid)
    else:
        for problem in problems:
            item.warn(WhmcsMockWarning(problem))


def _trustme() -> Any:
    if importlib.util.find_spec("trustme") is None:
        _fail("whmcs_mock_tls needs trustme: pip install trustme, or whmcs-mock as whmcs-mock[tls]")
    import trustme

    return trustme


def _short(path: Path) -> str:
    """Return a path relative to the working directory if it is below it."""
    here = os.getcwd()
    return str(path)[len(here) + 1 :] if str(path).startswith(here + os.sep) else str(path)


def _fail(message: str) -> NoReturn:
    raise pytest.fail.Exception(message, pytrace=False) from None  # else pytest shows the cause as well
