"""Answers in JSON, XML and NVP: they read back unchanged, and PHP writes the same bytes."""

from __future__ import annotations

import base64
import datetime
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire import post

from whmcs_mock import Client, Credit, Ledger, MockServer
from whmcs_mock.api import credit_log
from whmcs_mock.formats import encode

FIELDS = ["id", "date", "description", "amount", "relid"]
PHP_FLAGS = {
    "documented": "JSON_PRETTY_PRINT",
    "live": "JSON_HEX_TAG | JSON_HEX_AMP | JSON_HEX_APOS | JSON_HEX_QUOT | JSON_UNESCAPED_SLASHES",
}
NOT_XML = "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"

#: What a text may hold; surrogates have tests of their own, since they cannot be written in UTF-8.
characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"\\/<>&'\x00\x7f\r\n;=[]\ufffe😀")
texts = st.text(characters, max_size=30)
amounts = st.decimals(-(10**12), 10**12, places=2)
relids = st.integers(0, 10**18 - 1)
credits = st.lists(st.tuples(st.dates(), texts, amounts, relids), max_size=4)
clients = st.builds(
    lambda number, entries: Client(number, [Credit(i, *entry) for i, entry in enumerate(entries, 1)]),
    st.integers(1, 10**18 - 1),
    credits,
)
profiles = st.sampled_from(["documented", "live"])
integers = st.integers(-(2**63), 2**63 - 1)  # what PHP reads as an integer
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | integers | st.booleans() | st.none() | st.dates() | amounts
names = st.text(characters.filter(lambda character: character not in "[]\x00"), min_size=1, max_size=8)
bodies = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda values: (
            st.lists(values, max_size=3)
            | st.lists(values, max_size=3).map(tuple)
            | st.dictionaries(names, values, max_size=3)
            | st.dictionaries(names, values, max_size=3).map(MappingProxyType)
        ),
        max_leaves=12,
    ),
    max_size=4,
)
quick = settings(max_examples=40, deadline=None)
needs_php = pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")


def written(client: Client, response_type: str, profile: Any) -> bytes:
    """Return what GetCredits answers for a client."""
    return encode(credit_log(client), response_type, profile, "GetCredits")


def told(client: Client) -> dict[str, Any]:
    """Return the expected content of GetCredits, with every scalar as text."""
    credits = [
        [str(credit.id), credit.date.isoformat(), credit.description, f"{credit.amount + 0:.2f}", str(credit.relid)]
        for credit in client.credits
    ]
    return {
        "result": "success",
        "totalresults": str(len(credits)),
        "clientid": str(client.id),
        "credits": [dict(zip(FIELDS, credit, strict=True)) for credit in credits],
    }


def unflattened(flat: dict[str, str]) -> dict[str, Any]:
    """Return the nested form of the bracket keys of GetCredits."""
    body: dict[str, Any] = {key: flat.pop(key) for key in ("result", "totalresults", "clientid")}
    flat.pop("credits", None)
    credits: list[dict[str, str]] = [{} for _ in range(int(body["totalresults"]))]
    for key, value in flat.items():
        found = re.fullmatch(r"credits\[credit]\[(\d+)]\[(\w+)]", key)
        assert found, key
        credits[int(found[1])][found[2]] = value
    return {**body, "credits": credits}


def in_order(body: Any) -> str:
    """Serialize a value so that comparing it includes the order of keys and the types of scalars."""
    return json.dumps(body, indent=1)


# GetCredits.


@quick
@given(clients)
@example(Client(1, [Credit(1, "2016-01-01", "", Decimal("-0.00"))]))
def test_documented_json(client: Client) -> None:
    """Documented JSON of GetCredits holds texts under bracket keys, in the order of the ledger."""
    flat = json.loads(written(client, "json", "documented"))
    assert all(isinstance(value, str) for value in flat.values())
    assert in_order(unflattened(flat)) == in_order(told(client))


