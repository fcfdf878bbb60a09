"""A world for each test, and for each job that names one: what is left behind reaches its own, and is named."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import requests
from plugin_runs import ask, run, shown
from wire import ENDPOINT, get, is_plain_line, post

from whmcs_mock import Client, FaultRule, Ledger, MockServer

Serve: TypeAlias = Callable[..., MockServer]

#: Two tests, of which the first leaves something behind that calls while the second runs.
LEFT_BEHIND = """
import subprocess
import sys
import threading

import pytest
import requests
from plugin_runs import ask

go, gone = threading.Event(), threading.Event()
session = requests.Session()


def left(url):
    go.wait(30)
    session.post(url, data={"action": "AddCredit", "clientid": "1", "amount": "5.00"}, timeout=30)
    gone.set()


MARK
def test_leaves_a_thread(whmcs_mock):
    ask(whmcs_mock.url, clientid=1)
    threading.Thread(target=left, args=[whmcs_mock.url]).start()


def test_innocent(whmcs_mock, whmcs_mock_server):
    whmcs_mock.fail_next("maintenance")
    whmcs_mock_server.expect_request("/includes/api.php", query_string="x=1").respond_with_data("stubbed")
    go.set()
    assert gone.wait(30)
    whmcs_mock.assert_not_called()
    assert whmcs_mock.balance(1) == 0
    assert ask(whmcs_mock.url, clientid=1).status_code == 503
"""

SUMMARY = "WHMCS mock: calls from tests that had ended"
NAMED = (
    "::test_leaves_a_thread left code running that made this call: AddCredit clientid=1 amount=5.00 -> 200 json success"
)
STRICT = "@pytest.mark.whmcs_mock(strict=True)"


@pytest.mark.parametrize(
    ("mark", "options", "ends_well"),
    [
        ("", [], True),
        (STRICT, [], False),
        ("", ["--whmcs-mock-strict"], False),
        ("@pytest.mark.whmcs_mock(strict=False)", ["--whmcs-mock-strict"], True),
        (STRICT, ["-n1"], False),
        ("", ["-n1"], True),
    ],
    ids=["default", "marked", "strict", "marked as not strict", "marked, xdist", "xdist"],
)
def test_left_behind(pytester: pytest.Pytester, mark: str, options: list[str], *, ends_well: bool) -> None:
    """A thread of an earlier test reaches that test's world and is reported; in strict mode the run fails."""
    pytester.makepyfile(LEFT_BEHIND.replace("MARK", mark))
    result = run(pytester, *options, plugins=("whmcs_mock", "xdist"), alone="-n1" in options)
    result.assert_outcomes(passed=2)
    assert NAMED in shown(result).partition(SUMMARY)[2]
    assert result.ret == (pytest.ExitCode.OK if ends_well else pytest.ExitCode.TESTS_FAILED)


def test_without_a_terminal(pytester: pytest.Pytester) -> None:
    """A strict run fails for calls left behind even if nothing can be printed."""
    pytester.makepyfile(LEFT_BEHIND.replace("MARK", STRICT))
    assert run(pytester, "-pno:terminal").ret == pytest.ExitCode.TESTS_FAILED


def test_left_by_the_last_test(pytester: pytest.Pytester) -> None:
    """What the very last test leaves running is named as well, while fixtures of a wider scope are torn down."""
    pytester.makepyfile("""
        import threading

        import pytest
        from plugin_runs import ask

        go = threading.Event()
        threads = []


        @pytest.fixture(scope="module")
        def slow_to_end(whmcs_mock_server):
            yield
            go.set()
            threads[0].join()


        def test_last(slow_to_end, whmcs_mock):
            url = whmcs_mock.url
            threads.append(threading.Thread(target=lambda: go.wait(30) and ask(url, "Late")))
            threads[0].start()
    """)
    result = run(pytester, "--whmcs-mock-strict")
    assert "::test_last left code running that made this call: Late" in shown(result)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_many_late_calls(pytester: pytest.Pytester) -> None:
    """The first 100 late calls of each test are listed and the others counted, so that no test goes unnamed."""
    pytester.makepyfile("""
        import pytest
        from plugin_runs import ask

        urls = {}


        @pytest.mark.whmcs_mock(strict=True)
        def test_one(whmcs_mock):
            urls["one"] = whmcs_mock.url


        def test_two(whmcs_mock):
            urls["two"] = whmcs_mock.url


        def test_three():
            ask(urls["one"], "LateOne")
            for number in range(1_100):
                ask(urls["two"], f"Late{number}")
    """)
    result = run(pytester)
    late = shown(result).partition(SUMMARY)[2]
    assert "::test_one left code running that made this call: LateOne" in late
    assert "::test_two left code running that made 1000 more calls" in late
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_subprocess_left_behind(pytester: pytest.Pytester) -> None:
    """A subprocess of an earlier test reaches that test's world, too."""
    pytester.makepyfile("""
        import subprocess
        import sys

        CODE = "import sys, urllib.request; input(); urllib.request.urlopen(sys.argv[1] + '?action=GetCredits').read()"
        left = []


        def test_first(whmcs_mock):
            left.append(subprocess.Popen([sys.executable, "-c", CODE, whmcs_mock.url], stdin=subprocess.PIPE))


        def test_second(whmcs_mock):
            left[0].communicate(b"go")
            whmcs_mock.assert_not_called()
    """)
    result = run(pytester)
    result.assert_outcomes(passed=2)
    assert "::test_first left code running that made this call: GetCredits" in shown(result)


