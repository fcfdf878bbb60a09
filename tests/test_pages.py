"""Pages of the WHMCS API reference as fixtures: how they are read, and how calls to their actions are answered.

The pages in tests/pages have the format of the reference; their actions are invented. With WHMCS_DOCS set to the
folder of a clone of WHMCS's developer-docs, the real pages are tested as well.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documented import DOCUMENTED
from hypothesis import given
from hypothesis import strategies as st
from page_requests import request_of
from wire import post

from whmcs_mock import MockServer, load_fixtures
from whmcs_mock.documented import advice, answer, unlisted
from whmcs_mock.errors import ApiError, FixtureError
from whmcs_mock.fixtures.pages import parse_page
from whmcs_mock.ledger import Client, Credit, Ledger, Page
from whmcs_mock.store import Store

PAGES = Path(__file__).parent / "pages"

TABLE = """\
### Request Parameters

| Parameter | Type | Description | Required |
| --------- | ---- | ----------- | -------- |
| action | string | "{action}" | Required |
{rows}
"""
EXAMPLE = "### Example Response JSON\n\n```\n{block}\n```\n"
ERRORS = "\n### Error Responses\n\nPossible ones:\n\n{errors}\n"


def written(action: str = "GetThing", block: str = "{}", rows: str = "", errors: str = "") -> str:
    """Return a minimal page."""
    text = TABLE.format(action=action, rows=rows) + "\n" + EXAMPLE.format(block=block)
    return text + (ERRORS.format(errors=errors) if errors else "")


def parsed(text: str | bytes, *, named: bool = True) -> Page:
    """Parse a valid page."""
    page = parse_page(text if isinstance(text, bytes) else text.encode(), "page.md", named=named)
    assert page is not None
    return page


def page(name: str) -> Page:
    """Load a page from tests/pages."""
    return parsed((PAGES / f"{name}.md").read_bytes())


def own_request(name: str) -> dict[str, str]:
    """Return the example request of a page in tests/pages."""
    return request_of((PAGES / f"{name}.md").read_text("utf-8"))


def problem(text: str | bytes, *, named: bool = True) -> str:
    """Return the single problem of an invalid page."""
    with pytest.raises(FixtureError) as error:
        parsed(text, named=named)
    assert len(error.value.problems) == 1
    return str(error.value)


def store(*credits: str) -> Store:
    """Return a store with client 1, whose log has the given amounts."""
    log = [Credit(number, "2024-01-31", "", amount) for number, amount in enumerate(credits, 1)]
    return Store(Ledger([Client(1, log)], sources=["credits.yaml"]))


# Parsing.


def test_block_is_kept_as_printed() -> None:
    """The example is kept exactly as the JSON between the two fences."""
    voucher = page("getvoucher")
    text = (PAGES / "getvoucher.md").read_text("utf-8")
    assert voucher.block.startswith('{\n    "result": "success",\n    "voucherid": 3,')
    assert f"```\n{voucher.block}\n```\n" in text
    assert r"https:\/\/example.org\/?a=1" in voucher.block


def test_example_keeps_its_types() -> None:
    """Numbers, true, null and empty lists in a nested example keep their types."""
    example = page("getvoucher").example
    assert [example[name] for name in ("voucherid", "clientid", "seriesid", "valid", "value", "none", "name")] == [
        3, "1", None, True, 12.5, [], "Grüße",
    ]  # fmt: skip
    assert not page("getvoucher").flat


def test_documented_getcredits() -> None:
    """The flat keys of the GetCredits page are read as a list of two credits."""
    credits = parsed(written("GetCredits", DOCUMENTED))
    assert credits.flat
    assert credits.block == DOCUMENTED
    assert list(credits.example) == ["result", "totalresults", "clientid", "credits"]
    assert [credit["amount"] for credit in credits.example["credits"]["credit"]] == ["10.00", "-10.00"]


def test_flat_keys() -> None:
    """Numbers from 0 to n form a list, other numbers are keys, and a blank after the last bracket is ignored."""
    vouchers = page("getvouchers")
    assert vouchers.flat
    assert vouchers.example == {
        "status": "success",
        "userid": "1",
        "vouchers": {"voucher": [{"id": "3", "notes": ">", "uses": ""}, {"id": "4"}], "years": {"2024": "2", "2025": "0"}},
    }  # fmt: skip


@pytest.mark.parametrize("block", ["[]", '{\n    "result": "error"\n}'])
def test_nothing_is_added(block: str) -> None:
    """An empty list or an error answer is read unchanged."""
    assert parsed(written(block=block)).example == json.loads(block)


def test_parameters() -> None:
    """A table row gives a parameter's name, type and use, even if the cells between them contain bars."""
    rows = {one.name: one for one in page("getvoucher").parameters}
    assert list(rows)[:4] == ["action", "voucherid", "clientid", "seriesid"]
    assert "Parameter" not in rows
    assert [name for name, one in rows.items() if one.required] == ["action", "voucherid"]
    assert [name for name, one in rows.items() if one.deprecated] == ["pin"]
    assert {name: rows[name].type for name in ("seriesid", "codes", "shade", "tint", "since", "pin")} == {
        "seriesid": "int",
        "codes": "string[]",
        "shade": "int|string",
        "tint": "float|string",
        "since": r"\datetime",
        "pin": "int",
    }


