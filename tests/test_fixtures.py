"""Fixture files: what they may contain, and the messages for invalid ones."""

from __future__ import annotations

import cProfile
import datetime
import http.client
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
import yaml
from core_schema import core_schema
from documented import DOCUMENTED

from whmcs_mock import (
    Access,
    CannedAnswer,
    Client,
    Credentials,
    Credit,
    FixtureError,
    Ledger,
    MockServer,
    load_fixtures,
)
from whmcs_mock.fixtures import check_fixtures, dump_clients, json_schema, parse_fixtures
from whmcs_mock.fixtures.schema import RECORDS
from whmcs_mock.ledger import FAULTS, FaultRule

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
DAY = datetime.date(2016, 1, 1)
HUNTER = "Zq7hunter2"  # a secret that must not appear in any message

ISSUE_EXAMPLE = """\
credentials:                      # optional; without it any credentials, or none, are accepted
  - {identifier: D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv, secret: F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo}
  - {username: admin, password: hunter2}          # plain here; on the wire it is its md5
clients:
  - id: 1
    credits:
      - {id: 1, date: 2016-01-01, description: This is a sample credit record, amount: 10.00, relid: 0}
      - {id: 2, date: 2016-01-01, description: "Credit Applied to Invoice #1", amount: -10.00, relid: 0}
  - id: 2                         # a client without credits
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(content: str | bytes, name: str = "f.yaml") -> str:
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def load(content: str | bytes) -> Ledger:
    return load_fixtures(write(content))


def load_credits(*credits: str) -> list[Credit]:
    """Load a client with credits, each given as the lines of a block mapping."""
    [client] = load("clients:\n- id: 1\n  credits:\n" + "".join(map(item, credits))).clients
    return list(client.credits)


def item(lines: str) -> str:
    return "  - " + lines.strip("\n").replace("\n", "\n    ") + "\n"


def credit(lines: str) -> str:
    """Return a fixture file with one credit, made of the given lines; everything else is valid."""
    rest = "".join(f"\n{key}: {value}" for key, value in (("date", "2016-01-01"), ("amount", "1")) if key not in lines)
    return "clients:\n- id: 1\n  credits:\n" + item(lines + rest)


def problems(*paths: str) -> list[str]:
    with pytest.raises(FixtureError) as caught:
        load_fixtures(*paths)
    return [str(problem) for problem in caught.value.problems]


def places(text: str) -> tuple[str, list[str], list[str]]:
    """Remove the marks ▸ and ▹ from a text, and return it with the positions of each mark."""
    plain = ""
    found: dict[str, list[str]] = {"▸": [], "▹": []}
    for part in re.split("([▸▹])", text):
        if part in found:
            found[part].append(f"f.yaml:{plain.count(chr(10)) + 1}:{len(plain) - plain.rfind(chr(10))}")
        else:
            plain += part
    return plain, found["▸"], found["▹"]


# What a file may contain.


def test_the_example_of_the_issue() -> None:
    """A file with credentials and clients is loaded as written."""
    ledger = load(ISSUE_EXAMPLE)
    assert ledger.clients == (
        Client(
            1,
            (
                Credit(1, DAY, "This is a sample credit record", Decimal("10.00"), 0),
                Credit(2, DAY, "Credit Applied to Invoice #1", Decimal("-10.00"), 0),
            ),
        ),
        Client(2),
    )
    assert ledger.credentials == (
        Credentials("D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv", "F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo"),
        Credentials("admin", "hunter2", admin=True),
    )
    assert (ledger.access, ledger.answers, ledger.admins, ledger.sources) == (None, (), None, ("f.yaml",))


PLAIN = (
    *("no", "yes", "null", "~", "true", "=", ".inf", ".nan", "1e3", "0x1F", "0o17", "010", "1_000", "10.10", "+1"),
    *("12:30:45", "2016-01-01", "2016-01-01T00:00:00Z", "a:b", "a#b", "C:\\n", "5%", "two  words", "ü 😀"),
)
TEXTS = {
    **dict(zip(PLAIN, PLAIN, strict=True)),
    "'no'": "no",
    "'it''s'": "it's",
    '"\\u00e9\\t\\x00\\U0001F600"': "é\t\0😀",
    '"*x"': "*x",
    '"\\N\\_\\L\\P"': "\x85\xa0\u2028\u2029",
    "": "",
    '""': "",
    "two\n  lines": "two lines",
    "|\n  two\n  lines": "two\nlines\n",
    ">-\n  two\n  lines": "two lines",
    "&anchor text": "text",
}


@pytest.mark.parametrize(("written", "text"), TEXTS.items())
def test_a_scalar_is_the_text_that_stands_there(written: str, text: str) -> None:
    """A scalar is read as text, never as a number, date, boolean or null."""
    [read] = load_credits(f"date: 2016-01-01\namount: 1\ndescription: {written}")
    assert read.description == text


@pytest.mark.parametrize(
    "amount",
    ["10", "10.1", "-0.5", "10.00", "1234567890123.45", "-1234567890123.45", "0", "0.01", "0.1", "-10.10", "999999.99"],
)
@pytest.mark.parametrize("quotes", ["", "'", '"'], ids=["plain", "single", "double"])
def test_an_amount_is_an_exact_decimal(amount: str, quotes: str) -> None:
    """An amount is an exact decimal, quoted or not."""
    [read] = load_credits(f"date: 2016-01-01\namount: {quotes}{amount}{quotes}")
    assert isinstance(read.amount, Decimal)
    assert read.amount == Decimal(amount)


def test_defaults_of_a_credit() -> None:
    """A credit requires a date and an amount; by default, description is empty, relid 0, and id the next free one."""
    assert load_credits("date: 2016-01-01\namount: 1") == [Credit(1, DAY, "", Decimal(1), 0)]


@pytest.mark.parametrize("date", ["2016-02-29", "2000-02-29", "0001-01-01", "9999-12-31"])
def test_a_date_in_the_calendar(date: str) -> None:
    """Any calendar date is accepted, including 29 February of a leap year."""
    [read] = load_credits(f"date: {date}\namount: 1")
    assert read.date.isoformat() == date


def test_ids_are_numbered_on_from_the_largest_of_all_files() -> None:
    """Credits without an id are numbered in file order, starting after the largest id in any file."""
    some = "{date: 2016-01-01, amount: 1}, {id: %d, date: 2016-01-01, amount: 1}, {date: 2016-01-01, amount: 1}"
    paths = [write(f"clients: [{{id: {id}, credits: [{some % id}]}}]", f"{id}.yaml") for id in (40, 7)]
    assert [[credit.id for credit in client.credits] for client in load_fixtures(*paths).clients] == [
        [41, 40, 42],
        [43, 7, 44],
    ]


def test_ids_never_run_out() -> None:
    """A credit without an id is numbered even after the largest id that a file may contain."""
    entries = "{id: 999999999999999999, date: 2016-01-01, amount: 1}, {date: 2016-01-01, amount: 1}"
    (client,) = load_fixtures(write(f"clients: [{{id: 1, credits: [{entries}]}}]")).clients
    assert client.credits[1].id == 10**18


def test_the_order_of_the_file_is_kept() -> None:
    """Clients and credits keep the order of the file, whatever their ids and dates."""
    days = ("2016-03-01", "2016-01-01", "2016-02-01")
    texts = [f"{{id: {id}, date: {day}, amount: 1}}" for id, day in zip((3, 1, 2), days, strict=True)]
    ledger = load(f"clients: [{{id: 9}}, {{id: 2, credits: [{', '.join(texts)}]}}, {{id: 5}}]")
    assert [client.id for client in ledger.clients] == [9, 2, 5]
    assert [credit.id for credit in ledger.clients[1].credits] == [3, 1, 2]


@pytest.mark.parametrize("content", ["{}", "clients: []", "x-only: 1", "clients: [{id: 1, credits: []}]"])
def test_little_is_enough(content: str) -> None:
    """A file may have no clients, and a client may have no credits."""
    assert not any(client.credits for client in load(content).clients)


# Anchors, aliases, merge keys, x- keys.

MERGED = {
    "in a credit": "x-a: &a {amount: 1}\nclients: [{id: 1, credits: [{<<: *a, date: 2016-01-01, amount: 2}]}]",
    "before or after": "x-a: &a {amount: 1}\nclients: [{id: 1, credits: [{date: 2016-01-01, amount: 2, <<: *a}]}]",
    "a list, the first wins": "x-a: [&a {amount: 2}, &b {amount: 1, date: 2016-01-01}]\nclients: [{id: 1, credits: [{<<: [*a, *b]}]}]",
    "merged again": "x-a: [&a {amount: 2}, &b {<<: *a, date: 2016-01-01}]\nclients: [{id: 1, credits: [{<<: *b}]}]",
    "written in place": "clients: [{id: 1, credits: [{<<: {amount: 2, date: 2016-01-01}}]}]",
    "in a client": "x-a: &a {id: 9, credits: [{date: 2016-01-01, amount: 2}]}\nclients: [{<<: *a, id: 1}]",
    "at the top level": "x-a: &a {clients: [{id: 1, credits: [{date: 2016-01-01, amount: 2}]}]}\n<<: *a",
    "at the top level, own keys win": "<<: {clients: [{id: 9}]}\nclients: [{id: 1, credits: [{date: 2016-01-01, amount: 2}]}]",
    "a list at the top level": "<<: [{x-b: 1}, {clients: [{id: 1, credits: [{date: 2016-01-01, amount: 2}]}]}, {clients: []}]",
    "a scalar": "x-a: &a 2\nclients: [{id: 1, credits: [{date: 2016-01-01, amount: *a}]}]",
    "a key": "x-a: &a amount\nclients: [{id: 1, credits: [{date: 2016-01-01, *a : 2}]}]",
    "a list": "x-a: &a [{date: 2016-01-01, amount: 2}]\nclients: [{id: 1, credits: *a}]",
    "the list of clients": "x-a: &a [{id: 1, credits: [{date: 2016-01-01, amount: 2}]}]\nclients: *a",
    "an anchor on it": "clients: &a\n- &b\n  id: 1\n  credits: [&c {date: &d 2016-01-01, amount: &e 2}]",
    "the latest anchor of a name": "x-a: &a 1\nx-b: &a 2\nclients: [{id: 1, credits: [{date: 2016-01-01, amount: *a}]}]",
    "JSON": '{"clients": [{"id": 1, "credits": [{"date": "2016-01-01", "amount": 2}]}]}',
    "markers": "%YAML 1.1\n--- # one document\nclients: [{id: 1, credits: [{date: 2016-01-01, amount: 2}]}]\n...\n",
}


@pytest.mark.parametrize("content", MERGED.values(), ids=MERGED.keys())
def test_anchors_aliases_and_merge_keys(content: str) -> None:
    """Anchors, aliases and merge keys work wherever YAML allows them."""
    assert load(content).clients == (Client(1, (Credit(1, DAY, "", Decimal(2), 0),)),)


def test_an_aliased_log_is_repeated() -> None:
    """Credits repeated by an alias are separate credits with their own ids."""
    ledger = load("clients:\n- {id: 1, credits: &a [{date: 2016-01-01, amount: 1}]}\n- {id: 2, credits: *a}")
    assert [credit.id for client in ledger.clients for credit in client.credits] == [1, 2]


def test_an_alias_repeats_what_its_anchor_marks() -> None:
    """An alias stands for exactly its anchor's value, wherever it was nested, and quoted text stays text."""
    anchors = "{outer: &o [{a: 1}, &i {b: 2}, {c: 3}], word: &w '17', number: &n 17}"
    text = f"answers: [{{action: a, result: {{x: {anchors}, inner: *i, outer: *o, word: *w, number: *n}}}}]"
    result = load(text).answers[0].result
    assert result is not None
    assert (result["inner"], result["outer"]) == ({"b": 2}, [{"a": 1}, {"b": 2}, {"c": 3}])
    assert (result["word"], result["number"]) == ("17", 17)


