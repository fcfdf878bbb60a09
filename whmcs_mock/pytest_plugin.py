"""Give pytest the fixtures ``whmcs_mock_server`` and ``whmcs_mock``.

Nothing heavy is imported until a test asks for one of them.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from whmcs_mock.mock import WhmcsMock
    from whmcs_mock.model import Ledger
    from whmcs_mock.server import MockServer

__all__ = ["whmcs_mock", "whmcs_mock_fixtures", "whmcs_mock_server", "whmcs_mock_ssl_context"]

_MARK_ARGUMENTS = ("fixtures", "profile", "strict")
_PROFILES = ("documented", "live")
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_SECTION = "WHMCS mock: calls in this test"
_MOCK: pytest.StashKey[tuple[WhmcsMock, bool]] = pytest.StashKey()  # of a test: its mock, and whether it is strict
_LEDGERS: pytest.StashKey[dict[Any, Ledger]] = pytest.StashKey()  # of the session: by path and time of change
_CA_PATH: pytest.StashKey[Path] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: on the command line, in the environment and in the ini file, in this order."""
    group = parser.getgroup("whmcs-mock", "whmcs-mock: a WHMCS billing API for tests")
    add, ini = group.addoption, parser.addini
    paths = "YAML file or folder to serve; may be given again (environment: WHMCS_MOCK_FIXTURES)"
    add("--whmcs-mock-fixtures", action="append", metavar="PATH", help=paths)
    profile = "answer as documented, or as live systems do (environment: WHMCS_MOCK_PROFILE)"
    add("--whmcs-mock-profile", choices=_PROFILES, help=profile)
    strict = "let advice, and what a test leaves behind, fail the test (environment: WHMCS_MOCK_STRICT=1)"
    add("--whmcs-mock-strict", action="store_true", default=None, help=strict)
    ini("whmcs_mock_fixtures", "YAML files or folders that whmcs-mock serves", type="paths", default=[])
    ini("whmcs_mock_profile", "documented or live", default="documented")
    ini("whmcs_mock_strict", "let advice, and what a test leaves behind, fail the test", type="bool", default=False)
    ini("whmcs_mock_tls", "serve https, with the extra tls", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and check what takes no import to check."""
    line = "whmcs_mock(fixtures=..., profile=..., strict=...): what the fixture whmcs_mock serves in this test, and how"
    config.addinivalue_line("markers", line)
    _profile(config)
    _strict(config)
    _switch(config, "whmcs_mock_tls")
    config.stash[_LEDGERS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers with arguments that do not exist."""
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist cannot refuse; the fixture will
    for item in items:
        if wrong := _wrong_marker(item):
            raise pytest.UsageError(wrong)


def _marked(item: pytest.Item) -> dict[str, Any]:
    marked: dict[str, Any] = {}
    for mark in item.iter_markers("whmcs_mock"):  # the closest first
        marked = {**mark.kwargs, **marked}
    return marked


def _wrong_marker(item: pytest.Item) -> str:
    """Say what is wrong in the markers of a test; empty when nothing is."""
    marked = _marked(item)
    unknown = [repr(value) for mark in item.iter_markers("whmcs_mock") for value in mark.args]
    unknown += [key for key in marked if key not in _MARK_ARGUMENTS]
    if unknown:
        known = ", ".join(f"{key}=" for key in _MARK_ARGUMENTS)
        return f"{item.nodeid}: the marker whmcs_mock takes {known} and not {', '.join(unknown)}"
    if marked.get("profile", "live") not in _PROFILES:
        return f'{item.nodeid}: profile= is "documented" or "live", not {marked["profile"]!r}'
    if not isinstance(marked.get("strict", True), bool):
        return f"{item.nodeid}: strict= is True or False, not {marked['strict']!r}"
    return ""


def _profile(config: pytest.Config) -> str:
    if profile := config.getoption("whmcs_mock_profile"):
        return str(profile)
    said = os.environ.get("WHMCS_MOCK_PROFILE")
    profile = said or config.getini("whmcs_mock_profile")
    if profile not in _PROFILES:
        where = "WHMCS_MOCK_PROFILE" if said else "whmcs_mock_profile"
        raise pytest.UsageError(f'{where} is "documented" or "live", not "{profile}"')
    return str(profile)


def _strict(config: pytest.Config) -> bool:
    if config.getoption("whmcs_mock_strict"):
        return True
    if said := os.environ.get("WHMCS_MOCK_STRICT"):
        if said.lower() not in _SWITCH:
            raise pytest.UsageError(f'WHMCS_MOCK_STRICT is 1 or 0, not "{said}"')
        return _SWITCH[said.lower()]
    return _switch(config, "whmcs_mock_strict")


def _switch(config: pytest.Config, name: str) -> bool:
    try:
        return bool(config.getini(name))
    except (ValueError, pytest.UsageError) as error:
        raise pytest.UsageError(f"{name} is true or false: {error}") from None


@pytest.fixture(scope="session")
def whmcs_mock_fixtures(pytestconfig: pytest.Config) -> Any:
    """Give the paths of the fixtures, or a ready ``Ledger``; override it to choose them in code."""
    paths = pytestconfig.getoption("whmcs_mock_fixtures")
    if not paths and (said := os.environ.get("WHMCS_MOCK_FIXTURES")):
        paths = said.split(os.pathsep)
    folder = pytestconfig.invocation_params.dir
    return [folder / path for path in paths or ()] or pytestconfig.getini("whmcs_mock_fixtures")


@pytest.fixture(scope="session")
def whmcs_mock_ssl_context(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> ssl.SSLContext | None:
    """Give the ``ssl.SSLContext`` of the server, None for http; override it to bring your own."""
    if not pytestconfig.getini("whmcs_mock_tls"):
        return None
    import ssl

    ca = _trustme().CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    path = tmp_path_factory.mktemp("whmcs_mock") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    pytestconfig.stash[_CA_PATH] = path
    return context


@pytest.fixture(scope="session")
def whmcs_mock_server(
    whmcs_mock_fixtures: Any, whmcs_mock_ssl_context: ssl.SSLContext | None, pytestconfig: pytest.Config
) -> Iterator[MockServer]:
    """Give the running ``MockServer``, one for the session (under pytest-xdist, one for each worker)."""
    from whmcs_mock.server import MockServer

    ledger = _ledger(whmcs_mock_fixtures, pytestconfig)
    with MockServer(ledger, profile=_profile(pytestconfig), ssl_context=whmcs_mock_ssl_context) as server:
        yield server


@pytest.fixture
def whmcs_mock(
    request: pytest.FixtureRequest,
    whmcs_mock_server: MockServer,
    whmcs_mock_fixtures: Any,
    pytestconfig: pytest.Config,
) -> Iterator[WhmcsMock]:
    """Give the ``WhmcsMock`` of this test: everything is as the fixtures say before it begins."""
    from whmcs_mock.errors import WhmcsMockWarning
    from whmcs_mock.mock import WhmcsMock

    item, config = request.node, pytestconfig
    if wrong := _wrong_marker(item):
        _fail(wrong)
    marked, folder = _marked(item), item.path.parent
    given = marked.get("fixtures", whmcs_mock_fixtures)  # the latter may be overridden for this module alone
    ledger = _ledger(given, config, folder if "fixtures" in marked else None)
    whmcs_mock_server.reset(ledger, profile=marked.get("profile") or _profile(config), name=item.nodeid)
    mock = WhmcsMock(whmcs_mock_server, folder, config.stash.get(_CA_PATH, None))
    strict = marked.get("strict", _strict(config))
    item.stash[_MOCK] = mock, strict
    yield mock
    whmcs_mock_server.origins.end()
    if not strict:
        for complaint in mock.complaints():
            item.warn(WhmcsMockWarning(complaint))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a strict test for what it did not do well."""
    result = yield
    mock, strict = item.stash.get(_MOCK, (None, False))
    if mock is not None and strict:
        advice = [
            f"call {n}: {advice}" for n, call in enumerate(mock.calls, 1) for advice in call.advice if not call.late
        ]
        if complaints := mock.complaints() + advice:
            _fail("\n".join(["whmcs-mock is strict here:", *complaints]))
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Explain a failure by the calls in the test, on the terminal and in junit XML alike."""
    report = yield
    mock, _ = item.stash.get(_MOCK, (None, False))
    if report.failed and mock is not None:
        if isinstance(report.longrepr, str):
            report.longrepr += f"\n\n{_SECTION}\n{mock.report()}"
        elif add_section := getattr(report.longrepr, "addsection", None):
            add_section(_SECTION, mock.report())
    if mock is not None and call.when == "teardown":
        del item.stash[_MOCK]
    return report


def _trustme() -> Any:
    if importlib.util.find_spec("trustme") is None:
        _fail("whmcs_mock_tls needs trustme: pip install trustme, or whmcs-mock as whmcs-mock[tls]")
    import trustme

    return trustme


def _ledger(given: Any, config: pytest.Config, folder: Path | None = None) -> Ledger:
    """Load what an option, a marker or an overridden fixture gives; a marker's paths from the test's folder, if there."""
    from whmcs_mock.errors import FixtureError
    from whmcs_mock.fixtures import load_fixtures
    from whmcs_mock.model import Ledger

    if isinstance(given, Ledger):
        return given
    paths = [given] if isinstance(given, (str, os.PathLike)) else given
    if not isinstance(paths, (list, tuple)) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        _fail(f"whmcs-mock: the fixtures are a path, a list of paths or a Ledger, not {given!r}")
    found = [folder / path if folder and (folder / path).exists() else path for path in paths]
    names = tuple(_short(path) for path in found)
    key = names, tuple(os.stat(name).st_mtime_ns for name in names if os.path.exists(name))
    ledgers = config.stash[_LEDGERS]
    try:
        if key not in ledgers:
            ledgers[key] = load_fixtures(*names)
    except FixtureError as error:
        problems = str(error)
    if key not in ledgers:  # not in the except clause: pytest would tell the problems twice
        _fail(f"whmcs-mock: the fixtures have problems\n{problems}")
    return ledgers[key]


def _short(path: str | os.PathLike[str]) -> str:
    """Write a path from the working directory when it is below it."""
    relative = os.path.relpath(path)
    return os.fspath(path) if relative.startswith(os.pardir) else relative


def _fail(message: str) -> NoReturn:
    pytest.fail(message, pytrace=False)
