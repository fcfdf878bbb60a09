"""Faults planned with ``whmcs_mock.fail_next``, as seen by real clients."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Mapping
from pathlib import Path
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

PAGES = Path(__file__).with_name("pages")

#: Every named fault.
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
    """Call the API over a plain socket, and return everything received until the connection closes."""
    body = urlencode({"action": "GetCredits", "clientid": 1, "responsetype": "json", **params})
    head = f"POST /includes/api.php HTTP/1.1\r\nHost: whmcs\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    received = b""
    with socket.create_connection(("127.0.0.1", mock.server.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}".encode())
        while part := connection.recv(65536):
            received += part
    return received


# Spoiled answers.


def test_truncated(whmcs_mock: WhmcsMock) -> None:
    """A truncated body is shorter than its Content-Length, which is that of the complete answer."""
    whole = read_raw(whmcs_mock).partition(b"\r\n\r\n")[2]
    whmcs_mock.fail_next("truncated", times=4)
    head, _, body = read_raw(whmcs_mock).partition(b"\r\n\r\n")
    assert f"content-length: {len(whole)}".encode() in head.lower()
    assert len(body) == len(whole) // 2
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


def test_reset_of_a_kept_connection(whmcs_mock: WhmcsMock) -> None:
    """A session reconnects for the next call after its keep-alive connection was reset."""
    with requests.Session() as session:
        for fault in ("", "reset", ""):
            if fault:
                whmcs_mock.fail_next(fault)
                with pytest.raises(requests.ConnectionError):
                    session.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": "1"}, timeout=30)
            else:
                assert session.get(whmcs_mock.url, params={"action": "GetCredits", "clientid": "1"}, timeout=30).ok


def test_slow_runs_into_time_outs(whmcs_mock: WhmcsMock) -> None:
    """A slow answer makes the client time out; after that, the next call is answered normally."""
    whmcs_mock.fail_next("slow", times=2)
    with pytest.raises(requests.ReadTimeout):
        requests.post(whmcs_mock.url, data={"action": "GetCredits"}, timeout=0.3)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(whmcs_mock.url, data={"action": "GetCredits"}, timeout=0.3)
    assert ask(whmcs_mock.url, clientid=1).json()["result"] == "success"


# Custom answers.


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
    """Status and body can be set, alone or in place of those of a named fault."""
    whmcs_mock.fail_next(**arguments)
    answer = ask(whmcs_mock.url, clientid=1)
    assert (answer.status_code, answer.content) == (status, body)
    assert whmcs_mock.calls[0].status == status
    assert whmcs_mock.calls[0].response_type in ("html", "json", "text", "empty")


# Scenarios.


def test_scenario(whmcs_mock: WhmcsMock) -> None:
    """A list of faults occurs in order, repeated as often as requested, after the faults planned before it."""
    whmcs_mock.fail_next("rate-limit")
    whmcs_mock.fail_next(["maintenance", "bad-gateway"], times=2)
    statuses = [ask(whmcs_mock.url, clientid=1).status_code for _ in range(6)]
    assert statuses == [429, 503, 502, 503, 502, 200]


def test_retrying_client(whmcs_mock: WhmcsMock) -> None:
    """A client with retries is tested with one line: the first two calls fail, then the third succeeds."""
    whmcs_mock.fail_next("maintenance", times=2)
    retry = urllib3.Retry(total=3, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        answer = session.post(whmcs_mock.url, data={"action": "GetCredits", "clientid": "1"}, timeout=30)
    assert answer.json()["totalresults"] == "1"
    assert [call.status for call in whmcs_mock.calls_to("GetCredits", clientid=1)] == [503, 503, 200]


def test_only_calls_use_up_faults(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """A fault applies only to API calls: requests to other paths and stubbed requests do not consume it."""
    whmcs_mock_server.expect_request("/hook").respond_with_data("ok")
    whmcs_mock.fail_next("maintenance")
    for path, status in (("/hook", 200), ("/other", 404), ("/includes/api.php", 503)):
        assert requests.get(whmcs_mock.base_url + path, timeout=30).status_code == status
    whmcs_mock_server.clear_assertions()


def test_faults_are_told(whmcs_mock: WhmcsMock) -> None:
    """The reason recorded for a call names the fault that was applied to it."""
    whmcs_mock.fail_next([name for name in NAMES if name not in ("reset", "truncated", "slow")])
    for name in NAMES:
        if name not in ("reset", "truncated", "slow"):
            ask(whmcs_mock.url, clientid=1)
            assert name in whmcs_mock.calls[-1].why


# Rules.


def statuses(mock: WhmcsMock, *calls: Mapping[str, object]) -> list[int]:
    """Make the calls, of GetCredits by default, and return their HTTP statuses."""
    return [ask(mock.url, **{"action": "GetCredits", **call}).status_code for call in calls]  # type: ignore[arg-type]  # a str


def test_rules(whmcs_mock: WhmcsMock) -> None:
    """The first rule that matches a call is applied; rules that do not match are kept."""
    whmcs_mock.fail_next("bad-gateway", action="getinvoice")
    whmcs_mock.fail_next(status=520, clientid=1)
    whmcs_mock.fail_next("gateway-timeout", params={"invoiceid": 99})
    whmcs_mock.fail_next("rate-limit", times=2)
    one, two, invoice = {"clientid": "01"}, {"clientid": 2}, {"action": "GetInvoice", "invoiceid": 99}
    assert statuses(whmcs_mock, two, one, invoice, invoice, one, one) == [429, 520, 502, 504, 429, 200]
    whmcs_mock.fail_next("maintenance", clientid=2)
    assert statuses(whmcs_mock, {"userid": 2}) == [503]  # the other parameter for a client id


def test_every_call(whmcs_mock: WhmcsMock) -> None:
    """With times=None a rule applies to every matching call; several faults take turns."""
    whmcs_mock.fail_next("maintenance", times=None, clientid=13)
    assert statuses(whmcs_mock, *[{"clientid": 13}, {"clientid": 1}] * 5) == [503, 200] * 5
    assert whmcs_mock.problems() == []
    whmcs_mock.fail_next(["rate-limit", "bad-gateway"], times=None)
    assert statuses(whmcs_mock, *[{}] * 5) == [429, 502, 429, 502, 429]


def test_rules_of_fixtures(whmcs_mock: WhmcsMock, tmp_path: Path) -> None:
    """Rules in a fixture file apply after those of the test."""
    path = tmp_path / "faults.yaml"
    path.write_text("""
