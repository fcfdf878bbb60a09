"""Secrets are always redacted, in time linear in the call, and without blinding a test."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from whmcs_mock import Access, CannedAnswer, Client, Credentials, Ledger, MockServer, WhmcsMock
from whmcs_mock.redaction import is_secret, redactor, secrets_of

FORM = "application/x-www-form-urlencoded"
KNOWN = "t0p/secret+of the 'API'"
LEDGER = Ledger(
    [Client(1)], credentials=(Credentials("known", KNOWN),), access=Access(frozenset({"127.0.0.1"}), "pass")
)

OPEN = pytest.mark.whmcs_mock(fixtures=Ledger([Client(1)]))
pytestmark = pytest.mark.whmcs_mock(fixtures=LEDGER)


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "secret", "Secret", "password", "PASSWORD2", "newpassword", "passwd", "passphrase_password", "pwd", "accesskey",
        "access_key", "api_key", "apikey", "API-Key", "authorization", "Authorization", "token", "csrf_token",
        "cardnum", "cvv", "secret[0]", "x" * 58 + "secret", "x" * 59 + "secret", "x" * 100_000 + "secret",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    """The value of a parameter with such a name is a secret."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["identifier", "username", "clientid", "action", "description", "key", "userid", "x" * 100]
)
def test_names_of_others(name: str) -> None:
    """The value of a parameter with another name is none."""
    assert not is_secret(name)


# Dummy credentials blind no test.

DUMMIES: list[dict[str, str]] = [
    {"identifier": "test", "secret": "test"},
    {"secret": "secret"},
    {"identifier": "identifier", "secret": "secret"},
    {"secret": "1"},
    {"password": "password", "username": "admin"},
    {"username": "username", "password": "password"},
    {"secret": "json"},
    {"secret": "password"},
    {"secret": "a"},
    {"secret": "GetCred"},
    {"identifier": "id", "secret": "*"},
    {"secret": "success"},
    {"accesskey": "accesskey", "secret": "clientid"},
]


@OPEN
@pytest.mark.parametrize("sent", DUMMIES, ids=str)
def test_dummy_credentials(whmcs_mock: WhmcsMock, sent: dict[str, str]) -> None:
    """With ordinary dummy credentials assertions hold, and all but the secret's own value stays readable."""
    form = {"action": "GetCredits", "clientid": "1", "responsetype": "json", "note": "a note", **sent}
    requests.post(whmcs_mock.url, data=form, timeout=30)
    call = whmcs_mock.assert_called_once("GetCredits", **{name: form[name] for name in form if name != "action"})
    assert call.params == {name: "***" if is_secret(name) else value for name, value in form.items()}
    assert (call.action, call.clientid, call.method, call.path) == ("GetCredits", "1", "POST", "/includes/api.php")
    assert (call.result, call.why) == ("success", "client 1 has 0 credits")
    assert "***" not in "".join(call.advice)


# Secrets show nowhere.


@settings(max_examples=60, deadline=None)
@given(
    secret=st.text(min_size=8, max_size=40).filter(lambda text: len(set(text)) > 3),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    spell=st.sampled_from([str, quote, quote_plus, lambda text: quote(text, safe=""), repr]),
)
def test_any_secret_in_any_text(secret: str, before: str, after: str, spell: Callable[[str], str]) -> None:
    """A known secret of eight characters or more is found as it is, URL-encoded and in a repr, wherever it stands."""
    try:
        text = before + spell(secret) + after
    except UnicodeEncodeError:  # a lone surrogate has no URL
        return
    spelt = spell(secret).strip("'\"") if spell is repr else spell(secret)
    if spelt.lower() not in {"password", "username", "identifier", "accesskey", "responsetype", "clientid"}:
        assert spelt not in redactor({secret})(text)


def post(mock: WhmcsMock, target: str = "", *, method: str = "POST", **params: str) -> None:
    """Send a call whose URL is written as it is."""
    body = urlencode(params) if method == "POST" else None
    requests.request(method, mock.url + target, data=body, headers={"Content-Type": FORM}, timeout=30)