@pytest.mark.parametrize("breaks", [1, 2, 3])
def test_places_in_json(breaks: int) -> None:
    """A problem in JSON is placed by line and column, also in the first column and behind empty lines."""
    text = "{" + "\n" * breaks + '"clientz": [],' + "\n" * breaks + '  "admins": [\n0]}'
    assert [problem.partition(": ")[0] for problem in problems(write(text, "f.json"))] == [
        f"f.json:{1 + breaks}:1",
        f"f.json:{2 + 2 * breaks}:1",
    ]


def test_keys_of_the_users_own() -> None:
    """Top-level keys that start with x- are ignored, and may have any value."""
    assert load(
        "x-: 1\nx-notes: {clients: [{id: 0}], secret: [a, {b: c}]}\nx-clients: 5\nclients: [{id: 1}]"
    ).clients == (Client(1),)


def test_a_quoted_merge_key_is_a_key() -> None:
    """Only an unquoted << is a merge key."""
    assert load("answers: [{action: a, result: {'<<': {b: c}}}]").answers[0].result == {"<<": {"b": "c"}}


# The other sections.


def test_access_answers_and_admins() -> None:
    """Access rules, canned answers and admin ids are loaded as written; plain integers in an answer become numbers."""
    ledger = load("""\
access:
  addresses: [127.0.0.1, "::1"]
  key: secret_key_passphrase
credentials:
  - {identifier: a, secret: b, actions: [GetCredits, AddCredit]}
  - {username: a, password: c, actions: []}
answers:
  - action: GetClientsDetails
    params: {clientid: 1, stats: "true"}
    result: {result: success, client: {id: 1, zip: "0815", plain: 0815, firstname: Ada, tags: [a, -2, no, 1.5, ~]}}
  - {action: SendEmail, status: 503, result: {}}
admins: [1, 7]
""")
    assert ledger.access == Access(frozenset({"127.0.0.1", "::1"}), "secret_key_passphrase")
    assert ledger.credentials == (
        Credentials("a", "b", actions=frozenset({"getcredits", "addcredit"})),
        Credentials("a", "c", admin=True, actions=frozenset()),
    )
    tags = ["a", -2, "no", "1.5", "~"]
    details = {"id": 1, "zip": "0815", "plain": "0815", "firstname": "Ada", "tags": tags}
    sent = {"clientid": "1", "stats": "true"}
    first = CannedAnswer("GetClientsDetails", {"result": "success", "client": details}, sent, place="f.yaml:8")
    assert ledger.answers == (first, CannedAnswer("SendEmail", {}, {}, 503, place="f.yaml:11"))
    assert ledger.admins == frozenset({1, 7})


@pytest.mark.parametrize(
    ("content", "access"),
    [
        ("access: {key: k}", Access(frozenset(), "k")),
        ("access: {addresses: [203.0.113.7]}", Access(frozenset({"203.0.113.7"}), "")),
        ("access: {addresses: ['2001:DB8:0::1', '::ffff:10.0.0.1']}", Access(frozenset({"2001:db8::1", "10.0.0.1"}))),
    ],
)
def test_half_of_the_access_rules(content: str, access: Access) -> None:
    """Addresses and key are both optional; addresses are compared in their compressed form."""
    assert load(content).access == access


def test_admins_may_be_none() -> None:
    """An empty list of admins means that no admin exists, unlike a missing list."""
    assert load("admins: []").admins == frozenset()
    assert load("clients: []").admins is None


def test_secrets_are_not_in_the_repr() -> None:
    """The repr of a ledger contains no secrets."""
    ledger = load(
        f"credentials: [{{identifier: a, secret: {HUNTER}}}, {{username: a, password: {HUNTER}}}]\naccess: {{key: {HUNTER}}}"
    )
    assert HUNTER not in repr(ledger)


def result_of(text: str) -> Any:
    [answer] = load(f"answers: [{{action: a, result: {{value: {text}}}}}]").answers
    assert answer.result is not None
    return answer.result["value"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("true", True), ("false", False), ("null", None), ("7", 7), ("-7", -7), ("0", 0)),
        *((f'"{text}"', text) for text in ("true", "false", "null", "7")),
        *((text, text) for text in ("True", "NULL", "no", "yes", "~", "1.5", "07", "+7", "on", "{{clientid}}")[:-1]),
        *(('"{{clientid}}"', "{{clientid}}"), ("{customfield: []}", {"customfield": []}), ("{}", {}), ("[]", [])),
    ],
)
def test_plain_words_of_an_answer(written: str, value: object) -> None:
    """In an answer, only plain integers, true, false and null are not text; empty lists and templates are kept."""
    read = result_of(written)
    assert (type(read), read) == (type(value), value)


def test_a_sequence_of_answers() -> None:
    """An answer may have a list of results in place of a result; it records its file and line."""
    [answer] = load("answers:\n- action: a\n  sequence: [{status: Unpaid}, {status: Paid}]").answers
    assert answer.results == ({"status": "Unpaid"}, {"status": "Paid"})
    assert answer.place == "f.yaml:2"


