"""The journal: calls are recorded on arrival, with the answer that was really sent, and memory is bounded."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import pytest
import requests
from plugin_runs import ask, run, shown

from whmcs_mock import Client, Ledger, MockServer, WhmcsMock
from whmcs_mock.journal import Call
from whmcs_mock.request import Request

Serve: TypeAlias = Callable[..., MockServer]

pytestmark = pytest.mark.whmcs_mock(fixtures=Ledger([Client(1)]))

MIB = 1024 * 1024
FORM = "application/x-www-form-urlencoded"


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for at most ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# Recorded on arrival.


def test_time_out_of_a_client(whmcs_mock: WhmcsMock) -> None:
    """A call whose client times out is recorded: first as unanswered, then as left by the client."""
    whmcs_mock.fail_next("slow")
    with pytest.raises(requests.ReadTimeout):
        requests.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": 1}, timeout=0.2)
    call = whmcs_mock.assert_called_once("GetCredits", clientid=1)
    assert (call.status, call.response_type, call.result, call.answer) == (0, "", "", "")
    assert 0 < call.duration < 30
    until(lambda: str(call) == "GetCredits clientid=1 -> client left")
    assert call.status == 0
    assert whmcs_mock.assert_called_once("GetCredits", clientid=1) is call


def test_held_call(whmcs_mock: WhmcsMock) -> None:
    """A call that is delayed by a fault says so, and wait_for_call() does not wait for its answer."""
    whmcs_mock.fail_next("slow", seconds=300)
    caller = threading.Thread(target=ask, args=[whmcs_mock.url, "AddCredit"], kwargs={"clientid": 1, "amount": "1.00"})
    caller.start()
    call = whmcs_mock.wait_for_call("AddCredit")
    assert str(call).endswith("-> no answer yet (slow, 300 s)")
    assert "no answer yet (slow, 300 s)" in whmcs_mock.report()
    assert whmcs_mock.balance(1) == 1  # the call has been carried out, though its answer is late
    whmcs_mock.reset()
    caller.join()
    assert (call.status, call.result) == (200, "success")
    assert whmcs_mock.calls == []


def test_call_in_a_function(whmcs_mock: WhmcsMock) -> None:
    """A call is recorded while an action function handles it; wait_for_call() waits for its answer."""
    seen: list[str] = []

    @whmcs_mock.action("GetInvoice")
    def invoice(_params: Mapping[str, str]) -> dict[str, object]:
        seen.append(str(whmcs_mock.assert_called_once("GetInvoice")))
        return {}

    with ThreadPoolExecutor(1) as pool:
        pool.submit(ask, whmcs_mock.url, "GetInvoice")
        assert whmcs_mock.wait_for_call("GetInvoice").status == 200
    assert seen[0].endswith("-> no answer yet")


# What was really sent.


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"names": "maintenance"}, "503 html: fault maintenance"),
        ({"names": "rate-limit"}, "429 html: fault rate-limit"),
        ({"names": "empty-body"}, "200 empty: fault empty-body"),
        ({"names": "auth-failed"}, '403 json error "Authentication Failed": fault auth-failed'),
        ({"names": "reset"}, "connection reset: fault reset"),
        ({"status": 520, "body": "<h1>Unknown error</h1>"}, "520 html: fault status=520"),
        ({"status": 500}, "500 empty: fault status=500"),
        ({"status": 204, "body": "unsent"}, "204 empty: fault status=204"),
        ({"body": "wait", "headers": {"Content-Type": "text/plain"}}, "200 text: fault status=200"),
        ({"message": "Invoice ID Not Found"}, '200 json error "Invoice ID Not Found": fault message='),
        ({"names": "maintenance", "body": "", "status": 200}, "200 empty: fault maintenance"),
    ],
    ids=str,
)
def test_what_was_sent(whmcs_mock: WhmcsMock, fault: dict[str, Any], told: str) -> None:
    """The recorded response type is that of the body sent: never json for HTML, and empty without a body."""
    whmcs_mock.fail_next(**fault)
    try:
        answer = ask(whmcs_mock.url, clientid=1)
    except requests.ConnectionError:
        assert fault == {"names": "reset"}
    else:
        assert answer.text == whmcs_mock.calls[0].answer
    assert f"-> {told}" in str(whmcs_mock.calls[0])


@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
def test_response_types(whmcs_mock: WhmcsMock, kind: str) -> None:
    """The answer of an API call is recorded as json, xml or nvp."""
    ask(whmcs_mock.url, clientid=1, responsetype=kind)
    assert str(whmcs_mock.calls[0]).partition(" -> ")[2].startswith(f"200 {kind} success")


def test_calls_are_listed_once(pytester: pytest.Pytester) -> None:
    """A failure lists the calls once, whether an assertion of the mock or the test failed, or strict mode."""
    pytester.makepyfile("""
        import pytest
        from plugin_runs import ask


        def test_mine(whmcs_mock):
            ask(whmcs_mock.url, "CalledByMine")
            whmcs_mock.assert_not_called()


        def test_theirs(whmcs_mock):
            ask(whmcs_mock.url, "CalledByTheirs")
            assert False


        @pytest.mark.whmcs_mock(strict=True)
        def test_strict(whmcs_mock):
            ask(whmcs_mock.url, "CalledByStrict", identifier="")


        def test_caught(whmcs_mock):
            ask(whmcs_mock.url, "CalledByCaught")
            try:
                whmcs_mock.assert_not_called()
            except AssertionError:
                pass
            assert False
    """)
    text = shown(run(pytester)).partition("short test summary")[0]  # with CI=true, the summary repeats whole messages
    for name in ("Mine", "Theirs", "Strict", "Caught"):
        assert text.count(f" CalledBy{name} identifier") == 1


FLAT = "hint: the JSON has flat bracket keys, as documented; code that reads credits.credit needs the profile live"


@pytest.mark.whmcs_mock(fixtures=[])
def test_hint_about_flat_keys(whmcs_mock: WhmcsMock) -> None:
    """The report has one hint about flat keys, and only if an answer had flat keys."""
    ask(whmcs_mock.url, clientid=2)
    ask(whmcs_mock.url, clientid=1, responsetype="xml")
    whmcs_mock.profile = "live"
    ask(whmcs_mock.url, clientid=1)
    assert FLAT not in whmcs_mock.report()
    whmcs_mock.profile = "documented"
    ask(whmcs_mock.url, clientid=1)
    ask(whmcs_mock.url, clientid=1)
    assert whmcs_mock.report().count(FLAT) == 1


# Why no call was received.


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HTTP_PROXY": "http://proxy:3128"}, True),
        ({"http_proxy": "http://proxy:3128"}, True),
        ({"ALL_PROXY": "socks5://proxy:1080"}, True),
        ({"HTTP_PROXY": ""}, False),
        ({"HTTPS_PROXY": "http://proxy:3128"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost"}, True),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "localhost, 127.0.0.1"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "no_proxy": "127.0.0.1"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "127.0.0.0/8"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "127.0.0.1:PORT"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "127.0.0.1:1"}, True),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ".0.0.1"}, False),
        ({"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8,7.0.0.1"}, True),
    ],
    ids=str,
)
def test_proxy(
    whmcs_mock: WhmcsMock, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, named: bool
) -> None:
    """If no call was received, the report names a proxy variable that applies to the server despite NO_PROXY."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("PORT", str(whmcs_mock.server.port)))
    assert (f"{next(iter(environment))} is set and NO_PROXY does not name 127.0.0.1" in whmcs_mock.report()) == named
    monkeypatch.undo()
    ask(whmcs_mock.url)
    assert "PROXY" not in whmcs_mock.report()


