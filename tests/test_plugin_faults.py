"""Misbehaving with ``whmcs_mock.fail_next``, seen by real clients."""

from __future__ import annotations

import http.client
import re
import socket
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import httpx
import pytest
import requests
import urllib3
from plugin_runs import ask, run, shown

from whmcs_mock import Client, Credit, Ledger, MockServer, WhmcsMock

LEDGER = Ledger([Client(1, [Credit(1, "2016-01-01", "first", "10.00")])])

JSON_UTF8 = "Error generating JSON encoded response: Malformed UTF-8 characters, possibly incorrectly encoded"
NO_PERMISSION = 'Invalid Permissions: API action "getcredits" is not allowed'

#: Every fault that is worth a name.
NAMES = (
    "invalid-ip",
    "auth-failed",
    "missing-permission",
    "maintenance",
    "waf",
    "rate-limit",
    "bad-gateway",
    "gateway-timeout",
    "empty-body",
    "json-utf8",
    "php-warning",
    "bom",
    "truncated",
    "reset",
    "slow",
)

pytestmark = pytest.mark.whmcs_mock(fixtures=LEDGER)


def read_raw(mock: WhmcsMock, **params: object) -> bytes:
    """Call the API over a bare socket, and return all that comes until the connection ends."""
    body = urlencode({"action": "GetCredits", "clientid": 1, "responsetype": "json", **params})
    head = f"POST /includes/api.php HTTP/1.1\r\nHost: whmcs\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    received = b""
    with socket.create_connection(("127.0.0.1", mock.server.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode())
        while part := connection.recv(65536):
            received += part
    return received


# Answers of the API itself.


@pytest.mark.parametrize("profile", ["documented", "live"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("invalid-ip", "Invalid IP 127.0.0.1"),
        ("auth-failed", "Authentication Failed"),
        ("missing-permission", NO_PERMISSION),
    ],
)
def test_refusals(whmcs_mock: WhmcsMock, name: str, message: str, profile: str) -> None:
    """A refusal is WHMCS's 403 in the response type that was asked for."""
    whmcs_mock.profile = profile
    whmcs_mock.fail_next(name, times=3)
    answers = [ask(whmcs_mock.url, clientid=1, responsetype=kind) for kind in ("json", "xml", "nvp")]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert answers[0].json() == {"result": "error", "message": message}
    assert ElementTree.fromstring(answers[1].content).findtext("message") == message
    assert answers[2].text == f"result=error;message={message}"


# Pages of something in between.


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("maintenance", 503, "Down for Maintenance (Err2)"),
        ("waf", 403, "Access denied by Imunify360 bot-protection"),
        ("rate-limit", 429, "<"),
        ("bad-gateway", 502, "<"),
        ("gateway-timeout", 504, "<"),
    ],
)
def test_pages(whmcs_mock: WhmcsMock, name: str, status: int, text: str) -> None:
    """What stands in the way answers HTML, whatever response type was asked for, and carries nothing out."""
    whmcs_mock.fail_next(name)
    answer = ask(whmcs_mock.url, "AddCredit", clientid=1, amount="1.00")
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert text in answer.text
    assert ("Retry-After" in answer.headers) == (name == "rate-limit")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    assert whmcs_mock.balance(1) == 10