def test_calls_in_flight(pytester: pytest.Pytester) -> None:
    """A call that is still being answered when its test ends does not affect the next test."""
    pytester.makepyfile("""
        import threading

        from plugin_runs import ask

        threads = []
        go = threading.Event()


        def spawn(*args, **params):
            threads.append(threading.Thread(target=ask, args=args, kwargs=params))
            threads[-1].start()


        def test_first(whmcs_mock):
            whmcs_mock.fail_next("slow", seconds=300, action="AddCredit")
            spawn(whmcs_mock.url, "AddCredit", clientid=1, amount="5.00")
            assert whmcs_mock.wait_for_call("AddCredit").status == 0
            entered = threading.Event()

            @whmcs_mock.action("Long")
            def long(params):
                entered.set()
                assert go.wait(30)
                raise ValueError("of the first test")

            spawn(whmcs_mock.url, "Long")
            assert entered.wait(30)


        def test_second(whmcs_mock):
            go.set()
            for thread in threads:
                thread.join()
            assert whmcs_mock.balance(1) == 0
            whmcs_mock.assert_not_called()
            assert whmcs_mock.problems() == []
    """)
    run(pytester).assert_outcomes(passed=2)


def test_kept_session(pytester: pytest.Pytester) -> None:
    """A session that many tests share keeps its connection, and strict mode sees each test's calls."""
    pytester.makepyfile("""
        import pytest
        import requests

        FINE = {"action": "GetCredits", "clientid": 1, "responsetype": "json", "identifier": "i", "secret": "s"}


        @pytest.fixture(scope="session")
        def session():
            with requests.Session() as session:
                yield session


        @pytest.mark.parametrize("careless", [False, False, True])
        def test_one(whmcs_mock, session, careless):
            form = {"action": "GetCredits"} if careless else FINE
            session.post(whmcs_mock.url, data=form, timeout=30)
            whmcs_mock.assert_called_once("GetCredits")
    """)
    result = run(pytester, "--whmcs-mock-strict")
    result.assert_outcomes(passed=2, failed=1)
    assert "no credentials" in shown(result)


def test_url_of_the_session(pytester: pytest.Pytester) -> None:
    """The server's own URL stays the same, and leads a fixture of wider scope to the world of the current test."""
    pytester.makepyfile("""
        import pytest
        from plugin_runs import ask


        @pytest.fixture(scope="module")
        def client(whmcs_mock_server):
            url = whmcs_mock_server.url
            return lambda action, **params: ask(url, action, **params).json()


        @pytest.mark.parametrize("number", range(3))
        def test_one(client, whmcs_mock, whmcs_mock_server, number):
            assert client("AddCredit", clientid=1, amount="1.00")["newbalance"] == "1.00"
            whmcs_mock.assert_called_once("AddCredit")
            assert whmcs_mock.url != whmcs_mock_server.url


        def test_none(client):
            assert client("GetCredits", clientid=1)["totalresults"] == "2"
    """)
    result = run(pytester)
    result.assert_outcomes(passed=4)
    assert SUMMARY not in shown(result)


def test_odd_names(pytester: pytest.Pytester) -> None:
    """Any test name gives a world name that is valid in URLs, also when the test runs again."""
    pytester.makeconftest("""
        from _pytest.runner import runtestprotocol


        def pytest_runtest_protocol(item, nextitem):
            runtestprotocol(item, nextitem=nextitem, log=False)  # as pytest-rerunfailures does
            runtestprotocol(item, nextitem=nextitem)
            return True
    """)
    pytester.makepyfile("""
        import unittest

        import pytest
        from plugin_runs import ask


        @pytest.mark.parametrize("name", ["a/b?c=d#e%2F", "x" * 300, "ä\\u4e00", "..", " ", "\\n"])
        def test_odd(whmcs_mock, name):
            ask(whmcs_mock.url, "AddCredit", clientid=1, amount="1.00")
            assert whmcs_mock.balance(1) == 1
            assert whmcs_mock.assert_called_once("AddCredit").path == "/includes/api.php"


        @pytest.mark.usefixtures("whmcs_mock")
        class TestOld(unittest.TestCase):
            def test_one(self):
                pass
    """)
    result = run(pytester, "--setup-show")
    result.assert_outcomes(passed=7)
    assert SUMMARY not in shown(result)


# Worlds of jobs that share a server.