def test_tls_on_a_plain_port(whmcs_mock: WhmcsMock) -> None:
    """If no call was received, the report mentions a client that used https on the http port."""
    assert "https" not in whmcs_mock.report()
    with socket.create_connection((whmcs_mock.server.host, whmcs_mock.server.port), timeout=10) as connection:
        context = ssl.create_default_context()
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(connection, server_hostname="localhost")
    until(lambda: "a client spoke https to this http port" in whmcs_mock.report())
    assert f"does the code under test use {whmcs_mock.url}?" in whmcs_mock.report()


def test_another_world(pytester: pytest.Pytester) -> None:
    """If no call was received, the report mentions calls to another world, or to that of an earlier test."""
    pytester.makepyfile("""
        from plugin_runs import ask

        urls = []


        def test_first(whmcs_mock):
            urls.append(whmcs_mock.url)


        def test_kept(whmcs_mock):
            ask(urls[0])
            whmcs_mock.assert_called("GetCredits")


        def test_own_name(whmcs_mock, whmcs_mock_server):
            ask(whmcs_mock_server.base_url + "/world/mine/includes/api.php")
            whmcs_mock.assert_called("GetCredits")


        def test_none(whmcs_mock):
            whmcs_mock.assert_called("GetCredits")
    """)
    text = shown(run(pytester)).partition("short test summary")[0]
    assert text.count("-test_first instead, the URL of test_another_world.py::test_first: read whmcs_mock.url") == 1
    assert text.count("Calls went to /world/mine instead: read whmcs_mock.url in each test.") == 1