def test_empty_body(whmcs_mock: WhmcsMock) -> None:
    """An empty body is a whole answer of no byte."""
    whmcs_mock.fail_next("empty-body")
    head, _, body = read_raw(whmcs_mock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 0" in head.lower()
    assert body == b""


# The right answer, spoiled.


def test_json_utf8(whmcs_mock: WhmcsMock) -> None:
    """The encoder's error comes to who asks for JSON, and to nobody else."""
    whmcs_mock.fail_next("json-utf8", times=2)
    assert ask(whmcs_mock.url, clientid=1).json() == {"result": "error", "message": JSON_UTF8}
    right = ask(whmcs_mock.url, clientid=1, responsetype="xml")
    assert ElementTree.fromstring(right.content).findtext("result") == "success"


@pytest.mark.parametrize(
    ("name", "before"), [("php-warning", rb"<br />\n<b>Warning</b>: .* on line <b>\d+</b><br />\n"), ("bom", "\ufeff")]
)
def test_prefixes(whmcs_mock: WhmcsMock, name: str, before: str | bytes) -> None:
    """A warning or a byte order mark stands before the right JSON, and only there."""
    right = {kind: ask(whmcs_mock.url, clientid=1, responsetype=kind).content for kind in ("json", "xml")}
    whmcs_mock.fail_next(name, times=2)
    spoiled = ask(whmcs_mock.url, clientid=1).content
    pattern = before if isinstance(before, bytes) else before.encode()
    assert re.fullmatch(pattern + re.escape(right["json"]), spoiled)
    assert ask(whmcs_mock.url, clientid=1, responsetype="xml").content == right["xml"]


def test_truncated(whmcs_mock: WhmcsMock) -> None:
    """A truncated body is the first part of the right one, under the length of the whole."""
    whole = read_raw(whmcs_mock).partition(b"\r\n\r\n")[2]
    whmcs_mock.fail_next("truncated", times=4)
    head, _, body = read_raw(whmcs_mock).partition(b"\r\n\r\n")
    assert f"content-length: {len(whole)}".encode() in head.lower()
    assert 0 < len(body) < len(whole)
    assert whole.startswith(body)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError), match="IncompleteRead"):
        ask(whmcs_mock.url, clientid=1)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": "1"})
    connection = http.client.HTTPConnection("127.0.0.1", whmcs_mock.server.port, timeout=30)
    connection.request("GET", "/includes/api.php?action=GetCredits&clientid=1")
    with pytest.raises(http.client.IncompleteRead), connection.getresponse() as response:
        response.read()
    connection.close()


def test_reset(whmcs_mock: WhmcsMock) -> None:
    """A reset is one of TCP, which no client takes for the end of a stream."""
    whmcs_mock.fail_next("reset", times=3)
    with pytest.raises(ConnectionResetError):
        read_raw(whmcs_mock)
    with pytest.raises(requests.ConnectionError) as caught:
        ask(whmcs_mock.url, clientid=1)
    assert "ConnectionResetError" in repr(caught.value)
    with pytest.raises(httpx.ReadError):
        httpx.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": "1"})
    assert [call.status for call in whmcs_mock.calls] == [0, 0, 0]


def test_reset_of_a_kept_connection(whmcs_mock: WhmcsMock) -> None:
    """A session whose kept connection is reset opens another one for its next call."""
    with requests.Session() as session:
        for fault in ("", "reset", ""):
            if fault:
                whmcs_mock.fail_next(fault)
                with pytest.raises(requests.ConnectionError):
                    session.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": "1"}, timeout=30)
            else:
                assert session.get(whmcs_mock.url, params={"action": "GetCredits", "clientid": "1"}, timeout=30).ok


def test_slow(whmcs_mock: WhmcsMock) -> None:
    """A slow answer is the right one, no earlier than it was told to come."""
    whmcs_mock.fail_next("slow", seconds=0.2)
    assert ask(whmcs_mock.url, clientid=1).json()["totalresults"] == "1"
    assert whmcs_mock.calls[0].duration >= 0.19


def test_slow_runs_into_time_outs(whmcs_mock: WhmcsMock) -> None:
    """A client that is out of patience gets its time-out, and the next call is answered at once."""
    whmcs_mock.fail_next("slow", times=2)
    with pytest.raises(requests.ReadTimeout):
        requests.post(whmcs_mock.url, data={"action": "GetCredits"}, timeout=0.3)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(whmcs_mock.url, data={"action": "GetCredits"}, timeout=0.3)
    assert ask(whmcs_mock.url, clientid=1).json()["result"] == "success"


# What is written to order.


@pytest.mark.parametrize(
    ("arguments", "status", "body"),
    [
        ({"status": 418}, 418, b""),
        ({"body": "<h1>Moved</h1>"}, 200, b"<h1>Moved</h1>"),
        ({"status": 520, "body": b"\xff\x00"}, 520, b"\xff\x00"),
        ({"status": 500, "body": "ä"}, 500, "ä".encode()),
        ({"names": "maintenance", "status": 200}, 200, b"Down for Maintenance (Err2)"),
        ({"names": "waf", "body": "mine"}, 403, b"mine"),
        (
            {"names": "auth-failed", "status": 200},
            200,
            b'{\n    "result": "error",\n    "message": "Authentication Failed"\n}',
        ),
    ],
)
def test_status_and_body(whmcs_mock: WhmcsMock, arguments: dict[str, Any], status: int, body: bytes) -> None:
    """Any status and any body can be had, alone or in place of a fault's own."""
    whmcs_mock.fail_next(**arguments)
    answer = ask(whmcs_mock.url, clientid=1)
    assert (answer.status_code, answer.content) == (status, body)
    assert whmcs_mock.calls[0].status == status


