"""The fixtures ``whmcs_mock`` and ``whmcs_mock_server``: isolation, arranging and asserting."""

from __future__ import annotations

import math
import os
import pickle
import re
import threading
import timeit
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from plugin_runs import ask, run

from whmcs_mock import (
    ApiError,
    CannedAnswer,
    Client,
    Credentials,
    Credit,
    FaultRule,
    FixtureError,
    Ledger,
    MockServer,
    WhmcsMock,
)

LEDGER = Ledger(
    clients=[
        Client(1, [Credit(1, "2016-01-01", "first", "10.00"), Credit(4, "2016-01-02", "second", "-2.50", 9)]),
        Client(7),
    ],
    credentials=(
        Credentials("admin", "hunter2", admin=True),
        Credentials("limited", "little", actions=frozenset({"getcredits"})),
        Credentials("known", "sesame"),
    ),
)

pytestmark = pytest.mark.whmcs_mock(fixtures=LEDGER)


def call(mock: WhmcsMock, action: str = "GetCredits", **params: object) -> dict[str, str]:
    """Call an action with the mock's credentials."""
    answer = ask(mock.url, action, **{"identifier": mock.identifier, "secret": mock.secret, **params})
    body: dict[str, str] = answer.json()
    return body


# Isolation.


def test_isolation(pytester: pytest.Pytester) -> None:
    """Each test starts with the state of the fixture files, whatever the previous test did."""
    pytester.makefile(".yaml", extra="clients: [{id: 30}]")
    pytester.makepyfile("""
        import pytest
        import requests
        from plugin_runs import ask


        def test_one_changes_all_there_is(whmcs_mock, whmcs_mock_server):
            whmcs_mock.remove_client(1)
            whmcs_mock.add_client(2, credits=[{"amount": "5.00"}])
            whmcs_mock.load("extra.yaml")
            assert ask(whmcs_mock.url, "AddCredit", clientid=2, amount="1.00").json()["newbalance"] == "6.00"
            whmcs_mock.profile = "live"
            whmcs_mock.fail_next("maintenance", times=3)
            whmcs_mock.action("GetInvoices")(lambda params: {"invoices": "none"})
            whmcs_mock_server.expect_request("/hook").respond_with_data("stubbed")
            whmcs_mock_server.expect_ordered_request("/other").respond_with_data("stubbed")
            assert requests.get(whmcs_mock.base_url + "/unexpected").status_code == 404


        def test_two_finds_nothing_of_it(whmcs_mock, whmcs_mock_server):
            assert whmcs_mock.calls == []
            assert whmcs_mock.profile == "documented"
            answer = ask(whmcs_mock.url, clientid=1)
            assert answer.status_code == 200 and answer.json()["totalresults"] == "2"
            assert ask(whmcs_mock.url, clientid=2).json()["message"] == "Client ID Not Found"
            assert ask(whmcs_mock.url, clientid=30).json()["message"] == "Client ID Not Found"
            assert ask(whmcs_mock.url, "GetInvoices").json()["message"] == "Command Not Found"
            whmcs_mock_server.check_assertions()
            assert requests.get(whmcs_mock.base_url + "/hook").status_code == 404
            assert whmcs_mock.add_credit(1, amount="1.00").id == 3


        @pytest.mark.whmcs_mock(profile="live", fixtures="extra.yaml")
        def test_three_is_marked(whmcs_mock):
            assert ask(whmcs_mock.url, clientid=30).json()["totalresults"] == 0


        def test_four_is_not(whmcs_mock):
            assert whmcs_mock.profile == "documented"
            assert len(whmcs_mock.credits(1)) == 2
    """)
    run(pytester, "-Wdefault::UserWarning").assert_outcomes(passed=4, warnings=1)


def test_reset_is_constant() -> None:
    """The duration of a reset does not depend on the number of clients."""
    few, many = (MockServer(Ledger([Client(id) for id in range(1, count + 1)])) for count in (10, 100_000))
    times = [min(timeit.repeat(server.reset, number=20, repeat=9)) for server in (few, many)]
    assert times[1] < 5 * times[0]