def test_errors_are_those_of_their_section() -> None:
    """The errors are the lines of the section Error Responses; warnings are not included."""
    assert page("getvoucher").errors[:2] == ("Voucher ID Not Found", "Client ID not found")
    assert len(page("getvoucher").errors) == 7
    assert page("getshades").errors == ()


def test_request() -> None:
    """The example request is read as PHP's http_build_query encodes it, without its credentials."""
    assert own_request("getvoucher") == {
        "action": "GetVoucher",
        "voucherid": "3",
        "clientid": "1",
        "verbose": "1",
        "codes[0]": "it's",
        "codes[1]": "two, (three)",
        "limits[5]": "1.50",
        "limits[7]": "2",
        "rows": 'base64_encode(serialize(array(array("label" => "a)", "count" => 1),\narray("label" => "b", "count" => 2))))',
        "flags[gift]": "0",
        "flags[deep][0][a]": "1",
        "responsetype": "json",
    }


REQUEST = "### Example Request (CURL)\n\n```\nhttp_build_query(\n    array(\n{pairs}    )\n);\n```\n"
DECOY = """
### Notes

| action | string | "Decoy" | Required |
| decoy | string | Belongs to no request | Required |

* Decoy

```
{"decoy": 1}
```

http_build_query(array('decoy' => 'x', 'more' => array('y')))
"""


@pytest.mark.parametrize("pairs", ["'a' => 'b',\n", "'a' => array('b'),\n"])
def test_other_sections(pairs: str) -> None:
    """What stands in other sections, before or behind, belongs neither to the request nor to the answer."""
    parts = [TABLE.format(action="GetThing", rows=""), EXAMPLE.format(block="{}"), ERRORS.format(errors="* No Thing")]
    read = parsed(DECOY + DECOY.join([*parts, REQUEST.format(pairs=pairs)]) + DECOY)
    assert (read.action, read.block, read.errors) == ("GetThing", "{}", ("No Thing",))
    assert [parameter.name for parameter in read.parameters] == ["action"]


def test_action_of_another_section() -> None:
    """An action that only another section names is not the page's."""
    assert "does not name an action" in problem(written().replace("action |", "act |") + DECOY)
    assert "there is no example below" in problem(written().replace("```\n{}\n```", "none") + DECOY)


def test_deprecated_parameters() -> None:
    """A parameter that is struck through, or whose use is Deprecated, is deprecated."""
    rows = "| ~~old~~ | ~~int~~ | x | Optional |\n| older | int | x | Deprecated |\n| new | int | x | Optional |"
    assert [one.deprecated for one in parsed(written(rows=rows)).parameters] == [False, True, True, False]


