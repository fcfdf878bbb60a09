"""AddCredit, answers from fixtures and from functions, and many threads at once."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from wire import ENDPOINT, FORM, Answer, Connection, get, is_plain_line, post, request

from whmcs_mock import (
    Access,
    ApiError,
    CannedAnswer,
    Client,
    Credentials,
    Credit,
    Ledger,
    MockServer,
    create_app,
    load_fixtures,
)
from whmcs_mock.store import Store

Serve: TypeAlias = Callable[..., MockServer]

LEDGER = Ledger([Client(1, [Credit(7, "2016-01-01", "first", "100.45")]), Client(2)], admins=frozenset({1, 5}))
ADD = {"action": "AddCredit", "clientid": 1, "amount": "23.00", "description": "a gift"}

ANSWERS = """
clients: [{id: 1}, {id: 2}]
answers:
  - action: GetClientsDetails
    params: {clientid: 1}
    result: {result: success, client: {id: 1, firstname: Ada, note: "7"}, empty: [], flags: [3, "4", yes, true, "true", false, null]}
  - action: GetClientsDetails
    params: {clientid: 2, stats: no}
    result: {userid: 2}
  - action: getclientsdetails
    params: {clientid: 2}
    result: {userid: 22}
  - {action: GetCredits, params: {clientid: 2}, result: {result: success, totalresults: 99}}
  - {action: OpenTicket, result: {result: error, message: Department ID not found}, status: 422}
"""


def read(server: MockServer, params: Mapping[str, object]) -> dict[str, Any]:
    """POST a call and read the JSON of its answer."""
    body: dict[str, Any] = json.loads(post(server, {"responsetype": "json", **params}).body)
    return body


def log(server: MockServer, clientid: int = 1) -> list[tuple[str, ...]]:
    """Return the rows of a client's log: id, date, description, amount and relid."""
    server.profile = "live"
    body = read(server, {"action": "GetCredits", "clientid": clientid})
    return [tuple(credit.values()) for credit in body["credits"]["credit"]]


# AddCredit.


@pytest.mark.parametrize(
    ("profile", "kind", "body"),
    [
        ("documented", "json", b'{\n    "result": "success",\n    "newbalance": "123.45"\n}'),
        ("live", "json", b'{"result":"success","newbalance":"123.45"}'),
        ("live", "nvp", b"result=success;newbalance=123.45"),
        ("live", "xml", b"<action>addcredit</action>\n<result>success</result>\n<newbalance>123.45</newbalance>\n"),
    ],
)
@pytest.mark.parametrize("ask", [post, get])
def test_add_credit(serve: Serve, ask: Callable[..., Answer], profile: str, kind: str, body: bytes) -> None:
    """AddCredit returns the new balance and appends the entry under the next free id."""
    server = serve(LEDGER, profile=profile)
    answer = ask(server, {**ADD, "date": "2024-02-29", "responsetype": kind})
    assert answer.status == 200
    assert body == answer.body or (kind == "xml" and body in answer.body)
    assert log(server) == [
        ("7", "2016-01-01", "first", "100.45", "0"),
        ("8", "2024-02-29", "a gift", "23.00", "0"),
    ]


@pytest.mark.parametrize(
    ("asked", "amount", "balance"),
    [
        ({}, "23.00", "123.45"),
        ({"type": "add"}, "23.00", "123.45"),
        ({"type": ""}, "23.00", "123.45"),
        ({"type": "remove"}, "-23.00", "77.45"),
        ({"type": "remove", "amount": "100.46"}, "-100.46", "-0.01"),
        ({"type": "remove", "amount": "100.45"}, "-100.45", "0.00"),
        ({"amount": "5"}, "5.00", "105.45"),
        ({"amount": "007"}, "7.00", "107.45"),
        ({"amount": "0.01"}, "0.01", "100.46"),
        ({"amount": "1234567890123.45"}, "1234567890123.45", "1234567890223.90"),
    ],
)
def test_amount_and_type(serve: Serve, asked: dict[str, str], amount: str, balance: str) -> None:
    """An amount is added, or subtracted with type=remove, even below zero."""
    server = serve(LEDGER)
    assert read(server, {**ADD, **asked}) == {"result": "success", "newbalance": balance}
    assert log(server)[-1][3] == amount