@quick
@given(clients)
def test_live_json(client: Client) -> None:
    """Live JSON holds a list in credits.credit, and totalresults as the only number."""
    body = json.loads(written(client, "json", "live"))
    assert type(body["totalresults"]) is int
    body["totalresults"] = str(body["totalresults"])
    body["credits"] = body["credits"]["credit"] if body["credits"] else []
    assert in_order(body) == in_order(told(client))


@quick
@given(clients, profiles)
def test_xml(client: Client, profile: str) -> None:
    """XML is well-formed and holds every text, with forbidden characters replaced."""
    root = ET.fromstring(written(client, "xml", profile))
    assert (root.tag, [child.tag for child in root]) == (
        "whmcsapi",
        ["action", "result", "totalresults", "clientid", "credits"],
    )
    body: dict[str, Any] = {child.tag: child.text for child in root if child.tag != "action"}
    body["credits"] = [{field.tag: field.text or "" for field in credit} for credit in root.iterfind("credits/credit")]
    expected = told(client)
    for credit in expected["credits"]:
        credit["description"] = re.sub(NOT_XML, "\ufffd", credit["description"])
    assert in_order(body) == in_order(expected)


@quick
@given(clients, profiles)
def test_nvp(client: Client, profile: str) -> None:
    """NVP holds every text unchanged."""
    text = written(client, "nvp", profile).decode()
    pairs = re.split(r";(?=(?:totalresults|clientid|credits(?:\[credit]\[\d+]\[\w+])?)=)", text)
    flat = dict(pair.split("=", 1) for pair in pairs)
    assert in_order(unflattened(flat)) == in_order(told(client))


@quick
@given(st.text(st.characters(categories=["Cs", "Cc", "Lu", "So"]), max_size=20), profiles)
@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
def test_surrogates(kind: str, text: str, profile: str) -> None:
    """A lone surrogate in a description leaves every document readable."""
    body = written(Client(1, [Credit(1, "2016-01-01", text, 1)]), kind, profile).decode("utf-8")
    if kind == "json":
        values = json.loads(body)
        paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        assert paired in (values.values() if profile == "documented" else values["credits"]["credit"][0].values())
    elif kind == "xml":
        expected = re.sub(f"{NOT_XML}|[\ud800-\udfff]", "\ufffd", text)
        assert (ET.fromstring(body).findtext("credits/credit/description") or "") == expected
    else:
        assert re.sub("[\ud800-\udfff]", "\ufffd", text) in body


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """Provide one server, whose ledger each example replaces."""
    with MockServer(Ledger()) as server:
        yield server


@quick
@given(st.binary(max_size=30), profiles)
@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
def test_text_from_a_form(server: MockServer, kind: str, data: bytes, profile: str) -> None:
    """Any bytes sent as a description are returned, with invalid UTF-8 as replacement characters."""
    server.reset(Ledger([Client(1)]), profile=profile)
    escaped = "".join(f"%{byte:02x}" for byte in data)
    added = post(server, f"action=AddCredit&clientid=1&amount=1.00&description={escaped}&responsetype={kind}")
    assert b"success" in added.body
    body = post(server, f"action=GetCredits&clientid=1&responsetype={kind}").body.decode("utf-8")
    text = data.decode("utf-8", "replace")
    if kind == "json":
        values = json.loads(body)
        assert text in (values.values() if profile == "documented" else values["credits"]["credit"][0].values())
    elif kind == "nvp":
        assert f"[description]={text};" in body
    else:
        assert ET.fromstring(body).findtext("credits/credit/description") == re.sub(NOT_XML, "\ufffd", text)


# Any answer.

