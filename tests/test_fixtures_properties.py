"""Fixture files with arbitrary content: what is written is read back, and invalid files raise only FixtureError."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
import yaml
from core_schema import core_schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from whmcs_mock import Access, CannedAnswer, Client, Credentials, Credit, FixtureError, Ledger, load_fixtures
from whmcs_mock.fixtures import dump_clients, json_schema, parse_fixtures
from whmcs_mock.ledger import FAULTS, FaultRule

CANARY = "Zq7hunter2"  # a secret that must not appear in any message

Load = Callable[[bytes], "Ledger | FixtureError"]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Return a function that loads a file with the given bytes, or returns the FixtureError."""
    path = tmp_path_factory.mktemp("fixtures") / "f.yaml"

    def load(content: bytes) -> Ledger | FixtureError:
        path.write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(path.parent)
            try:
                return load_fixtures(path.name)
            except FixtureError as error:
                return error

    return load


def loaded(result: Ledger | FixtureError) -> Ledger:
    assert isinstance(result, Ledger), result
    return result


class Dumper(yaml.SafeDumper):
    """A YAML dumper that writes amounts plainly, as a person would: 10.00."""


Dumper.add_representer(
    Decimal, lambda dumper, amount: dumper.represent_scalar("tag:yaml.org,2002:float", f"{amount:.2f}")
)


VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def dump(content: dict[str, Any], style: dict[str, Any]) -> bytes:
    """Return YAML, with anchors for repeated values; long lines are not folded, since PyYAML folds them wrongly.

    The result is valid under the JSON Schema.
    """
    text: str = yaml.dump(content, Dumper=Dumper, sort_keys=False, width=10**6, **style)
    VALIDATOR.validate(core_schema(text))
    return text.encode()


STYLES = st.fixed_dictionaries(
    {},
    optional={
        "allow_unicode": st.booleans(),
        "default_flow_style": st.sampled_from([True, False, None]),
        "default_style": st.sampled_from([None, "'", '"', "|", ">"]),
        "explicit_start": st.booleans(),
        "explicit_end": st.booleans(),
        "indent": st.integers(2, 9),
        "line_break": st.sampled_from(["\n", "\r\n", "\r"]),
    },
)
PLAIN_STYLES = STYLES.map(lambda style: {key: value for key, value in style.items() if key != "default_style"})

# PyYAML cannot read back three of the line breaks of YAML 1.1 as it writes them.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=30
) | st.sampled_from(
    [
        "no",
        "~",
        "1e3",
        "0x1F",
        "12:30:45",
        "2016-01-01",
        "=",
        "<<",
        "- a",
        "*a",
        "&a",
        "!a",
        "a: b",
        "a #b",
        " a ",
        "a\n\nb\n",
    ]
)
NAMES = TEXTS.filter(bool)
IDS = st.integers(1, 10**18 - 10**6)
AMOUNTS = st.integers(-(10**20) + 1, 10**20 - 1).map(lambda cents: Decimal(cents).scaleb(-2)) | st.sampled_from(
    [Decimal("0.00"), Decimal("0.01"), Decimal("-0.01"), Decimal("10.10")]
)
LOGS = st.lists(
    st.fixed_dictionaries(
        {"date": st.dates(), "amount": AMOUNTS},
        optional={"description": TEXTS, "relid": st.integers(0, 10**18 - 1)},
    ),
    max_size=4,
)