def test_line_ends_and_byte_order_mark() -> None:
    """CRLF line endings and a byte order mark do not change the page."""
    data = (PAGES / "getvoucher.md").read_bytes()
    assert parsed(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")) == page("getvoucher")


# Invalid pages.


def test_other_markdown_in_a_folder_is_passed_over() -> None:
    """A file in a folder without both headings is skipped, even if it is not UTF-8."""
    assert parse_page((PAGES / "README.md").read_bytes(), "README.md", named=False) is None
    assert parse_page(b"# \xe9t\xe9\n", "README.md", named=False) is None


WRONG: dict[str, tuple[str | bytes, str]] = {
    "no headings": (
        "# Notes\n",
        "1:1: this is not an action's page of WHMCS's API reference: it has no heading \"### Request Parameters\" and",
    ),
    "no example": (
        TABLE.format(action="GetThing", rows=""),
        "1:1: this is not an action's page of WHMCS's API reference: it has no heading \"### Example Response JSON\"",
    ),
    "no action": (
        written().replace("action |", "act |"),
        '1:1: the table below this heading does not name an action; its first row is | action | string | "GetCredits" | Required |',
    ),
    "no block": (
        written().replace("```\n{}\n```", "none"),
        "8:1: there is no example below this heading; write its JSON between two lines of ```",
    ),
    "open block": (written().replace("{}\n```", "{}"), "8:1: there is no example below this heading; write its JSON"),
    "no JSON": (
        written(block='{\n    "a": 1,\n    "b" 2\n}'),
        "13:9: the example is not JSON: Expecting ':' delimiter; correct it, or download the page again",
    ),
    "empty block": (written(block=""), "11:1: the example is not JSON: Expecting value; correct it"),
    "more than JSON": (written(block="{} x"), "11:4: the example is not JSON: Extra data; correct it"),
    "NaN": (written(block='{"a": NaN}'), "11:1: the example is not JSON: NaN is not a JSON number; correct it"),
    "a text": (written(block='"text"'), '11:1: expected the example to be a JSON object or list, got "'),
    "text, then key": (
        written(block='{"a": "1", "a[b]": "2"}'),
        '11:1: the example\'s key "a[b]" contradicts another one; remove one of the two',
    ),
    "key, then text": (
        written(block='{"a[b]": "2", "a": "1"}'),
        '11:1: the example\'s key "a" contradicts another one; remove one of the two',
    ),
    "deep key": (
        written(block='{"a' + "[b]" * 50_000 + '": "1"}'),
        "1:1: this is nested too deeply; correct it",
    ),
    "deep JSON": (written(block="[" * 100_000), "1:1: this is nested too deeply; correct it"),
    "no UTF-8": (b"# a\n\xe9t\xe9", "2:1: byte 0xe9 is not UTF-8; save the file as UTF-8"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_wrong_page(text: str | bytes, message: str) -> None:
    """A problem in a page that was named is reported with its position and what to do."""
    assert problem(text).startswith(f"page.md:{message}")


def test_problems_of_a_folder(tmp_path: Path) -> None:
    """A broken page in a folder, and a second page of the same action, are problems with their places."""
    for name, text in (("a", written()), ("b", written("getthing")), ("c", written(block="{"))):
        (tmp_path / f"{name}.md").write_text(text)
    with pytest.raises(FixtureError) as caught:
        load_fixtures(tmp_path)
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems] == [
        f"b.md:1:1: getthing is already defined at {tmp_path}/a.md; keep one of the two pages",
        (
            "c.md:11:2: the example is not JSON: Expecting property name enclosed in double quotes; "
            "correct it, or download the page again"
        ),
    ]


def test_folder_of_a_page_alone(tmp_path: Path) -> None:
    """A folder that has only a page is a folder of fixtures, and the source of its page."""
    (tmp_path / "a.md").write_text(written())
    assert load_fixtures(tmp_path).sources == (str(tmp_path),)
    (tmp_path / "a.md").write_text(written(block="{"))
    with pytest.raises(FixtureError) as caught:
        load_fixtures(tmp_path)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("wrong", ["no example", "no JSON"])
def test_wrong_page_in_a_folder(wrong: str) -> None:
    """A problem in a page is also reported if the page was found in a folder."""
    text, message = WRONG[wrong]
    assert problem(text, named=False).startswith(f"page.md:{message}")


# Flat keys.

names = st.sampled_from(["a", "b c", " d", "1e", "é", '"', "\\/", "\U0001f600"])
texts = st.text('b1é]\n"/', max_size=4)
nested = st.recursive(
    texts,
    lambda values: st.dictionaries(names, values, min_size=1, max_size=3) | st.lists(values, min_size=1, max_size=3),
    max_leaves=10,
)


def flattened(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield a nested answer in the form of the flat pages: ``credits[credit][0][id]``."""
    if isinstance(value, str):
        yield key, value
        return
    for name, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from flattened(item, f"{key}[{name}]" if key else str(name))


@given(st.dictionaries(names, nested, min_size=1, max_size=4))
def test_flat_keys_give_back_what_was_flattened(body: dict[str, Any]) -> None:
    """Flattening and un-flattening are inverse to each other, for any answer."""
    flat = dict(flattened(body))
    read = parsed(written(block=json.dumps(flat, indent=4))).example
    assert read == body
    assert list(flattened(read)) == list(flat.items())


# Answers.


@pytest.mark.parametrize("name", ["getvoucher", "getvouchers", "getshades"])
def test_own_request_gives_own_example(name: str) -> None:
    """A page's example request is answered with its example response."""
    own = page(name)
    assert answer(own, own_request(name), store()).body is own.example


@pytest.mark.parametrize("block", ['{"result":  "success",\n "n": [1.0]}', "[]", '{\n  "a[b]": "\u00e9/"\n}'])
def test_example_on_the_wire(block: str) -> None:
    """In the documented profile, the JSON answer is the example of the page, byte for byte."""
    with MockServer(Ledger(pages=[parsed(written(block=block))])) as server:
        answer = post(server, {"action": "getthing", "responsetype": "json"})
    assert (answer.status, answer.body) == (200, block.encode())


def test_client_on_the_wire() -> None:
    """A page that lists an error for an unknown client looks the client up among the server's clients."""
    with MockServer(Ledger([Client(1)], pages=[page("getvoucher")])) as server:
        known, unknown = (
            json.loads(post(server, {"action": "GetVoucher", "clientid": id, "responsetype": "json"}).body)
            for id in (1, 9)
        )
    assert known["clientid"] == "1"
    assert unknown == {"result": "error", "message": "Client ID not found"}


def test_ids_that_were_sent() -> None:
    """An id at the top level of the example takes the value sent: an int as int, a text or null as text."""
    voucher = page("getvoucher")
    body = answer(voucher, {"voucherid": "07", "seriesid": "5"}, store()).body
    assert list(body.items()) == list((voucher.example | {"voucherid": 7, "seriesid": "5"}).items())
    assert voucher.example["voucherid"] == 3


@pytest.mark.parametrize(
    "sent", [{"voucherid": "abc"}, {"voucherid": ""}, {"valid": "0"}, {"name": "Eve"}, {"id": "2"}]
)
def test_what_does_not_change_the_example(sent: dict[str, str]) -> None:
    """Empty values, values of another type, non-ids and nested ids do not change the example."""
    voucher = page("getvoucher")
    assert answer(voucher, sent, store()).body is voucher.example


def test_amount_of_apply_credit() -> None:
    """ApplyCredit returns the amount that was sent; other actions do not."""
    block = '{"result": "success", "invoiceid": "1", "amount": "10.00"}'
    sent = {"invoiceid": "8", "amount": "2.50"}
    body = answer(parsed(written("ApplyCredit", block)), sent, store()).body
    assert body == {"result": "success", "invoiceid": "8", "amount": "2.50"}
    assert answer(parsed(written("AddThing", block)), sent, store()).body["amount"] == "10.00"


def test_client_is_the_ledgers() -> None:
    """A client id is returned in its normal form, however the call writes it."""
    both = Store(Ledger([Client(1), Client(7)]))
    assert answer(page("getvouchers"), {"userid": "07.00"}, both).body["userid"] == "7"


def test_balance() -> None:
    """The credit of ``client`` is the balance in the ledger, with two decimals."""
    body = answer(page("getvoucher"), {"clientid": "1"}, store("100.00", "-57.5")).body
    assert body["client"] == {"id": 1, "credit": "42.50"}
    assert answer(page("getvoucher"), {}, store("100.00")).body["client"]["credit"] == "0.00"


@pytest.mark.parametrize(
    ("name", "sent", "message"),
    [
        ("getvoucher", {"clientid": "2"}, "Client ID not found"),
        ("getvoucher", {"clientid": "abc"}, "Client ID not found"),
        ("getvouchers", {"userid": "2"}, "Client Not Found"),
        ("getvouchers", {"userid": ""}, "Client Not Found"),
    ],
)
def test_client_that_is_not_there(name: str, sent: dict[str, str], message: str) -> None:
    """A client that is not in the ledger gets the error as the page spells it."""
    with pytest.raises(ApiError, match=f"^{message}$") as error:
        answer(page(name), sent, store())
    assert error.value.status == 200
    assert error.value.why.endswith("no such client is in credits.yaml")


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("getvoucher", {"voucherid": "3"}),
        ("getvoucher", {"clientid": ""}),
        ("getvoucher", {"userid": "2"}),
        ("getvouchers", {}),
        ("getvouchers", {"clientid": "2"}),
        ("getshades", {"clientid": "2"}),
    ],
)
def test_no_error_is_invented(name: str, sent: dict[str, str]) -> None:
    """A call without the page's client parameter, or to a page without a client error, gets the example."""
    asked = page(name)
    assert answer(asked, sent, store()).body is asked.example


def test_two_errors_about_clients() -> None:
    """A page that lists two client errors is ambiguous, so its example is returned."""
    rows = "| clientid | int | Whose | Required |"
    both = parsed(written(rows=rows, errors="* Client ID Not Found\n* Client Not Found"))
    assert answer(both, {"clientid": "2"}, store()).body is both.example


def test_why() -> None:
    """The reason names the page and the values that were changed."""
    assert answer(page("getvoucher"), {}, store()).why == "the example of page.md"
    assert (
        answer(page("getvoucher"), {"voucherid": "4"}, store()).why == "the example of page.md, with voucherid changed"
    )


# Advice.

ADVICE = [
    ({}, "GetVoucher requires voucherid"),
    ({"voucherid": ""}, "GetVoucher requires voucherid"),
    ({"voucherid": "abc"}, 'GetVoucher takes voucherid as int, not as "abc"'),
    ({"voucherid[0]": "3"}, "GetVoucher takes voucherid as int, not as an array"),
    ({"voucherid": "3", "verbose": "maybe"}, 'GetVoucher takes verbose as bool, not as "maybe"'),
    ({"voucherid": "3", "codes": "a"}, "GetVoucher takes codes as string[]; send codes[0]"),
    ({"voucherid": "3", "limits[0]": "1,50"}, 'GetVoucher takes limits as float[], not as "1,50"'),
    ({"voucherid": "3", "rows[0][count]": "x"}, 'GetVoucher takes rows[x][count] as int, not as "x"'),
    ({"voucherid": "3", "weight2": "x"}, 'GetVoucher takes weightx as float, not as "x"'),
    ({"voucherid": "3", "pin": "1234"}, "GetVoucher's parameter pin is deprecated"),
    ({"voucherid": "3", "userid": "1"}, "GetVoucher has no parameter userid; it has clientid"),
    ({"voucherid": "3", "clientId": "1"}, "GetVoucher has no parameter clientId; it has clientid"),
    ({"voucherid": "3", "flags[present]": "1"}, "GetVoucher has no parameter flags[present]; it has flags[gift]"),
    ({"voucherid": "3", "a b\n": "1"}, 'GetVoucher has no parameter "a b\\n"; it has voucherid, clientid, seriesid, codes, '),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "sentence"), ADVICE)