def test_rules_for_faults() -> None:
    """A fault rule sets what goes wrong, for which calls and how often; without times it applies to every call."""
    assert load("""\
faults:
  - {fault: gateway-timeout, clientid: 13}
  - {fault: slow, seconds: 2.5, action: AddCredit, times: 1}
  - {message: Invoice ID Not Found, action: GetInvoice, params: {invoiceid: 99}}
  - {status: 520, body: "<h1>é</h1>", headers: {Retry-After: "3"}, times: 2}
""").faults == (
        FaultRule("gateway-timeout", clientid=13, times=None),
        FaultRule("slow", seconds=2.5, action="addcredit", times=1),
        FaultRule(message="Invoice ID Not Found", action="getinvoice", params={"invoiceid": "99"}),
        FaultRule(status=520, body="<h1>é</h1>".encode(), headers={"Retry-After": "3"}, times=2),
    )


def test_a_client_for_each_fault() -> None:
    """The bundled fixtures have a client for each named fault, numbered from 9001."""
    ledger = load_fixtures(FIXTURES / "faults.yaml")
    assert [(rule.fault, rule.clientid) for rule in ledger.faults] == list(zip(FAULTS, range(9001, 9016), strict=True))
    assert [client.id for client in ledger.clients] == list(range(9001, 9016))


# JSON.


def test_json_is_read_as_it_is() -> None:
    """JSON may contain tabs, PHP-style escapes, surrogate pairs, and keys of any length."""
    long = "k" * 3_000
    text = (
        '\t{"clients":\t[\n\t{"id":1,"credits":[{"id":5,"date":"2016-01-01","amount":1.50,'
        '"description":"a\\/b \\ud83d\\ude00 \\u00e9","relid":0}]}],\r\n'
        f'"answers":[{{"action":"a","result":{{"n":null,"t":true,"1":"1","i":1,"{long}":[],"<<":{{"a":"b"}}}}}}]}}\n'
    )
    for ledger in (load(text), load_fixtures(write(text, "f.json")), parse_fixtures(text.encode())):
        assert ledger.clients == (Client(1, (Credit(5, DAY, "a/b 😀 é", Decimal("1.50"), 0),)),)
        expected: dict[str, Any] = {"n": None, "t": True, "1": "1", "i": 1, long: [], "<<": {"a": "b"}}
        assert [answer.result for answer in ledger.answers] == [expected]


BAD_JSON = {
    '{"clients":[{"id":1,]}': ("1:2", "a key in double quotes"),
    '{"clients": [{"id": 1},]}': ("1:2", "comma"),
    "{▸'clients': []}": ("", "a key in double quotes"),
    '{"clients": ▸one}': ("", "a value"),
    '{"x-a": "say "▸hi""}': ("", 'write \\" for a quote'),
    '{"clients" ▸[]}': ("", "colon"),
    '{"clients": []} ▸{}': ("", "the file must end here"),
    '{"x-a": ▸"b}': ("", "this quote is not closed"),
    '{"x-a": "b▸\tc"}': ("", "a tab as \\t"),
    '{"x-a": "C:▸\\dir"}': ("", "for a backslash"),
    '{"clients": ▸[{"id":1}': ("", "not closed"),
    '▸{"a": [1], "b": {}\n\n': ("", "not closed"),
    '{"clients": "abc▸\n}': ("", "close the quote"),
    "▸": ("", "empty"),
    "▸[1]": ("", "mapping"),
    '{"x-a": ▸"\\ud83d"}': ("", "surrogate"),
    '{"clients": [{"id": ▸null}]}': ("", "got null"),
    '{"clients": [{"id": ▸1.5}]}': ("", "id"),
    '{"clients": [\n\t{"id": 1},\n\t{"id": 2, ▸"id": 3}]}': ("", "line 3"),
    '{"clients": ▸NaN}': ("", "list"),
    '{"admins": [' + "1" * 5_000 + "▹]}": ("1:13", "id"),
}


@pytest.mark.parametrize(("marked", "told"), BAD_JSON.items(), ids=range(len(BAD_JSON)))
def test_what_is_wrong_in_json(marked: str, told: tuple[str, str]) -> None:
    """A problem in a JSON file is reported with its position, as in YAML."""
    text, expected, _ = places(marked)
    [problem] = problems(write(text, "f.json"))
    place, message = problem.split(": ", 1)
    if expected:
        assert place == expected[0].replace("yaml", "json")
    assert place.startswith(f"f.json:{told[0]}")
    assert told[1] in message


def test_json_that_nests_without_bound() -> None:
    """JSON that is nested too deeply is refused, as in YAML."""
    [problem] = problems(write('{"x-a":' * 5_000 + "1" + "}" * 5_000, "f.json"))
    assert problem.startswith("f.json:1:351: nested more than 50 levels deep")


def test_a_pasted_pair_of_surrogates() -> None:
    """A surrogate pair as escaped by PHP's JSON encoder is read as one character in YAML, too."""
    assert result_of('"\\ud83d\\ude00 \\u00e9"') == "😀 é"
    assert result_of("'\\ud83d\\ude00'") == "\\ud83d\\ude00"


# Posted bodies, and clients in the format in which they are posted.


@pytest.mark.parametrize("body", [b"clients: [{id: 1, credits: [{date: 2016-01-01, amount: 2}]}]", b""])
def test_a_posted_body(body: bytes) -> None:
    """A posted body is parsed like a file; credits without an id are numbered from the first free id."""
    if body:
        ledger = parse_fixtures(body, first_credit_id=40)
        assert ledger.clients == (Client(1, (Credit(40, DAY, "", Decimal(2), 0),)),)
        assert ledger.sources == ()
    else:
        with pytest.raises(FixtureError, match=r"^body:1:1: the file is empty"):
            parse_fixtures(body)


def test_clients_can_be_read_and_posted_again() -> None:
    """Clients are dumped in the format of a fixture file, which can be loaded again."""
    ledger = load_fixtures(FIXTURES / "documented.yaml")
    dumped = dump_clients(ledger.clients)
    first = {"id": 1, "date": "2016-01-01", "description": "This is a sample credit record", "amount": "10.00"}
    assert dumped["clients"][0]["credits"][0] == {**first, "relid": 0}
    assert parse_fixtures(json.dumps(dumped).encode()).clients == ledger.clients


def test_progress() -> None:
    """The progress callback is called repeatedly with the number of credits read so far."""
    told: list[int] = []
    entries = ", ".join(["{date: 2016-01-01, amount: 1}"] * 2_500)
    load_fixtures(write(f"clients: [{{id: 1, credits: [{entries}]}}]"), progress=told.append)
    assert told == sorted(told)
    assert len(told) >= 2
    assert told[-1] <= 2_500


def test_a_secret_in_another_place() -> None:
    """A secret that is defined in a file is hidden in every message about it."""
    text = "clients: [{id: hunter2hunter2}]\ncredentials: [{identifier: a, secret: hunter2hunter2}]\n"
    [problem] = problems(write(text))
    assert problem.startswith("f.yaml:1:16: an id is a positive integer")
    assert problem.endswith('not "***"')


# Probable mistakes.

DOUBTFUL = {
    "cut text": "clients:\n- id: 1\n  credits:\n  - date: 2016-01-01\n    amount: 1\n    description: ▸Invoice #1",
    "cut text of an answer": "answers:\n- action: a\n  result:\n    message: ▸Invoice #5 Not Found",
    "cut without a blank behind": "answers:\n- action: a\n  result:\n    message: ▸Invoice  #5",
    "cut with a blank behind": "answers:\n- action: a\n  result:\n    message: ▸Invoice # 5",
    "cut to nothing": "clients:\n- id: 1\n  credits:\n  - date: 2016-01-01\n    amount: 1\n    description:▸ #7 refund",
    "cut to nothing in an answer": "answers:\n- action: a\n  result:\n    message:▸  #5\n    list:\n    -▸ #5",
    "cut body": "faults:\n- body: ▸page #top\n- body:▸ #top",
    "misspelt result": "answers: [{action: a, result: {result: ▸sucess}}]",
    "hidden answer": "answers:\n- {action: a, result: {}}\n- ▸{action: A, params: {b: 1}, result: {}}",
    "hidden twin": "answers:\n- {action: a, params: {b: 1}, result: {}}\n- ▸{action: a, params: {b: 1}, result: {}}",
    "hidden answer with params": "answers:\n- {action: a, params: {b: 1}, result: {}}\n"
    "- ▸{action: a, params: {b: 1, c: 2}, result: {}}",
}
FINE = {
    "no text": "x-a: # one\nx-b:\nx-c: #",
    "comments": "admins: [1] # one\nclients:\n- id: 1 # one\n  credits: [] # none\nx-a: text  # a text",
    "comments after keys": "admins: #one\n- 1\nx-a: # text\nx-b: #\nx-c: text  #\nclients: #one\n- id: 1\n  credits: #one\n    []",
    "quoted": "x-a: 'Invoice #1' # a text",
    "results": "answers: [{action: a, result: {result: success}}, {action: b, result: {result: error}}]",
    "in order": "answers: [{action: a, params: {b: 1}, result: {}}, {action: a, result: {}}, {action: b, result: {}}]",
    "other params": "answers: [{action: a, params: {b: 1}, result: {}}, {action: a, params: {b: 2}, result: {}}]",
    "JSON": '{"x-a": "a #1", "clients": []}',
}