@pytest.mark.parametrize("asked", [{}, {"date": "", "type": ""}])
def test_date_of_today(serve: Serve, asked: dict[str, str]) -> None:
    """The date defaults to today, and the description to an empty text."""
    server = serve(LEDGER)
    before = datetime.date.today().isoformat()
    read(server, {"action": "AddCredit", "clientid": 2, "amount": "1", **asked})
    (entry,) = log(server, 2)
    assert entry[0] == "8"
    assert before <= entry[1] <= datetime.date.today().isoformat()
    assert entry[2:] == ("", "1.00", "0")


NOT_AN_AMOUNT = "Amount must be in decimal format: ### or ###.##"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"type": "subtract"}, "Type can only be add or remove"),
        ({"type": "Add"}, "Type can only be add or remove"),
        ({"type": " add"}, "Type can only be add or remove"),
        ({"clientid": "3"}, "Client ID Not Found"),
        ({"clientid": ""}, "Client ID Not Found"),
        ({"clientid": "abc"}, "Client ID Not Found"),
        ({"adminid": "2"}, "Admin ID Not Found"),
        ({"adminid": "abc"}, "Admin ID Not Found"),
        ({"amount": ""}, "No Amount Provided"),
        *(
            ({"amount": amount}, NOT_AN_AMOUNT)
            for amount in (
                "ten", "10.5", "10.555", "10.", ".50", "-10", "-10.00", "+10", "1e3", "1,000.00", "1_000", "10,00", "$10",
                " 10", "10 ", "10\n", "\uff11\uff10", "0x10", "nan", "inf", "0", "0.00", "000", "\x00", "1" * 5000,
            )
        ),
        *(
            ({"date": date}, "Date Format is not Valid")
            for date in (
                "2016-02-30", "2015-02-29", "2016-1-1", "16-01-01", "2016/01/01", "01-02-2016", "20160101", "today",
                "2016-01-01 ", "2016-01-01T00:00:00", "2016-13-01", "0000-00-00", "\uff12016-01-01", " ", "2016-W01-1",
            )
        ),
    ],
)  # fmt: skip
def test_add_credit_errors(serve: Serve, asked: dict[str, str], message: str) -> None:
    """Each invalid parameter of AddCredit gets its documented message, and no entry is added."""
    server = serve(LEDGER)
    answer = post(server, {**ADD, **asked})
    assert answer.status == 200
    assert json.loads(answer.body) == {"result": "error", "message": message}
    assert len(log(server)) == 1


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "credit 8 was added to client 1"),
        ({"type": "subtract"}, 'type is "subtract"'),
        ({"clientid": "3"}, "no client 3 in the ledger (clients: 1, 2)"),
        ({"clientid": "abc"}, 'clientid "abc" is not an integer'),
        ({"adminid": "2"}, 'no admin "2" in admins:'),
        ({"amount": ""}, "no amount was sent"),
        ({"amount": "ten"}, 'amount is "ten"'),
        ({"date": "2016-02-30"}, 'no such date: "2016-02-30"; write a day that exists'),
    ],
)
def test_reasons_of_add_credit(serve: Serve, asked: dict[str, str], why: str) -> None:
    """The journal has the reason for each answer of AddCredit."""
    server = serve(LEDGER)
    post(server, {**ADD, **asked})
    assert server.world.journal.calls()[-1].why == why


def test_no_amount(serve: Serve) -> None:
    """A call without an amount is refused."""
    assert read(serve(LEDGER), {"action": "AddCredit", "clientid": 1})["message"] == "No Amount Provided"