faults:
  - {fault: gateway-timeout, clientid: 13}
  - {message: Invoice ID Not Found, action: GetInvoice, params: {invoiceid: 99}}
  - {status: 520, body: "<h1>Unknown error</h1>", headers: {Retry-After: "3"}, times: 2, action: AddCredit}
""")
    whmcs_mock.load(path)
    assert statuses(whmcs_mock, *[{"clientid": 13}] * 3, {"clientid": 1}) == [504, 504, 504, 200]
    answers = [ask(whmcs_mock.url, "AddCredit", clientid=1) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [520, 520, 200]
    assert (answers[0].text, answers[0].headers["Retry-After"]) == ("<h1>Unknown error</h1>", "3")
    assert ask(whmcs_mock.url, "GetInvoice", invoiceid=99).json()["message"] == "Invoice ID Not Found"
    whmcs_mock.fail_next("maintenance", clientid=13)
    assert statuses(whmcs_mock, *[{"clientid": 13}] * 2) == [503, 504]
    assert whmcs_mock.problems() == []  # unused rules of a fixture file are not a problem


@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
def test_message(whmcs_mock: WhmcsMock, kind: str) -> None:
    """A message gives a WHMCS error answer in the requested format, with status 200 by default."""
    whmcs_mock.fail_next(message="Invoice ID Not Found", action="GetInvoice")
    whmcs_mock.fail_next(message="Other", status=400)
    answers = [ask(whmcs_mock.url, action, responsetype=kind) for action in ("GetInvoice", "GetCredits")]
    assert [answer.status_code for answer in answers] == [200, 400]
    text = answers[0].text
    if kind == "json":
        assert answers[0].json() == {"result": "error", "message": "Invoice ID Not Found"}
    elif kind == "xml":
        assert ElementTree.fromstring(text).findtext("message") == "Invoice ID Not Found"
    else:
        assert text == "result=error;message=Invoice ID Not Found"


@pytest.mark.whmcs_mock(fixtures=PAGES)
def test_message_of_a_page(whmcs_mock: WhmcsMock) -> None:
    """A message that is not listed on the action's page is refused, and the nearest listed ones are suggested."""
    with pytest.raises(
        ValueError, match=r"GetVoucher has no error .*Voucher ID Not Fund.*; the nearest are Voucher ID"
    ):
        whmcs_mock.fail_next(message="Voucher ID Not Fund", action="getvoucher")
    for message in ("Voucher ID Not Found", "No such code: A-7", "Parameter 'items' is no list"):  # placeholders
        whmcs_mock.fail_next(message=message, action="GetVoucher")
        assert ask(whmcs_mock.url, "GetVoucher", voucherid=1).json()["message"] == message
    whmcs_mock.fail_next(message="Anything")  # for any action
    assert ask(whmcs_mock.url, "GetVoucher", voucherid=1).json()["message"] == "Anything"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("invalid-ip", "Invalid IP 127.0.0.1"),
        ("auth-failed", "Authentication Failed"),
        ("missing-permission", 'Invalid Permissions: API action "{action}" is not allowed'),
    ],
)
def test_refusals(whmcs_mock: WhmcsMock, fault: str, message: str) -> None:
    """A refusal has its documented message, with the caller's address or the action, if there is one."""
    whmcs_mock.fail_next(fault, times=2)
    for action in ({"action": "GetCredits"}, {}):
        answer = requests.post(whmcs_mock.url, data={**action, "responsetype": "json"}, timeout=30)
        told = message.format(action=action.get("action", "").lower())
        assert (answer.status_code, answer.json()) == (403, {"result": "error", "message": told})