@pytest.mark.parametrize("marked", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_what_is_probably_a_mistake(marked: str) -> None:
    """Text cut off by #, a misspelt result and an unreachable answer cause warnings with their position."""
    text, expected, _ = places(marked)
    ledger, warnings = check_fixtures(write(text))
    assert ledger == load_fixtures("f.yaml")
    assert [str(warning).split(": ")[0] for warning in warnings] == expected


def test_a_warning_shows_what_is_left_of_a_text() -> None:
    """The warning about text cut off by # shows the remaining text, unless it is a secret."""
    _, [warning] = check_fixtures(write("x-a: 1\nanswers:\n- action: a\n  result: {}\n  params:\n    b: Invoice #1\n"))
    assert '"Invoice"' in warning.message
    left = 'the text ends before " #": what is left is "Invoice"; put it in quotes, or write a comment as "  # "'
    assert warning.message == left
    secret = f"credentials:\n- identifier: a\n  secret: {HUNTER} #1\n"
    _, [warning] = check_fixtures(write(secret))
    assert warning.message == left.replace(': what is left is "Invoice"', "")


def test_a_misspelt_result_is_shown() -> None:
    """The warning about a result shows what it is, and the word that was probably meant."""
    for word, hint in (("sucess", "; did you mean success?"), ("Errror", "; did you mean error?"), ("fine", "")):
        _, [warning] = check_fixtures(write(f"answers: [{{action: a, result: {{result: {word}}}}}]"))
        assert warning.message == f'result is success or error, not "{word}"{hint}'


@pytest.mark.parametrize("content", FINE.values(), ids=FINE.keys())
def test_what_is_no_mistake(content: str) -> None:
    """Comments, quoted text and answers in a sensible order cause no warnings."""
    assert check_fixtures(write(content))[1] == ()


def test_the_example_files_have_no_warnings() -> None:
    """The bundled fixture files cause no warnings."""
    assert check_fixtures(FIXTURES, FIXTURES / "locked")[1] == ()


# The table.


def test_the_json_schema_takes_the_example_files() -> None:
    """The JSON Schema is valid under draft 2020-12 and accepts every bundled fixture file."""
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    for path in FIXTURES.rglob("*.yaml"):
        validator.validate(core_schema(path.read_text("utf-8")))


REFUSED = (
    *("clients: {}", "clientz: []", "clients: [{}]", "clients: [{id: 0}]", "clients: [{id: x}]", "admins: 1"),
    *("clients: [{id: 1, credits: [{date: 2016-01-01}]}]", "clients: [{id: 1, credits: [{date: 1, amount: 1}]}]"),
    *("access: {}", "credentials: [{identifier: a}]", "credentials: [{identifier: a, secret: b, password: c}]"),
    *("answers: [{action: a}]", "answers: [{action: a, result: {}, sequence: [{}]}]", "faults: [{fault: gone}]"),
    *("answers: [{action: a, result: []}]", "answers: [{action: a, result: {}, status: 700}]", "faults: [{times: 0}]"),
    "faults: [{clientid: 13}]",
)


@pytest.mark.parametrize("content", REFUSED)
def test_the_json_schema_refuses_what_the_loader_refuses(content: str) -> None:
    """The JSON Schema rejects the errors that an editor can detect."""
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(core_schema(content))
    assert problems(write(content))


def test_the_json_schema_explains_each_key() -> None:
    """The JSON Schema names itself, and has for each key its note, default and example, and the shape of its values."""
    whole = json_schema()
    assert {name: whole[name] for name in ("$schema", "title", "type")} == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "whmcs-mock fixtures",
        "type": "object",
    }
    assert whole["description"].endswith("Keys that begin with x- are your own.")
    schema = whole["properties"]
    client = schema["clients"]["items"]["properties"]
    assert client["credits"]["description"] == "The credit log, in order. Default: empty."
    assert (client["id"]["description"], client["id"]["examples"]) == ("Its id, unique over all files.", ["1"])
    answer = schema["answers"]["items"]["properties"]
    assert answer["params"]["additionalProperties"]["type"] == ["string", "number", "boolean", "null"]
    assert (answer["sequence"]["minItems"], schema["clients"]["minItems"]) == (1, 0)


def test_every_key_of_the_table_says_what_it_is() -> None:
    """Each key has a one-line note and a valid example; an optional key also documents its default."""
    for record in RECORDS:
        for name, one in record.fields.items():
            assert one.note.endswith(".")
            needs_none = one.required or record.name == "an entry of faults" or name in sum(record.either, ())
            assert one.default or needs_none
            validator = jsonschema.Draft202012Validator(one.schema())
            validator.validate(core_schema(one.example))
    for name, one in RECORDS[0].fields.items():
        load(f"{name}: {one.example}")


# Problems in invalid files: the marks show the reported positions.