def test_marked_files_are_read_once(pytester: pytest.Pytester) -> None:
    """A file in the marker of several tests is read only once."""
    pytester.makefile(".yaml", extra="clients: [{id: 30}]")
    pytester.makepyfile("""
        import sys

        import pytest

        pytestmark = pytest.mark.whmcs_mock(fixtures="extra.yaml")
        opened = []
        sys.addaudithook(lambda event, args: event == "open" and str(args[0]).endswith("extra.yaml") and opened.append(args[1]))


        @pytest.mark.parametrize("number", range(3))
        def test_marked(whmcs_mock, number):
            assert whmcs_mock.client(30)
            assert opened.count(None) == 1  # os.open
    """)
    run(pytester).assert_outcomes(passed=3)


def test_ways_of_testing(pytester: pytest.Pytester) -> None:
    """The fixtures work in plain and unittest classes, in coroutines, and in fixtures of every scope."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("""
        import unittest

        import httpx
        import pytest
        from plugin_runs import ask

        FORM = {"action": "GetCredits", "clientid": "1", "responsetype": "json"}


        @pytest.fixture(scope="session", autouse=True)
        def early(whmcs_mock_server):
            return ask(whmcs_mock_server.url, "AddCredit", clientid=1, amount="1.00").json()


        @pytest.fixture(scope="module")
        def module(whmcs_mock_server):
            return whmcs_mock_server.url


        @pytest.fixture(scope="class")
        def klass(whmcs_mock_server):
            return whmcs_mock_server.base_url


        @pytest.fixture
        def anyio_backend():
            return "asyncio"


        @pytest.mark.usefixtures("whmcs_mock")
        class TestUnittest(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _keep(self, whmcs_mock):
                self.mock = whmcs_mock

            def test_one(self):
                ask(self.mock.url, "AddCredit", clientid=1, amount="1.00")
                self.assertEqual(self.mock.balance(1), 1)

            def test_two(self):
                self.assertEqual(self.mock.balance(1), 0)


        class TestPlain:
            def test_urls(self, early, module, klass, whmcs_mock):
                assert early == {"result": "success", "newbalance": "1.00"}
                assert module == klass + "/includes/api.php"
                assert whmcs_mock.balance(1) == 0 and whmcs_mock.calls == []
                ask(module, "AddCredit", clientid=1, amount="1.00")
                assert whmcs_mock.balance(1) == 1


        @pytest.mark.asyncio
        async def test_asyncio(whmcs_mock):
            async with httpx.AsyncClient() as client:
                assert (await client.post(whmcs_mock.url, data=FORM)).json()["totalresults"] == "2"
            whmcs_mock.assert_called_once("GetCredits")


        @pytest.mark.anyio
        async def test_anyio(whmcs_mock):
            async with httpx.AsyncClient() as client:
                assert (await client.post(whmcs_mock.url, data=FORM)).json()["totalresults"] == "2"
            whmcs_mock.assert_called_once("GetCredits")
    """)
    run(pytester, plugins=("whmcs_mock", "asyncio", "anyio"), alone=True).assert_outcomes(passed=5)


def test_xdist(pytester: pytest.Pytester) -> None:
    """Each pytest-xdist worker has its own server."""
    pytester.makepyfile("""
        import os
        from pathlib import Path

        import pytest
        from plugin_runs import ask


        @pytest.mark.parametrize("number", range(6))
        def test_worker(whmcs_mock, number):
            assert ask(whmcs_mock.url, "AddCredit", clientid=1, amount="1.00").json()["newbalance"] == "1.00"
            whmcs_mock.assert_called_once("AddCredit")
            Path(f"{number}.seen").write_text(os.environ["PYTEST_XDIST_WORKER"] + " " + whmcs_mock.server.url)
    """)
    run(pytester, "-n2", plugins=("whmcs_mock", "xdist"), alone=True).assert_outcomes(passed=6)
    seen = {path.read_text() for path in pytester.path.glob("*.seen")}
    workers, urls = zip(*(line.split() for line in seen), strict=True)
    assert len(seen) == len(set(workers)) == len(set(urls)) == 2


# Arranging.


def test_add_client(whmcs_mock: WhmcsMock) -> None:
    """An added client is available at once, with its credits in the given order."""
    client = whmcs_mock.add_client(
        8, credits=[Credit(90, "2020-02-29", "ready", "1.00"), {"amount": "2.50", "date": "2020-03-01", "relid": 5}]
    )
    answer = call(whmcs_mock, clientid=8)
    assert client == Client(8, [Credit(90, "2020-02-29", "ready", "1.00"), Credit(91, "2020-03-01", "", "2.50", 5)])
    assert (answer["totalresults"], answer["credits[credit][0][id]"]) == ("2", "90")
    assert (answer["credits[credit][1][amount]"], answer["credits[credit][1][relid]"]) == ("2.50", "5")


def test_add_credit(whmcs_mock: WhmcsMock) -> None:
    """An added credit gets the next free id, and today's date by default."""
    first = whmcs_mock.add_credit(7, amount="12.50")
    second = whmcs_mock.add_credit(7, amount=-3, description="used", date=date(2024, 2, 29), relid=4)
    assert (first.id, first.amount, first.description, first.relid) == (5, Decimal("12.50"), "", 0)
    assert abs(first.date - date.today()).days <= 1
    assert second == Credit(6, "2024-02-29", "used", "-3.00", 4)
    assert whmcs_mock.credits(7) == [first, second]
    assert whmcs_mock.balance(7) == Decimal("9.50")
    assert call(whmcs_mock, clientid=7)["credits[credit][1][amount]"] == "-3.00"


@pytest.mark.parametrize(
    "arguments",
    [
        {"amount": 0.1 + 0.2},
        {"amount": Decimal("NaN")},
        {"amount": "1.234"},
        {"amount": "ten"},
        {"amount": "1.00", "date": "2023-02-29"},
        {"amount": "1.00", "relid": -1},
    ],
    ids=str,
)
def test_wrong_credit(whmcs_mock: WhmcsMock, arguments: dict[str, Any]) -> None:
    """A credit that would be invalid in a fixture file is refused, and nothing is added."""
    with pytest.raises(ValueError, match=r"amount|date|relid"):
        whmcs_mock.add_credit(7, **arguments)
    with pytest.raises(ValueError, match=r"amount|date|relid"):
        whmcs_mock.add_client(8, credits=[{"amount": "1.00"}, arguments])
    assert whmcs_mock.credits(7) == []
    assert call(whmcs_mock, clientid=8)["message"] == "Client ID Not Found"
    assert whmcs_mock.add_credit(7, amount="1.00").id == 5


def test_wrong_types(whmcs_mock: WhmcsMock) -> None:
    """A description of the wrong type is refused; a client id may be given as text."""
    add_client: Callable[..., object] = whmcs_mock.add_client
    add_credit: Callable[..., object] = whmcs_mock.add_credit
    add_client("9")
    assert call(whmcs_mock, clientid=9)["result"] == "success"
    with pytest.raises((TypeError, ValueError)):
        add_credit(7, amount="1.00", description=None)
    with pytest.raises((TypeError, ValueError), match="amont"):
        add_client(8, credits=[{"amont": "1.00"}])
    assert call(whmcs_mock, clientid=8)["message"] == "Client ID Not Found"


def test_taken_ids(whmcs_mock: WhmcsMock) -> None:
    """An id that is already in use is refused, and nothing changes."""
    with pytest.raises(ValueError, match="client 7"):
        whmcs_mock.add_client(7)
    with pytest.raises(ValueError, match="credit 4"):
        whmcs_mock.add_client(8, credits=[Credit(4, "2016-01-01", "", "1.00")])
    assert call(whmcs_mock, clientid=8)["message"] == "Client ID Not Found"


def test_remove_client(whmcs_mock: WhmcsMock) -> None:
    """The API does not know a removed client until it is added again."""
    whmcs_mock.remove_client(1)
    assert call(whmcs_mock, clientid=1)["message"] == "Client ID Not Found"
    whmcs_mock.add_client(1)
    assert call(whmcs_mock, clientid=1)["totalresults"] == "0"


def test_ids_as_text(whmcs_mock: WhmcsMock) -> None:
    """An id may be given as text, as in an answer; an invalid id is refused with a message that says what an id is."""
    mock: Any = whmcs_mock
    mock.add_credit("7", amount="1.00")
    assert (mock.client("7").id, mock.balance("7"), len(mock.credits("7"))) == (7, 1, 1)
    mock.fail_next("maintenance", clientid="7")
    assert ask(mock.url, clientid=7).status_code == 503
    mock.remove_client("7")
    for wrong in ("seven", "", None, 1.5, -1):
        with pytest.raises(ValueError, match="an id is a positive integer"):
            mock.add_credit(wrong, amount="1.00")


def test_unknown_client(whmcs_mock: WhmcsMock) -> None:
    """The error for an unknown client names the client and shows how to add it."""
    for ask_for in (whmcs_mock.client, whmcs_mock.credits, whmcs_mock.balance, whmcs_mock.remove_client):
        with pytest.raises(LookupError, match=r"no client 99; .*add_client\(99\)"):
            ask_for(99)
    with pytest.raises(LookupError, match="no client 99"):
        whmcs_mock.add_credit(99, amount="1.00")
    with pytest.raises(KeyError, match=r"^99$"):
        whmcs_mock.world.store.add_credit(99, amount="1.00")
    with pytest.raises(KeyError, match=r"^99$"):
        whmcs_mock.world.store.remove_client(99)


def test_load(whmcs_mock: WhmcsMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded files are added to the existing data, and credits without an id continue its numbering."""
    (tmp_path / "extra.yaml").write_text("""
        clients: [{id: 20, credits: [{date: 2020-01-01, amount: 3.00}]}]
        answers: [{action: GetInvoices, result: {invoices: none}}]
    """)
    whmcs_mock.load(tmp_path / "extra.yaml")
    assert [credit.id for credit in whmcs_mock.credits(20)] == [5]
    assert whmcs_mock.balance(1) == Decimal("7.50")
    assert call(whmcs_mock, "GetInvoices") == {"result": "success", "invoices": "none"}
    with pytest.raises(ValueError, match="client 20"):
        whmcs_mock.load(tmp_path / "extra.yaml")
    (tmp_path / "more.yaml").write_text("clients: [{id: 21}, {id: zero}]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FixtureError, match=r"more\.yaml:1:26: "):
        whmcs_mock.load("more.yaml")
    assert call(whmcs_mock, clientid=21)["message"] == "Client ID Not Found"


def test_ids_of_a_ledger() -> None:
    """A ledger built in Python refuses duplicate client and credit ids."""
    credit = Credit(1, "2016-01-01", "", "1.00")
    with pytest.raises(ValueError, match="client 1 is already defined"):
        Ledger([Client(1), Client(1)])
    with pytest.raises(ValueError, match="credit 1 is already defined"):
        Ledger([Client(1, [credit]), Client(2, [credit])])


def test_ledger_of_an_iterator() -> None:
    """A ledger accepts any iterable of clients, including an iterator."""
    assert Ledger(iter([Client(1)])).clients == (Client(1),)  # type: ignore[arg-type]  # not a sequence, but accepted


def test_values_are_copied() -> None:
    """A ledger can be pickled, and a rule is not affected by later changes to its arguments."""
    params, headers = {"clientid": "1"}, {"Retry-After": "1"}
    rule = FaultRule("slow", params=params, headers=headers)
    ledger = Ledger([Client(1)], answers=[CannedAnswer("GetInvoices")], faults=[rule])
    assert pickle.loads(pickle.dumps(ledger)) == ledger
    params["clientid"] = headers["Retry-After"] = "2"
    assert (rule.params, rule.headers) == ({"clientid": "1"}, {"Retry-After": "1"})


def test_values_of_a_rule() -> None:
    """A delay is from 0 to below a million seconds, and ``times`` is positive; a rule is shown with what it applies to."""
    assert [FaultRule("slow", seconds=seconds).seconds for seconds in (0, 0.5, 999_999)] == [0, 0.5, 999_999]
    for wrong in (-0.1, 1e6, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"^seconds is a number from 0 to 999999, not {wrong}$"):
            FaultRule("slow", seconds=wrong)
    with pytest.raises(ValueError, match=r"^times is a positive integer, not 0$"):
        FaultRule("slow", times=0)
    assert str(FaultRule(body=b"", action="GetInvoice", clientid=7)) == "status=200 action=getinvoice clientid=7"
    assert str(FaultRule(message="No", params={"secret": "open", "id": "1"})) == 'message="No" secret=*** id=1'


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"fault": "SLWO"}, 'there is no fault "SLWO"; did you mean slow? The names are invalid-ip, auth-failed, '),
        ({"fault": "zzz"}, 'there is no fault "zzz"; write one of invalid-ip, auth-failed, missing-permission, '),
        ({}, "the rule does not say how to fail; write a fault (invalid-ip, auth-failed, "),
        ({"fault": "bom", "message": "No"}, "message cannot be combined with the fault bom; write only one of the two"),
        ({"message": "No", "body": b""}, "message cannot be combined with body; write only one of the two"),
        ({"fault": "bom", "status": 600}, 'status is an HTTP status from 200 to 599, not "600"'),
        ({"fault": "bom", "headers": {"X A": "1"}}, '"X A": "1" is not an HTTP header'),
        ({"fault": "bom", "headers": {"X": "\n"}}, '"X": "\\n" is not an HTTP header'),
        (
            {"fault": "bom", "headers": {"Content-Length": "1"}},
            "Content-Length is set by whmcs-mock; use the fault truncated for an incomplete body",
        ),
    ],
    ids=str,
)
def test_wrong_rules(wrong: dict[str, Any], sentence: str) -> None:
    """An invalid rule is refused with a sentence that says what to write."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        FaultRule(**wrong)


def test_load_access(whmcs_mock: WhmcsMock, tmp_path: Path) -> None:
    """Access rules of a loaded file are applied: a call from another address is refused."""
    (tmp_path / "access.yaml").write_text("access: {addresses: [192.0.2.1]}")
    whmcs_mock.load(tmp_path / "access.yaml")
    assert call(whmcs_mock, clientid=1)["message"] == "Invalid IP 127.0.0.1"


def test_load_page(whmcs_mock: WhmcsMock) -> None:
    """A documentation page that a test loads answers its action."""
    assert call(whmcs_mock, "GetShades")["message"] == "Command Not Found"
    whmcs_mock.load(Path(__file__).parent / "pages" / "getshades.md")
    assert isinstance(call(whmcs_mock, "GetShades"), list)  # its example is a list


def test_load_credentials_and_admins(whmcs_mock: WhmcsMock, tmp_path: Path) -> None:
    """Loaded credentials, admins, answers and files are added to those of the fixtures; their secrets are hidden."""
    (tmp_path / "none.yaml").write_text("clients: []")
    whmcs_mock.load(tmp_path / "none.yaml")
    assert whmcs_mock.world.store.admins is None  # any admin
    for name, admin in (("one", 7), ("two", 8)):
        text = f"credentials: [{{identifier: {name}, secret: {name}-secret}}]\nadmins: [{admin}]\n"
        (tmp_path / f"{name}.yaml").write_text(f"{text}answers: [{{action: Get{name}, result: {{}}}}]\n")
        whmcs_mock.load(tmp_path / f"{name}.yaml")
    store = whmcs_mock.world.store
    assert [one.name for one in store.credentials] == ["admin", "limited", "known", "one", "two"]
    assert store.admins == frozenset({7, 8})
    assert [answer.action for answer in store.answers] == ["Gettwo", "Getone"]
    assert [os.path.basename(source) for source in store.sources][-2:] == ["one.yaml", "two.yaml"]
    requests.post(whmcs_mock.url, data={"action": "GetCredits", "note": "two-secret"}, timeout=30)
    assert whmcs_mock.calls[0].params["note"] == "***"


def test_listing(whmcs_mock: WhmcsMock) -> None:
    """The listed clients are those of the fixtures and the added ones, without the removed ones."""

    def listed() -> list[int]:
        clients = requests.get(f"{whmcs_mock.base_url}/_mock/clients", timeout=30).json()["clients"]
        return [client["id"] for client in clients]

    whmcs_mock.add_client(3)
    assert listed() == [1, 7, 3]
    whmcs_mock.remove_client(3)
    whmcs_mock.remove_client(7)
    assert listed() == [1]


def test_profile(whmcs_mock: WhmcsMock) -> None:
    """The profile can be changed while the server runs; an unknown name is refused with the two valid names."""
    assert call(whmcs_mock, clientid=1)["credits[credit][0][id]"] == "1"
    whmcs_mock.profile = "live"
    nested: Any = call(whmcs_mock, clientid=1)["credits"]
    assert nested["credit"][0]["id"] == "1"
    with pytest.raises(ValueError, match='"documented" or "live"'):
        whmcs_mock.profile = "lively"
    assert whmcs_mock.profile == "live"


def test_credentials(whmcs_mock: WhmcsMock) -> None:
    """The server accepts the mock's identifier and secret, which allow every action if any credentials do."""
    assert (whmcs_mock.identifier, whmcs_mock.secret) == ("known", "sesame")
    assert call(whmcs_mock, "AddCredit", clientid=7, amount="1.00")["newbalance"] == "1.00"
    assert call(whmcs_mock, identifier="another", clientid=7)["message"] == "Authentication Failed"


def test_action(whmcs_mock: WhmcsMock) -> None:
    """A function can answer an action, with its return value or with the error that it raises."""

    @whmcs_mock.action("GetInvoice")
    def invoice(params: Mapping[str, str]) -> dict[str, object]:
        if params["invoiceid"] != "5":
            raise ApiError("Invoice ID Not Found")
        return {"invoiceid": 5, "total": Decimal("9.9")}

    assert call(whmcs_mock, "getinvoice", invoiceid=5) == {"result": "success", "invoiceid": 5, "total": "9.90"}
    assert call(whmcs_mock, "GetInvoice", invoiceid=6) == {"result": "error", "message": "Invoice ID Not Found"}


def test_broken_action(whmcs_mock: WhmcsMock) -> None:
    """An error in a function that answers an action is reported with the line in that function."""
    answers: dict[str, Callable[[], Any]] = {"Raises": lambda: int("seven"), "Returns": lambda: "a text"}
    for name, answer in answers.items():
        whmcs_mock.action(name)(lambda _, answer=answer: answer())
        assert ask(whmcs_mock.url, name, identifier="known", secret="sesame").status_code == 500
    raised, returned = whmcs_mock.problems()
    assert "seven" in raised
    assert f'File "{__file__}", line ' in raised
    assert "in <lambda>" in raised
    assert "whmcs_mock/" not in raised
    assert "it returned str; return a mapping, or None" in returned
    assert raised in whmcs_mock.report()
    whmcs_mock.server.handler_errors.clear()


def test_action_without_a_name(whmcs_mock: WhmcsMock) -> None:
    """Using ``action`` without a name raises a TypeError that shows the correct form."""
    action: Any = whmcs_mock.action
    with pytest.raises(TypeError, match=r'write @action\("GetInvoice"\), not @action'):

        @action  # type: ignore[untyped-decorator]  # wrong on purpose
        def invoice(_params: Mapping[str, str]) -> dict[str, object]:
            return {}


def test_reset_and_clear_calls(whmcs_mock: WhmcsMock) -> None:
    """``clear_calls`` removes only the calls; ``reset`` also restores the fixtures and the test's profile."""
    whmcs_mock.profile = "live"
    whmcs_mock.action("GetInvoice")(lambda _: {})
    whmcs_mock.add_client(8)
    call(whmcs_mock, clientid=8)
    whmcs_mock.clear_calls()
    assert whmcs_mock.calls == []
    assert call(whmcs_mock, clientid=8)["result"] == "success"
    whmcs_mock.fail_next("maintenance", times=None)
    whmcs_mock.reset()
    assert (whmcs_mock.calls, whmcs_mock.profile) == ([], "documented")
    assert call(whmcs_mock, clientid=8)["message"] == "Client ID Not Found"
    assert call(whmcs_mock, "GetInvoice")["message"] == "Command Not Found"
    assert len(whmcs_mock.calls) == 2


# Asserting.


def test_call(whmcs_mock: WhmcsMock) -> None:
    """A call records the request, the answer and the reason for it, and shows no secret."""
    call(whmcs_mock, clientid="01")
    call(whmcs_mock, clientid=2)
    found, missed = whmcs_mock.calls
    assert (found.action, found.clientid, found.result, found.message) == ("GetCredits", "01", "success", "")
    assert (found.method, found.path, found.status, found.response_type) == ("POST", "/includes/api.php", 200, "json")
    assert found.params["clientid"] == "01"
    assert found.params["identifier"] == "known"
    assert "sesame" not in repr(whmcs_mock.calls)
    assert 0 <= found.duration < 60
    assert (missed.result, missed.message) == ("error", "Client ID Not Found")
    assert "no client 2" in missed.why
    assert "clients: 1, 7" in missed.why
    for part in ("GetCredits", "clientid=2", '"Client ID Not Found"', missed.why):
        assert part in repr(missed)


def test_calls_to(whmcs_mock: WhmcsMock) -> None:
    """Calls are matched by action regardless of case, by clientid as a number, and by other parameters as text."""
    call(whmcs_mock, clientid="01", note="a")
    call(whmcs_mock, "getcredits", clientid="1.00")
    call(whmcs_mock, "AddCredit", clientid=1, amount="1.00")
    assert whmcs_mock.calls_to("GetCredits", clientid=1) == whmcs_mock.calls[:2]
    assert whmcs_mock.calls_to("GETCREDITS", clientid="1", note="a") == whmcs_mock.calls[:1]
    assert whmcs_mock.calls_to("addcredit", amount="1.00") == whmcs_mock.calls[2:]
    assert whmcs_mock.calls_to("AddCredit", amount="1") == []
    assert whmcs_mock.calls_to("GetCredits", clientid=2) == []


def test_assertions_that_hold(whmcs_mock: WhmcsMock) -> None:
    """An assertion that passes returns the matching calls."""
    whmcs_mock.assert_not_called()
    call(whmcs_mock, clientid=1)
    call(whmcs_mock, clientid=7)
    assert whmcs_mock.assert_called("GetCredits") == whmcs_mock.calls
    assert whmcs_mock.assert_called_once("GetCredits", clientid=7) == whmcs_mock.calls[1]
    whmcs_mock.assert_not_called("AddCredit")
    whmcs_mock.assert_not_called("GetCredits", clientid=2)


def failed(assertion: Callable[..., object], *args: Any, **params: Any) -> str:
    """Return the message of an assertion that fails."""
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **params)
    return str(caught.value)


def test_assertions_that_fail(whmcs_mock: WhmcsMock) -> None:
    """An assertion that fails lists the calls that were received."""
    assert whmcs_mock.url in failed(whmcs_mock.assert_called, "GetCredits")
    call(whmcs_mock, clientid=1, note="a")
    call(whmcs_mock, clientid=1)
    for message in (
        failed(whmcs_mock.assert_called, "AddCredit", clientid=1),
        failed(whmcs_mock.assert_called_once, "GetCredits"),
        failed(whmcs_mock.assert_called_once, "AddCredit"),
        failed(whmcs_mock.assert_not_called),
        failed(whmcs_mock.assert_not_called, "GetCredits", note="a"),
        failed(whmcs_mock.wait_for_call, "AddCredit", timeout=0),
    ):
        assert message.count("GetCredits") >= 2
        assert "note=a" in message
        assert "sesame" not in message
    assert "Nearest" not in failed(whmcs_mock.assert_not_called)
    assert "2 times" in failed(whmcs_mock.assert_called_once, "GetCredits", clientid=1)


@pytest.mark.parametrize(
    ("wanted", "params", "nearest"),
    [
        ("GetCredit", {"clientid": 1}, 'call 1: the action was "GetCredits" (expected "GetCredit")'),
        ("GetCredits", {"clientid": 2}, 'call 1: clientid was "1" (expected "2")'),
        ("AddCredit", {"clientid": 7, "amount": "2.00"}, 'call 2: amount was "1.00" (expected "2.00")'),
        ("AddCredit", {"clientid": 7, "adminid": 1}, 'call 2: adminid was not sent (expected "1")'),
    ],
)
def test_nearest_miss(whmcs_mock: WhmcsMock, wanted: str, params: dict[str, Any], nearest: str) -> None:
    """A failed assertion shows how the closest call differs from the expected one."""
    call(whmcs_mock, clientid=1)
    call(whmcs_mock, "AddCredit", clientid=7, amount="1.00")
    assert nearest in failed(whmcs_mock.assert_called, wanted, **params)


def test_assert_on_a_secret(whmcs_mock: WhmcsMock) -> None:
    """An assertion can compare a secret, but never shows it."""
    call(whmcs_mock)
    assert whmcs_mock.assert_called_once("GetCredits", secret="sesame").params["secret"] == "***"
    message = failed(whmcs_mock.assert_called, "GetCredits", secret="another")
    assert "secret had a different value" in message
    assert "sesame" not in message
    assert "another" not in message


def test_ids_are_numbered_on(whmcs_mock: WhmcsMock) -> None:
    """A credit without an id in an added client gets the number after the largest id, even if that comes later."""
    client = whmcs_mock.add_client(70, credits=[{"amount": "1.00"}, {"id": 30, "amount": "2.00"}])
    assert [credit.id for credit in client.credits] == [31, 30]


def test_wait_for_call(whmcs_mock: WhmcsMock) -> None:
    """``wait_for_call`` returns the calls made by other threads in order."""

    def work() -> None:
        call(whmcs_mock, clientid=7)
        call(whmcs_mock, clientid=1)
        call(whmcs_mock, clientid=7)

    worker = threading.Thread(target=work)
    worker.start()
    first = whmcs_mock.wait_for_call("GetCredits", timeout=30)
    other = whmcs_mock.wait_for_call("getcredits", timeout=30, clientid=1)
    last = whmcs_mock.wait_for_call("GetCredits", timeout=30)
    worker.join()
    assert [first, other, last] == whmcs_mock.calls
    assert "GetCredits" in failed(whmcs_mock.wait_for_call, "GetCredits", timeout=0.01)


def test_reset_within_a_test(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """After a test resets the server with another ledger, its mock still controls that server."""
    whmcs_mock.add_client(8)
    ask(whmcs_mock.url)
    whmcs_mock_server.reset(Ledger([Client(3)]))
    assert whmcs_mock.calls == []
    with pytest.raises(LookupError):
        whmcs_mock.client(8)
    whmcs_mock.add_credit(3, amount="1.00")
    assert ask(whmcs_mock.url, clientid=3).json()["totalresults"] == "1"
    whmcs_mock.assert_called_once("GetCredits", clientid=3)


# The API of pytest-httpserver.


def test_httpserver_habits(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """The server can stub other paths and API actions in addition to its own answers."""
    whmcs_mock_server.expect_request("/hook", method="POST", json={"a": 1}).respond_with_json({"ok": True})
    whmcs_mock_server.expect_oneshot_request("/once").respond_with_data("one")
    whmcs_mock_server.expect_request("/includes/api.php", query_string="v=2").respond_with_json({"stubbed": 1})
    hook = requests.post(whmcs_mock_server.url_for("/hook"), json={"a": 1}, timeout=30)
    assert hook.json() == {"ok": True}
    once = [requests.get(whmcs_mock_server.url_for("/once"), timeout=30).status_code for _ in range(2)]
    assert once == [200, 404]
    assert ask(whmcs_mock.url + "?v=2").json() == {"stubbed": 1}
    assert call(whmcs_mock, clientid=1)["totalresults"] == "2"
    with pytest.raises(AssertionError, match="/once"):
        whmcs_mock_server.check_assertions()
    whmcs_mock_server.check_assertions()


def test_stubbed_calls_are_shown(whmcs_mock: WhmcsMock, whmcs_mock_server: MockServer) -> None:
    """An API call that is answered by an expectation is recorded as well."""
    whmcs_mock_server.expect_request("/includes/api.php").respond_with_json({"result": "success"})
    ask(whmcs_mock.url, "GetInvoices", userid=3)
    assert whmcs_mock.assert_called_once("GetInvoices", userid=3).status == 200