def test_order_of_add_credit_errors(serve: Serve) -> None:
    """Errors are reported in the order of the official page, as the parameters are corrected one by one."""
    asked = {"action": "AddCredit", "type": "x", "clientid": "9", "adminid": "9", "amount": "", "date": "x"}
    mended = [
        ("type", "add"),
        ("clientid", "1"),
        ("adminid", "5"),
        ("amount", "x"),
        ("amount", "1.00"),
        ("date", "2016-01-01"),
    ]
    server = serve(LEDGER)
    answers = [post(server, asked)]
    for name, value in mended:
        asked[name] = value
        answers.append(post(server, asked))
    assert {answer.status for answer in answers} == {200}
    assert [json.loads(answer.body).get("message") for answer in answers] == [
        "Type can only be add or remove",
        "Client ID Not Found",
        "Admin ID Not Found",
        "No Amount Provided",
        NOT_AN_AMOUNT,
        "Date Format is not Valid",
        None,
    ]


@pytest.mark.parametrize(
    ("fixtures", "adminid", "known"),
    [
        ("admins: [1]", "1", True),
        ("admins: [1]", "", True),
        ("admins: [1, 5]", "5", True),
        ("admins: [1]", "2", False),
        ("admins: []", "1", False),
        ("", "2", True),
        ("", "nonsense", True),
    ],
)
def test_adminid(serve: Serve, fixtures: str, adminid: str, *, known: bool) -> None:
    """An adminid is looked up in admins, and not checked when the fixtures have none."""
    server = serve(f"{fixtures}\nclients: [{{id: 1}}]")
    body = read(server, {"action": "AddCredit", "clientid": 1, "amount": 1, "adminid": adminid})
    assert body.get("message") == (None if known else "Admin ID Not Found")


def test_nothing_is_written_to_a_file(serve: Serve, tmp_path: Path) -> None:
    """AddCredit changes neither the file nor the loaded ledger; its entries last until the server is reset."""
    path = tmp_path / "credits.yaml"
    path.write_text("clients: [{id: 1, credits: [{date: 2016-01-01, amount: 1}]}]")
    before = path.read_bytes()
    ledger = load_fixtures(path)
    server, other = serve(ledger), serve(ledger)
    assert read(server, ADD)["newbalance"] == "24.00"
    assert path.read_bytes() == before
    assert len(log(other)) == len(ledger.clients[0].credits) == 1
    server.reset()
    assert len(log(server)) == 1


def test_entry_added_meanwhile() -> None:
    """An entry that is added while another is being added gets the next id, and neither is lost."""
    store = Store(LEDGER)
    meanwhile = threading.Thread(target=lambda: store.add_credit(1, amount="2.00"))

    class Amount(float):
        def __str__(self) -> str:
            meanwhile.start()
            meanwhile.join(0.1)  # it has to wait for this entry
            return "1.00"

    store.add_credit(1, amount=Amount())
    meanwhile.join()
    client = store.client(1)
    assert client
    assert [(credit.id, str(credit.amount)) for credit in client.credits] == [(7, "100.45"), (8, "1.00"), (9, "2.00")]


def test_many_threads(serve: Serve) -> None:
    """Concurrent calls lose no entry and use no id twice, and each read returns a consistent log."""
    server = serve(LEDGER, profile="live")

    def work(number: int) -> list[Decimal]:
        balances = []
        for step in range(10):
            kind = "remove" if step % 3 == 0 else "add"
            asked = {**ADD, "clientid": 1 + number % 2, "amount": f"{number + 1}.{step:02}", "type": kind}
            balances.append(Decimal(read(server, asked)["newbalance"]))
            body = read(server, {"action": "GetCredits", "clientid": 1})
            assert body["totalresults"] == len(body["credits"]["credit"])
        return balances

    with ThreadPoolExecutor(12) as threads:
        told = list(threads.map(work, range(12)))
    assert sorted(int(entry[0]) for entry in log(server) + log(server, 2)) == [*range(7, 7 + 1 + 12 * 10)]
    for clientid, loaded in ((1, 1), (2, 0)):
        balances = [*accumulate(Decimal(entry[3]) for entry in log(server, clientid))][loaded:]
        assert sorted(balances) == sorted(chain.from_iterable(told[clientid - 1 :: 2]))