@pytest.mark.parametrize(
    "send",
    [
        lambda mock: post(mock, action="GetCredits", note=KNOWN),
        lambda mock: post(mock, action="GetCredits", note=f"x{quote_plus(KNOWN)}y"),
        lambda mock: post(mock, action="GetCredits", note=repr(KNOWN)),
        lambda mock: post(mock, action="GetCredits", **{KNOWN: "1"}),
        lambda mock: post(mock, action=KNOWN),
        lambda mock: post(mock, f"/{quote(KNOWN, safe='')}"),
        lambda mock: post(mock, f"/{quote(quote(KNOWN, safe=''))}"),
        lambda mock: post(mock, f"?{urlencode({'note': KNOWN})}", method="GET"),
        lambda mock: post(mock, action="GetCredits", identifier="known", secret="a-secret-elsewhere", n="a-secret-elsewhere"),
    ],
    ids=["value", "encoded", "repr", "name", "action", "path", "path, twice", "query", "another"],
)  # fmt: skip
def test_places(whmcs_mock: WhmcsMock, send: Callable[[WhmcsMock], None]) -> None:
    """A secret shows in no reader's view of a call, in whatever part and spelling it came."""
    send(whmcs_mock)
    (call,) = whmcs_mock.calls
    with pytest.raises(AssertionError) as caught:
        whmcs_mock.assert_called("Nothing", secret=KNOWN)
    views = [repr(call), str(call.as_json()), whmcs_mock.report(), str(caught.value), repr(whmcs_mock), call.answer]
    for secret in (KNOWN, quote(KNOWN, safe=""), quote_plus(KNOWN), repr(KNOWN)[1:-1], "a-secret-elsewhere"):
        for view in views:
            assert secret not in view
        assert secret not in call.params.values()


@pytest.mark.whmcs_mock(fixtures=Ledger(credentials=(Credentials("known", "T0PSECRETMETHOD"),)))
def test_secret_as_a_method(whmcs_mock: WhmcsMock) -> None:
    """A known secret that was sent as the method shows neither there nor in the answer's reason."""
    requests.request("T0PSECRETMETHOD", whmcs_mock.url, timeout=30)
    (call,) = whmcs_mock.calls
    assert "T0PSECRET" not in call.method + call.path + repr(call) + call.why


