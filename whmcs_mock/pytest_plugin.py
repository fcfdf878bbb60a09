"""Give pytest the fixtures ``whmcs_mock_server`` and ``whmcs_mock``.

Nothing heavy is imported until a test asks for one of them.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

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
_SECTION = "WHMCS mock: calls in this test"
_MOCK: pytest.StashKey[WhmcsMock] = pytest.StashKey()
_CA_PATH: pytest.StashKey[Path] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: on the command line, in the environment and in the ini file, in this order."""
    group = parser.getgroup("whmcs-mock", "whmcs-mock: a WHMCS billing API for tests")
    group.addoption(
        "--whmcs-mock-fixtures",
        action="append",
        metavar="PATH",
        help="YAML file or folder to serve; may be given again (environment: WHMCS_MOCK_FIXTURES).",
    )
    group.addoption(
        "--whmcs-mock-profile",
        choices=_PROFILES,
        help="Answer as documented, or as live systems do (WHMCS_MOCK_PROFILE).",
    )
    group.addoption(
        "--whmcs-mock-strict",
        action="store_true",
        default=None,
        help="Let advice, and what a test leaves behind, fail the test (WHMCS_MOCK_STRICT=1).",
    )
    parser.addini("whmcs_mock_fixtures", "YAML files or folders that whmcs-mock serves", type="paths", default=[])
    parser.addini("whmcs_mock_profile", "documented or live", default="documented")
    parser.addini(
        "whmcs_mock_strict",
        "let advice, and what a test leaves behind, fail the test",
        type="bool",
        default=False,
    )
    parser.addini("whmcs_mock_tls", "serve https, with the extra tls", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and check what takes no import to check."""
    config.addinivalue_line(
        "markers",
        "whmcs_mock(fixtures=..., profile=..., strict=...): what the fixture whmcs_mock serves in this test, and how",
    )
    if (profile := _profile(config)) not in _PROFILES:
        raise pytest.UsageError(f'whmcs_mock_profile is "documented" or "live", not "{profile}"')
    _strict(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers with arguments that do not exist."""
    for item in items:
        for mark in item.iter_markers("whmcs_mock"):
            wrong = [repr(value) for value in mark.args] + [key for key in mark.kwargs if key not in _MARK_ARGUMENTS]
            if wrong:
                known = ", ".join(f"{key}=" for key in _MARK_ARGUMENTS)
                raise pytest.UsageError(
                    f"{item.nodeid}: the marker whmcs_mock takes {known} and not {', '.join(wrong)}"
                )
            if mark.kwargs.get("profile", "live") not in _PROFILES:
                profile = mark.kwargs["profile"]
                raise pytest.UsageError(f'{item.nodeid}: the profile is "documented" or "live", not {profile!r}')


def _profile(config: pytest.Config) -> str:
    chosen = config.getoption("whmcs_mock_profile") or os.environ.get("WHMCS_MOCK_PROFILE")
    return str(chosen or config.getini("whmcs_mock_profile"))


def _strict(config: pytest.Config) -> bool:
    if config.getoption("whmcs_mock_strict"):
        return True
    if said := os.environ.get("WHMCS_MOCK_STRICT", "").lower():
        if said not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise pytest.UsageError(f'WHMCS_MOCK_STRICT is 1 or 0, not "{said}"')
        return said in ("1", "true", "yes", "on")
    return bool(config.getini("whmcs_mock_strict"))


@pytest.fixture(scope="session")
def whmcs_mock_fixtures(pytestconfig: pytest.Config) -> Any:
    """Give the paths of the fixtures, or a ready ``Ledger``; override it to choose them in code."""
    paths = pytestconfig.getoption("whmcs_mock_fixtures")
    if not paths and (said := os.environ.get("WHMCS_MOCK_FIXTURES")):
        paths = said.split(os.pathsep)
    return paths or pytestconfig.getini("whmcs_mock_fixtures")


@pytest.fixture(scope="session")
def whmcs_mock_ssl_context(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> ssl.SSLContext | None:
    """Give the ``ssl.SSLContext`` of the server, None for http; override it to bring your own."""
    if not pytestconfig.getini("whmcs_mock_tls"):
        return None
    try:
        import trustme
    except ImportError:
        pytest.fail("whmcs_mock_tls needs trustme: pip install 'whmcs-mock[tls]'", pytrace=False)
    import ssl

    ca = trustme.CA()
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

    ledger = _ledger(whmcs_mock_fixtures)
    with MockServer(ledger, profile=_profile(pytestconfig), ssl_context=whmcs_mock_ssl_context) as server:
        yield server


@pytest.fixture
def whmcs_mock(
    request: pytest.FixtureRequest, whmcs_mock_server: MockServer, pytestconfig: pytest.Config
) -> Iterator[WhmcsMock]:
    """Give the ``WhmcsMock`` of this test: everything is as the fixtures say before it begins."""
    from whmcs_mock.errors import WhmcsMockWarning
    from whmcs_mock.mock import WhmcsMock

    marked: dict[str, Any] = {}
    for mark in request.node.iter_markers("whmcs_mock"):  # the closest first
        marked = {**mark.kwargs, **marked}
    folder = request.node.path.parent
    ledger = _ledger(marked["fixtures"], folder) if "fixtures" in marked else None
    profile = marked.get("profile") or _profile(pytestconfig)
    whmcs_mock_server.reset(ledger, profile=profile, name=request.node.nodeid)
    mock = WhmcsMock(whmcs_mock_server, folder, pytestconfig.stash.get(_CA_PATH, None))
    request.node.stash[_MOCK] = mock
    yield mock
    complaints = mock.complaints()
    if marked.get("strict", _strict(pytestconfig)):
        complaints += [f"advice for {call.action}: {advice}" for call in mock.calls for advice in call.advice]
        if complaints:
            pytest.fail("whmcs-mock, strictly:\n" + "\n".join(complaints), pytrace=False)
    for complaint in complaints:
        warnings.warn(f"{request.node.nodeid}: {complaint}", WhmcsMockWarning, stacklevel=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Explain a failure by the calls in the test, on the terminal and in junit XML alike."""
    report = yield
    mock = item.stash.get(_MOCK, None)
    if report.failed and mock is not None:
        if isinstance(report.longrepr, str):
            report.longrepr += f"\n\n{_SECTION}\n{mock.report()}"
        elif add_section := getattr(report.longrepr, "addsection", None):
            add_section(_SECTION, mock.report())
    return report


def _ledger(given: Any, folder: Path | None = None) -> Ledger:
    """Load what an option, a marker or an overridden fixture gives; relative paths are tried from the test's folder."""
    from whmcs_mock.errors import FixtureError
    from whmcs_mock.fixtures import load_fixtures
    from whmcs_mock.model import Ledger

    if isinstance(given, Ledger):
        return given
    paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    if folder:
        paths = [folder / path if (folder / path).exists() else path for path in paths]
    try:
        return load_fixtures(*(_short(path) for path in paths))
    except FixtureError as error:
        pytest.fail(f"whmcs-mock: the fixtures have problems\n{error}", pytrace=False)


def _short(path: str | os.PathLike[str]) -> str:
    """Write a path from the working directory when it is below it."""
    relative = os.path.relpath(path)
    return os.fspath(path) if relative.startswith(os.pardir) else relative