# Bounds.


def test_long_values_are_cut(whmcs_mock: WhmcsMock) -> None:
    """A long value is truncated with its length, but still compared in full."""
    note = "é" * 100_000
    ask(whmcs_mock.url, note=note)
    call = whmcs_mock.assert_called_once("GetCredits", note=note)
    assert call.params["note"] == "é" * 65_536 + "... (100000 characters)"
    assert whmcs_mock.calls_to("GetCredits", note=note + "é") == []
    assert len(str(call)) < 500


def test_number_of_calls(serve: Serve) -> None:
    """The latest 10,000 calls are kept, and the report counts the earlier ones."""
    server = serve(Ledger([Client(1)]))
    journal = server.world.journal
    request = Request("POST", "/includes/api.php", b"", {"content-type": FORM}, b"action=GetCredits")
    calls = [Call(request, server.world.store, "/includes/api.php") for _ in range(10_007)]
    for call in calls:
        journal.add(call)
    assert journal.calls() == calls[7:]
    assert journal.dropped == 7
    assert "(9957 earlier calls are not shown)" in WhmcsMock(server).report()


def test_bytes_of_calls(serve: Serve) -> None:
    """The calls use at most 16 MiB: if they are large, fewer of the latest are kept."""
    server = serve(Ledger([Client(1)]))
    with requests.Session() as session:
        for number in range(40):
            form = {"action": "GetCredits", "n": number, **{f"note{n}": "x" * 60_000 for n in range(15)}}
            session.post(server.url, data=form, timeout=30)
    calls = server.world.journal.calls()
    assert calls[-1].params["n"] == "39"
    texts = sum(len(name) + len(value) for call in calls for name, value in call.params.items())
    assert 8 * MIB < texts <= 16 * MIB


def test_many_parameters(whmcs_mock: WhmcsMock) -> None:
    """A call with very many parameters is one short line in the report, with their number."""
    body = "action=GetCredits&" + "&".join(f"p{number}" for number in range(20_000))
    requests.post(whmcs_mock.url, data=body.replace("&", "=&"), headers={"Content-Type": FORM}, timeout=30)
    assert len(str(whmcs_mock.calls[0])) < 1000
    assert "... (20001 parameters)" in str(whmcs_mock.calls[0])


def test_order(whmcs_mock: WhmcsMock) -> None:
    """Call ids increase in the order of the recorded calls, even with calls from several threads."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(whmcs_mock.url), range(100)))
    ids = [call.id for call in whmcs_mock.calls]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100