# Answers in fixtures.


@pytest.mark.parametrize(
    ("profile", "kind", "body"),
    [
        (
            "documented",
            "json",
            """{
    "result": "success",
    "client": {
        "id": 1,
        "firstname": "Ada",
        "note": "7"
    },
    "empty": [],
    "flags": [
        3,
        "4",
        "yes",
        true,
        "true",
        false,
        null
    ]
}""",
        ),
        (
            "live",
            "json",
            (
                '{"result":"success","client":{"id":1,"firstname":"Ada","note":"7"},"empty":[],'
                '"flags":[3,"4","yes",true,"true",false,null]}'
            ),
        ),
        (
            "live",
            "nvp",
            (
                "result=success;client[id]=1;client[firstname]=Ada;client[note]=7;empty=;"
                "flags[0]=3;flags[1]=4;flags[2]=yes;flags[3]=1;flags[4]=true;flags[5]=;flags[6]="
            ),
        ),
        (
            "documented",
            "xml",
            """<?xml version="1.0" encoding="utf-8"?>
<whmcsapi version="8.13.1">
<action>getclientsdetails</action>
<result>success</result>
<client>
<id>1</id>
<firstname>Ada</firstname>
<note>7</note>
</client>
<empty/>
<flags>3</flags>
<flags>4</flags>
<flags>yes</flags>
<flags>1</flags>
<flags>true</flags>
<flags></flags>
<flags></flags>
</whmcsapi>""",
        ),
    ],
)
def test_answer_in_fixtures(serve: Serve, profile: str, kind: str, body: str) -> None:
    """An answer in the fixtures is written in the response type asked for; JSON keeps plain integers, true, false and null."""
    asked = {"action": "getCLIENTSdetails", "clientid": 1, "responsetype": kind}
    answer = post(serve(ANSWERS, profile=profile), asked)
    assert (answer.status, answer.body.decode()) == (200, body)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"action": "GetClientsDetails", "clientid": 2}, {"result": "success", "userid": 22}),
        ({"action": "GetClientsDetails", "clientid": 2, "stats": "no"}, {"result": "success", "userid": 2}),
        ({"action": "GetClientsDetails", "clientid": 2, "stats": "false"}, {"result": "success", "userid": 22}),
        ({"action": "GetClientsDetails", "clientid": 3}, {"result": "error", "message": "Command Not Found"}),
        ({"action": "GetClientsDetails"}, {"result": "error", "message": "Command Not Found"}),
        ({"action": "GetCredits", "clientid": 2}, {"result": "success", "totalresults": 99}),
        (
            {"action": "GetCredits", "clientid": 1},
            {"result": "success", "totalresults": 0, "clientid": "1", "credits": ""},
        ),
        ({"action": "OpenTicket"}, {"result": "error", "message": "Department ID not found"}),
        ({"action": "CloseTicket"}, {"result": "error", "message": "Command Not Found"}),
    ],
)
def test_which_answer(serve: Serve, asked: dict[str, object], expected: dict[str, object]) -> None:
    """The first answer whose params all match wins; without one, the built-in action answers, or none."""
    assert read(serve(ANSWERS, profile="live"), asked) == expected


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (
            {"action": "GetClientsDetails", "clientid": 9},
            'no answer matches; nearest is the one in {file}:4: clientid was "9" (expected "1")',
        ),
        (
            {"action": "getclientsdetails", "clientid": 3, "stats": "no"},
            'no answer matches; nearest is the one in {file}:4: clientid was "3" (expected "1")',
        ),
        ({"action": "OpenTickets"}, 'no action "OpenTickets"; did you mean OpenTicket?'),
        ({"action": "AddCredits"}, 'no action "AddCredits"; did you mean AddCredit?'),
        (
            {"action": "Unheard"},
            'no action "Unheard"; serve WHMCS\'s page of it, or add an answer in a fixture file or a function',
        ),
        (
            {"action": "Decline"},
            'no action "Decline"; serve WHMCS\'s page of it, or add an answer in a fixture file or a function',
        ),
    ],
)
def test_reasons_of_no_answer(serve: Serve, tmp_path: Path, asked: dict[str, object], why: str) -> None:
    """The journal has the reason for Command Not Found: the nearest answer, the nearest action, or what to add."""
    file = tmp_path / "answers.yaml"
    file.write_text(ANSWERS)
    server = serve(load_fixtures(file))
    server.action("Decline")(lambda _params: None)  # which passes the call on
    assert read(server, asked)["message"] == "Command Not Found"
    assert server.world.journal.calls()[-1].why == why.format(file=file)