INVOICES = {
    "result": "success",
    "totalresults": 1,
    "invoices": {"invoice": [{"id": 5, "total": Decimal("9.5"), "date": datetime.date(2024, 1, 2), "tax": 0.5}]},
    "paid": True,
    "late": False,
    "note": None,
    "urls": ["a/b", "<é&'\">"],
}
NESTED = rb"""{
    "result": "success",
    "totalresults": 1,
    "invoices": {
        "invoice": [
            {
                "id": 5,
                "total": "9.50",
                "date": "2024-01-02",
                "tax": 0.5
            }
        ]
    },
    "paid": true,
    "late": false,
    "note": null,
    "urls": [
        "a\/b",
        "<\u00e9&'\">"
    ]
}"""
COMPACT = (
    rb'{"result":"success","totalresults":1,"invoices":{"invoice":[{"id":5,"total":"9.50","date":"2024-01-02",'
    rb'"tax":0.5}]},"paid":true,"late":false,"note":null,"urls":["a/b","\u003C\u00e9\u0026\u0027\u0022\u003E"]}'
)
FLAT = rb"""{
    "result": "success",
    "totalresults": "1",
    "invoices[invoice][0][id]": "5",
    "invoices[invoice][0][total]": "9.50",
    "invoices[invoice][0][date]": "2024-01-02",
    "invoices[invoice][0][tax]": "0.5",
    "paid": "1",
    "late": "",
    "note": "",
    "urls[0]": "a\/b",
    "urls[1]": "<\u00e9&'\">"
}"""
NVP = (
    "result=success;totalresults=1;invoices[invoice][0][id]=5;invoices[invoice][0][total]=9.50;"
    "invoices[invoice][0][date]=2024-01-02;invoices[invoice][0][tax]=0.5;paid=1;late=;note=;"
    "urls[0]=a/b;urls[1]=<é&'\">"
).encode()
XML = """<?xml version="1.0" encoding="utf-8"?>
<whmcsapi version="8.13.1">
<action>getinvoices</action>
<result>success</result>
<totalresults>1</totalresults>
<invoices>
<invoice>
<id>5</id>
<total>9.50</total>
<date>2024-01-02</date>
<tax>0.5</tax>
</invoice>
</invoices>
<paid>1</paid>
<late></late>
<note></note>
<urls>a/b</urls>
<urls>&lt;é&amp;'"&gt;</urls>
</whmcsapi>""".encode()
FLAT_ACTIONS = [
    "GetAffiliates", "GetAnnouncements", "GetCancelledPackages", "GetClientsAddons", "GetClientsDomains", "GetCredits",
    "GetCurrencies", "GetEmailTemplates", "GetModuleConfigurationParameters", "GetModuleQueue", "GetProject",
]  # fmt: skip


@pytest.mark.parametrize(
    ("profile", "kind", "expected"),
    [
        ("documented", "json", NESTED),
        ("live", "json", COMPACT),
        ("documented", "nvp", NVP),
        ("live", "nvp", NVP),
        ("documented", "xml", XML),
        ("live", "xml", XML),
    ],
)
def test_layout(profile: Any, kind: str, expected: bytes) -> None:
    """JSON is nested, pretty as documented and compact in the live profile, with numbers, true, false and null."""
    assert encode(INVOICES, kind, profile, "GetInvoices") == expected


@pytest.mark.parametrize("action", [*FLAT_ACTIONS, "GETPROJECT"])
def test_flat_actions(action: str) -> None:
    """The actions whose pages show bracket keys are flat in the documented profile only, every scalar a text."""
    assert encode(INVOICES, "json", "documented", action) == FLAT
    assert encode(INVOICES, "json", "live", action) == COMPACT


def test_flat_of_the_callers_choice() -> None:
    """``flat`` overrides the list of flat actions, in the documented profile."""
    assert encode(INVOICES, "json", "documented", "GetInvoices", flat=True) == FLAT
    assert encode(INVOICES, "json", "documented", "GetCredits", flat=False) == NESTED
    assert encode(INVOICES, "json", "live", "GetInvoices", flat=True) == COMPACT