def test_advice(sent: dict[str, str], sentence: str) -> None:
    """A missing parameter, an unknown one or one of the wrong type gets one sentence of advice."""
    (told,) = advice(page("getvoucher"), {"action": "getvoucher", **sent})
    assert told.startswith(sentence)


def test_advice_about_two_types() -> None:
    """A parameter of two types may have a value of either, and no other."""
    number = parsed(written(rows="| n | int\\|float | A number | Optional |"))
    assert [advice(number, {"n": value}) for value in ("1", "1.5")] == [(), ()]
    assert advice(number, {"n": "x"}) == ('GetThing takes n as int|float, not as "x"',)


def test_empty_text() -> None:
    """A required text may be empty; a required number may not."""
    both = parsed(written(rows="| text | string | A text | Required |\n| n | int | A number | Required |"))
    assert advice(both, {"text": "", "n": ""}) == ("GetThing requires n",)


@pytest.mark.parametrize("count", [8, 9, 10])
def test_advice_lists_eight_parameters(count: int) -> None:
    """For an unknown parameter that resembles none, the first eight are listed, with the number of others."""
    rows = "\n".join(f"| {letter * 9} | int | x | Optional |" for letter in "abcdefghij"[:count])
    (sentence,) = advice(parsed(written(rows=rows)), {"zzz": "1"})
    listed = ", ".join(letter * 9 for letter in "abcdefgh")
    assert sentence == f"GetThing has no parameter zzz; it has {listed}" + (
        f" and {count - 8} more" if count > 8 else ""
    )


