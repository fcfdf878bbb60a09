"""Configuration of the plugin: sources and their precedence, overridable fixtures, TLS, errors, and import cost."""

from __future__ import annotations

import json
import os
import socket

import pytest
from plugin_runs import SECRETS, run, shown

#: Tests that record the clients and profile they see, and make calls that fail a strict test.
SEEING = """
import json
from pathlib import Path

import pytest
import requests


def see(name, mock):
    answers = [
        requests.get(mock.url, params={"action": "GetCredits", "clientid": id, "responsetype": "nvp"}, timeout=30)
        for id in range(1, 6)
    ]
    clients = [id for id, answer in enumerate(answers, 1) if "result=success" in answer.text]
    Path(f"{name}.json").write_text(json.dumps([clients, mock.profile]))


def test_plain(whmcs_mock):
    see("plain", whmcs_mock)


@pytest.mark.whmcs_mock(fixtures="five.yaml", profile="live", strict=False)
class TestMarked:
    def test_class(self, whmcs_mock):
        see("class", whmcs_mock)

    @pytest.mark.whmcs_mock(profile="documented")
    def test_function(self, whmcs_mock):
        see("function", whmcs_mock)
"""

OPTIONS = ("--whmcs-mock-fixtures=four.yaml", "--whmcs-mock-profile=live", "--whmcs-mock-strict")
ENVIRONMENT = {"WHMCS_MOCK_FIXTURES": "three.yaml", "WHMCS_MOCK_PROFILE": "documented", "WHMCS_MOCK_STRICT": "0"}
INI = """
[pytest]
whmcs_mock_fixtures = two.yaml
whmcs_mock_profile = live
whmcs_mock_strict = true
"""


@pytest.mark.parametrize(
    ("ini", "environment", "options", "expected"),
    [
        ("[pytest]", {}, (), ([1], "documented", False)),
        (INI, {}, (), ([2], "live", True)),
        (INI, ENVIRONMENT, (), ([3], "documented", False)),
        (INI, ENVIRONMENT, OPTIONS, ([4], "live", True)),
    ],
    ids=["default", "ini", "environment", "option"],
)
def test_precedence(
    pytester: pytest.Pytester,
    ini: str,
    environment: dict[str, str],
    options: tuple[str, ...],
    expected: tuple[list[int], str, bool],
) -> None:
    """Configuration is taken from the marker, the command line, the environment, the ini file, then the default."""
    for id, name in enumerate(("two", "three", "four", "five"), 2):
        pytester.makefile(".yaml", **{name: f"clients: [{{id: {id}}}]"})
    pytester.makeini(ini)
    pytester.makepyfile(SEEING)
    result = run(pytester, *options, environment=environment)
    clients, profile, strict = expected
    seen = {path.stem: json.loads(path.read_text()) for path in pytester.path.glob("*.json")}
    assert seen == {"plain": [clients, profile], "class": [[5], "live"], "function": [[5], "documented"]}
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if strict else pytest.ExitCode.OK)
    assert ("test_plain" in shown(result)) == strict
    assert "TestMarked" not in shown(result)


def test_several_paths(pytester: pytest.Pytester) -> None:
    """Several files and folders form one ledger: the option can be repeated, and the marker accepts a list."""
    (pytester.mkdir("folder") / "two.yaml").write_text("clients: [{id: 2}]")
    pytester.makefile(".yaml", one="clients: [{id: 1}]", three="clients: [{id: 3}]")
    pytester.makepyfile("""
        import pytest
        from whmcs_mock import Client, Ledger


        def test_options(whmcs_mock):
            assert [whmcs_mock.client(id).id for id in (1, 2)] == [1, 2]


        @pytest.mark.whmcs_mock(fixtures=["folder", "three.yaml"])
        def test_list(whmcs_mock):
            assert [whmcs_mock.client(id).id for id in (2, 3)] == [2, 3]


        @pytest.mark.whmcs_mock(fixtures=Ledger([Client(9)]))
        def test_ledger(whmcs_mock):
            assert whmcs_mock.client(9).id == 9
    """)
    run(pytester, "--whmcs-mock-fixtures=one.yaml", "--whmcs-mock-fixtures=folder").assert_outcomes(passed=3)