def wrong() -> list[tuple[str, str]]:
    """Read the table of invalid files: expected words of the message, and the file with its marks."""
    cases = []
    for line in pathlib.Path(__file__).with_name("wrong_fixtures.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            words, _, text = line.partition(" ¦ ")
            marked = text.replace("⏎", "\n").replace("⇥", "\t")
            cases.append((words, credit(marked[1:]) if marked[0] == "§" else marked))
    return cases


@pytest.mark.parametrize(("words", "marked"), wrong())
def test_what_is_wrong_is_told_with_its_place(words: str, marked: str) -> None:
    """Each problem is one line: path:line:column and a message that says what is expected."""
    text, expected, named = places(marked)
    found = [problem.split(": ", 1) for problem in problems(write(text))]
    assert [place for place, _ in found] == expected, found
    for _, message in found:
        assert words in message
        assert all(place in message for place in named)
        assert message.isprintable()
        assert len(message) < 250


@pytest.mark.parametrize(
    "content", ["clients: [{id: %s}]", "clients: [{id: 1, ? %s : 1}]", "clients: [%s]", "admins: %s"]
)
def test_a_huge_value_is_told_shortly(content: str) -> None:
    """Messages do not include keys or values of a million characters."""
    [problem] = problems(write(content % ("credits" * 150_000)))
    assert len(problem) < 200


def test_a_duplicate_that_comes_by_an_alias_is_told() -> None:
    """An id repeated by an alias is reported at the alias, with the position of the first occurrence."""
    found = problems(
        write("x-a: &a [{id: 7, date: 2016-01-01, amount: 1}]\nclients: [{id: 1, credits: *a}, {id: 2, credits: *a}]")
    )
    assert len(found) == 1
    assert found[0].startswith("f.yaml:2:50: credit 7 ")
    assert "f.yaml:1:15" in found[0]


def test_everything_wrong_is_told_at_once() -> None:
    """All problems in all files are reported together, including those before a YAML syntax error."""
    first, expected, _ = places("▸clientz: 1\ncredentials:\n- ▸{}\nclients:\n- id: ▸0\nadmins: [▸x, 1, ▸y]\nx-a: a▸: b")
    found = problems(write(first), "missing.yaml", write("clients:\n- {id: 0, ids: 0}", "last.yaml"))
    assert {problem.split(": ")[0] for problem in found} == {
        *expected,
        "missing.yaml:1:1",
        "last.yaml:2:8",
        "last.yaml:2:11",
    }
    assert len(set(found)) == len(found)


def test_problems_stand_in_the_order_of_the_paths() -> None:
    """Problems are reported in the order in which the files were given."""
    found = problems(write("clients: 1", "b.yaml"), write("admins: 1", "a.yaml"), "0.yaml")
    assert [problem.split(":")[0] for problem in found] == ["b.yaml", "a.yaml", "0.yaml"]


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML's own parser takes the colon for a part of the text")
@pytest.mark.parametrize(
    ("marked", "words"),
    [
        ("x-a: {b▸:[c]}", "a space after the colon"),
        ("x-a: {b▸:{c: d}}", "a space after the colon"),
        ("x-a: {b: c▸:, d: e}", "that ends with : in quotes"),
        ("x-a: [b▸:]", "that ends with : in quotes"),
    ],
)
def test_a_colon_before_a_bracket_is_told(marked: str, words: str) -> None:
    """A colon directly before a bracket or comma is reported with what to write instead."""
    text, [place], _ = places(marked)
    [problem] = problems(write(text))
    assert problem.startswith(f"{place}: ")
    assert words in problem


# Bytes.

ENCODED: dict[str, tuple[bytes, str]] = {
    "UTF-16": ("clients: []".encode("utf-16"), "1:1"),
    "UTF-32": ("clients: []".encode("utf-32"), "1:1"),
    "UTF-16 without a mark": ("clients: []".encode("utf-16-le"), "1:2"),
    "Latin-1": ("clients: []\nx-a: café".encode("latin-1"), "2:9"),
    "Latin-1 after UTF-8": ("x-a: é😀é".encode() + b"\xe9", "1:9"),
    "cut": ("clients: []\nx-a: 😀".encode()[:-1], "2:6"),
    "surrogate": (b"clients: []\r\nx-a: \xed\xa0\x80", "2:6"),
    "overlong": (b"x-a: \xc0\x80", "1:6"),
    "NUL": (b"clients: []\nx-a: a\x00b", "2:7"),
    "NUL in a comment": (b"clients: []\n# \x00", "2:3"),
    "escape": (b"x-a: \x1b[31m", "1:6"),
    "delete": (b"x-a: \x7f", "1:6"),
    "control after UTF-8": ("x-a: é😀\x01".encode(), "1:8"),
    "control after a byte order mark": (b"\xef\xbb\xbfx-a: \x01", "1:6"),
    "control in CR lines": (b"x-a: 1\rx-b: \x01", "2:6"),
}


@pytest.mark.parametrize(("content", "place"), ENCODED.values(), ids=ENCODED.keys())
def test_bytes_that_are_no_text(content: bytes, place: str) -> None:
    """Invalid UTF-8 and characters that YAML forbids are reported with their position, counted in characters."""
    [problem] = problems(write(content))
    assert problem.startswith(f"f.yaml:{place}: ")
    assert problem.isprintable()


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "with a mark"])
def test_line_endings_and_byte_order_marks(ending: str, mark: str) -> None:
    """Line endings and byte order marks affect neither texts nor positions."""
    text = (mark + ISSUE_EXAMPLE).replace("\n", ending)
    assert load(text).clients == load(ISSUE_EXAMPLE).clients
    wrong, expected, _ = places("▸c: 1\nclients:\n- {id: 1, credits: [▸a]}\n- id: ▸b\n")
    found = problems(write((mark + wrong).replace("\n", ending)))
    assert [problem.split(": ")[0] for problem in found] == expected


@pytest.mark.parametrize("before", ["é", "😀", "e\u0301", "中文", "\t", "\u200b"])
def test_columns_are_counted_in_characters(before: str) -> None:
    """Columns are counted in characters, not in bytes, UTF-16 code units or terminal cells."""
    text, expected, _ = places(f"clients: [{{id: ▸0, ▸'{before}': 1}}, ▸'{before}', {{id: ▸x}}]")
    assert [problem.split(": ")[0] for problem in problems(write(text))] == expected


ESCAPES = {
    "code point beyond Unicode": credit('description: "\\U00110000"'),
    "surrogate": credit('description: "\\ud800"'),
    "bad escape": credit('description: "\\q"'),
    "bytes of a tag": "x-a: !<%ed%a0%80> b",
    "overlong bytes of a tag": "x-a: !<%c0%80> b",
    "bytes of a tag's prefix": "%TAG !e! %ed%a0%80\n---\nx-a: !e!x b",
    "bytes of a tag's suffix": "x-a: !!%ff b",
    "version": "%YAML 1." + "9" * 5000 + "\n---\nclients: []",
    "future": "%YAML 2.0\n---\nclients: []",
    "directive twice": "%YAML 1.1\n%YAML 1.1\n---\nclients: []",
    "tag without a handle": "x-a: !none!b c",
    "unclosed quote": credit("description: 'a"),
    "unclosed list": "clients: [{id: 1}",
    "unclosed mapping": "clients: [{id: 1",
    "bracket too many": "clients: []]",
    "indentation": "clients:\n  - id: 1\n - id: 2",
    "anchor twice on a node": "x-a: &a &b []",
    "anchored alias": "x-a: &a 1\nx-b: &b *a",
    "block header": "x-a: |x\n  b",
    "no key": ": 1",
    "key and no colon": "clients\nadmins: []",
    "huge key": "clients" * 200 + ": []",
}


@pytest.mark.parametrize("content", ESCAPES.values(), ids=ESCAPES.keys())
def test_broken_yaml_is_one_problem(content: str) -> None:
    """A YAML syntax error is reported as one problem, at a position inside the file."""
    [problem] = problems(write(content))
    [(line, column)] = re.findall(r"^f\.yaml:(\d+):(\d+): (?=\S)", problem)
    lines = content.split("\n")
    assert 1 <= int(line) <= len(lines)
    assert 1 <= int(column) <= len(lines[int(line) - 1]) + 1
    assert problem.isprintable()
    assert len(problem) < 250
    assert "is not UTF-8" not in problem


# Hostile files: refused with little work and memory.


def nested(depth: int, opening: str, closing: str = "") -> str:
    return opening * depth + closing * depth


