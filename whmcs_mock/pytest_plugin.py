"""Provide the pytest fixtures ``whmcs_mock_server`` and ``whmcs_mock``.

Nothing heavy is imported until a test requests one of them.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from whmcs_mock.handle import WhmcsMock
    from whmcs_mock.ledger import Ledger
    from whmcs_mock.server import MockServer

_MARK_ARGUMENTS = ("fixtures", "profile", "strict")
_PROFILES = ("documented", "live")  # as in ledger, which is not imported here
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_SECTION = "WHMCS mock: calls in this test"
_LATE_SECTION = "WHMCS mock: calls from tests that had ended"
_MOCK: pytest.StashKey[tuple[WhmcsMock, bool]] = pytest.StashKey()  # per test: its mock, and whether it is strict
_LEDGERS: pytest.StashKey[dict[Any, Ledger]] = pytest.StashKey()  # per session: by path and modification time
_CA_PATH: pytest.StashKey[Path] = pytest.StashKey()
_CALLS: pytest.StashKey[Any] = pytest.StashKey()  # the calls to worlds of tests that had ended, with those tests
_STRICT: pytest.StashKey[set[str]] = pytest.StashKey()  # the tests that were strict
_LATE: pytest.StashKey[list[tuple[str, str, bool]]] = pytest.StashKey()  # a test, its late call, whether it was strict

_numbers = itertools.count(1)


def _parse_profile(text: str) -> str:
    if text not in _PROFILES:
        raise ValueError('"documented" or "live"')
    return text


def _parse_switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("1 or 0, true or false")
    return _SWITCH[text.lower()]


def _parse_host(text: str) -> str:
    if not text.strip():
        raise ValueError("a name or an address, such as 127.0.0.1")
    return text


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ValueError("a port from 0 to 65535")
    return int(text)


class _Setting(NamedTuple):
    """A setting: a command-line option, an environment variable or an ini option, in this order."""

    name: str
    parse: Callable[[str], Any]
    default: str
    help: str
    option: dict[str, Any] = {"metavar": "VALUE"}  # noqa: RUF012  # never changed


_SETTINGS = {
    setting.name: setting
    for setting in (
        _Setting(
            "profile",
            _parse_profile,
            "documented",
            "answer as documented, or as live systems do",
            {"metavar": "{documented,live}"},
        ),
        _Setting(
            "strict",
            _parse_switch,
            "false",
            "fail tests on advice and unused faults",
            {"action": "store_const", "const": "true"},
        ),
        _Setting(
            "tls",
            _parse_switch,
            "false",
            "serve https (needs the extra tls)",
            {"action": "store_const", "const": "true"},
        ),
        _Setting("host", _parse_host, "127.0.0.1", "listen on this name or address"),
        _Setting("port", _parse_port, "0", "listen on this port; 0 takes a free one"),
    )
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line and ini options."""
    group = parser.getgroup("whmcs-mock", "whmcs-mock: a WHMCS billing API for tests")
    paths = "fixture file or folder to serve; may be repeated (environment: WHMCS_MOCK_FIXTURES)"
    group.addoption("--whmcs-mock-fixtures", action="append", metavar="PATH", help=paths)
    parser.addini("whmcs_mock_fixtures", "files or folders that whmcs-mock serves", type="paths", default=[])
    for name, setting in _SETTINGS.items():
        text = f"{setting.help} (environment: WHMCS_MOCK_{name.upper()})"
        group.addoption(f"--whmcs-mock-{name}", default=None, help=text, **setting.option)
        parser.addini(f"whmcs_mock_{name}", setting.help, default=setting.default)


def _setting(config: pytest.Config, name: str) -> Any:
    """Return a setting; ``pytest.UsageError`` names the source of an invalid value."""
    variable = f"WHMCS_MOCK_{name.upper()}"
    sources = {
        f"--whmcs-mock-{name}": config.getoption(f"whmcs_mock_{name}"),
        variable: os.environ.get(variable) or None,
        f"whmcs_mock_{name}": config.getini(f"whmcs_mock_{name}"),
    }
    where, value = next((where, value) for where, value in sources.items() if value is not None)
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)  # a list in TOML
    try:
        return _SETTINGS[name].parse(text)
    except ValueError as error:
        raise pytest.UsageError(f'{where} is {error}, not "{text}"') from None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and check the settings as far as possible without imports."""
    line = "whmcs_mock(fixtures=..., profile=..., strict=...): what the fixture whmcs_mock serves in this test, and how"
    config.addinivalue_line("markers", line)
    for name in _SETTINGS:
        _setting(config, name)
    _configured_fixtures(config)
    config.stash[_LEDGERS], config.stash[_CALLS] = {}, ()
    config.stash[_STRICT], config.stash[_LATE] = set(), []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers with unknown arguments."""
    if hasattr(config, "workerinput"):
        return  # a pytest-xdist worker cannot refuse here; the fixture does
    for item in items:
        if wrong := _wrong_marker(item):
            raise pytest.UsageError(wrong)