@pytest.mark.parametrize(
    ("value", "action", "documented", "live", "nvp", "xml"),
    [
        ({"credit": []}, "GetCredits", "{}", '{"x":""}', "x=", "<x/>"),
        ({"credit": []}, "GetCurrencies", "{}", '{"x":{"credit":[]}}', "x=", "<x/>"),
        (
            {"credit": []},
            "GetClients",
            '{\n    "x": {\n        "credit": []\n    }\n}',
            '{"x":{"credit":[]}}',
            "x=",
            "<x/>",
        ),
        ([], "GetClients", '{\n    "x": []\n}', '{"x":[]}', "x=", "<x/>"),
        ((), "GetClients", '{\n    "x": []\n}', '{"x":[]}', "x=", "<x/>"),
        ({"credit": ()}, "GetCurrencies", "{}", '{"x":{"credit":[]}}', "x=", "<x/>"),
        ({}, "GetClients", '{\n    "x": {}\n}', '{"x":{}}', "x=", "<x/>"),
        ([], "GetCredits", "{}", '{"x":[]}', "x=", "<x/>"),
        ("", "GetCredits", '{\n    "x": ""\n}', '{"x":""}', "x=", "<x></x>"),
        (
            [[]],
            "GetClients",
            '{\n    "x": [\n        []\n    ]\n}',
            '{"x":[[]]}',
            "x[0]=",
            "<x/>",
        ),
        ({"a": {}}, "GetCredits", "{}", '{"x":{"a":{}}}', "x[a]=", "<x>\n<a/>\n</x>"),
    ],
)
def test_empty(value: Any, action: str, documented: str, live: str, nvp: str, xml: str) -> None:
    """Empty values are kept in nested JSON, except that no credits is an empty text; flat JSON omits them."""
    body = {"x": value}
    assert encode(body, "json", "documented", action).decode() == documented
    assert encode(body, "json", "live", action).decode() == live
    assert encode(body, "nvp", "live", action).decode() == nvp
    assert encode(body, "xml", "live").decode().split("\n", 2)[2] == f"{xml}\n</whmcsapi>"


@pytest.mark.parametrize(
    ("body", "documented", "live", "nvp", "xml"),
    [
        ([], "[]", "[]", "", ""),
        ([{"module": "enom"}], '[\n    {\n        "module": "enom"\n    }\n]', '[{"module":"enom"}]', "0[module]=enom",
         "<_0>\n<module>enom</module>\n</_0>\n"),
        (["a", 1], '[\n    "a",\n    1\n]', '["a",1]', "0=a;1=1", "<_0>a</_0>\n<_1>1</_1>\n"),
        ({}, "{}", "{}", "", ""),
    ],
)  # fmt: skip
def test_list_as_a_whole(body: Any, documented: str, live: str, nvp: str, xml: str) -> None:
    """A list may be the whole answer: XML and NVP number its items."""
    assert encode(body, "json", "documented", "GetRegistrars").decode() == documented
    assert encode(body, "json", "live", "GetCredits").decode() == live
    assert encode(body, "nvp", "live").decode() == nvp
    assert encode(body, "xml", "live").decode().split("\n", 2)[2] == f"{xml}</whmcsapi>"


def plain(value: Any) -> Any:
    """Return what a reader of nested JSON gets of a value."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return value.isoformat() if isinstance(value, datetime.date) else value


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yield the texts of an answer, each with the names that lead to it; None for what is empty."""
    if not isinstance(value, (Mapping, list, tuple)):
        value = plain(value)
        yield path, {True: "1", False: ""}[value] if isinstance(value, bool) else "" if value is None else str(value)
    elif not value or (isinstance(value, Mapping) and len(value) == 1 and next(iter(value.values())) in ([], ())):
        yield path, None
    else:
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(item, (*path, str(name)))


@quick
@given(bodies, profiles)
def test_any_body_in_nested_json(body: dict[str, Any], profile: Any) -> None:
    """Nested JSON reads back as the same mappings, lists, texts, numbers, true, false and null."""
    text = encode(body, "json", profile, "GetInvoices").decode("ascii")
    assert in_order(json.loads(text)) == in_order(plain(body))


@quick
@given(bodies)
def test_any_body_in_flat_json(body: dict[str, Any]) -> None:
    """Flat JSON reads back as the same texts under the same names, without empty values."""
    flat = json.loads(encode({"top": body}, "json", "documented", "GetProject"))
    found = [(tuple(re.split(r"\]?\[", key.removesuffix("]"))), text) for key, text in flat.items()]
    assert found == [(path, text) for path, text in leaves({"top": body}) if text is not None]