@pytest.mark.parametrize(
    "sent",
    [
        {"identifier": "i", "secret": "s", "username": "", "password": "", "accesskey": "k", "responsetype": "json"},
        {"codes[0]": "a", "codes[]": "b", "limits[7]": "1.5", "limits[8]": "2"},
        {"rows": "YTow", "rows[0][label]": "a", "rows[0][count]": "2"},
        {"shade": "red", "tint": "red", "since": "2024-01-31", "anything": "x", "anything[0]": "y", "remark12": "z"},
        {"verbose": "False", "flags[gift]": "on", "clientid": "1.00", "seriesid": "-1"},
        {"clientid": "", "verbose": "", "weight1": ""},
    ],
    ids=lambda sent: next(iter(sent)),
)
def test_no_advice(sent: dict[str, str]) -> None:
    """Documented parameters, those of every action, and empty values get no advice."""
    assert advice(page("getvoucher"), {"voucherid": "3", **sent}) == ()


def test_client_goes_by_the_other_name() -> None:
    """Advice against clientid names userid if the action takes that, or says that there are no parameters."""
    assert advice(page("getvouchers"), {"clientid": "1", "userid": "1"}) == (
        "GetVouchers has no parameter clientid; it has userid",
    )
    assert advice(page("getshades"), {"clientid": "1"}) == ("GetShades has no parameter clientid; it has none",)