BOMBS = {
    "laughs": "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    + "answers: [{action: a, result: {result: *a29}}]",
    "merged laughs": "x-0: &a0 {k0: x}\n"
    + "".join(f"x-{n}: &a{n} {{k{n}: x, <<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 30)),
    "the same log for everyone": f"x-a: &a [{', '.join(['{date: 2016-01-01, amount: 1}'] * 500)}]\nclients:\n"
    + "".join(f"- {{id: {n}, credits: *a}}\n" for n in range(1, 501)),
    "aliases that nest": f"x-0: &a0 {nested(40, '[', ']')}\n"
    + "".join(f"x-{n}: &a{n} {'[' * 40}*a{n - 1}{']' * 40}\n" for n in range(1, 60))
    + "answers: [{action: a, result: {result: *a59}}]",
    "mappings that nest": "x-0: &a0 {b: c}\n"
    + "".join(f"x-{n}: &a{n} {'{b: ' * 40}*a{n - 1}{'}' * 40}\n" for n in range(1, 60))
    + "answers: [{action: a, result: *a59}]",
    "brackets": "clients: " + nested(2_000, "["),
    "closed brackets": "x-a: " + nested(500, "[", "]"),
    "braces": "clients: " + nested(500, "{"),
    "braces with keys": "x-a: " + nested(2_000, "{a: ", "}"),
    "dashes": "clients:\n" + nested(20_000, "- "),
    "keys": nested(20_000, "? "),
    "indentation": "".join(f"{' ' * n}a:\n" for n in range(1_000)),
    "root list": nested(500, "["),
    "documents": "clients: []\n" + nested(50_000, "---\n"),
}


def work(function: Callable[[], Any]) -> int:
    """Count the function calls that a function makes, a measure that does not depend on the speed of the machine."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return sum(entry.callcount for entry in profile.getstats())


def refuse(path: str) -> list[str]:
    try:
        load_fixtures(path)
    except FixtureError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
def test_a_hostile_file_is_refused_after_little_work(content: str) -> None:
    """Excessive expansion or nesting is refused with a short message, and costs little work and memory."""
    path = write(content)
    assert work(lambda: refuse(path)) < 3_000_000
    tracemalloc.start()
    try:
        [problem] = refuse(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(problem) < 200
    assert peak < 40_000_000


def test_padding_does_not_buy_expansion() -> None:
    """Padding a file does not raise the expansion limit: it costs little more than a regular file of that size."""
    entry = "{date: 2016-01-01, amount: 1}"
    honest = write("clients:\n- id: 1\n  credits:\n" + f"  - {entry}\n" * 2_000, "honest.yaml")
    hostile = write(
        f"x-padding: [{'x,' * 25_000}]\nx-a: &a [{', '.join([entry] * 200)}]\nclients:\n"
        + "".join(f"- {{id: {n}, credits: *a}}\n" for n in range(1, 1_001)),
        "hostile.yaml",
    )
    assert os.path.getsize(hostile) < 1.5 * os.path.getsize(honest)
    allowance = 1_000_000  # some expansion is allowed in a file of any size
    assert work(lambda: refuse(hostile)) < 10 * work(lambda: load_fixtures(honest)) + allowance


MANY: dict[str, Callable[[int], str]] = {
    "unknown keys": lambda n: "clients:\n- id: 1\n" + "".join(f"  amount{number}: 1\n" for number in range(n)),
    "the same unknown key": lambda n: (
        "clients:\n" + "".join(f"- {{id: {number}, credit: 1}}\n" for number in range(1, n))
    ),
    "duplicate keys": lambda n: "clients:\n- {id: 1" + ", id: 1" * n + "}",
    "duplicate ids": lambda n: "clients:\n" + "- id: 1\n" * n,
    "tags": lambda n: "x-a: [" + "!x y, " * n + "]",
    "unknown aliases": lambda n: "x-a: [" + "*x , " * n + "]",
    "anchors": lambda n: "x-a: [" + ", ".join(f"&a{number} x" for number in range(n)) + "]",
    "merges": lambda n: "x-a: &a {date: 2016-01-01}\nclients:\n- id: 1\n  credits:\n" + "  - {<<: *a, amount: 1}\n" * n,
    "quotes before a broken one": lambda n: "clients:\n" + "- {id: '1'}\n" * n + "x-a: 'it's'",
    "merged texts": lambda n: "clients:\n- id: 1\n  <<: [" + "x, " * n + "]\n",
}


@pytest.mark.parametrize("content", MANY.values(), ids=MANY.keys())
def test_work_grows_with_the_file(content: Callable[[int], str]) -> None:
    """Work grows linearly with the size of an invalid file, whatever the kind of problem."""
    few, many = (write(content(number), f"{number}.yaml") for number in (500, 1_000))
    assert work(lambda: refuse(many)) < 2.2 * work(lambda: refuse(few)) + 1_000


def test_aliases_that_repeat_a_little_are_fine() -> None:
    """Moderate expansion is accepted: two hundred clients may share a log of a hundred credits."""
    entries = ", ".join(["{date: 2016-01-01, amount: 1}"] * 100)
    lines = "".join(f"- {{id: {n}, credits: *a}}\n" for n in range(1, 201))
    ledger = load(f"x-a: &a [{entries}]\nclients:\n{lines}")
    assert sum(len(client.credits) for client in ledger.clients) == 20_000


# Secrets.

BADLY_WRITTEN = {
    "no space": "credentials: [{identifier: a, secret:%s}]",
    "no space after password": "credentials: [{username: a, password:%s}]",
    "no space, block": "credentials:\n- identifier: a\n  secret:%s",
    "no space, folded": "credentials:\n- identifier: a\n  actions: GetCredits\n    secret:%s",
    "no space after a list": "credentials:\n- identifier: a\n  actions: [GetCredits]\n  secret:%s\n",
    "equals": "credentials: [{identifier=a, secret=%s}]",
    "equals, block": "credentials:\n- secret=%s\n- secret = %s",
    "no colon": "credentials: [{identifier: a, secret %s}]",
    "alias": "credentials: [{identifier: a, secret: *%s}]",
    "alias for an entry": "credentials: [*%s]",
    "alias for a section": "access: *%s",
    "alias in a misspelt section": "credential: [{secret: *%s}]",
    "alias in keys of one's own": "x-a: {secret: *%s}",
    "alias in a misplaced key": "clients: [{secret: *%s}]",
    "tag": "credentials: [{username: a, password: !%s}]",
    "tag with a value": "credentials: [{username: a, password: !%s x}]",
    "tag's handle": "credentials: [{username: a, password: !%s!x y}]",
    "standard tag": "credentials: [{username: a, password: !!%s}]",
    "verbatim tag": "credentials: [{username: a, password: !<%s x}]",
    "anchor": "credentials: [{username: a, password: &%s}]",
    "at": "credentials: [{username: a, password: @%s}]",
    "percent": "credentials: [{username: a, password: %%s}]",
    "block": "credentials:\n- username: a\n  password: |%s",
    "quote": 'credentials:\n- username: a\n  password: "%s\n',
    "quote inside": "credentials:\n- username: a\n  password: 'x'%s",
    "escape": 'credentials:\n- username: a\n  password: "\\%s"',
    "colon": "credentials:\n- username: a\n  password: %s: x",
    "colon inside": "credentials:\n- username: a\n  password: x: %s",
    "list": "credentials: [{username: a, password: [%s]}]",
    "mapping": "credentials: [{username: a, password: {%s}}]",
    "item": "credentials:\n- %s",
    "item of items": "credentials: [[%s]]",
    "key": "credentials: [{%s: x}]",
    "key twice": "credentials: [{%s: x, %s: x}]",
    "text": "credentials: %s",
    "tagged text": "credentials: !%s",
    "second secret": "credentials: [{identifier: a, secret: b, secret: %s}]",
    "other kind": "credentials: [{identifier: a, password: %s}]",
    "near key": "credentials: [{identifier: a, secrets: %s}]",
    "as an action": "credentials: [{identifier: a, secret: b, actions: %s}]",
    "as a client": "clients: [{identifier: a, secret: %s}]",
    "as a client, no space": "clients: [{id: 1, secret:%s}]",
    "at the top level": "identifier: a\nsecret: %s",
    "section misspelt": "credential: [{identifier: a, secret: %s}]",
    "in another file's section": "admins: [{identifier: a, secret: %s}]",
    "access": "access: %s",
    "access list": "access: [%s]",
    "access key, no space": "access: {key:%s}",
    "access key list": "access: {key: [%s]}",
    "access key misspelt": "access: {kay: %s}",
    "access key folded": "access:\n  addresses:\n    127.0.0.1\n    key:%s",
    "access key as an address": "access: {addresses: [127.0.0.1, key:%s]}",
    "access key for addresses": "access: {addresses: %s}",
    "access twice": "access: {key: %s}\naccess: {key: %s}",
    "syntax later": "access: {key: %s}\nclients: ][",
}


@pytest.mark.parametrize("content", BADLY_WRITTEN.values(), ids=BADLY_WRITTEN.keys())
def test_a_badly_written_secret_is_not_shown(content: str) -> None:
    """Messages never include a secret, however it is misspelt or misplaced."""
    found = problems(write(content.replace("%s", HUNTER)))
    assert HUNTER not in "\n".join(found)


def test_two_equal_names_do_not_show_their_secrets() -> None:
    """A duplicate identifier in two files is reported with both positions and neither secret."""
    entry = f"credentials: [{{identifier: a, secret: {HUNTER}}}]"
    [problem] = problems(write(entry, "a.yaml"), write(entry, "b.yaml"))
    assert problem.startswith("b.yaml:1:28: ")
    assert "a.yaml:1:28" in problem
    assert HUNTER not in problem


# Files and folders.


def test_several_files_make_one_ledger() -> None:
    """Several files are combined section by section; lists are concatenated in the order of the paths."""
    paths = [
        write(
            f"clients: [{{id: {n}}}]\ncredentials: [{{identifier: a{n}, secret: b}}]\n"
            f"answers: [{{action: a{n}, result: {{}}}}]\nadmins: [{n}, 5]\nx-same: &same 1",
            f"{n}.yaml",
        )
        for n in (2, 1)
    ]
    ledger = load_fixtures(*paths)
    assert [client.id for client in ledger.clients] == [2, 1]
    assert [credentials.name for credentials in ledger.credentials] == ["a2", "a1"]
    assert [answer.action for answer in ledger.answers] == ["a2", "a1"]
    assert ledger.admins == frozenset({1, 2, 5})
    assert ledger.sources == ("2.yaml", "1.yaml")


def test_duplicates_in_two_files() -> None:
    """An id already used in another file is reported with its first position, in that file."""
    entry = "clients:\n- id: 7\n  credits: [{id: 3, date: 2016-01-01, amount: 1}]"
    client, credit = problems(write(entry, "a.yaml"), write(f"\n{entry}", "b.yaml"))
    assert client.startswith("b.yaml:3:7: ")
    assert "a.yaml:2:7" in client
    assert credit.startswith("b.yaml:4:18: ")
    assert "a.yaml:3:18" in credit


def test_access_rules_stand_once() -> None:
    """Access rules in a second file are reported, with the position of the first."""
    rules = "access: {key: a}"
    [problem] = problems(write(rules, "a.yaml"), write(rules, "b.yaml"))
    assert problem.startswith("b.yaml:1:")
    assert "a.yaml:1:" in problem


def test_a_folder_is_read_in_the_order_of_its_names() -> None:
    """A folder's *.yaml, *.yml and *.json files are read by name; subfolders and hidden files are skipped."""
    for id, name in enumerate(["b.yml", "a.yaml", "c.json", "10.yaml", "9.yml", "B.yaml"], 1):
        write(f'{{"clients": [{{"id": {id}}}]}}', f"folder/{name}")
    for name in ("sub/x.yaml", "notes.txt", "a.yaml.bak", ".a.yaml", "json", "yaml", "dir.yaml/x.yaml"):
        write("this: is: no: fixture", f"folder/{name}")
    ledger = load_fixtures("folder")
    names = ["10.yaml", "9.yml", "B.yaml", "a.yaml", "b.yml", "c.json"]
    assert ledger.sources == tuple(os.path.join("folder", name) for name in names)
    assert [client.id for client in ledger.clients] == [4, 5, 6, 2, 1, 3]


GIVEN: dict[str, Callable[[pathlib.Path], str | os.PathLike[str]]] = {
    "relative": lambda _: "folder/f.yaml",
    "dotted": lambda _: "./folder/../folder/f.yaml",
    "absolute": lambda folder: str(folder / "folder" / "f.yaml"),
    "pathlib": lambda folder: folder / "folder" / "f.yaml",
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
def test_a_path_is_told_as_it_was_given(
    given: Callable[[pathlib.Path], str | os.PathLike[str]], tmp_path: pathlib.Path
) -> None:
    """Problems show the path as it was given: relative, absolute or as a pathlib path."""
    path = given(tmp_path)
    write("clients: 1", "folder/f.yaml")
    with pytest.raises(FixtureError) as caught:
        load_fixtures(path)
    assert str(caught.value).startswith(f"{os.fspath(path)}:1:10: ")
    [problem] = caught.value.problems
    assert (problem.path, problem.line, problem.column) == (os.fspath(path), 1, 10)


@pytest.mark.parametrize("folder", ["folder", "folder/", "./folder"])
def test_a_file_of_a_folder_is_told_with_the_folder(folder: str) -> None:
    """Problems in a folder show the path of the file, starting with the folder as it was given."""
    write("clients: 1", "folder/f.yaml")
    [problem] = problems(folder)
    assert problem.startswith(os.path.join(folder, "f.yaml") + ":1:10: ")


UNREADABLE = {
    "missing.yaml": "no such file",
    "missing/f.yaml": "no such file",
    "empty": "*.yaml",
    "file/below.yaml": "cannot be read" if sys.platform != "win32" else "",
    "nul\0.yaml": "",
    "x" * 5000: "",
    "": "",
}


@pytest.mark.parametrize(("path", "words"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_what_cannot_be_read(path: str, words: str) -> None:
    """A missing or unreadable file, or a folder without fixtures, is one problem at 1:1 and hides no other problem."""
    write("clients: 1", "wrong.yaml")
    write("", "empty/notes.txt")
    write("", "file")
    found = problems(path, "wrong.yaml")
    assert len(found) == 2
    assert found[0].startswith(f"{path}:1:1: ")
    assert words in found[0]
    assert found[1].startswith("wrong.yaml:1:10: ")


def test_a_link_to_nowhere_or_in_a_circle_is_told(tmp_path: pathlib.Path) -> None:
    """A dangling or circular symbolic link in a folder is reported under its own name."""
    try:
        (tmp_path / "a.yaml").symlink_to("nowhere")
        (tmp_path / "b.yaml").symlink_to("b.yaml")
    except OSError:
        pytest.skip("symbolic links are not allowed here")
    assert [problem.split(": ")[0] for problem in problems(".")] == [
        os.path.join(".", name) + ":1:1" for name in ("a.yaml", "b.yaml")
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes() -> None:
    """A named pipe is read to its end; one without a writer is reported at once."""
    os.mkfifo("pipe")
    [problem] = problems("pipe")
    assert problem.startswith("pipe:1:1: ")
    assert "pipe" in problem.split(": ", 1)[1]
    read, written = os.pipe()
    with open(written, "wb") as file:
        file.write(b"clients: [{id: 1}]")
    try:
        assert load_fixtures(f"/dev/fd/{read}").clients == (Client(1),)
    finally:
        os.close(read)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that bind us")
@pytest.mark.parametrize("name", ["folder", "folder/f.yaml"])
def test_permission_denied_is_told(name: str) -> None:
    """A file or folder without read permission is reported as such."""
    write("clients: []", "folder/f.yaml")
    path = pathlib.Path(name)
    path.chmod(0)
    try:
        [problem] = problems("folder")
    finally:
        path.chmod(0o700)
    assert problem.startswith(f"{name}:1:1: ")
    assert "ermission denied" in problem


@pytest.mark.parametrize("again", ["f.yaml", "./f.yaml", "."])
@pytest.mark.parametrize("content", ["clients: [{id: 1}]", "answers: [{action: a, result: {}}]"])
def test_a_file_named_twice_is_told(content: str, again: str) -> None:
    """A file that is given twice, directly or by its folder, is one problem rather than a list of duplicate ids."""
    write(content)
    [problem] = problems("f.yaml", again)
    assert problem.startswith((os.path.join(again, "f.yaml") if again == "." else again) + ":1:1: ")
    assert "f.yaml" in problem.split(": ", 1)[1]


def test_wrong_content_of_a_file_named_twice_is_told_once() -> None:
    """Problems in a file that is given twice are reported once."""
    write("clients: 1")
    assert {problem.split(": ")[0] for problem in problems("f.yaml", "f.yaml")} == {"f.yaml:1:10", "f.yaml:1:1"}


def test_the_error_carries_the_problems() -> None:
    """The text of the error has one line per problem, and the error can be pickled, as pytest-xdist does."""
    write("clients: [{id: 0}, {id: x}]\nadmins: 1")
    with pytest.raises(FixtureError) as caught:
        load_fixtures("f.yaml")
    error = caught.value
    assert len(error.problems) == 3
    assert str(error).splitlines() == [str(problem) for problem in error.problems]
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.problems) == (str(error), error.problems)


# Pages of the documentation.


def page(action: str) -> str:
    """Write a page in the format of the API reference."""
    return f"""+++
title = "{action}"
toc = true
+++

Do {action}

### Request Parameters

| Parameter | Type | Description | Required |
| --------- | ---- | ----------- | -------- |
| action | string | "{action}" | Required |

### Response Parameters

| Parameter | Type | Description |
| --------- | ---- | ----------- |
| result | string | The result of the operation: success or error |


### Example Response JSON

```
{{
    "result": "success"
}}
```
"""


def test_pages_of_a_folder() -> None:
    """Pages are read next to fixture files; a folder of pages is one source, and other Markdown files are skipped."""
    for action in ("GetOne", "GetTwo"):
        write(page(action), f"docs/{action.lower()}.md")
    write("# Read me", "docs/README.md")
    write("clients: [{id: 1}]", "docs/a.yaml")
    write(page("GetThree"), "three.md")
    ledger = load_fixtures("docs", "three.md")
    assert [page.action for page in ledger.pages] == ["GetOne", "GetTwo", "GetThree"]
    assert [client.id for client in ledger.clients] == [1]
    assert ledger.sources == (os.path.join("docs", "a.yaml"), "docs", "three.md")


def test_wrong_pages() -> None:
    """Markdown that is not a page, a folder without pages, and an action with two pages are reported."""
    write("# Read me", "docs/README.md")
    write(page("GetOne"), "one.md")
    write(page("GetOne"), "two.md")
    found = problems("docs", "docs/README.md", "one.md", "two.md")
    assert [problem.split(": ")[0] for problem in found] == ["docs:1:1", "docs/README.md:1:1", "two.md:1:1"]
    assert "one.md" in found[2]


# The bundled files.


def test_without_a_path_it_is_the_documented_example() -> None:
    """Without a path, the documented example is loaded."""
    assert (
        load_fixtures().clients
        == load_fixtures(FIXTURES / "documented.yaml").clients
        == load(ISSUE_EXAMPLE).clients[:1]
    )


def test_the_example_files_load_together() -> None:
    """The bundled files can be loaded together, and each on its own."""
    files = sorted(FIXTURES.rglob("*.yaml"))
    assert len(files) >= 3
    assert all(load_fixtures(file) for file in files)
    together = load_fixtures(*files)
    assert len(together.clients) > 3
    assert together.credentials
    assert together.access
    assert together.answers
    assert together.admins
    assert together.faults


@pytest.fixture
def ask() -> Iterator[Callable[..., dict[str, Any]]]:
    """Send a request to a server that serves the fixtures folder with the live profile."""
    with MockServer(load_fixtures(FIXTURES), profile="live") as server:

        def ask(action: str, **params: object) -> dict[str, Any]:
            body: dict[str, Any] = json.loads(post(server, action=action, responsetype="json", **params)[1])
            return body

        yield ask


def post(server: MockServer, **params: object) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        body = "&".join(f"{key}={value}" for key, value in params.items())
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/includes/api.php", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_folder_of_fixtures_answers_a_plain_call() -> None:
    """The bundled fixtures folder gives the documented answer to a call without credentials."""
    with MockServer(load_fixtures(FIXTURES)) as server:
        assert post(server, action="GetCredits", clientid=1, responsetype="json") == (
            200,
            DOCUMENTED.replace("/", "\\/"),
        )


def test_the_example_clients(ask: Callable[..., dict[str, Any]]) -> None:
    """The example clients show merge keys, defaults, an empty log, a shared log and an explicit id."""

    def log(clientid: int) -> list[list[str]]:
        credits = ask("GetCredits", clientid=clientid)["credits"]["credit"]
        return [[credit[key] for key in ("date", "description", "amount", "relid")] for credit in credits]

    assert log(10) == [
        ["2024-01-15", "Prepayment", "100.00", "0"],
        ["2024-03-01", "Credit Applied to Invoice #7", "-25.50", "7"],
        ["2024-03-02", "Credit Applied to Invoice #7", "-4.50", "7"],
    ]
    assert ask("GetCredits", clientid=11)["totalresults"] == 0
    assert log(12) == log(13) == [["2024-01-31", "", "9.99", "0"], ["2024-02-29", "", "9.99", "0"]]
    [long] = ask("GetCredits", clientid=14)["credits"]["credit"]
    assert (long["id"], long["amount"]) == ("1000", "-1234567890123.45")
    assert long["description"].endswith("several lines and read as one: “¥ € 😀 & <b>”")


def test_the_example_answers(ask: Callable[..., dict[str, Any]]) -> None:
    """The example answers show a choice by parameter, numbers, a list, and the admin ids accepted by AddCredit."""
    assert ask("GetClientsDetails", clientid=10)["client"] == {
        "id": 10,
        "firstname": "Ada",
        "lastname": "Lovelace",
        "status": "Active",
    }
    assert ask("getclientsdetails", clientid=11) == {"result": "error", "message": "Client Not Found"}
    statuses = [ask("GetInvoice", invoiceid=8)["status"] for _ in range(3)]
    assert statuses == ["Unpaid", "Paid", "Paid"]
    assert ask("GetInvoice", invoiceid=9) == {"result": "error", "message": "Invoice ID 9 Not Found"}
    assert [invoice["total"] for invoice in ask("GetInvoices")["invoices"]["invoice"]] == ["30.00", "12.00"]
    new = {"clientid": 11, "description": "x", "amount": "1.00"}
    assert ask("AddCredit", **new, adminid=3) == {"result": "error", "message": "Admin ID Not Found"}
    assert ask("AddCredit", **new, adminid=2) == {"result": "success", "newbalance": "1.00"}


def test_the_example_credentials() -> None:
    """With the example credentials, a call without credentials is refused, and one identifier is read-only."""
    with MockServer(load_fixtures(FIXTURES, FIXTURES / "locked")) as server:
        call = {"clientid": 1, "description": "x", "amount": "1.00", "responsetype": "json"}
        readonly = {"identifier": "readonly", "secret": "*looks like an alias, so it needs quotes".replace(" ", "%20")}
        admin = {"username": "admin", "password": "2ab96390c7dbe3439de74d0c9b0b1767"}  # echo -n hunter2 | md5sum
        assert post(server, action="GetCredits", **call)[0] == 403
        assert post(server, action="GetCredits", **call, **readonly) == (200, DOCUMENTED)
        assert post(server, action="AddCredit", **call, **readonly)[0] == 403
        assert post(server, action="AddCredit", **call, **admin)[0] == 200


# The command.


def check(*paths: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "whmcs_mock", "check", *paths],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(encoding, "replace"), done.stderr.decode(encoding, "replace")


def test_check_tells_every_problem() -> None:
    """`check` prints the same problems as the library, and exits with code 1."""
    write("clients: [{id: 0}]\nadmins: [x, *y]\nΩ: 1", "a.yaml")
    write("clients: ]", "b.yaml")
    code, out, err = check("a.yaml", "missing.yaml", "b.yaml")
    assert (code, err) == (1, "")
    assert out.splitlines() == problems("a.yaml", "missing.yaml", "b.yaml")
    assert len(out.splitlines()) == 6


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_check_writes_to_any_terminal(encoding: str) -> None:
    """`check` reports a problem even if the terminal's encoding lacks one of its characters."""
    code, out, err = check(write("Ω😀: 1"), encoding=encoding)
    assert (code, err) == (1, "")
    assert out.startswith("f.yaml:1:1: ")


# Without PyYAML's C extension.

LOAD_ALL = """
import json, sys
pure, *paths = json.load(sys.stdin)
if pure:
    sys.modules["yaml._yaml"] = None  # as if PyYAML had been built without its C extension
import yaml
assert hasattr(yaml, "CSafeLoader") != pure
from whmcs_mock import FixtureError, load_fixtures
results = []
for path in paths:
    try:
        results.append(repr(load_fixtures(path)))
    except FixtureError as error:
        results.append([list(problem) for problem in error.problems])
    except Exception as error:
        results.append(repr(error))
json.dump(results, sys.stdout)
"""


def load_all(paths: list[str], *, pure: bool) -> list[str | list[list[Any]]]:
    """Load each file in a new process, and return the repr of its ledger or its problems."""
    command, sent = [sys.executable, "-c", LOAD_ALL], json.dumps([pure, *paths])
    done = subprocess.run(command, input=sent, capture_output=True, text=True, timeout=120, check=True)
    results: list[str | list[list[Any]]] = json.loads(done.stdout)
    # PyYAML's two parsers report some syntax errors one column apart.
    for problem in (problem for result in results if isinstance(result, list) for problem in result):
        if "this is not YAML" in problem[3]:
            problem[2:] = [re.sub("column [0-9]+", "", problem[3])]
    return results


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="needs PyYAML's C extension to compare with")
def test_without_the_c_extension_the_results_are_the_same() -> None:
    """PyYAML's Python and C parsers give the same ledgers, problems, sentences and positions."""
    contents: list[str | bytes] = [
        ISSUE_EXAMPLE,
        *(places(marked)[0] for _, marked in wrong()),
        *(content for content, _ in ENCODED.values()),
        *MERGED.values(),
        *ESCAPES.values(),
        *(credit(f"description: {written}".replace("\n", "\n  ")) for written in TEXTS if written),
        *(content for name, content in BOMBS.items() if name not in ("merged laughs", "the same log for everyone")),
        *(content.replace("%s", HUNTER) for content in BADLY_WRITTEN.values()),
        ISSUE_EXAMPLE.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + ISSUE_EXAMPLE.replace("id: 2 ", "id: x ").encode(),
    ]
    paths = [write(content, f"{number}.yaml") for number, content in enumerate(contents)]
    fast, pure = load_all(paths, pure=False), load_all(paths, pure=True)
    differences = [
        (content, a, b)
        for content, a, b in zip(contents, fast, pure, strict=True)
        if a != b and "something below cannot be parsed" not in f"{a}{b}"  # one of them gave no reason
    ]
    assert not differences, "\n".join(f"{content!r}: {a} != {b}"[:400] for content, a, b in differences)
    assert sum(isinstance(result, list) for result in pure) > 200


def test_problems_before_broken_yaml_are_told() -> None:
    """Problems before a YAML syntax error are reported, including those in the entry with the error."""
    text = "clients:\n- id: 010\n  credits:\n  - {date: 2016-02-30, amount: nan}\n  - {date: 2016-01-01, amount: '1\n"
    places = [line.split(": ")[0] for line in problems(write(text))]
    assert places[:3] == ["f.yaml:2:7", "f.yaml:4:12", "f.yaml:4:32"]
    assert len(places) == 4