def test_headers(whmcs_mock: WhmcsMock) -> None:
    """Headers are added to those of the fault or of the normal answer, and replace headers with the same name."""
    whmcs_mock.fail_next("rate-limit", headers={"retry-after": "120", "X-Cache": "HIT"})
    answer = ask(whmcs_mock.url, clientid=1)
    assert (answer.headers["Retry-After"], answer.headers["X-Cache"]) == ("120", "HIT")
    whmcs_mock.fail_next(headers={"X-Cache": "HIT"})
    answer = ask(whmcs_mock.url, clientid=1)
    assert (answer.json()["totalresults"], answer.headers["X-Cache"]) == ("1", "HIT")


def test_what_is_left_over(whmcs_mock: WhmcsMock) -> None:
    """Unused faults are reported in one short line, and a large number of repetitions takes no extra time."""
    whmcs_mock.fail_next(["maintenance", "reset"], times=10**9)
    whmcs_mock.fail_next("slow", times=None, clientid=5)
    whmcs_mock.fail_next("bom", action="AddCredit")
    assert ask(whmcs_mock.url).status_code == 503
    (problem,) = whmcs_mock.problems()
    whmcs_mock.reset()
    assert problem == (
        "fail_next: no call matched reset (1000000000 times), maintenance (999999999 times), "
        "slow clientid=5, bom action=addcredit"
    )
    for number in range(100):
        whmcs_mock.fail_next("maintenance", clientid=number + 1)
    (problem,) = whmcs_mock.problems()
    whmcs_mock.reset()
    assert problem.endswith("maintenance clientid=10, and 90 more")
    assert "\n" not in problem


# Mistakes of the test itself.


