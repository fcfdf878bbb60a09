"""Each response type is read back, and gives the ledger."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wire import post

from whmcs_mock import Client, Credit, Ledger, MockServer

FIELDS = ["id", "date", "description", "amount", "relid"]

#: What a description may hold; surrogates have tests of their own, since they cannot be written in UTF-8.
texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"\\/<>&'\x00\x7f\r\n;=[]\ufffe😀"), max_size=30
)
amounts = st.decimals(-(10**12), 10**12, places=2)
relids = st.integers(0, 10**18 - 1)
credits = st.lists(st.tuples(st.dates(), texts, amounts, relids), max_size=4)
ledgers = st.builds(
    lambda clientid, entries: Ledger([Client(clientid, [Credit(i, *entry) for i, entry in enumerate(entries, 1)])]),
    st.integers(1, 10**18 - 1),
    credits,
)
profiles = st.sampled_from(["documented", "live"])
quick = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    """Give one server, whose ledger each example replaces."""
    with MockServer(Ledger()) as server:
        yield server


def answered(server: MockServer, ledger: Ledger, profile: str, kind: str) -> bytes:
    """Ask for the credits of the only client."""
    server.reset(ledger, profile=profile)
    clientid = ledger.clients[0].id
    return post(server, {"action": "GetCredits", "clientid": clientid, "responsetype": kind}).body


def told(ledger: Ledger) -> dict[str, Any]:
    """Say what an answer must tell, every scalar as text."""
    (client,) = ledger.clients
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
    """Read bracket keys back."""
    body: dict[str, Any] = {key: flat.pop(key) for key in ("result", "totalresults", "clientid")}
    flat.pop("credits", None)
    credits: list[dict[str, str]] = [{} for _ in range(int(body["totalresults"]))]
    for key, value in flat.items():
        found = re.fullmatch(r"credits\[credit]\[(\d+)]\[(\w+)]", key)
        assert found, key
        credits[int(found[1])][found[2]] = value
    return {**body, "credits": credits}


def in_order(body: dict[str, Any]) -> str:
    """Write a value so that the order of its keys counts in a comparison."""
    return json.dumps(body, indent=1)


@quick
@given(ledgers)
@example(Ledger([Client(1, [Credit(1, "2016-01-01", "", Decimal("-0.00"))])]))
def test_documented_json(server: MockServer, ledger: Ledger) -> None:
    """Documented JSON holds texts under bracket keys, in the order of the ledger."""
    flat = json.loads(answered(server, ledger, "documented", "json"))
    assert all(isinstance(value, str) for value in flat.values())
    assert in_order(unflattened(flat)) == in_order(told(ledger))


@quick
@given(ledgers)
def test_live_json(server: MockServer, ledger: Ledger) -> None:
    """Live JSON holds a list in credits.credit, and totalresults as the only number."""
    body = json.loads(answered(server, ledger, "live", "json"))
    assert type(body["totalresults"]) is int
    body["totalresults"] = str(body["totalresults"])
    body["credits"] = body["credits"]["credit"] if body["credits"] else []
    assert in_order(body) == in_order(told(ledger))


@quick
@given(ledgers, profiles)
def test_xml(server: MockServer, ledger: Ledger, profile: str) -> None:
    """XML is well-formed and holds every text, with what XML forbids replaced."""
    root = ET.fromstring(answered(server, ledger, profile, "xml"))
    assert (root.tag, [child.tag for child in root]) == (
        "whmcsapi",
        ["action", "result", "totalresults", "clientid", "credits"],
    )
    body: dict[str, Any] = {child.tag: child.text for child in root if child.tag != "action"}
    body["credits"] = [{field.tag: field.text or "" for field in credit} for credit in root.iterfind("credits/credit")]
    expected = told(ledger)
    for credit in expected["credits"]:
        credit["description"] = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", credit["description"])
    assert in_order(body) == in_order(expected)


@quick
@given(ledgers, profiles)
def test_nvp(server: MockServer, ledger: Ledger, profile: str) -> None:
    """NVP holds every text unharmed."""
    text = answered(server, ledger, profile, "nvp").decode()
    pairs = re.split(r";(?=(?:totalresults|clientid|credits(?:\[credit]\[\d+]\[\w+])?)=)", text)
    flat = dict(pair.split("=", 1) for pair in pairs)
    assert in_order(unflattened(flat)) == in_order(told(ledger))


@quick
@given(st.text(st.characters(categories=["Cs", "Cc", "Lu", "So"]), max_size=20), profiles)
@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
def test_surrogates(server: MockServer, kind: str, text: str, profile: str) -> None:
    """A lone surrogate in a description leaves every document readable."""
    ledger = Ledger([Client(1, [Credit(1, "2016-01-01", text, 1)])])
    body = answered(server, ledger, profile, kind).decode("utf-8")
    if kind == "json":
        values = json.loads(body)
        paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        assert paired in (values.values() if profile == "documented" else values["credits"]["credit"][0].values())
    elif kind == "xml":
        assert len(ET.fromstring(body).findtext("credits/credit/description") or "") == len(text)
    else:
        assert re.sub("[\ud800-\udfff]", "\ufffd", text) in body


@quick
@given(st.binary(max_size=30), profiles)
@pytest.mark.parametrize("kind", ["json", "xml", "nvp"])
def test_text_from_a_form(server: MockServer, kind: str, data: bytes, profile: str) -> None:
    """Any bytes a form brings as a description come back, broken UTF-8 as replacement characters."""
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
        expected = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)
        assert ET.fromstring(body).findtext("credits/credit/description") == (expected or "")


def php_writes(bodies: list[bytes], flags: str) -> list[bytes]:
    """Let PHP decode JSON bodies, and encode them anew."""
    code = f"while ($line = fgets(STDIN)) echo base64_encode(json_encode(json_decode(base64_decode($line), true), {flags})), PHP_EOL;"
    lines = b"".join(base64.b64encode(body) + b"\n" for body in bodies)
    run = subprocess.run(["php", "-r", code], input=lines, capture_output=True, check=True)
    return [base64.b64decode(line) for line in run.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
@pytest.mark.parametrize(("profile", "flags"), [("documented", "JSON_PRETTY_PRINT"), ("live", "JSON_HEX_QUOT")])
def test_php_writes_the_same_json(server: MockServer, profile: str, flags: str) -> None:
    """PHP's json_encode writes the same bytes: pretty in the documented profile, with JSON_HEX_QUOT in the live one."""
    characters = [
        chr(code) for code in [*range(0x3000), 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, *range(0x1F5FF, 0x1F610), 0x10FFFF]
    ]
    lines = ["".join(characters[i : i + 64]) for i in range(0, len(characters), 64)]
    mixed = ['\\"', '"\\', '\\\\"', "a/b\\/c", '{"a": "b"}', "", "\\u0022", "\\u007f", "\\\x7f", "</script>"]
    ledgers = [Ledger([Client(1, [Credit(1, "2016-01-01", text, "-1.50")])]) for text in [*lines, *mixed]]
    bodies = [answered(server, ledger, profile, "json") for ledger in [*ledgers, Ledger([Client(1)])]]
    bodies.append(post(server, {"action": "GetCredits", "clientid": 2, "responsetype": "json"}).body)
    assert bodies == php_writes(bodies, flags)