def test_worlds_of_jobs(serve: Serve) -> None:
    """Each name has a world of its own with the same fixtures, under any base path."""
    server = serve(Ledger([Client(1)]))
    first, second = (f"{server.base_url}/world/{name}" for name in ("job-42", "job-43"))
    ask(first + ENDPOINT, "AddCredit", clientid=1, amount="1.00")
    assert ask(f"{first}/billing{ENDPOINT}", clientid=1).json()["totalresults"] == "1"
    for url in (second + ENDPOINT, server.url):
        assert ask(url, clientid=1).json()["totalresults"] == "0"
    assert [len(server.app.worlds[name].journal.calls()) for name in ("job-42", "job-43", "")] == [2, 1, 1]


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("a", True),
        ("A-z_0.9", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a%20b", False),
        ("", False),
        ("%C3%A4", False),
        ("a%0A", False),
        ("a~b", False),
        ("a%2Fb", False),
        ("a%2fb", False),
    ],
)
def test_names(serve: Serve, name: str, *, exists: bool) -> None:
    """A name is 1 to 64 letters, digits, dots, underscores and hyphens; any other is 404 with one sentence."""
    answer = get(serve(), {"action": "GetCredits", "clientid": 1}, path=f"/world/{name}{ENDPOINT}")
    assert answer.status == (200 if exists else 404)
    assert exists or (is_plain_line(answer) and b"1 to 64" in answer.body)


def test_name_with_a_slash(serve: Serve) -> None:
    """The control API of a world whose name has a slash does not exist; the 404 names the world that was meant."""
    answer = get(serve(), {}, path="/world/feature/x/_mock/health")
    assert answer.status == 404
    assert b"the control API of the world feature is at /world/feature/_mock/" in answer.body


def test_a_whmcs_below_world(serve: Serve) -> None:
    """A WHMCS installed in a folder named world is not taken for a world."""
    assert get(serve(), {"action": "GetCredits", "clientid": 1}, path=f"/world{ENDPOINT}").status == 200


def test_waiting_in_a_dropped_world(serve: Serve) -> None:
    """A wait for a call in a world that is dropped ends with a 503 that says so."""
    server = serve()
    found: list[requests.Response] = []
    url = f"{server.base_url}/world/first/_mock/calls?wait=60&action=Late"
    waiting = threading.Thread(target=lambda: found.append(requests.get(url, timeout=90)))
    waiting.start()
    journal = server.app.worlds["first"].journal
    while not journal._waiting:
        time.sleep(0.01)
    for number in range(1_000):
        assert server.app.worlds[str(number)].name
    waiting.join(30)
    assert found[0].status_code == 503
    assert "this world was dropped" in found[0].json()["error"]


def test_newest_worlds_are_kept(serve: Serve) -> None:
    """The newest 1,000 worlds are kept; a call to a dropped one creates it again."""
    server = serve(Ledger([Client(1)]))
    with requests.Session() as session:

        def add(name: int) -> str:
            url = f"{server.base_url}/world/{name}{ENDPOINT}"
            data = {"action": "AddCredit", "clientid": 1, "amount": "1.00", "responsetype": "json"}
            balance: str = session.post(url, data=data, timeout=30).json()["newbalance"]
            return balance

        assert {add(name) for name in range(1001)} == {"1.00"}
        assert [add(1), add(1000), add(0), add(0)] == ["2.00", "2.00", "1.00", "2.00"]
    assert len(server.app.worlds.all()) == 1001


def test_dropped_world_sends_what_it_holds(serve: Serve) -> None:
    """An answer that a fault delays is sent when its world is dropped."""
    server = serve("clients: [{id: 1}]\nfaults: [{fault: slow, seconds: 300, times: 1}]")
    worlds = server.app.worlds
    worlds["held"].faults.take({})
    released = worlds["held"].faults.released
    for number in range(1000):
        worlds[str(number)]  # a look makes it
    assert released.is_set()


def test_reset_of_a_world(serve: Serve) -> None:
    """A reset restores a world's fixtures and profile, and drops what was added, in no other world."""
    server = serve("clients: [{id: 1}]\nfaults: [{message: Once, times: 1}]")
    asked = {"action": "GetCredits", "clientid": 1, "responsetype": "json"}

    def bodies(name: str) -> list[dict[str, Any]]:
        return [json.loads(post(server, asked, target=f"/world/{name}{ENDPOINT}").body) for _ in range(2)]

    first = bodies("a")
    assert [first[0]["message"], first[1]["totalresults"]] == ["Once", "0"]
    assert bodies("b") == first
    for name in ("a", "b"):
        world = server.app.worlds[name]
        world.profile = "live"
        world.store.add_credit(1, amount="1.00")
        world.action("GetInvoice")(lambda _params: {})
        world.faults.add([FaultRule("maintenance", action="AddCredit")])
    server.app.worlds.reset("a")
    assert bodies("a") == first
    assert [body["totalresults"] for body in bodies("b")] == [1, 1]
    a, b = (server.app.worlds[name] for name in ("a", "b"))
    assert [len(a.journal.calls()), a.actions, a.faults.unused()] == [2, {}, []]
    assert [len(b.journal.calls()), list(b.actions)] == [4, ["getinvoice"]]