def _marked(item: pytest.Item) -> dict[str, Any]:
    marked: dict[str, Any] = {}
    for mark in item.iter_markers("whmcs_mock"):  # the closest first
        marked = {**mark.kwargs, **marked}
    return marked


def _wrong_marker(item: pytest.Item) -> str:
    """Return what is wrong with the markers of a test, or an empty string."""
    marked = _marked(item)
    unknown = [repr(value) for mark in item.iter_markers("whmcs_mock") for value in mark.args]
    unknown += [key for key in marked if key not in _MARK_ARGUMENTS]
    if unknown:
        known = "=, ".join(_MARK_ARGUMENTS[:-1]) + f"= and {_MARK_ARGUMENTS[-1]}="
        return f"{item.nodeid}: the marker whmcs_mock takes {known}, not {', '.join(unknown)}"
    if marked.get("profile", "live") not in _PROFILES:
        return f'{item.nodeid}: profile= is "documented" or "live", not {marked["profile"]!r}'
    if not isinstance(marked.get("strict", True), bool):
        return f"{item.nodeid}: strict= is True or False, not {marked['strict']!r}"
    return ""


def _configured_fixtures(config: pytest.Config) -> tuple[str, list[Path]]:
    """Return the source of the configured fixtures, and their paths."""
    folder = config.invocation_params.dir
    if given := config.getoption("whmcs_mock_fixtures"):
        if not all(given):
            raise pytest.UsageError("--whmcs-mock-fixtures is empty; write a path")
        return "--whmcs-mock-fixtures", [folder / path for path in given]
    if given := [path for path in os.environ.get("WHMCS_MOCK_FIXTURES", "").split(os.pathsep) if path]:
        return "WHMCS_MOCK_FIXTURES", [folder / path for path in given]
    return "the ini option whmcs_mock_fixtures", config.getini("whmcs_mock_fixtures")


@pytest.fixture(scope="session")
def whmcs_mock_fixtures(pytestconfig: pytest.Config) -> Any:
    """Return the paths of the fixtures, or a ``Ledger``; override it to choose them in code."""
    return _configured_fixtures(pytestconfig)[1]