def test_check_assertions(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """What pytest-httpserver tells of a request that nothing expected holds no secret either."""
    url = f"{whmcs_mock.base_url}/{quote(KNOWN, safe='')}?secret=of-the-query"
    data = {"secret": "of-the-body"}
    requests.post(url, data=data, headers={"Authorization": "Bearer of-the-header"}, timeout=30)
    with pytest.raises(AssertionError) as caught:
        whmcs_mock_server.check_assertions()
    for secret in (KNOWN, quote(KNOWN, safe="/+'"), "of-the-query", "of-the-body", "of-the-header"):
        assert secret not in str(caught.value)


@pytest.mark.whmcs_mock(fixtures=Ledger(answers=(CannedAnswer("GetInvoice", {}, {"token": "short", "n": "1"}),)))
def test_canned_answers(whmcs_mock: WhmcsMock) -> None:
    """Why no canned answer matches is told without the secrets that it wants, and that were sent."""
    post(whmcs_mock, action="GetInvoice", token="other", n="2")
    assert whmcs_mock.calls[0].why.endswith('token had a different value; n was "2" (expected "1")')


@OPEN
def test_exceptions(whmcs_mock: WhmcsMock) -> None:
    """What a function raises is told without the secrets of its call, in the report and in the answer."""

    @whmcs_mock.action("Boom")
    def boom(params: Any) -> dict[str, str]:
        raise ValueError(f"sent {params['password']} and {quote(params['password'], safe='')} and {dict(params)!r}")

    form = {"action": "Boom", "username": "u", "password": "p/ss w'rd\\1"}
    answer = requests.post(whmcs_mock.url, data=form, timeout=30)
    for text in (whmcs_mock.report(), *whmcs_mock.problems(), answer.text):
        assert "ValueError" in text
        for secret in (form["password"], quote(form["password"], safe=""), repr(form["password"])[1:-1]):
            assert secret not in text
    whmcs_mock.server.handler_errors.clear()


@OPEN
def test_exceptions_of_expectations(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """What a handler of an expectation raises is told without the secrets of its request, and without library frames."""

    def respond(request: Any) -> Any:
        raise ValueError(f"{'x' * 1_985}{request.form['password']}")

    whmcs_mock_server.expect_request("/includes/api.php").respond_with_handler(respond)
    answer = requests.post(whmcs_mock.url, data={"action": "Boom", "password": "Sup3rS3cretPwxy"}, timeout=30)
    for text in (whmcs_mock.report(), *whmcs_mock.problems(), answer.text):
        assert "Sup3r" not in text
    assert "ValueError" in whmcs_mock.report()
    assert "werkzeug" not in whmcs_mock.report()
    whmcs_mock_server.handler_errors.clear()


@pytest.mark.parametrize("profile", ["documented", "live"])
@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
@pytest.mark.whmcs_mock(fixtures=Ledger(answers=(CannedAnswer("Echo", {"echo": "{{password}}"}),)))
def test_answers(whmcs_mock: WhmcsMock, profile: Any, kind: str) -> None:
    """A secret within a recorded answer is hidden, however that answer's format escapes it."""
    whmcs_mock.profile = profile
    for secret in ("pass/word/1234", "it's <a> \"& more", "sécret \\ 日本"):
        post(whmcs_mock, action="Echo", responsetype=kind, password=secret)
        assert "***" in whmcs_mock.calls[-1].answer
        for part in ("word", "more", "cret", "u65e5", "日"):
            assert part not in whmcs_mock.calls[-1].answer.replace("password", "")


@pytest.mark.whmcs_mock(fixtures=Ledger(answers=(CannedAnswer("Echo", {"a": "{{notes}}", "b": "{{password}}"}),)))
def test_secrets_at_the_end_of_what_is_kept(whmcs_mock: WhmcsMock) -> None:
    """A secret that the end of a truncated value or answer goes through is hidden as a whole."""
    secret = "SuperSecretPassword"
    for length in (65_536 - 10, 65_536 - 35):
        whmcs_mock.clear_calls()
        post(whmcs_mock, action="Echo", responsetype="nvp", password=secret, notes="x" * length + secret)
        (call,) = whmcs_mock.calls
        assert "Super" not in call.params["notes"] + call.answer
        assert len(call.answer) <= 65_536
    post(whmcs_mock, action="Echo", password=secret, notes="y" * 70_000)
    assert whmcs_mock.calls[-1].params["notes"] == "y" * 65_536 + "... (70000 characters)"


def test_expected_values(whmcs_mock: WhmcsMock) -> None:
    """Neither a failed assertion nor an unused fault shows a known secret, wherever the test wrote it."""
    post(whmcs_mock, action="GetCredits", note="other")
    for params in ({"note": KNOWN}, {"secret": KNOWN}, {"clientid": 1, "note": KNOWN}):
        with pytest.raises(AssertionError) as caught:
            whmcs_mock.assert_called("GetCredits", **params)
        assert KNOWN not in str(caught.value)
    with pytest.raises(AssertionError) as caught:
        whmcs_mock.assert_called(KNOWN)
    assert KNOWN not in str(caught.value)
    whmcs_mock.fail_next(message=f"x {KNOWN}", action="GetNothing")
    assert not any(KNOWN in problem for problem in whmcs_mock.problems())
    whmcs_mock.reset()


def test_reprs(whmcs_mock: WhmcsMock) -> None:
    """No repr of a value, nor of a fault that waits, shows a secret."""
    whmcs_mock.fail_next("maintenance", params={"secret": KNOWN, "api_key": "short"})
    texts = [repr(LEDGER.credentials), repr(LEDGER.access), *whmcs_mock.problems(), whmcs_mock.report()]
    whmcs_mock.reset()
    assert "secret=*** api_key=***" in texts[2]
    for text in texts:
        assert KNOWN not in text
        assert repr(KNOWN)[1:-1] not in text
        assert "short" not in text


# Time.

LONG = {
    "many secrets": "&".join(f"secret{number}=value{number}-of-this" for number in range(1500)),
    "twenty secrets and a long text": "&".join(
        [*(f"secret{n}=value-number-{n}-xyz" for n in range(20)), "note=" + "value-number-1+secret+" * 40_000]
    ),
    "values": "secret=" * 140_000,
    "names": "secret" * 170_000 + "=1",
    "spaces": "secret" + " " * 900_000 + "=1",
    "quotes": "note=" + "secret%3D%22" * 80_000,
    "long secrets": "&".join(f"secret{number}=" + "%41%C3%A9" * 4000 for number in range(20)),
}


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_redaction_stalls_nobody(whmcs_mock: WhmcsMock, body: str) -> None:
    """A call that is all secrets is answered, and read, while another client is answered as ever."""
    answer = requests.post(whmcs_mock.url, data=body, headers={"Content-Type": FORM}, timeout=20)
    assert answer.json()["message"] == "Invalid or missing credentials"
    longest, done = [0.0], threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not done.is_set():
                begun = time.perf_counter()
                session.get(whmcs_mock.url, params={"action": "GetCredits", "responsetype": "json"}, timeout=20)
                longest[0] = max(longest[0], time.perf_counter() - begun)

    other = threading.Thread(target=ask)
    other.start()
    begun = time.perf_counter()
    whmcs_mock.report()
    whmcs_mock.calls[0].as_json()
    took = time.perf_counter() - begun
    done.set()
    other.join()
    assert took < 10
    assert longest[0] < 5


@pytest.mark.parametrize("word", ["accesskey", "clientid", "identifier", "password", "responsetype", "username"])
def test_dummy_secrets(word: str) -> None:
    """A dummy secret that is the name of a parameter does not hide that name in texts."""
    for redact in (redactor(secrets_of({"secret": word})), redactor([word])):
        assert redact(f"no {word} was sent") == f"no {word} was sent"


@pytest.mark.parametrize(
    ("known", "text", "shown"),
    [
        (["correct-horse", "correct-horse-battery"], "it was correct-horse-battery", "it was ***"),
        (["0123456789abcdef0123456789abcdef"], "it was 0123456789ABCDEF0123456789ABCDEF", "it was ***"),
        ([], "data=secret%3Dstaple", "data=secret%3D***"),
    ],
    ids=["part of another", "MD5 in upper case", "encoded equals sign"],
)
def test_spellings_in_texts(known: list[str], text: str, shown: str) -> None:
    """A secret is hidden as a whole where one is part of another, in upper-case hex, and behind an encoded ``=``."""
    assert redactor(known)(text) == shown


ODD = """pass'w/ö*rd\n(7)!"""


@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda text: repr(text)[1:-1],
        lambda text: json.dumps(text)[1:-1],
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="!'()*~"),
        lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
    ],
    ids=["plain", "repr", "JSON", "URL", "form", "all encoded", "JavaScript", "lower case"],
)
def test_whole_spelling(spell: Callable[[str], str]) -> None:
    """A secret is hidden from its first to its last character, in each spelling."""
    for secret in (ODD, f"'{ODD}", f"{ODD}ö", f"(/{ODD}/)"):
        assert redactor([secret])(f"x{spell(secret)}y") == "x***y"


@pytest.mark.parametrize("length", [8, 1023, 1024])
def test_long_spelling(length: int) -> None:
    """A secret of up to 1,024 characters is hidden in each spelling; a longer one as it is."""
    secret = "ö" + "x" * (length - 1)
    assert redactor([secret])(quote(secret)) == "***"
    assert redactor([secret * 200])(secret * 200) == "***"


def test_lone_surrogate() -> None:
    """A secret with half of a surrogate pair, which no encoding has, is hidden as it is."""
    assert redactor(["\ud800-secret"])("x\ud800-secrety") == "x***y"


def test_repr_of_a_ledger() -> None:
    """The repr of a ledger shows neither the secrets of its credentials nor its access key."""
    shown = repr(Ledger(credentials=[Credentials("known", "open-sesame")], access=Access(frozenset(), "front-door")))
    assert ("known" in shown, "open-sesame" in shown, "front-door" in shown) == (True, False, False)