def test_paths_are_relative(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the ini file are relative to its folder; those in a marker or ``load`` to that of the test file."""
    sub = pytester.mkdir("sub")
    pytester.makeini("[pytest]\nwhmcs_mock_fixtures = sub/base.yaml")
    (sub / "base.yaml").write_text("clients: [{id: 1}]")
    (sub / "more.yaml").write_text("clients: [{id: 2}]")
    (sub / "test_sub.py").write_text("""
import pytest


def test_load(whmcs_mock):
    whmcs_mock.load("more.yaml")
    assert whmcs_mock.client(1) and whmcs_mock.client(2)


@pytest.mark.whmcs_mock(fixtures="more.yaml")
def test_marker(whmcs_mock):
    assert whmcs_mock.client(2)
""")
    pytester.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    run(pytester, str(sub), f"--rootdir={pytester.path}", f"-c{pytester.path}/tox.ini").assert_outcomes(passed=2)


# Overridable fixtures.


def test_overridden_fixtures(pytester: pytest.Pytester) -> None:
    """``whmcs_mock_fixtures`` returns a path, several paths or a ledger, and overrides the configuration."""
    pytester.makefile(".yaml", two="clients: [{id: 2}]", three="clients: [{id: 3}]")
    for name, given, ids in (
        ("path", "Path('two.yaml')", [2]),
        ("text", "'two.yaml'", [2]),
        ("several", "['two.yaml', 'three.yaml']", [2, 3]),
        ("ledger", "Ledger([Client(4)])", [4]),
        ("nothing", "()", [1]),
    ):
        (pytester.path / f"test_{name}.py").write_text(f"""
from pathlib import Path

import pytest
from whmcs_mock import Client, Ledger


@pytest.fixture(scope="session")
def whmcs_mock_fixtures():
    return {given}


def test_clients(whmcs_mock):
    assert [whmcs_mock.client(id).id for id in {ids}] == {ids}
""")
    pytester.makefile(".yaml", five="clients: [{id: 5}]")
    pytester.makepyfile(
        test_zz_configured="""
        def test_clients(whmcs_mock):
            assert whmcs_mock.client(5)
    """
    )
    run(pytester, "--whmcs-mock-fixtures=five.yaml").assert_outcomes(passed=6)


TLS = """
import ssl

import httpx
import pytest
import requests

FORM = {"action": "GetCredits", "clientid": "1", "responsetype": "json", "identifier": "i", "secret": "s"}


def test_clients(whmcs_mock, authority):
    assert whmcs_mock.url.startswith("https://127.0.0.1:")
    assert requests.post(whmcs_mock.url, data=FORM, verify=authority, timeout=30).json()["totalresults"] == "2"
    context = ssl.create_default_context(cafile=authority)
    assert httpx.post(whmcs_mock.url, data=FORM, verify=context).json()["totalresults"] == "2"
    by_name = whmcs_mock.url.replace("127.0.0.1", "localhost")
    assert requests.post(by_name, data=FORM, verify=authority, timeout=30).ok


def test_strangers(whmcs_mock):
    with pytest.raises(requests.exceptions.SSLError):
        requests.post(whmcs_mock.url, data=FORM, timeout=30)


def test_faults(whmcs_mock, authority):
    whmcs_mock.fail_next(["truncated", "reset"])
    for _ in range(2):
        with pytest.raises(requests.RequestException):
            requests.post(whmcs_mock.url, data=FORM, verify=authority, timeout=30)
    assert requests.post(whmcs_mock.url, data=FORM, verify=authority, timeout=30).ok
"""


def test_tls(pytester: pytest.Pytester) -> None:
    """With ``whmcs_mock_tls`` the server uses https, and a client can verify it with ``ca_path``."""
    pytester.makeini("[pytest]\nwhmcs_mock_tls = true")
    pytester.makepyfile(
        TLS
        + """

@pytest.fixture
def authority(whmcs_mock):
    assert "BEGIN CERTIFICATE" in whmcs_mock.ca_path.read_text()
    return str(whmcs_mock.ca_path)
"""
    )
    run(pytester, alone=True).assert_outcomes(passed=3)


def test_overridden_ssl_context(pytester: pytest.Pytester) -> None:
    """The server uses an overridden ``whmcs_mock_ssl_context``; ``ca_path`` then raises a LookupError."""
    pytester.makepyfile(
        TLS
        + """

import trustme

CA = trustme.CA()


@pytest.fixture(scope="session")
def whmcs_mock_ssl_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def authority(tmp_path):
    CA.cert_pem.write_to_path(tmp_path / "own.pem")
    return str(tmp_path / "own.pem")


def test_no_ca_path(whmcs_mock):
    with pytest.raises(LookupError, match="whmcs_mock_tls"):
        whmcs_mock.ca_path
"""
    )
    run(pytester, alone=True).assert_outcomes(passed=4)


def test_tls_without_trustme(pytester: pytest.Pytester) -> None:
    """Without trustme, the error says how to install it, and has no traceback."""
    pytester.makeini("[pytest]\nwhmcs_mock_tls = true")
    pytester.makeconftest("import sys\nsys.modules['trustme'] = None")
    pytester.makepyfile("def test_tls(whmcs_mock): pass")
    result = run(pytester, alone=True)
    result.assert_outcomes(errors=1)
    assert "whmcs-mock[tls]" in shown(result)
    assert "pytest_plugin.py" not in shown(result)


# Mistakes.


@pytest.mark.parametrize(
    ("mark", "parts", "options"),
    [
        ("'extra.yaml', profil='live'", ["extra.yaml", "profil", "fixtures=", "profile=", "strict="], []),
        ("profile='lively'", ["lively", "documented", "live"], []),
        ("profil='live'", ["profil", "fixtures=", "profile=", "strict="], ["-n2"]),
    ],
    ids=["arguments", "profile", "xdist"],
)
def test_wrong_marker(pytester: pytest.Pytester, mark: str, parts: list[str], options: list[str]) -> None:
    """An unknown marker argument or profile is a usage error that names the test and the valid values."""
    pytester.makepyfile(
        test_marked=f"""
        import pytest


        @pytest.mark.whmcs_mock({mark})
        def test_wrong(whmcs_mock):
            pass


        def test_right(whmcs_mock):
            pass
    """
    )
    result = run(pytester, *options, plugins=("whmcs_mock", "xdist"), alone=bool(options))
    for part in ("test_marked.py::test_wrong", *parts):
        assert part in shown(result)
    assert "Traceback" not in shown(result)
    assert "INTERNALERROR" not in shown(result)
    assert result.ret == pytest.ExitCode.USAGE_ERROR or (options and result.ret == pytest.ExitCode.TESTS_FAILED)


@pytest.mark.parametrize("mark", ["fixtures=7", "strict='no'"])
def test_wrong_marker_value(pytester: pytest.Pytester, mark: str) -> None:
    """A marker value of the wrong type is refused with one sentence, without a traceback through the plugin."""
    pytester.makepyfile(
        test_marked=f"""
        import pytest


        @pytest.mark.whmcs_mock({mark})
        def test_wrong(whmcs_mock):
            pass
    """
    )
    result = run(pytester)
    assert mark.partition("=")[0] in shown(result)
    assert "pytest_plugin.py" not in shown(result)
    assert "TypeError" not in shown(result)
    assert result.ret != pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("ini", "environment", "options", "parts"),
    [
        ("whmcs_mock_profile = lively", {}, (), ["whmcs_mock_profile", "lively", "documented", "live"]),
        ("", {"WHMCS_MOCK_PROFILE": "lively"}, (), ["WHMCS_MOCK_PROFILE", "lively", "documented", "live"]),
        ("", {}, ("--whmcs-mock-profile=lively",), ["--whmcs-mock-profile", "lively", "documented", "live"]),
        ("whmcs_mock_strict = perhaps", {}, (), ["whmcs_mock_strict", "perhaps"]),
        ("", {"WHMCS_MOCK_STRICT": "perhaps"}, (), ["WHMCS_MOCK_STRICT", "perhaps"]),
        ("whmcs_mock_tls = perhaps", {}, (), ["whmcs_mock_tls", "perhaps"]),
        ("", {}, ("--whmcs-mock-host", ""), ["--whmcs-mock-host: empty; is a shell variable unset?"]),
        ("", {}, ("--whmcs-mock-profile", ""), ["--whmcs-mock-profile: empty; is a shell variable unset?"]),
        ("", {}, ("--whmcs-mock-port", ""), ["--whmcs-mock-port: empty; is a shell variable unset?"]),
        ("", {}, ("--whmcs-mock-port=65536",), ["--whmcs-mock-port", "65536", "from 0 to 65535"]),
        ("", {"WHMCS_MOCK_PORT": "-1"}, (), ["WHMCS_MOCK_PORT", "-1"]),
        ("whmcs_mock_port = http", {}, (), ["whmcs_mock_port", "http"]),
        ("", {}, ("--whmcs-mock-fixtures", ""), ["--whmcs-mock-fixtures: empty; write a path"]),
    ],
    ids=str,
)
def test_wrong_values(
    pytester: pytest.Pytester, ini: str, environment: dict[str, str], options: tuple[str, ...], parts: list[str]
) -> None:
    """An invalid value is a usage error that names the option, variable or ini setting."""
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile("def test_one(whmcs_mock): pass")
    result = run(pytester, *options, environment=environment)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    for part in parts:
        assert part in shown(result)
    assert "Traceback" not in shown(result)


def test_broken_fixtures(pytester: pytest.Pytester) -> None:
    """Problems in fixture files are reported once per test, with positions, and without a traceback or secrets."""
    pytester.makefile(
        ".yaml",
        base="clients:\n  - id: one\n  - {id: 2, credit: []}\n",
        extra=f"credentials: [{{identifier: a, secret: {SECRETS[0]}, seecret: {SECRETS[1]}}}]",
    )
    pytester.makepyfile("""
        import pytest


        def test_configured(whmcs_mock):
            pass


        @pytest.mark.whmcs_mock(fixtures="extra.yaml")
        def test_marked(whmcs_mock):
            pass


        @pytest.mark.whmcs_mock(fixtures="absent.yaml")
        def test_absent(whmcs_mock):
            pass
    """)
    for options, problems in (
        (["--whmcs-mock-fixtures=base.yaml", "-ktest_configured"], ["base.yaml:2:9: ", "base.yaml:3:13: "]),
        (["-kmarked or absent"], ["extra.yaml:1:", "absent.yaml:1:1: no such file or folder; looked for "]),
    ):
        result = run(pytester, *options)
        errors = shown(result).partition("short test summary")[0]
        for problem in problems:
            assert errors.count(problem) == 1
        for noise in ("Traceback", "pytest_plugin.py", "During handling", *SECRETS):
            assert noise not in shown(result)
        assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("ini", "environment", "options", "test", "source", "looked"),
    [
        ("", {}, ["--whmcs-mock-fixtures=gone.yaml"], "", "--whmcs-mock-fixtures", "ROOT/gone.yaml"),
        ("", {"WHMCS_MOCK_FIXTURES": "gone.yaml"}, [], "", "WHMCS_MOCK_FIXTURES", "ROOT/gone.yaml"),
        ("whmcs_mock_fixtures = gone.yaml", {}, [], "", "the ini option whmcs_mock_fixtures", "ROOT/gone.yaml"),
        (
            "",
            {},
            [],
            "@pytest.mark.whmcs_mock(fixtures='gone.yaml')",
            "the marker whmcs_mock(fixtures=...)",
            "ROOT/sub/gone.yaml and ROOT/gone.yaml",
        ),
        (
            "",
            {},
            [],
            "@pytest.fixture(scope='session')\ndef whmcs_mock_fixtures(): return 'gone.yaml'\n",
            "the fixture whmcs_mock_fixtures",
            "ROOT/gone.yaml",
        ),
    ],
    ids=["option", "environment", "ini", "marker", "fixture"],
)
def test_where_a_wrong_path_is_from(
    pytester: pytest.Pytester,
    ini: str,
    environment: dict[str, str],
    options: list[str],
    test: str,
    source: str,
    looked: str,
) -> None:
    """The error for a missing path says which setting it comes from and where it was looked for."""
    pytester.makeini(f"[pytest]\n{ini}")
    (pytester.mkdir("sub") / "test_sub.py").write_text(f"import pytest\n{test}\ndef test_one(whmcs_mock): pass\n")
    text = shown(run(pytester, *options, environment=environment))
    assert f"the fixtures of {source} have problems" in text
    assert f"gone.yaml:1:1: no such file or folder; looked for {looked.replace('ROOT', str(pytester.path))}\n" in text
    assert "pytest_plugin.py" not in text


def test_all_wrong_paths(pytester: pytest.Pytester) -> None:
    """All missing paths are reported together with the problems of the files that exist, and an empty one as such."""
    (pytester.path / "bad.yaml").write_text("clientz: []")
    pytester.makepyfile("""
        import pytest
        from whmcs_mock import FixtureError


        def test_load(whmcs_mock):
            with pytest.raises(FixtureError) as caught:
                whmcs_mock.load("one.yaml", "bad.yaml", "two.yaml", "")
            one, two, empty, bad = str(caught.value).splitlines()
            assert one.startswith("one.yaml:1:1: no such file or folder; looked for ")
            assert two.startswith("two.yaml:1:1: no such file or folder; looked for ")
            assert empty == ":1:1: this path is empty; write a file or a folder"
            assert "clientz" in bad
    """)
    run(pytester).assert_outcomes(passed=1)


def test_several_paths_in_the_environment(pytester: pytest.Pytester) -> None:
    """The environment variable lists paths as PATH does; empty entries are ignored."""
    pytester.makefile(".yaml", two="clients: [{id: 2}]", three="clients: [{id: 3}]")
    pytester.makepyfile("def test_one(whmcs_mock): assert whmcs_mock.client(2) and whmcs_mock.client(3)")
    paths = os.pathsep.join(["two.yaml", "", "three.yaml", ""])
    run(pytester, environment={"WHMCS_MOCK_FIXTURES": paths}).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "environment", "options", "host", "port"),
    [
        ("", {}, [], "127.0.0.1", 0),
        ("whmcs_mock_host = localhost\nwhmcs_mock_port = FREE", {}, [], "localhost", 1),
        ("whmcs_mock_host = nowhere.invalid", {"WHMCS_MOCK_HOST": "localhost"}, [], "localhost", 0),
        ("whmcs_mock_port = 1", {"WHMCS_MOCK_PORT": "2"}, ["--whmcs-mock-port=FREE"], "127.0.0.1", 1),
        ("", {"WHMCS_MOCK_HOST": ""}, ["--whmcs-mock-host=127.0.0.1"], "127.0.0.1", 0),
    ],
    ids=["default", "ini", "environment", "option", "empty environment"],
)
def test_host_and_port(
    pytester: pytest.Pytester, ini: str, environment: dict[str, str], options: list[str], host: str, port: int
) -> None:
    """The server listens on the host and port given by the option, the environment or the ini file."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    pytester.makeini(f"[pytest]\n{ini}".replace("FREE", str(free)))
    pytester.makepyfile(f"""
        from urllib.parse import urlsplit

        from plugin_runs import ask


        def test_one(whmcs_mock):
            parts = urlsplit(whmcs_mock.url)
            assert parts.hostname == {host!r} and (parts.port == {free} or not {port})
            assert ask(whmcs_mock.url).ok
    """)
    options = [option.replace("FREE", str(free)) for option in options]
    run(pytester, *options, environment=environment).assert_outcomes(passed=1)


def test_port_that_is_taken(pytester: pytest.Pytester) -> None:
    """A port that is already in use is reported in one sentence that says what to do."""
    pytester.makepyfile("def test_one(whmcs_mock): pass")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(pytester, f"--whmcs-mock-port={port}")
    result.assert_outcomes(errors=1)
    assert str(port) in shown(result)
    assert "--whmcs-mock-port" in shown(result)
    for noise in ("Traceback", "pytest_plugin.py", "listener.py"):
        assert noise not in shown(result)


# Import cost and help.


def test_cost(pytester: pytest.Pytester) -> None:
    """An unused plugin imports no other module of the package than those that read its settings."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest("""
        import json
        import sys
        from pathlib import Path


        def pytest_unconfigure(config):
            Path("modules.json").write_text(json.dumps(sorted(sys.modules)))
    """)
    pytester.makepyfile("def test_one(): pass")
    result = run(pytester, "--collect-only", plugins=(), environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}, alone=True)
    assert result.ret == pytest.ExitCode.OK
    modules = json.loads((pytester.path / "modules.json").read_text())
    ours = {name for name in modules if name.partition(".")[0] == "whmcs_mock"}
    assert ours == {
        "whmcs_mock",
        *(f"whmcs_mock.{name}" for name in ("pytest_plugin", "options", "errors", "terminal")),
    }
    assert "yaml" not in modules


def test_nothing_heavy(pytester: pytest.Pytester) -> None:
    """An unused plugin imports no heavy module such as werkzeug, and starts no thread."""
    pytester.makepyfile("""
        import sys
        import threading


        def test_one():
            assert not {"werkzeug", "pytest_httpserver", "yaml", "trustme", "http.server"} & set(sys.modules)
            assert threading.active_count() == 1
    """)
    run(pytester, alone=True).assert_outcomes(passed=1)


def test_help(pytester: pytest.Pytester) -> None:
    """The options have their own group in the help, with their environment variables; ini options are listed, too."""
    help_ = shown(run(pytester, "--help"))
    group = help_.partition("whmcs-mock:")[2].partition("\n\n")[0]
    for kind in ("fixtures", "profile", "strict", "tls", "host", "port"):
        assert f"--whmcs-mock-{kind}" in group
        assert f"WHMCS_MOCK_{kind.upper()}" in group
        assert f"whmcs_mock_{kind}" in help_


def test_paths_of_options_do_not_follow_the_test(pytester: pytest.Pytester) -> None:
    """Paths in options and the environment are relative to where pytest was started, even if a test changes folder."""
    pytester.makefile(".yaml", nine="clients: [{id: 9}]")
    pytester.makepyfile("""
        def test_elsewhere(whmcs_mock, tmp_path, monkeypatch):
            assert whmcs_mock.client(9).id == 9


        def test_chdir(monkeypatch, tmp_path, request):
            monkeypatch.chdir(tmp_path)
            assert request.getfixturevalue("whmcs_mock").client(9).id == 9
    """)
    run(pytester, "--whmcs-mock-fixtures=nine.yaml").assert_outcomes(passed=2)
    run(pytester, environment={"WHMCS_MOCK_FIXTURES": "nine.yaml"}).assert_outcomes(passed=2)