def test_much_advice_is_cut() -> None:
    """A call with thousands of unknown parameters gets ten sentences of advice, and one that says there are more."""
    told = advice(page("getvouchers"), {"userid": "1"} | {f"a{number}": "" for number in range(10_000)})
    assert len(told) == 11
    assert told[-1] == "more parameters differ from the page of GetVouchers"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20)))
def test_any_call_is_answered(params: dict[str, str]) -> None:
    """Any call to a page's action gets the keys of its example, or one of its errors."""
    voucher = page("getvoucher")
    assert all(isinstance(sentence, str) for sentence in advice(voucher, params))
    try:
        told = list(answer(voucher, params, store()).body)
    except ApiError as error:
        told = [error.message]
    assert told in (list(voucher.example), ["Client ID not found"])


# Listed error messages.


@pytest.mark.parametrize(
    "message",
    [
        "Voucher ID Not Found",
        "No such code: A-1",
        "Invalid state Gone",
        "Parameter 'codes' is no list",
        "State is 'Used up' and stays so",
        "State is 'Used\nup' and stays so",
        "Shade must be one of: red, blue",
    ],
)
def test_listed(message: str) -> None:
    """A placeholder in a listed message stands for anything."""
    assert not unlisted(page("getvoucher"), message)


def test_unlisted() -> None:
    """A message that the page does not list is answered with the nearest ones; a page without a list accepts any."""
    wrong = 'GetVouchers has no error "Client ID Not Found"; the nearest are Client Not Found'
    assert unlisted(page("getvouchers"), "Client ID Not Found") == wrong
    near = unlisted(page("getvoucher"), "Voucher Not Found").partition("the nearest are ")[2]
    assert next(error for error in page("getvoucher").errors if error in near) == "Voucher ID Not Found"
    assert sum(error in near for error in page("getvoucher").errors) == 3
    assert unlisted(page("getvouchers"), "zzz")  # there is always a nearest one
    assert not unlisted(page("getshades"), "Anything")