def test_status_of_an_answer(serve: Serve) -> None:
    """An answer in the fixtures may have an HTTP status."""
    answer = post(serve(ANSWERS), {"action": "OpenTicket"})
    assert (answer.status, json.loads(answer.body)["result"]) == (422, "error")


def test_access_before_answers(serve: Serve) -> None:
    """Address, credentials and permission are checked before answers of the fixtures and of functions."""
    fixtures = ANSWERS + "credentials: [{identifier: i, secret: s, actions: [GetCredits]}]\naccess: {key: k}"
    server = serve(fixtures)
    server.action("GetInvoices")(lambda _params: {})
    for action in ("OpenTicket", "GetInvoices"):
        asked = {"action": action}
        assert read(server, asked)["message"] == "Invalid IP 127.0.0.1"
        asked |= {"accesskey": "k"}
        assert read(server, asked)["message"] == "Invalid or missing credentials"
        asked |= {"identifier": "i", "secret": "s"}
        refused = f'Invalid Permissions: API action "{action.lower()}" is not allowed'
        assert read(server, asked)["message"] == refused


# Functions.


def test_function(serve: Serve) -> None:
    """A function answers its action, case-insensitively; the result defaults to success; the function stays callable."""
    server = serve(profile="live")

    @server.action("GetInvoices")
    def invoices(params: Mapping[str, str]) -> dict[str, Any]:
        if params.get("userid") == "9":
            return {"result": "error", "message": "No such user"}
        return {
            "totalresults": 1,
            "invoices": {"invoice": [{"id": 5, "total": Decimal("9.5"), "date": datetime.date(2024, 1, 2)}]},
        }

    assert read(server, {"action": "GETINVOICES", "userid": 1}) == {
        "result": "success",
        "totalresults": 1,
        "invoices": {"invoice": [{"id": 5, "total": "9.50", "date": "2024-01-02"}]},
    }
    assert read(server, {"action": "GetInvoices", "userid": 9}) == {"result": "error", "message": "No such user"}
    assert invoices({"userid": "9"})["result"] == "error"


@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
@pytest.mark.parametrize("profile", ["documented", "live"])
def test_api_error(serve: Serve, profile: str, kind: str) -> None:
    """An ApiError raised by a function is answered like a built-in error, with its status."""
    server = serve(profile=profile)

    @server.action("Twin")
    def twin(_params: Mapping[str, str]) -> Mapping[str, Any]:
        raise ApiError("Client ID Not Found")

    @server.action("Teapot")
    def teapot(_params: Mapping[str, str]) -> Mapping[str, Any]:
        raise ApiError("Invoice ID Not Found", 418)

    built_in = post(server, {"action": "GetCredits", "responsetype": kind})
    told = post(server, {"action": "Twin", "responsetype": kind})
    assert (told.status, told.body.replace(b"twin", b"getcredits")) == (built_in.status, built_in.body)
    other = post(server, {"action": "Teapot", "responsetype": kind})
    assert other.status == 418
    assert b"Invoice ID Not Found" in other.body