@pytest.mark.parametrize("wrong", ["maintenence", "", ["reset", "nonsense"], "Maintenance"])
def test_unknown_names(whmcs_mock: WhmcsMock, wrong: str | list[str]) -> None:
    """An unknown fault name is refused with a list of the known ones, and no fault is planned."""
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
        {"names": ["reset", 5]},
        {"names": "reset", "clientid": "one"},
        {"names": "reset", "times": "2"},
        {"names": "reset", "message": "Oops"},
        {"message": 5},
        {"body": 5},
        {"status": 500, "headers": [("X-A", "b")]},
        {"names": "reset", "params": ["clientid"]},
        {"status": 500, "headers": {"Content-Length": "5"}},
        {"status": 500, "headers": {"X-A": "a\r\nb"}},
    ],
    ids=str,
)
def test_senseless_arguments(whmcs_mock: WhmcsMock, arguments: dict[str, Any]) -> None:
    """Invalid arguments are refused by ``fail_next`` itself."""
    with pytest.raises(ValueError, match=r"\w"):
        whmcs_mock.fail_next(**arguments)
    assert ask(whmcs_mock.url, clientid=1).ok


@pytest.mark.parametrize(
    ("names", "rest", "sentence"),
    [
        (503, {}, "a fault is given by name; for a status, write fail_next(status=503)"),
        ("maintenence", {}, 'there is no fault "maintenence"; did you mean maintenance?'),
        ("gateway_timeout", {}, "did you mean gateway-timeout?"),
        ("slwo", {"seconds": 5}, 'there is no fault "slwo"; did you mean slow?'),
        ("slow", {"seconds": "soon"}, "seconds is a number from 0 to 999999, not 'soon'"),
        ("slow", {"seconds": [5]}, "seconds is a number from 0 to 999999, not [5]"),
        ([], {}, "the list of faults is empty; write at least one, such as maintenance"),
        ("slow", {"times": 0}, "times= is a positive integer or None, not 0"),
    ],
)
def test_sentences(whmcs_mock: WhmcsMock, names: Any, rest: dict[str, Any], sentence: str) -> None:
    """The error for a likely typing mistake suggests the correct form."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        whmcs_mock.fail_next(names, **rest)


MISTAKES = """
import pytest


@pytest.mark.parametrize("mistake", range(16))
def test_mistake(whmcs_mock, mistake):
    if mistake == 0: whmcs_mock.fail_next("maintenence")  # theirs
    if mistake == 1: whmcs_mock.add_credit(1, amount="ten")  # theirs
    if mistake == 2: whmcs_mock.add_credit(99, amount="1.00")  # theirs
    if mistake == 3: whmcs_mock.add_client(1)  # theirs
    if mistake == 4: whmcs_mock.add_client(5, credits=[{"amount": "1.00", "date": "today"}])  # theirs
    if mistake == 5: whmcs_mock.load("absent.yaml")  # theirs
    if mistake == 6: whmcs_mock.profile = "lively"  # theirs
    if mistake == 7: whmcs_mock.action(len)  # theirs
    if mistake == 8: whmcs_mock.ca_path  # theirs
    if mistake == 9: whmcs_mock.add_client(5, credits=[{"amont": "1.00"}])  # theirs
    if mistake == 10: whmcs_mock.assert_called("GetCredits")  # theirs
    if mistake == 11: whmcs_mock.add_client(5, credits=[1])  # theirs
    if mistake == 12: whmcs_mock.add_client(5, credits={"amont": "1.00"})  # theirs
    if mistake == 13: whmcs_mock.wait_for_call("GetCredits", timeout="soon")  # theirs
    if mistake == 14: whmcs_mock.action("GetInvoice")(5)  # theirs
    if mistake == 15: whmcs_mock.action("")  # theirs
