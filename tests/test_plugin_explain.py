"""The report of a failed test, advice on calls, and the masking of secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from plugin_runs import SECRETS, SECRETS_YAML, ask, run, shown

from whmcs_mock import Access, Client, Credentials, Ledger, WhmcsMock

LEDGER = Ledger(
    [Client(1), Client(7)],
    credentials=(Credentials("known", SECRETS[0]), Credentials("admin", SECRETS[1], admin=True)),
    access=Access(frozenset({"127.0.0.1"}), SECRETS[2]),
)

FORM = "application/x-www-form-urlencoded"

pytestmark = pytest.mark.whmcs_mock(fixtures=LEDGER)

SECTION = "WHMCS mock: calls in this test"

#: Tests that send every secret, in correct and incorrect places, and fail in each phase.
FAILING = """
import hashlib

import pytest
import requests
import yaml
from plugin_runs import ask

pytestmark = pytest.mark.whmcs_mock(fixtures="secrets.yaml")


@pytest.fixture
def broken(whmcs_mock):
    ask(whmcs_mock.url, "FromSetup")
    raise RuntimeError("broken")


@pytest.fixture
def untidy(whmcs_mock):
    yield
    ask(whmcs_mock.url, "FromTeardown")
    raise RuntimeError("untidy")


def test_call(whmcs_mock):
    with open("secrets.yaml") as file:
        fixtures = yaml.safe_load(file)
    api, admin = fixtures["credentials"]
    key = fixtures["access"]["key"]
    md5 = hashlib.md5(admin["password"].encode()).hexdigest()
    ask(whmcs_mock.url, clientid=2, accesskey=key, **api)
    ask(whmcs_mock.url, clientid=7, identifier="", username="admin", password=md5)
    ask(whmcs_mock.url, clientid=1, **api, password=admin["password"], note=api["secret"], newpass="x" + md5)
    requests.get(whmcs_mock.url, params={"action": "AddCredit", "secret": md5, "accesskey": key}, timeout=30)
    requests.post(whmcs_mock.url, json={"action": "GetCredits", **api}, timeout=30)
    requests.post(whmcs_mock.base_url + "/index.php?secret=" + key, data=api, timeout=30)
    assert len(whmcs_mock.calls) == 0, "not so many"


def test_setup(broken):
    pass


def test_teardown(untidy):
    pass


def test_assertion(whmcs_mock):
    whmcs_mock.assert_called("GetCredits", clientid=1)


def test_untouched():
    assert False, "without the fixture"


def test_passes(whmcs_mock):
    ask(whmcs_mock.url, "Unseen")