@st.composite
def clients(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Generate clients as in a fixture file: some credits have ids, and some clients share a log."""
    logs = draw(st.lists(LOGS, min_size=1, max_size=4))
    free = iter(draw(st.lists(IDS, unique=True, min_size=16, max_size=16)))
    own = [[{"id": next(free), **credit} if draw(st.booleans()) else credit for credit in log] for log in logs[1:]]
    shared = draw(st.lists(st.sampled_from([None, logs[0]]), max_size=3))
    ids = draw(st.lists(IDS, unique=True, min_size=len(own) + len(shared), max_size=len(own) + len(shared)))
    return [
        {"id": id} if log is None else {"id": id, "credits": log} for id, log in zip(ids, [*own, *shared], strict=True)
    ]


def numbered(written: list[dict[str, Any]]) -> tuple[Client, ...]:
    """Return the Client objects that the loader should create, with credit ids assigned."""
    largest = max((credit.get("id", 0) for client in written for credit in client.get("credits", [])), default=0)
    clients = []
    for client in written:
        log = []
        for credit in client.get("credits", []):
            if "id" not in credit:
                largest += 1
            values = {"description": "", "relid": 0, "id": largest, **credit}
            log.append(Credit(**values))
        clients.append(Client(client["id"], tuple(log)))
    return tuple(clients)


@settings(deadline=None)
@given(written=clients(), style=PLAIN_STYLES)
def test_clients_are_read_back(load: Load, written: list[dict[str, Any]], style: dict[str, Any]) -> None:
    """Clients and credits written as YAML in any style are read back equal and in order."""
    assert loaded(load(dump({"clients": written}, style))).clients == numbered(written)


@settings(deadline=None)
@given(written=clients())
def test_clients_are_posted_again(written: list[dict[str, Any]]) -> None:
    """Dumped clients are JSON that the schema accepts, and that loads as the same clients."""
    dumped = dump_clients(numbered(written))
    VALIDATOR.validate(dumped)
    assert parse_fixtures(json.dumps(dumped).encode()).clients == numbered(written)


HEADER_NAMES = st.sampled_from(["Retry-After", "X-A", "x_b", "Content-Type"])


@settings(deadline=None)
@given(
    rules=st.lists(
        st.fixed_dictionaries(
            {"fault": st.sampled_from(FAULTS)},
            optional={
                "status": st.integers(200, 599),
                "body": TEXTS,
                "headers": st.dictionaries(HEADER_NAMES, st.text("az09 /", max_size=5), max_size=2),
                "seconds": st.integers(0, 999_999),
                "action": st.sampled_from(["addcredit", "getcredits"]),
                "clientid": IDS,
                "params": st.dictionaries(NAMES, TEXTS, max_size=2),
                "times": IDS,
            },
        ).map(lambda rule: {key: value for key, value in rule.items() if key != "seconds" or rule["fault"] == "slow"}),
        max_size=3,
    ),
    style=PLAIN_STYLES,
)
def test_faults_are_read_back(load: Load, rules: list[dict[str, Any]], style: dict[str, Any]) -> None:
    """Fault rules keep every key."""
    expected = [FaultRule(**{**rule, "body": rule["body"].encode() if "body" in rule else None}) for rule in rules]
    assert loaded(load(dump({"faults": rules}, style))).faults == tuple(expected)


@settings(deadline=None)
@given(
    pairs=st.dictionaries(
        st.tuples(st.booleans(), NAMES), st.tuples(NAMES, st.none() | st.lists(NAMES, max_size=2)), max_size=3
    ),
    key=NAMES,
    style=STYLES,
)
def test_credentials_are_read_back(
    load: Load,
    pairs: dict[tuple[bool, str], tuple[str, list[str] | None]],
    key: str,
    style: dict[str, Any],
) -> None:
    """Names and secrets can be any text."""
    written, expected = [], []
    for (admin, name), (secret, actions) in pairs.items():
        entry: dict[str, Any] = dict(
            zip(("username", "password") if admin else ("identifier", "secret"), (name, secret), strict=True)
        )
        written.append(entry if actions is None else {**entry, "actions": actions})
        allowed = None if actions is None else frozenset(action.lower() for action in actions)
        expected.append(Credentials(name, secret, admin, allowed))
    ledger = loaded(load(dump({"credentials": written, "access": {"key": key}}, style)))
    assert ledger.credentials == tuple(expected)
    assert ledger.access == Access(key=key)


RESULTS = st.dictionaries(
    TEXTS,
    st.recursive(
        TEXTS | st.integers(-(10**18) + 1, 10**18 - 1) | st.booleans() | st.none(),
        lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@settings(deadline=None)
@given(
    answers=st.lists(
        st.tuples(NAMES, st.dictionaries(TEXTS, TEXTS, max_size=2), RESULTS, st.integers(200, 599)), max_size=3
    ),
    style=PLAIN_STYLES,
)
def test_answers_are_read_back(
    load: Load, answers: list[tuple[str, dict[str, str], dict[str, Any], int]], style: dict[str, Any]
) -> None:
    """Canned answers keep all keys and values, their types and their order, in YAML and in JSON."""
    written = [
        {"action": action, "params": params, "result": result, "status": status}
        for action, params, result, status in answers
    ]
    expected = [CannedAnswer(action, result, params, status) for action, params, result, status in answers]
    read = loaded(load(dump({"answers": written}, style))).answers
    assert [answer._replace(place="") for answer in read] == expected
    assert [list(answer.result or ()) for answer in read] == [list(answer.result or ()) for answer in expected]
    body = json.dumps({"answers": written}, indent="\t").encode()
    assert [answer._replace(place="") for answer in parse_fixtures(body).answers] == expected


# Any bytes.

PIECES = [
    *("faults:", "fault:", "slow", "times:", "headers:", "body:", "seconds:", "sequence:", "message:", "true", "null"),
    *("clients:", "credentials:", "access:", "answers:", "admins:", "x-a:", "clientz:", "id:", "credits:", "date:"),
    *("amount:", "identifier:", "secret:", "username:", "password:", "key:", "addresses:", "actions:", "action:"),
    *("result:", "params:", "status:", "<<:", "?", ":", "-", ",", "{", "}", "[", "]", "#", "|", ">-", "'", '"'),
    *(" ", "  ", "    ", "\n", "\n  ", "\n- ", "\n  - ", "\r\n", "\r", "\t", "\x85", "\u2028", "\ufeff", "\0", "\x1b"),
    *(
        "&a",
        "*a",
        "&b",
        "*b",
        "!",
        "!t",
        "!!int",
        "!<%ed%a0%80>",
        "!<%41>",
        "%YAML 1.1",
        "%TAG ! x",
        "\n---\n",
        "\n...\n",
    ),
    *(
        "1",
        "0",
        "2016-01-01",
        "10.00",
        "no",
        "~",
        "é",
        "😀",
        "\\",
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\U00110000"',
        '"\\x00"',
        "127.0.0.1",
        "::1",
    ),
]
HONEST = """\
x-a: &a {date: 2016-01-01, amount: 1}
credentials: [{identifier: a, secret: b, actions: [GetCredits]}, {username: a, password: b}]
access: {addresses: [127.0.0.1], key: k}
answers:
- action: GetInvoices
  params: {userid: 1}
  result: {result: success, invoices: {invoice: [{id: 1}, *a]}}
- {action: GetInvoice, sequence: [{a: true}, {a: null}]}
faults:
- {fault: slow, seconds: 2, action: AddCredit, clientid: 1, times: 1}
- {status: 520, body: "<b>", headers: {Retry-After: "3"}, params: {a: 1}}
- {message: Invoice ID Not Found}
admins: [1]
clients:
- id: 1
  credits:
  - {<<: *a, id: 1, description: "é 😀"}
  - date: 2016-02-29
    amount: -10.50
    relid: 7
- {id: 2}
"""
HONEST_JSON = json.dumps(
    yaml.safe_load(HONEST.replace("2016-01-01", "'2016-01-01'").replace("2016-02-29", "'2016-02-29'"))
)
SOUP = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Generate a fixture file with some parts replaced."""
    text = draw(st.sampled_from([HONEST, HONEST, HONEST_JSON]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 12))
        text = text[:start] + draw(st.lists(st.sampled_from(PIECES), max_size=3).map("".join)) + text[end:]
    return text


def lines(content: bytes) -> list[str]:
    """Split text into lines as YAML 1.1 does, without a byte order mark."""
    return re.split("\r\n|[\r\n\x85\u2028\u2029]", content.decode("utf-8", "replace").removeprefix("\ufeff"))


@settings(deadline=None)
@given(content=st.binary(max_size=60) | SOUP.map(str.encode) | damaged().map(str.encode))
@example(b"")
@example(b"\xef\xbb\xbf")
@example(b"clients: [")
@example(b"a: 1\rb: 2\rc: \x00")
@example(b"x-a: !<%ed%a0%80> b")
@example(
    b"clients: [{id: 1, credits: [{id: 999999999999999999, date: 2016-01-01, amount: 1}, {date: 2016-01-01, amount: 1}]}]"
)
def test_any_bytes_load_or_tell_what_is_wrong(load: Load, content: bytes) -> None:
    """Any file is either loaded or reported with one-line problems at positions inside the file."""
    result = load(content)
    if isinstance(result, Ledger):
        return
    problems = result.problems
    assert problems
    assert len(set(problems)) == len(problems)
    assert str(result).split("\n") == [str(problem) for problem in problems]
    text = lines(content)
    for path, line, column, message in problems:
        assert path == "f.yaml"
        assert 1 <= line <= len(text)
        assert 1 <= column <= len(text[line - 1]) + 1
        assert message
        assert message.isprintable()
        assert len(message) < 330
    assert list(problems) == sorted(problems, key=lambda problem: (problem.line, problem.column))


SECRET_PLACES = [
    "credentials: [{identifier: a, secret%s}]",
    "credentials: [{username: a, password%s}]",
    "credentials:\n- identifier: a\n  secret%s",
    "credentials:\n- username: a\n  password%s\n- {identifier: a, secret: b}",
    "credentials:\n- identifier: a\n  actions: [GetCredits]\n  secret%s",
    "credentials:\n- identifier: a\n  actions: GetCredits\n    secret%s",
    "credentials:\n  -%s",
    "credentials:%s",
    "access:\n  key%s\n  addresses: [127.0.0.1]",
    "access: {addresses: [127.0.0.1], key%s}",
    "access:\n  addresses:\n  - 127.0.0.1\n    key%s",
    "access:%s",
]
AROUND = st.lists(
    st.sampled_from([*" :=*&!%@`|>'\"[]{}-?,#\\\t", "\n      ", ": ", "<<: ", "!!", "x", "é"]), max_size=4
).map("".join)


@settings(deadline=None)
@given(place=st.sampled_from(SECRET_PLACES), before=AROUND, after=AROUND)
@example(place=SECRET_PLACES[0], before=": ", after="")
@example(place=SECRET_PLACES[5], before=":", after="")
@example(place=SECRET_PLACES[10], before=":", after="")
def test_no_message_holds_a_secret(load: Load, place: str, before: str, after: str) -> None:
    """A badly written secret never appears in a message or in the repr of the ledger."""
    content = (place % f"{before}{CANARY}{after}").encode()
    result = load(content)
    told = str(result) if isinstance(result, FixtureError) else repr([result.credentials, result.access])
    assert CANARY not in told