"""


@pytest.mark.parametrize("style", ["auto", "long", "short", "native"])
def test_mistakes_show_the_users_line(pytester: pytest.Pytester, style: str) -> None:
    """The traceback of a mistake shows the line in the test, and no line of whmcs-mock."""
    pytester.makepyfile(MISTAKES)
    result = run(pytester, f"--tb={style}")
    result.assert_outcomes(failed=16)
    text = shown(result)
    if style != "native":  # which shows Python's full traceback
        assert "handle.py" not in text
        assert "ledger.py" not in text
        assert "world.py" not in text
        assert "all hidden" not in text.lower()
    assert text.count("# theirs") >= 16
    for sentence in (
        'ValueError: a credit is a Credit, or a mapping such as {"amount": "10.00"}, not 1',
        "ValueError: a credit has no amont; its fields are ",
        "TypeError: timeout= is a number of seconds, not 'soon'",
        "TypeError: an action is answered by a function of its parameters, not by 5",
    ):
        assert sentence in text


def test_unused_faults_in_words(whmcs_mock: WhmcsMock) -> None:
    """Unused faults are listed in the order in which they would apply, with how often; the first ten of them."""
    faults = whmcs_mock.world.faults
    whmcs_mock.fail_next(["waf", "bom", "maintenance"], times=2)
    ask(whmcs_mock.url, clientid=1)
    assert faults.unused() == ["bom (2 times)", "maintenance (2 times)", "waf"]
    whmcs_mock.fail_next("waf")
    assert faults.unused() == ["bom (2 times)", "maintenance (2 times)", "waf (2 times)"]
    whmcs_mock.reset()
    faults = whmcs_mock.world.faults
    for number in range(1, 11):
        whmcs_mock.fail_next(status=400 + number)
    assert faults.unused()[8:] == ["status=409", "status=410"]
    whmcs_mock.fail_next(status=411)
    assert faults.unused()[9:] == ["status=410", "and 1 more"]
    whmcs_mock.reset()


@pytest.mark.parametrize("fault", ["maintenance", "waf", "rate-limit", "bad-gateway", "gateway-timeout", "empty-body"])
def test_pages_of_faults_are_html(whmcs_mock: WhmcsMock, fault: str) -> None:
    """The faults of a proxy or of PHP have the Content-Type of HTML, and the reason names the fault."""
    whmcs_mock.fail_next(fault)
    assert ask(whmcs_mock.url, clientid=1).headers["Content-Type"] == "text/html; charset=utf-8"
    assert whmcs_mock.calls[0].why == f"fault {fault}"


def test_call_without_an_action(whmcs_mock: WhmcsMock) -> None:
    """A fault of one action does not apply to a call without an action, which gets its usual answer."""
    whmcs_mock.fail_next("maintenance", action="GetInvoice")
    assert requests.post(whmcs_mock.url, data={"responsetype": "json"}, timeout=30).status_code == 400
    whmcs_mock.reset()


def test_page_of_a_status(whmcs_mock: WhmcsMock) -> None:
    """A fault that is only a status, or a body, is HTML as well, unless it names another type."""
    for arguments in ({"status": 500}, {"body": "down"}):
        whmcs_mock.fail_next(**arguments)
        assert ask(whmcs_mock.url, clientid=1).headers["Content-Type"] == "text/html; charset=utf-8"
    whmcs_mock.fail_next(status=500, headers={"content-type": "text/plain"})
    assert ask(whmcs_mock.url, clientid=1).headers["Content-Type"] == "text/plain"


def test_reasons_of_faults(whmcs_mock: WhmcsMock) -> None:
    """The reason for a spoiled answer names the fault and the reason for the right answer."""
    for fault in ("bom", "reset"):
        whmcs_mock.fail_next(fault)
    ask(whmcs_mock.url, clientid=1)
    with pytest.raises(requests.ConnectionError):
        ask(whmcs_mock.url, clientid=1)
    right = ask(whmcs_mock.url, clientid=1)
    assert right.ok
    spoiled, reset, fine = whmcs_mock.calls
    assert (spoiled.why, reset.why) == (f"fault bom; {fine.why}", "fault reset")


def test_only_json_is_spoiled(whmcs_mock: WhmcsMock) -> None:
    """A PHP warning and a byte order mark come before JSON; XML is answered as usual."""
    usual = {kind: ask(whmcs_mock.url, clientid=1, responsetype=kind).content for kind in ("json", "xml")}
    for fault in ("bom", "php-warning"):
        whmcs_mock.fail_next(fault, times=2)
        assert ask(whmcs_mock.url, clientid=1, responsetype="xml").content == usual["xml"]
        spoiled = ask(whmcs_mock.url, clientid=1).content
        assert spoiled.endswith(usual["json"])
        assert len(spoiled) > len(usual["json"])


def test_unconsumed_faults(pytester: pytest.Pytester) -> None:
    """An unused fault is reported at the end of the test as a warning, or in strict mode as a failure."""
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