@quick
@given(bodies, profiles)
def test_any_body_in_xml(body: dict[str, Any], profile: Any) -> None:
    """XML is well-formed for any names, and holds the same texts in the same order."""
    root = ET.fromstring(encode({"top": body}, "xml", profile, "GetInvoices"))
    found = [element.text or "" for element in root.iter() if not len(element)]
    texts = [re.sub(NOT_XML, "\ufffd", text or "") for _, text in leaves({"top": body})]
    assert found == ["getinvoices", *texts]


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("a", "a"), ("_a", "_a"), ("A.b-c_9", "A.b-c_9"), ("a b ", "a_b_"), ("1a", "_1a"), (0, "_0"), ("-a", "_-a"),
        (".a", "_.a"), ("", "_"), ("é", "_"), ("aé", "a_"), ("a:b", "a_b"), ("<a>", "_a_"), ("a\n", "a_"),
    ],
)  # fmt: skip
def test_xml_names(name: Any, tag: str) -> None:
    """A name that XML does not allow keeps its ASCII letters, digits, dots and hyphens, the rest become underscores."""
    body = encode({name: {name: "text"}}, "xml", "live").decode()
    assert f"<{tag}>\n<{tag}>text</{tag}>\n</{tag}>" in body
    ET.fromstring(body)


@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
@pytest.mark.parametrize(
    "value", [object(), {1}, b"text", 1j, datetime.time(1)], ids=lambda value: type(value).__name__
)
def test_types_that_no_answer_holds(kind: str, value: Any) -> None:
    """A value of any other type raises a TypeError that names the type."""
    for profile, action in (("documented", "GetCredits"), ("documented", "GetInvoices"), ("live", "GetInvoices")):
        with pytest.raises(TypeError, match=f"not {type(value).__name__}$"):
            encode({"a": [value]}, kind, profile, action)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -float("inf"), Decimal("NaN"), Decimal("Infinity")], ids=repr
)
def test_numbers_that_are_not_finite(kind: str, value: Any) -> None:
    """A number that is not finite raises a ValueError that names it."""
    for profile, action in (("documented", "GetCredits"), ("documented", "GetInvoices"), ("live", "GetInvoices")):
        with pytest.raises(ValueError, match=f"an answer cannot contain {value}"):
            encode({"a": {"b": value}}, kind, profile, action)  # type: ignore[arg-type]


def test_other_types_of_the_same_kind() -> None:
    """A member of an enumeration of texts is its text, a date with a time has WHMCS's form, money two decimals."""

    class Status(str, Enum):
        PAID = "Paid"

    body = {"status": Status.PAID, "at": datetime.datetime(2024, 1, 2, 3, 4, 5), "total": Decimal("1234567890123456.7")}
    told = {"status": "Paid", "at": "2024-01-02 03:04:05", "total": "1234567890123456.70"}
    for profile in ("documented", "live"):
        assert json.loads(encode(body, "json", profile, "GetInvoice")) == told
    assert json.loads(encode(body, "json", "documented", "GetCredits")) == told
    assert encode(body, "nvp", "live").decode() == ";".join(f"{name}={text}" for name, text in told.items())
    assert b"<status>Paid</status>\n<at>2024-01-02 03:04:05</at>" in encode(body, "xml", "live")


#: A float, how PHP's json_encode writes it, and how its echo does.
FLOATS = [
    (0.1, "0.1", "0.1"),
    (10.0, "10", "10"),
    (-0.0, "-0", "-0"),
    (123456.789, "123456.789", "123456.789"),
    (0.1 + 0.2, "0.30000000000000004", "0.3"),
    (1 / 3, "0.3333333333333333", "0.33333333333333"),
    (0.0001, "0.0001", "0.0001"),
    (0.00001, "1.0e-5", "1.0E-5"),
    (1.5e-7, "1.5e-7", "1.5E-7"),
    (1e14, "100000000000000", "1.0E+14"),
    (1234567890123456.0, "1234567890123456", "1.2345678901235E+15"),
    (1.5e16, "15000000000000000", "1.5E+16"),
    (1e17, "1.0e+17", "1.0E+17"),
    (1.5e300, "1.5e+300", "1.5E+300"),
    (5e-324, "5.0e-324", "4.9406564584125E-324"),
]