"""


@pytest.mark.parametrize("style", ["short", "native", "no"])
def test_section(pytester: pytest.Pytester, style: str) -> None:
    """The terminal and the JUnit XML show the calls of each failed test, without any secret."""
    pytester.makefile(".yaml", secrets=SECRETS_YAML)
    pytester.makepyfile(test_failing=FAILING)
    result = run(pytester, f"--tb={style}", "--junit-xml=junit.xml", "-rA", "--show-capture=no")
    xml = (pytester.path / "junit.xml").read_text()
    assert {name: count for name, count in result.parseoutcomes().items() if name != "seconds"} == {
        "passed": 2,
        "failed": 3,
        "errors": 2,
    }
    for text in [xml] if style == "no" else [xml, shown(result)]:
        explained = text.partition("short test summary")[0]
        assert explained.count(SECTION) == 3  # a failed assertion of whmcs_mock lists the calls itself
        for part in ("FromSetup", "FromTeardown", "no client 2 in secrets.yaml (clients: 1, 7)", "accesskey=***"):
            assert part in explained.replace("&quot;", '"')
        assert "Unseen" not in explained
        assert "No calls were received" in explained
    for secret in (*SECRETS, hashlib.md5(SECRETS[1].encode()).hexdigest()):
        assert secret not in xml
        assert secret not in shown(result)


#: Requests with a secret in different places: path, content type and body, in forms that WHMCS reads or not.
PLACES = {
    "form": ("", FORM, "action=GetCredits&secret=SECRET"),
    "upper case": ("", FORM, "action=GetCredits&Password=SECRET&PASSWORD2=SECRET"),
    "array": ("", FORM, "action=GetCredits&secret[]=SECRET&password[0]=SECRET"),
    "action": ("", FORM, "action=SECRET&secret=SECRET"),
    "part of another value": ("", FORM, "action=GetCredits&secret=SECRET&note=is+SECRET+here"),
    "JSON": ("", "application/json", '{"action": "GetCredits", "secret": "SECRET"}'),
    "JSON as a form": ("", FORM, '{"action": "GetCredits", "secret": "SECRET"}'),
    "JSON as a form, cut by an ampersand": ("", FORM, '{"secret": "SECRET", "note": "a&b=c", "password": "SECRET"}'),
    "encoded twice": ("", FORM, "action%3DGetCredits%26secret%3DSECRET"),
    "in the action": ("", FORM, "action=GetCredits%26secret%3DSECRET"),
    "query": ("?secret=SECRET&accesskey=SECRET", FORM, "action=GetCredits"),
    "semicolons": ("?action=GetCredits;secret=SECRET", FORM, ""),
    "not the API": ("/../x.php?secret=SECRET", FORM, "secret=SECRET"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", [SECRETS[0], "the-one-of-another-install"], ids=["known", "unknown"])
def test_no_secret_shows(whmcs_mock: WhmcsMock, place: str, secret: str) -> None:
    """A secret is never shown, wherever the request contains it, and whether or not the fixtures know it."""
    path, content_type, body = (part.replace("SECRET", secret) for part in PLACES[place])
    requests.post(whmcs_mock.url + path, data=body, headers={"Content-Type": content_type}, timeout=30)
    (call,) = whmcs_mock.calls
    with pytest.raises(AssertionError) as caught:
        whmcs_mock.assert_called("Nothing")
    for text in (repr(call), repr(call.params), call.why, call.path, whmcs_mock.report(), str(caught.value)):
        assert secret not in text


def test_no_secret_in_problems(whmcs_mock: WhmcsMock) -> None:
    """An exception raised by an action function is reported with its secrets masked."""

    @whmcs_mock.action("Boom")
    def boom(params: Mapping[str, str]) -> dict[str, str]:
        raise ValueError(dict(params))

    assert ask(whmcs_mock.url, "Boom", identifier="known", secret=SECRETS[0]).status_code == 500
    for text in (whmcs_mock.report(), *whmcs_mock.problems()):
        assert "ValueError" in text
        assert SECRETS[0] not in text
    whmcs_mock.server.handler_errors.clear()


# Advice.

FINE = {"action": "GetCredits", "clientid": "1", "responsetype": "json", "identifier": "known", "secret": SECRETS[0]}


def post(mock: WhmcsMock, drop: tuple[str, ...] = (), **changed: str) -> tuple[str, ...]:
    """Send the FINE request with changes, and return the advice on it."""
    data = {key: value for key, value in {**FINE, **changed}.items() if key not in drop}
    requests.post(mock.url, data=data, timeout=30)
    return mock.calls[-1].advice


@pytest.mark.parametrize("kind", ["json", "xml", "nvp", "JSON"])
def test_no_advice(whmcs_mock: WhmcsMock, kind: str) -> None:
    """A valid request gets no advice, whichever way it authenticates."""
    md5 = hashlib.md5(SECRETS[1].encode()).hexdigest()
    assert post(whmcs_mock, responsetype=kind) == ()
    assert post(whmcs_mock, drop=("identifier", "secret"), username="known", password=SECRETS[0]) == ()
    assert post(whmcs_mock, drop=("identifier", "secret"), username="admin", password=md5) == ()
    assert post(whmcs_mock, drop=("clientid",), action="GetInvoices") == ()
    assert post(whmcs_mock, clientid="1.00") == ()


@pytest.mark.parametrize(
    ("drop", "changed", "about"),
    [
        (["responsetype"], {}, "responsetype"),
        ([], {"responsetype": "yaml"}, "responsetype"),
        (["identifier", "secret"], {}, "credentials"),
        (["identifier"], {}, "credentials"),
        (["secret"], {}, "credentials"),
        ([], {"clientid": "abc"}, "clientid"),
        ([], {"clientid": ""}, "clientid"),
    ],
    ids=str,
)
def test_advice(whmcs_mock: WhmcsMock, drop: list[str], changed: dict[str, str], about: str) -> None:
    """A request that a real WHMCS would treat differently gets one piece of advice, which is also in the report."""
    (advice,) = post(whmcs_mock, tuple(drop), **changed)
    assert about in advice
    assert advice in whmcs_mock.report()


#: Arguments of requests that send parameters in the wrong place, and a word of the expected advice.
MISPLACED: dict[str, tuple[dict[str, Any], str]] = {
    "secret": ({"params": {"secret": SECRETS[0]}, "data": FINE}, "query string"),
    "password": ({"params": {"password": "x"}, "data": FINE}, "query string"),
    "access key": ({"params": {"accesskey": SECRETS[2]}, "data": FINE}, "query string"),
    "two secrets": (
        {"params": {"username": "x", "password": "x", "accesskey": "x"}, "data": FINE},
        "password and accesskey were sent in the query string, which servers log; send them in the body",
    ),
    "no type": ({"data": b"clientid=1"}, "the body has no Content-Type, so WHMCS does not read it; send a form"),
    "JSON": ({"json": FINE}, "JSON"),
    "JSON beside a query": ({"params": {"action": "GetCredits"}, "json": {"clientid": 1}}, "JSON"),
    "JSON without a type": ({"data": json.dumps(FINE)}, "JSON"),
    "JSON as a form": ({"data": json.dumps(FINE), "headers": {"Content-Type": FORM}}, "JSON"),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_advice_about_places(whmcs_mock: WhmcsMock, case: str) -> None:
    """A secret in the query string, or a JSON body with any content type, gets advice against it."""
    arguments, about = MISPLACED[case]
    requests.post(whmcs_mock.url, timeout=30, **arguments)
    assert any(about in advice for advice in whmcs_mock.calls[0].advice)


def test_strict(pytester: pytest.Pytester) -> None:
    """In strict mode, a test whose calls get advice fails and shows the advice."""
    pytester.makeini("[pytest]\nwhmcs_mock_strict = true")
    pytester.makepyfile("""
        import pytest
        import requests
        from plugin_runs import ask


        def test_careless(whmcs_mock):
            requests.get(whmcs_mock.url, params={"action": "GetCredits"}, timeout=30)


        def test_fine(whmcs_mock):
            ask(whmcs_mock.url, clientid=1)


        @pytest.mark.whmcs_mock(strict=False)
        def test_lenient(whmcs_mock):
            requests.get(whmcs_mock.url, params={"action": "GetCredits"}, timeout=30)
    """)
    result = run(pytester, "--junit-xml=junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for text in (shown(result), (pytester.path / "junit.xml").read_text()):
        assert "no responsetype" in text
        assert "no credentials" in text
    assert "test_careless" in shown(result)
    assert "test_fine" not in shown(result)
    assert "test_lenient" not in shown(result)


# The report itself.


def test_report_is_bounded(whmcs_mock: WhmcsMock) -> None:
    """A report of many calls shows the latest ones and the number of calls left out."""
    with requests.Session() as session:
        for number in range(120):
            session.post(whmcs_mock.url, data={**FINE, "clientid": number + 1000}, timeout=30)
    report = whmcs_mock.report()
    shown_calls = sum(f"clientid={number + 1000} " in report for number in range(120))
    assert 0 < shown_calls < 120
    assert "clientid=1119 " in report
    assert f"{120 - shown_calls} earlier" in report


@pytest.mark.parametrize(
    "value",
    ["\x1b[31mred", "line\nbreak", "\ud800", "\x00", "x" * 5000, "\u202egnp"],
    ids=["colour", "line", "surrogate", "null", "long", "direction"],
)
def test_hostile_values(whmcs_mock: WhmcsMock, value: str) -> None:
    """Hostile values cannot add colours or line breaks to the report, or make it too long."""
    body = urlencode({**FINE, "note": value, f"name {value}": ""}, errors="surrogatepass")
    requests.post(whmcs_mock.url, data=body, headers={"Content-Type": FORM}, timeout=30)
    report = whmcs_mock.report()
    assert report.replace("\n", "").isprintable()
    assert report.count("\n") == 1  # between the profile and the call
    assert len(report) < 500