def test_function_that_passes_on(serve: Serve) -> None:
    """A function that returns None leaves the call to the fixtures' answers, then to the built-in action."""
    server = serve(ANSWERS, profile="live")
    asked: list[str] = []

    def note(params: Mapping[str, str]) -> None:
        asked.append(params["action"])

    for action in ("GetCredits", "OpenTicket", "GetInvoices"):
        server.action(action)(note)
    assert read(server, {"action": "GetCredits", "clientid": 2})["totalresults"] == 99
    assert read(server, {"action": "GetCredits", "clientid": 1})["totalresults"] == 0
    assert read(server, {"action": "OpenTicket"})["message"] == "Department ID not found"
    assert read(server, {"action": "GetInvoices"})["message"] == "Command Not Found"
    assert asked == ["GetCredits", "GetCredits", "OpenTicket", "GetInvoices"]


def test_parameters_in_an_answer(serve: Serve) -> None:
    """``{{name}}`` in a text is replaced with the parameter, or with nothing and some advice; ``{{{{`` is ``{{``."""
    server = serve("""
answers:
  - action: GetInvoice
    result: {invoiceid: "{{invoiceid}}", lines: [{note: "for {{ userid }}, {{{{x}}"}], "{{key}}": 1}
""")
    assert read(server, {"action": "GetInvoice", "invoiceid": "5", "userid": "{{invoiceid}}"}) == {
        "result": "success",
        "invoiceid": "5",
        "lines": [{"note": "for {{invoiceid}}, {{x}}"}],
        "{{key}}": 1,
    }
    assert read(server, {"action": "GetInvoice"})["invoiceid"] == ""
    sent, missed = server.world.journal.calls()
    assert not any("is used in the answer but was not sent" in advice for advice in sent.advice)
    assert any(advice.startswith("invoiceid is used in the answer but was not sent") for advice in missed.advice)


def test_sequence(serve: Serve) -> None:
    """The results of a sequence are returned in turn; the last one repeats until a reset."""
    server = serve("answers: [{action: GetInvoice, sequence: [{status: Unpaid}, {status: Due}, {status: Paid}]}]")
    for _ in range(2):
        given = [read(server, {"action": "GetInvoice"})["status"] for _ in range(4)]
        assert given == ["Unpaid", "Due", "Paid", "Paid"]
        server.reset()


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(serve: Serve, status: int) -> None:
    """A status that has no body leaves the connection readable for the next answer."""
    server = serve()

    @server.action("Nothing")
    def nothing(_params: Mapping[str, str]) -> Mapping[str, Any]:
        raise ApiError("Nothing Here", status)

    with Connection(server) as connection:
        assert connection.ask(request("GET", f"{ENDPOINT}?action=Nothing")).status == status
        assert connection.ask(request("GET", f"{ENDPOINT}?action=Nope")).status == 200


def test_functions_come_first(serve: Serve) -> None:
    """A function takes precedence over fixtures and built-in actions until a reset removes it."""
    server = serve(ANSWERS, profile="live")
    for action in ("GetCredits", "AddCredit", "OpenTicket"):
        server.action(action)(lambda params: {"by": params["action"]})
        assert read(server, {"action": action}) == {"result": "success", "by": action}
        assert server.world.journal.calls()[-1].why == "a function registered by action()"
    server.reset(profile="live")
    assert read(server, {"action": "GetCredits", "clientid": 2})["totalresults"] == 99


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("text", b"it returned str; return a mapping, or None to pass the call on"),
        ({"a": object()}, b"not object"),
        ({"a": {1, 2}}, b"not set"),
        ({"a": float("nan")}, b"an answer cannot contain nan; write a finite number"),
    ],
    ids=["text", "object", "set", "nan"],
)
def test_function_that_is_wrong(serve: Serve, returned: Any, reason: bytes) -> None:
    """An invalid return value is a 500 with one line of text that says what is wrong, and the server keeps serving."""
    server = serve(profile="live")
    server.action("Broken")(lambda _params: returned)
    answer = post(server, {"action": "Broken", "responsetype": "json"})
    assert answer.status == 500
    assert is_plain_line(answer)
    assert b"Broken" in answer.body
    assert reason in answer.body
    assert len(server.handler_errors) == 1
    server.handler_errors.clear()
    assert read(server, {"action": "GetCredits", "clientid": 1})["result"] == "success"