UNLISTED = "clients: []\nfaults:\n  - {message: Voucher ID Not Found, action: GetVoucher}\n  - {message: No, action: getvouchers}\n"


def test_unlisted_in_a_file(tmp_path: Path) -> None:
    """A fault in a fixture file with a message that the action's page does not list is a problem at its place."""
    file = tmp_path / "faults.yaml"
    file.write_text(UNLISTED)
    assert len(load_fixtures(file).faults) == 2  # without pages any message will do
    with pytest.raises(FixtureError) as caught:
        load_fixtures(file, PAGES)
    assert str(caught.value) == f'{file}:4:5: GetVouchers has no error "No"; the nearest are Client Not Found'


# The real pages.


@pytest.fixture(scope="module")
def reference() -> list[Path]:
    """Return the Markdown files of a real clone."""
    if not (folder := os.environ.get("WHMCS_DOCS")):
        pytest.skip("WHMCS_DOCS does not name the folder of a clone of https://github.com/WHMCS/developer-docs")
    path = Path(folder)
    return sorted((path / "api-reference" if (path / "api-reference").is_dir() else path).glob("*.md"))


def test_the_reference(reference: list[Path]) -> None:
    """Each of the 162 pages answers its own request with its own example, and lists its own errors."""
    found = [parse_page(path.read_bytes(), str(path), named=False) for path in reference]
    pages = [page for page in found if page]
    assert len({page.action.lower() for page in pages}) == len(pages) == 162
    requests = {page.action: request_of(Path(page.source).read_text("utf-8-sig")) for page in pages}
    assert sum(page.flat for page in pages) == 11
    assert sum(len(page.errors) for page in pages) == 416
    for real in pages:
        assert answer(real, requests[real.action], store("10.00", "-10.00")).body is real.example, real.action
        assert not any(unlisted(real, error) for error in real.errors), real.action
        if real.flat:
            printed = {
                key.rstrip(): value for key, value in json.loads(real.block).items()
            }  # GetProject has trailing blanks
            assert dict(flattened(real.example)) == printed, real.action
        else:
            assert real.example == json.loads(real.block), real.action
    told = {sentence: real.action for real in pages for sentence in advice(real, requests[real.action])}
    assert len({action for sentence, action in told.items() if " requires " in sentence}) == 8
    assert len({action for sentence, action in told.items() if " has no parameter " in sentence}) == 5
    assert all(" requires " in sentence or " has no parameter " in sentence for sentence in told)


def test_the_reference_loads_fast(reference: list[Path]) -> None:
    """All pages are parsed in less than 50 ms."""
    took = []
    for _ in range(5):
        start = time.perf_counter()
        for path in reference:
            parse_page(path.read_bytes(), str(path), named=False)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05