@pytest.fixture(scope="session")
def whmcs_mock_ssl_context(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> ssl.SSLContext | None:
    """Return the ``ssl.SSLContext`` of the server, None for http; override it to use your own."""
    if not _setting(pytestconfig, "tls"):
        return None
    import ssl

    ca = _trustme().CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = dict.fromkeys(("127.0.0.1", "localhost", _setting(pytestconfig, "host")))
    ca.issue_cert(*names).configure_cert(context)
    path = tmp_path_factory.mktemp("whmcs_mock") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    pytestconfig.stash[_CA_PATH] = path
    return context


@pytest.fixture(scope="session")
def whmcs_mock_server(
    whmcs_mock_fixtures: Any, whmcs_mock_ssl_context: ssl.SSLContext | None, pytestconfig: pytest.Config
) -> Iterator[MockServer]:
    """Return the running ``MockServer``, one for the session (under pytest-xdist, one for each worker)."""
    from whmcs_mock.errors import ListenError
    from whmcs_mock.server import MockServer

    ledger = _ledger(whmcs_mock_fixtures, pytestconfig)
    profile, host, port = (_setting(pytestconfig, name) for name in ("profile", "host", "port"))
    server = MockServer(ledger, host=host, port=port, profile=profile, ssl_context=whmcs_mock_ssl_context)
    try:
        server.start()
    except ListenError as error:
        _fail(f"whmcs-mock: {error}; see --whmcs-mock-host and --whmcs-mock-port (0 takes a free port)")
    pytestconfig.stash[_CALLS] = server.app.worlds.late
    yield server
    server.stop()


@pytest.fixture
def whmcs_mock(
    request: pytest.FixtureRequest,
    whmcs_mock_server: MockServer,
    whmcs_mock_fixtures: Any,
    pytestconfig: pytest.Config,
) -> Iterator[WhmcsMock]:
    """Return the ``WhmcsMock`` of this test, which has its own world with the fixtures as loaded."""
    from whmcs_mock.errors import WhmcsMockWarning
    from whmcs_mock.handle import WhmcsMock

    item, config, worlds = request.node, pytestconfig, whmcs_mock_server.app.worlds
    if wrong := _wrong_marker(item):
        _fail(wrong)
    marked, folder = _marked(item), item.path.parent
    if "fixtures" in marked:
        ledger = _ledger(marked["fixtures"], config, folder)
    else:  # may be overridden just for this module
        ledger = _ledger(whmcs_mock_fixtures, config)
    name = f"{next(_numbers)}-{re.sub('[^A-Za-z0-9._-]+', '-', item.name)[:40].strip('-')}"
    whmcs_mock_server.clear()
    worlds.begin(name, ledger, marked.get("profile") or _setting(config, "profile"))
    mock = WhmcsMock(whmcs_mock_server, folder, config.stash.get(_CA_PATH, None), name=name)
    strict = marked.get("strict", _setting(config, "strict"))
    item.stash[_MOCK] = mock, strict
    yield mock
    problems = mock.problems()
    worlds.end(name, item.nodeid)
    if strict:
        config.stash[_STRICT].add(item.nodeid)
    else:
        for problem in problems:
            item.warn(WhmcsMockWarning(problem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
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
    item: pytest.Item, call: pytest.CallInfo[None]
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
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Collect the calls from tests that had ended; fail the session if one of these was strict."""
    config, late = session.config, session.config.stash.get(_LATE, [])
    late += [(test, str(call), test in config.stash[_STRICT]) for test, call in config.stash.get(_CALLS, ())]
    if hasattr(config, "workeroutput"):
        config.workeroutput["whmcs_mock_late"] = late
    elif any(strict for _, _, strict in late) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the late calls of a pytest-xdist worker."""
    late = getattr(node, "workeroutput", {}).get("whmcs_mock_late", ())
    node.config.stash[_LATE] += [(test, call, strict) for test, call, strict in late]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """List the calls from tests that had ended, with those tests."""
    if late := config.stash.get(_LATE, []):
        terminalreporter.section(_LATE_SECTION)
        for (test, call, _), times in Counter(late).items():
            terminalreporter.line(
                f"{test} left code running that made this call: {call}" + (f" ({times} times)" if times > 1 else "")
            )


def _trustme() -> Any:
    if importlib.util.find_spec("trustme") is None:
        _fail("whmcs_mock_tls needs trustme: pip install trustme, or whmcs-mock as whmcs-mock[tls]")
    import trustme

    return trustme


def _ledger(given: Any, config: pytest.Config, folder: Path | None = None) -> Ledger:
    """Load the configured, overridden or marked fixtures; a marker's paths are relative to ``folder``."""
    from whmcs_mock.errors import FixtureError
    from whmcs_mock.fixtures import load_fixtures
    from whmcs_mock.handle import find_path
    from whmcs_mock.ledger import Ledger

    if isinstance(given, Ledger):
        return given
    paths = [given] if isinstance(given, (str, os.PathLike)) else given
    where, configured = _configured_fixtures(config)
    if folder or paths != configured:
        where = "the marker whmcs_mock(fixtures=...)" if folder else "the fixture whmcs_mock_fixtures"
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        _fail(f"whmcs-mock: {where} must be a path, a list of paths or a Ledger, not {given!r}")
    ledgers, here = config.stash[_LEDGERS], config.invocation_params.dir
    try:
        names = tuple(_short(find_path(path, [folder, here] if folder else [here])) for path in paths)
        key = names, tuple(os.stat(name).st_mtime_ns for name in names)
        if key not in ledgers:
            ledgers[key] = load_fixtures(*names)
    except FixtureError as error:
        _fail(f"whmcs-mock: the fixtures of {where} have problems\n{error}")
    return ledgers[key]


def _short(path: Path) -> str:
    """Return a path relative to the working directory if it is below it."""
    here = os.getcwd()
    return str(path)[len(here) + 1 :] if str(path).startswith(here + os.sep) else str(path)


def _fail(message: str) -> NoReturn:
    raise pytest.fail.Exception(message, pytrace=False) from None  # else pytest shows the cause as well