@pytest.mark.parametrize(
    "outcome", [ValueError("why"), AssertionError("unexpected"), pytest.fail.Exception("unexpected")]
)
def test_function_that_raises(serve: Serve, outcome: BaseException) -> None:
    """An exception in a function is a 500 to the caller and is kept for the test, pytest.fail included."""
    server = serve()

    @server.action("Broken")
    def broken(_params: Mapping[str, str]) -> Mapping[str, Any]:
        raise outcome

    answer = post(server, {"action": "Broken"})
    assert answer.status == 500
    assert is_plain_line(answer)
    assert server.handler_errors == [outcome]
    server.handler_errors.clear()


@pytest.mark.parametrize("profile", ["documented", "live"])
def test_result_first(serve: Serve, profile: str) -> None:
    """The result comes first in an answer, wherever a function or the fixtures put it."""
    server = serve("answers: [{action: A, result: {message: no, result: error}}]", profile=profile)
    server.action("B")(lambda _params: {"message": "no", "result": "error"})
    for action in "AB":
        assert list(read(server, {"action": action}).items()) == [("result", "error"), ("message", "no")]


def test_values_made_in_python(serve: Serve) -> None:
    """Values constructed in Python are normalized like those from a file: the case of actions, the form of addresses."""
    server = serve(
        Ledger(
            access=Access(frozenset({"::ffff:127.0.0.1"})),
            credentials=(Credentials("i", "s", actions=frozenset({"GetStats"})),),
            answers=(CannedAnswer("GetStats", {"a": 1}),),
        )
    )
    assert read(server, {"action": "GetStats", "identifier": "i", "secret": "s"}) == {"result": "success", "a": 1}


@pytest.mark.parametrize(
    ("expected", "body", "content_type"),
    [
        ({"data": "x=1"}, "x=1", FORM),
        ({"data": "x=1"}, "x=1", "text/plain"),
        ({"json": {"x": 1}}, '{"x": 1}', "application/json"),
    ],
)
@pytest.mark.parametrize("path", ["/hook", ENDPOINT])
def test_expectations(serve: Serve, path: str, expected: dict[str, Any], body: str, content_type: str) -> None:
    """An expectation answers the requests that it matches, by their body too; the API answers all others."""
    server = serve()
    server.expect_request(path, **expected).respond_with_data("expected")
    assert post(server, body, content_type=content_type, target=path).body == b"expected"
    assert read(server, {"action": "GetCredits", "clientid": 1})["totalresults"] == "2"
    assert post(server, b"\xff{", content_type="application/json").status == 400


def test_expectations_and_bodies_that_are_refused(serve: Serve) -> None:
    """With expectations, the API still refuses a body over 1 MiB and broken chunks."""
    server = serve()
    server.expect_request("/hook", data="x=1").respond_with_data("expected")
    head = request("POST", ENDPOINT, b"", f"Content-Type: {FORM}")
    for body, status in (
        (b"Content-Length: 1000000000000\r\n\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ):
        with Connection(server) as connection:
            answer = connection.ask(head.replace(b"Content-Length: 0\r\n\r\n", body))
        assert answer.status == status
        assert is_plain_line(answer)


def test_wrong_profile(serve: Serve) -> None:
    """An unknown profile is refused wherever it is given, with a message that lists the two profiles."""
    server = serve()
    for attempt in (
        lambda: MockServer(profile="Live"),
        lambda: create_app(profile="modern"),
        lambda: setattr(server, "profile", ""),
        lambda: server.reset(profile="nested"),
    ):
        with pytest.raises(ValueError, match='"documented" or "live"'):
            attempt()
    assert server.profile == "documented"