@pytest.mark.parametrize(("value", "in_json", "in_text"), FLOATS)
def test_floats(value: float, in_json: str, in_text: str) -> None:
    """A float is written like PHP's json_encode in nested JSON, and like its echo elsewhere."""
    for profile in ("documented", "live"):
        assert encode([value], "json", profile).decode().strip("[]\n ") == in_json
    assert encode({"a": value}, "json", "documented", "GetCredits").decode() == f'{{\n    "a": "{in_text}"\n}}'
    assert encode({"a": value}, "nvp", "live").decode() == f"a={in_text}"
    assert f"<a>{in_text}</a>" in encode({"a": value}, "xml", "live").decode()


def php(code: str, lines: list[bytes]) -> list[bytes]:
    """Run PHP code that sets ``$out`` from ``$line``, once for each line."""
    loop = f"while ($line = fgets(STDIN)) {{ $line = base64_decode($line); {code} echo base64_encode($out), PHP_EOL; }}"
    encoded = b"".join(base64.b64encode(line) + b"\n" for line in lines)
    run = subprocess.run(["php", "-n", "-r", loop], input=encoded, capture_output=True, check=True)
    return [base64.b64decode(line) for line in run.stdout.splitlines()]


def php_writes(bodies: list[bytes], profile: str) -> list[bytes]:
    """Return JSON bodies decoded and encoded again by PHP."""
    return php(
        f"$out = json_encode(json_decode($line, false, 512, JSON_THROW_ON_ERROR), {PHP_FLAGS[profile]});", bodies
    )


@needs_php
@pytest.mark.parametrize("profile", PHP_FLAGS)
def test_php_writes_the_same_json(profile: Any) -> None:
    """PHP's json_encode writes the same bytes, whatever characters texts and names hold."""
    codes = [*range(0x3000), 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, *range(0x1F5FF, 0x1F610), 0x10FFFF]
    every = ["".join(map(chr, codes[i : i + 64])) for i in range(0, len(codes), 64)]
    mixed = ['\\"', '"\\', '\\\\"', "a/b\\/c", '{"a": "b"}', "", "\\u0022", "\\u007f", "\\\x7f", "</script>"]
    answers = [{"a": {"-" + text: text}} for text in [*every, *mixed]]
    written = [encode(answer, "json", profile, action) for answer in answers for action in ("GetCredits", "GetClients")]
    assert written == php_writes(written, profile)


@needs_php
@settings(max_examples=8, deadline=None)
@given(st.lists(bodies, min_size=5, max_size=20))
@pytest.mark.parametrize("profile", PHP_FLAGS)
def test_php_lays_json_out_the_same(profile: Any, answers: list[dict[str, Any]]) -> None:
    """PHP's json_encode lays out any answer in the same way, flat and nested."""
    written = [encode(answer, "json", profile, action) for answer in answers for action in ("GetCredits", "GetClients")]
    assert written == php_writes(written, profile)


@needs_php
@settings(max_examples=15, deadline=None)
@given(st.lists(floats | st.floats(-1e19, 1e19) | st.integers(-(10**6), 10**6).map(lambda n: n / 1000), min_size=1))
@example([value for value, _, _ in FLOATS])
def test_php_writes_the_same_floats(values: list[float]) -> None:
    """PHP's json_encode and echo write the same digits."""
    lines = [repr(value).encode() for value in values]
    assert [encode([value], "json", "live") for value in values] == php("$out = json_encode([(float) $line]);", lines)
    assert [encode([value], "nvp", "live") for value in values] == php("$out = '0=' . (float) $line;", lines)