# Scenarios.


def test_scenario(whmcs_mock: WhmcsMock) -> None:
    """A list of names happens in its order, as often as it is told to, after what was planned before."""
    whmcs_mock.fail_next("rate-limit")
    whmcs_mock.fail_next(["maintenance", "bad-gateway"], times=2)
    statuses = [ask(whmcs_mock.url, clientid=1).status_code for _ in range(6)]
    assert statuses == [429, 503, 502, 503, 502, 200]


def test_retrying_client(whmcs_mock: WhmcsMock) -> None:
    """A client that retries is tested in one line: fail twice, then answer."""
    whmcs_mock.fail_next("maintenance", times=2)
    retry = urllib3.Retry(total=3, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        answer = session.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": "1"}, timeout=30)
    assert answer.json()["totalresults"] == "1"
    assert [call.status for call in whmcs_mock.calls_to("GetCredits", clientid=1)] == [503, 503, 200]


def test_only_calls_meet_faults(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """A fault waits for a call to the API: other paths and stubbed requests do not use it up."""
    whmcs_mock_server.expect_request("/hook").respond_with_data("ok")
    whmcs_mock.fail_next("maintenance")
    for path, status in (("/hook", 200), ("/other", 404), ("/includes/api.php", 503)):
        assert requests.get(whmcs_mock.base_url + path, timeout=30).status_code == status
    whmcs_mock_server.clear_assertions()


def test_faults_are_told(whmcs_mock: WhmcsMock) -> None:
    """A call says which fault it met."""
    whmcs_mock.fail_next([name for name in NAMES if name not in ("reset", "truncated", "slow")])
    for name in NAMES:
        if name not in ("reset", "truncated", "slow"):
            ask(whmcs_mock.url, clientid=1)
            assert name in whmcs_mock.calls[-1].why


# Mistakes of the test itself.


@pytest.mark.parametrize("wrong", ["maintenence", "", ["reset", "nonsense"], "Maintenance"])
def test_unknown_names(whmcs_mock: WhmcsMock, wrong: str | list[str]) -> None:
    """An unknown name is refused with a list of the known ones, and nothing is planned."""
    with pytest.raises(ValueError, match=r"fault|fail") as caught:
        whmcs_mock.fail_next(wrong)
    assert all(name in str(caught.value) for name in NAMES)
    assert ask(whmcs_mock.url, clientid=1).ok


@pytest.mark.parametrize(
    "arguments",
    [
        {"names": "maintenance", "times": 0},
        {"names": "maintenance", "times": -1},
        {"names": "maintenance", "seconds": 1},
        {"names": "slow", "seconds": -1},
        {"names": []},
        {"status": 42},
        {"status": 100},
        {"status": 1000},
    ],
    ids=str,
)
def test_senseless_arguments(whmcs_mock: WhmcsMock, arguments: dict[str, Any]) -> None:
    """What could never happen is refused where it is written."""
    with pytest.raises(ValueError, match=r"\w"):
        whmcs_mock.fail_next(**arguments)
    assert ask(whmcs_mock.url, clientid=1).ok


def test_unconsumed_faults(pytester: pytest.Pytester) -> None:
    """A fault that no call met is reported at the end of its test: a warning, or in strict mode a failure."""
    pytester.makepyfile("""
        import pytest
        from plugin_runs import ask


        def test_left(whmcs_mock):
            whmcs_mock.fail_next(["maintenance", "bad-gateway"])
            ask(whmcs_mock.url)


        @pytest.mark.whmcs_mock(strict=True)
        def test_strict(whmcs_mock):
            whmcs_mock.fail_next("reset")


        def test_next(whmcs_mock):
            assert ask(whmcs_mock.url).status_code == 200
    """)
    result = run(pytester, "-Wdefault::UserWarning")
    failures, _, warned = shown(result).partition("warnings summary")
    assert "bad-gateway" in warned
    assert "maintenance" not in warned
    assert "test_strict" in failures
    assert "reset" in failures
    assert result.ret == pytest.ExitCode.TESTS_FAILED
