"""Responses on the wire, byte for byte, read from a socket."""

from __future__ import annotations

import contextlib
import json
import re
import select
import time
from collections.abc import Callable
from hashlib import md5
from typing import Any, TypeAlias
from xml.etree import ElementTree as ET

import documented
import pytest
from wire import ENDPOINT, FORM, Answer, Connection, get, is_plain_line, multipart, post, request

from whmcs_mock import Client, Credit, Ledger, ListenError, MockServer, WhmcsMock

Serve: TypeAlias = Callable[..., MockServer]

PROFILES = ["documented", "live"]
KINDS = ["json", "xml", "nvp"]

DOCUMENTED = documented.DOCUMENTED.encode()
LIVE = (
    b'{"result":"success","totalresults":2,"clientid":"1","credits":{"credit":['
    b'{"id":"1","date":"2016-01-01","description":"This is a sample credit record","amount":"10.00","relid":"0"},'
    b'{"id":"2","date":"2016-01-01","description":"Credit Applied to Invoice #1","amount":"-10.00","relid":"0"}]}}'
)
XML = b"""<?xml version="1.0" encoding="utf-8"?>
<whmcsapi version="8.13.1">
<action>getcredits</action>
<result>success</result>
<totalresults>2</totalresults>
<clientid>1</clientid>
<credits>
<credit>
<id>1</id>
<date>2016-01-01</date>
<description>This is a sample credit record</description>
<amount>10.00</amount>
<relid>0</relid>
</credit>
<credit>
<id>2</id>
<date>2016-01-01</date>
<description>Credit Applied to Invoice #1</description>
<amount>-10.00</amount>
<relid>0</relid>
</credit>
</credits>
</whmcsapi>"""
NVP = (
    b"result=success;totalresults=2;clientid=1;"
    b"credits[credit][0][id]=1;credits[credit][0][date]=2016-01-01;"
    b"credits[credit][0][description]=This is a sample credit record;"
    b"credits[credit][0][amount]=10.00;credits[credit][0][relid]=0;"
    b"credits[credit][1][id]=2;credits[credit][1][date]=2016-01-01;"
    b"credits[credit][1][description]=Credit Applied to Invoice #1;"
    b"credits[credit][1][amount]=-10.00;credits[credit][1][relid]=0"
)
SUCCESS = {
    ("documented", "json"): DOCUMENTED,
    ("documented", "xml"): XML,
    ("documented", "nvp"): NVP,
    ("live", "json"): LIVE,
    ("live", "xml"): XML,
    ("live", "nvp"): NVP,
}
GET_CREDITS = {"action": "GetCredits", "clientid": 1}
NO_CLIENT = b'{\n    "result": "error",\n    "message": "Client ID Not Found"\n}'
NO_ACTION = b'{\n    "result": "error",\n    "message": "Empty action request"\n}'

SECURED = """
access: {addresses: [127.0.0.1], key: open-sesame}
credentials:
  - {identifier: ident, secret: ident-secret}
  - {identifier: reader, secret: reader-secret, actions: [GetCredits, Nonsense]}
  - {username: admin, password: hunter2}
clients: [{id: 1}]
"""
ELSEWHERE = SECURED.replace("127.0.0.1", "203.0.113.7")
ADMIN_HASH = md5(b"hunter2").hexdigest()


def describing(*descriptions: str) -> Ledger:
    """Return a ledger whose client 1 has one credit per description."""
    return Ledger([Client(1, [Credit(i, "2016-01-01", text, "1.00") for i, text in enumerate(descriptions, 1)])])


def message(answer: Answer) -> str:
    """Return the message of a JSON error, which holds the result and the message only."""
    body = json.loads(answer.body)
    assert list(body) == ["result", "message"]
    assert body["result"] == "error"
    return str(body["message"])


# Two profiles, one ledger.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_example(serve: Serve, profile: str, kind: str) -> None:
    """The documented example is answered byte for byte, in each profile and response type."""
    answer = post(serve(profile=profile), {**GET_CREDITS, "responsetype": kind})
    assert answer.status == 200
    assert answer.body == SUCCESS[profile, kind]
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("json", "application/json"), ("xml", "application/xml"), ("nvp", "text/plain; charset=utf-8")],
)
def test_content_type(serve: Serve, profile: str, kind: str, content_type: str) -> None:
    """A success and an error have the content type of their response type."""
    server = serve(profile=profile)
    for clientid in (1, 2):
        answer = post(server, {**GET_CREDITS, "clientid": clientid, "responsetype": kind})
        assert answer.headers["content-type"].partition("; charset")[0] == content_type.partition("; charset")[0]
        assert kind == "xml" or answer.headers["content-type"] == content_type


@pytest.mark.parametrize("kind", KINDS)
def test_cache_headers(serve: Serve, kind: str) -> None:
    """The live profile sends three headers against caching, the documented one none of them."""
    headers = {
        "expires": "Thu, 19 Nov 1981 08:52:00 GMT",
        "cache-control": "no-store, no-cache, must-revalidate",
        "pragma": "no-cache",
    }
    server = serve(profile="live")
    for clientid in (1, 2):
        asked = {**GET_CREDITS, "clientid": clientid, "responsetype": kind}
        server.profile = "live"
        assert headers.items() <= post(server, asked).headers.items()
        server.profile = "documented"
        assert not headers.keys() & post(server, asked).headers.keys()


@pytest.mark.parametrize(
    ("profile", "kind", "body"),
    [
        ("documented", "json", b'{\n    "result": "success",\n    "totalresults": "0",\n    "clientid": "2"\n}'),
        ("live", "json", b'{"result":"success","totalresults":0,"clientid":"2","credits":""}'),
        ("documented", "nvp", b"result=success;totalresults=0;clientid=2;credits="),
        ("live", "nvp", b"result=success;totalresults=0;clientid=2;credits="),
    ],
)
def test_no_credits(serve: Serve, profile: str, kind: str, body: bytes) -> None:
    """A client without credits has no credits key in flat JSON, and an empty value elsewhere."""
    server = serve(Ledger([Client(2)]), profile=profile)
    assert post(server, {"action": "GetCredits", "clientid": 2, "responsetype": kind}).body == body


@pytest.mark.parametrize("profile", PROFILES)
def test_no_credits_in_xml(serve: Serve, profile: str) -> None:
    """A client without credits has one empty credits element in XML."""
    server = serve(Ledger([Client(2)]), profile=profile)
    lines = post(server, {"action": "GetCredits", "clientid": 2, "responsetype": "xml"}).body.splitlines()
    assert lines[-4:] == [b"<totalresults>0</totalresults>", b"<clientid>2</clientid>", b"<credits/>", b"</whmcsapi>"]


@pytest.mark.parametrize("asked", [{}, {"responsetype": ""}, {"responsetype": "yaml"}, {"responsetype": "jsonp"}])
@pytest.mark.parametrize(("profile", "body"), [("documented", DOCUMENTED), ("live", NVP)])
def test_default_response_type(serve: Serve, profile: str, body: bytes, asked: dict[str, str]) -> None:
    """Without a valid response type, the documented profile answers JSON and the live one NVP."""
    assert post(serve(profile=profile), {**GET_CREDITS, **asked}).body == body


@pytest.mark.parametrize(
    ("asked", "body"), [("JSON", DOCUMENTED), ("Json", DOCUMENTED), ("XML", XML), ("xMl", XML), ("NVP", NVP)]
)
def test_response_type_in_any_case(serve: Serve, asked: str, body: bytes) -> None:
    """The response type is case-insensitive."""
    assert post(serve(), {**GET_CREDITS, "responsetype": asked}).body == body


def test_profile_changes_while_running(serve: Serve) -> None:
    """The profile can be changed between two requests of one connection."""
    server = serve()
    asked = request("GET", f"{ENDPOINT}?action=GetCredits&clientid=1&responsetype=json")
    with Connection(server) as connection:
        assert connection.ask(asked).body == DOCUMENTED
        server.profile = "live"
        assert connection.ask(asked).body == LIVE
        server.profile = "documented"
        assert connection.ask(asked).body == DOCUMENTED


@pytest.mark.parametrize(
    ("text", "documented", "live"),
    [
        ("é", rb"\u00e9", rb"\u00e9"),
        ("😀", rb"\ud83d\ude00", rb"\ud83d\ude00"),
        ("\u2028", rb"\u2028", rb"\u2028"),
        ("a/b", rb"a\/b", b"a/b"),
        ("</script>", rb"<\/script>", rb"\u003C/script\u003E"),
        ('"', rb"\"", rb"\u0022"),
        ("\\", rb"\\", rb"\\"),
        ('\\"', rb"\\\"", rb"\\\u0022"),
        ('\\\\"/', rb"\\\\\"\/", rb"\\\\\u0022/"),
        ("\b\f\n\r\t", rb"\b\f\n\r\t", rb"\b\f\n\r\t"),
        ("\x00\x0b\x1f", rb"\u0000\u000b\u001f", rb"\u0000\u000b\u001f"),
        ("\x7f", b"\x7f", b"\x7f"),
        ("<&'>", b"<&'>", rb"\u003C\u0026\u0027\u003E"),
    ],
)
@pytest.mark.parametrize("profile", PROFILES)
def test_json_escapes(serve: Serve, profile: str, text: str, documented: bytes, live: bytes) -> None:
    """JSON is escaped like PHP's json_encode by default, and in the live profile like a recorded installation."""
    body = post(serve(describing(text), profile=profile), {**GET_CREDITS, "responsetype": "json"}).body
    around = rb'description]": "%b",' if profile == "documented" else rb'"description":"%b",'
    assert around % (documented if profile == "documented" else live) in body


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("10", "10.00"),
        ("-0.5", "-0.50"),
        ("0", "0.00"),
        ("-0.00", "0.00"),
        ("1234567890123.45", "1234567890123.45"),
        ("999999999999999999.99", "999999999999999999.99"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_amount(serve: Serve, profile: str, kind: str, amount: str, written: str) -> None:
    """An amount is exact and has two decimals, however it is written in the fixtures."""
    server = serve(f"clients: [{{id: 1, credits: [{{date: 2016-01-01, amount: {amount}}}]}}]", profile=profile)
    body = post(server, {**GET_CREDITS, "responsetype": kind}).body.decode()
    found = re.search(r"""amount(?:\]?": ?"|>|\]=)([^"<;]*)""", body)
    assert found
    assert found[1] == written


def test_no_paging(serve: Serve) -> None:
    """All entries are returned, in order, whatever limits are sent."""
    server = serve(describing(*map(str, range(250))))
    body = json.loads(post(server, {**GET_CREDITS, "limitstart": 5, "limitnum": 1}).body)
    assert body["totalresults"] == "250"
    assert [body[f"credits[credit][{i}][description]"] for i in range(250)] == [str(i) for i in range(250)]


# Requests.


@pytest.mark.parametrize(
    "path",
    [
        "/includes/api.php",
        "//includes/api.php",
        "/whmcs/includes/api.php",
        "/path/to/whmcs/includes/api.php",
        "/a%20b/../ü/includes/api.php",
        "http://localhost/includes/api.php",
        "http://localhost/billing//includes/api.php",
    ],
)
def test_endpoint(serve: Serve, path: str) -> None:
    """Any path ending in /includes/api.php is the API, without a redirect."""
    answer = post(serve(), GET_CREDITS, target=path.encode())
    assert (answer.status, answer.body) == (200, DOCUMENTED)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/includes",
        b"/includes/api.php/",
        b"/includes/api.php5",
        b"/INCLUDES/API.PHP",
        b"/includes/API.php",
        b"/xincludes/api.php",
        b"/api.php",
        b"/x?/includes/api.php",
        b"/\xff%ff<script>",
        b"*",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_other_paths(serve: Serve, method: str, path: bytes) -> None:
    """Any other path is 404, with one line of text that names the endpoint."""
    with Connection(serve()) as connection:
        answer = connection.ask(request(method, path))
    assert answer.status == 404
    assert is_plain_line(answer)
    assert b"/includes/api.php" in answer.body


def test_everything_in_the_query(serve: Serve) -> None:
    """A GET with everything in the query string is answered like a POST."""
    assert get(serve(), GET_CREDITS).body == DOCUMENTED
    assert get(serve(), {**GET_CREDITS, "responsetype": "xml"}).body == XML


def test_action_in_the_query_only(serve: Serve) -> None:
    """A POST may have the action in the query and the rest in the body."""
    assert post(serve(), "clientid=1", target=f"{ENDPOINT}?action=GetCredits").body == DOCUMENTED


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("clientid=2", "clientid=1", DOCUMENTED),
        ("clientid=1", "clientid=2", NO_CLIENT),
        ("clientid=1", "clientid=", NO_CLIENT),
        ("clientid=1", "clientid", NO_CLIENT),
        ("action=", "clientid=1", DOCUMENTED),
        ("clientid=1", "action=", NO_ACTION),
        ("clientid=1;clientid=2", "", NO_CLIENT),
        ("%63lientid=%31", "", DOCUMENTED),
        ("&&clientid=1&=&", "", DOCUMENTED),
        ("clientid=+1+", "", DOCUMENTED),
        ("clientid[]=1", "", NO_CLIENT),
        ("clientid[0]=1", "", NO_CLIENT),
    ],
)
def test_query_and_body_are_merged(serve: Serve, query: str, body: str, expected: bytes) -> None:
    """A parameter in the body overrides that in the query, even when it is empty."""
    action = "" if "action" in query else "action=GetCredits&"
    where = {"target": f"{ENDPOINT}?{action}{query}"}
    if "action=" in query:
        where, body = {"target": f"{ENDPOINT}?{query}"}, f"{body}&action=GetCredits"
    assert post(serve(), body, **where).body == expected


def test_repeated_parameters(serve: Serve) -> None:
    """The last of repeated parameters counts, in the query and in each kind of body."""
    server = serve()
    for sent in ("clientid=2&clientid=1", "clientid=%32&clientid=%31"):
        assert get(server, f"action=GetCredits&{sent}").body == DOCUMENTED
        assert post(server, f"action=GetCredits&{sent}").body == DOCUMENTED
    first, content_type = multipart(action="GetCredits", clientid="2")
    both = first.removesuffix(b"--frontier--\r\n") + multipart(clientid="1")[0]
    assert post(server, both, content_type=content_type).body == DOCUMENTED


@pytest.mark.parametrize(
    "content_type",
    [FORM, f"{FORM};charset=UTF-8", f"{FORM} ; charset=iso-8859-1", FORM.upper(), f"{FORM}; charset=nonsense"],
)
def test_urlencoded_body(serve: Serve, content_type: str) -> None:
    """A urlencoded body is read, with or without a charset."""
    assert post(serve(), GET_CREDITS, content_type=content_type).body == DOCUMENTED


@pytest.mark.parametrize("suffix", ["", "; charset=utf-8"])
def test_multipart_body(serve: Serve, suffix: str) -> None:
    """A multipart body is read, as PHP's cURL sends it for an array."""
    body, content_type = multipart(action="GetCredits", clientid="1", responsetype="xml")
    assert post(serve(), body, content_type=content_type + suffix).body == XML


def test_multipart_body_with_a_file(serve: Serve) -> None:
    """File parts of a multipart body are ignored, even one named like a parameter."""
    body, content_type = multipart(action="GetCredits", clientid="1")
    name = b'Content-Disposition: form-data; name="clientid"; filename="%b"\r\nContent-Type: text/plain\r\n\r\n2\r\n'
    files = b"".join(b"--frontier\r\n" + name % file for file in (b"a.txt", b""))
    assert post(serve(), files + body, content_type=content_type).body == DOCUMENTED
    assert (
        post(serve(), body[: -len(b"--frontier--\r\n")] + files + b"--frontier--\r\n", content_type=content_type).body
        == DOCUMENTED
    )


@pytest.mark.parametrize(
    "disposition",
    [
        b"Content-Disposition: form-data\r\n",
        b"Content-Disposition: form-data; name=\r\n",
        b'Content-Disposition: form-data; name=""\r\n',
        b"Content-Disposition: attachment; name=x\r\n",
        b'Content-Disposition: form-data; name="x"\r\nContent-Type: text/plain; charset=nonsense\r\n',
        b'Content-Disposition: form-data; name="x"\r\nContent-Transfer-Encoding: base64\r\n',
    ],
)
def test_odd_parts_do_no_harm(serve: Serve, disposition: bytes) -> None:
    """A part without a usable name or type does not affect the others."""
    body, content_type = multipart(action="GetCredits", clientid="1")
    odd = b"--frontier\r\n" + disposition + b"\r\nvalue\r\n"
    server = serve()
    assert post(server, odd + body, content_type=content_type).body == DOCUMENTED
    (call,) = server.world.journal.calls()
    assert set(call.params) <= {"action", "clientid", "x"}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"action": "GetCredits", "clientid": 1}', "application/json"),
        (b"action=GetCredits&clientid=1", "application/json"),
        (b"action=GetCredits&clientid=1", "text/plain"),
        (b"action=GetCredits&clientid=1", ""),
        (b"action=GetCredits&clientid=1", f"x{FORM}"),
        (b"<action>GetCredits</action>", "application/xml"),
        (b"\xff\x00\xfe", FORM),
        (multipart(action="GetCredits")[0], "multipart/form-data"),
        (multipart(action="GetCredits")[0], "multipart/form-data; boundary="),
        (multipart(action="GetCredits")[0], "multipart/form-data; boundary=another"),
        (multipart(action="GetCredits")[0][:-20], "multipart/form-data; boundary=frontier"),
        (multipart(action="GetCredits")[0], "multipart/mixed; boundary=frontier"),
        (b"", "multipart/form-data; boundary=frontier"),
    ],
)
def test_other_bodies(serve: Serve, body: bytes, content_type: str) -> None:
    """JSON, any other body that is not a form, and a malformed form have no parameters."""
    answer = post(serve(), body, content_type=content_type)
    assert (answer.status, answer.body) == (400, NO_ACTION)


def test_body_of_a_get(serve: Serve) -> None:
    """The body of a GET is not read, as in PHP."""
    body = b"clientid=2"
    with Connection(serve()) as connection:
        asked = request("GET", f"{ENDPOINT}?action=GetCredits&clientid=1", body, f"Content-Type: {FORM}")
        assert connection.ask(asked).body == DOCUMENTED
        assert connection.ask(asked).body == DOCUMENTED


def test_advice_about_the_body_of_a_get(serve: Serve) -> None:
    """That the body of a GET is not read is pointed out as advice."""
    server = serve()
    with Connection(server) as connection:
        connection.ask(request("GET", f"{ENDPOINT}?action=GetCredits", b"clientid=2", f"Content-Type: {FORM}"))
    [call] = server.world.journal.calls()
    assert (
        f"the body is that of a GET request, which WHMCS does not read; send a form ({FORM}) with POST" in call.advice
    )


@pytest.mark.parametrize("action", ["GetCredits", "getcredits", "GETCREDITS", "gEtCrEdItS"])
def test_action_in_any_case(serve: Serve, action: str) -> None:
    """The name of an action is case-insensitive, and in lower case in XML."""
    assert post(serve(), {"action": action, "clientid": 1, "responsetype": "xml"}).body == XML


def test_unknown_parameters(serve: Serve) -> None:
    """Unknown and empty parameters are ignored."""
    unknown = (
        "limitnum=25&endpoint=GetCredits&accesskey=x&username=&password=&identifier=&secret=&=x&key[0]=1&key[a][b]=2"
    )
    assert post(serve(), f"action=GetCredits&clientid=1&{unknown}").body == DOCUMENTED


def test_array_parameters(serve: Serve) -> None:
    """An array parameter keeps the brackets in its name, percent-encoded or not."""
    server = serve()
    server.action("Echo")(lambda params: {key: value for key, value in params.items() if key.startswith("key")})
    answer = post(server, "action=Echo&key[0]=a&key%5B1%5D=b&key[x][y]=%C3%A9&responsetype=nvp")
    assert answer.body.decode() == "result=success;key[0]=a;key[1]=b;key[x][y]=é"


def test_bytes_that_are_not_encoded(serve: Serve) -> None:
    """Raw UTF-8, which curl sends in a query, is read as if it were percent-encoded."""
    server = serve()
    server.action("Echo")(lambda params: {"é": params.get("é", "")})
    for target in (
        f"{ENDPOINT}?action=Echo&responsetype=nvp&é=ü€",
        f"/größe{ENDPOINT}?action=Echo&responsetype=nvp&é=ü€",
    ):
        assert post(server, "", target=target.encode()).body.decode() == "result=success;é=ü€"
    assert post(server, "action=Echo&responsetype=nvp&é=ü€".encode()).body.decode() == "result=success;é=ü€"


@pytest.mark.parametrize("clientid", ["1", "01", "0001", " 1", "1 ", " 1 ", "\t1\r\n", "1.0", "1.00", "01.000"])
@pytest.mark.parametrize(("profile", "expected"), [("documented", DOCUMENTED), ("live", LIVE)])
def test_clientid(serve: Serve, profile: str, expected: bytes, clientid: str) -> None:
    """Leading zeros, an all-zero fraction and white space are ignored in a clientid; the answer has the fixtures' number."""
    answer = post(serve(profile=profile), {**GET_CREDITS, "clientid": clientid, "responsetype": "json"})
    assert (answer.status, answer.body) == (200, expected)


@pytest.mark.parametrize(
    "clientid",
    [
        None, "", " ", "abc", "1_0", "\uff11", "¹", "-1", "+1", "0", "00", "2", "1.", ".0", "1.5", "1.01", "1,0", "1e0", "0x1",
        "1 1", "1\x00", "\x00", "\xa01", "1\u2003", "1;", "[1]", "true", "9" * 40, "1" * 5000, "1\n1", "NaN", "∞",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_malformed_clientid(serve: Serve, kind: str, clientid: str | None) -> None:
    """Any other clientid, or a missing one, is Client ID Not Found."""
    asked = {"action": "GetCredits", "responsetype": kind, "clientid": clientid}
    answer = post(serve(), {key: value for key, value in asked.items() if value is not None})
    assert (answer.status, answer.body) == (200, error("Client ID Not Found", kind, "documented", "getcredits"))


def error(text: str, kind: str, profile: str, action: str) -> bytes:
    """Return the body of an error whose message has no special characters."""
    if kind == "xml":
        asked = f"<action>{action}</action>\n" if action else ""
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<whmcsapi version="8.13.1">\n'
            f"{asked}<result>error</result>\n<message>{text}</message>\n</whmcsapi>"
        ).encode()
    if kind == "nvp":
        return f"result=error;message={text}".encode()
    if profile == "live":
        return f'{{"result":"error","message":"{text}"}}'.encode()
    return f'{{\n    "result": "error",\n    "message": "{text}"\n}}'.encode()


# How HTTP carries them.


def test_connection_is_kept(serve: Serve) -> None:
    """A connection is kept, for pipelined requests too, until a request says close."""
    one = request("POST", ENDPOINT, b"action=GetCredits&clientid=1", f"Content-Type: {FORM}")
    other = request("GET", f"{ENDPOINT}?action=GetCredits&clientid=2")
    with Connection(serve()) as connection:
        connection.send(one + other + request("GET", "/") + request("PUT", ENDPOINT, b"x" * 1000))
        connection.send(request("GET", f"{ENDPOINT}?action=GetCredits&clientid=1", b"", "Connection: close"))
        answers = [connection.read() for _ in range(5)]
        assert [answer and answer.status for answer in answers] == [200, 200, 404, 405, 200]
        assert [answer and answer.body for answer in answers[:2]] == [DOCUMENTED, NO_CLIENT]
        assert connection.read() is None


def test_http_1_0(serve: Serve) -> None:
    """An HTTP/1.0 client gets its answer, and the connection is closed."""
    with Connection(serve()) as connection:
        answer = connection.ask(f"GET {ENDPOINT}?action=GetCredits&clientid=1 HTTP/1.0\r\n\r\n".encode())
        assert answer.body == DOCUMENTED
        assert connection.read() is None


CHUNKED = request("POST", f"{ENDPOINT}?action=GetCredits").replace(
    b"Content-Length: 0", b"Transfer-Encoding: chunked\r\nContent-Type: application/x-www-form-urlencoded"
)


@pytest.mark.parametrize(
    "chunks",
    [
        b"a\r\nclientid=1\r\n0\r\n\r\n",
        b"A\r\nclientid=1\r\n0\r\n\r\n",
        b"000a\r\nclientid=1\r\n000\r\n\r\n",
        b"1\r\nc\r\n8\r\nlientid=\r\n1\r\n1\r\n0\r\n\r\n",
        b"a;name=value\r\nclientid=1\r\n0;last\r\n\r\n",
        b"a\r\nclientid=1\r\n0\r\nX-Checksum: 1\r\nX-Other: 2\r\n\r\n",
    ],
    ids=["one", "upper case", "zeros", "many", "extension", "trailers"],
)
def test_chunked_body(serve: Serve, chunks: bytes) -> None:
    """A chunked body with extensions and trailers (RFC 9112) is read, and the connection is kept."""
    with Connection(serve()) as connection:
        assert connection.ask(CHUNKED + chunks).body == DOCUMENTED
        assert connection.ask(CHUNKED + chunks).body == DOCUMENTED


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"-1\r\n", b"\r\n", b"a\r\nclientid=1x", b"1\r\n\r\n\r\n", b"5;" + b"x" * 10_000_000]
)
def test_broken_chunks(serve: Serve, chunks: bytes) -> None:
    """A body with malformed chunks is refused with one line of text."""
    server = serve()
    with Connection(server) as connection:
        connection.send(CHUNKED)
        with contextlib.suppress(ConnectionError):  # refused while it was sent
            connection.send(chunks + b"\r\n")
        answer = connection.read()
    assert answer
    assert answer.status == 400
    assert is_plain_line(answer)
    assert post(server, GET_CREDITS).body == DOCUMENTED


@pytest.mark.parametrize(
    "chunks", [b"", b"a", b"a\r\nclientid", b"ffffffff\r\n", b"ffffffff\r\nabc", b"a\r\nclientid=1\r\n0\r\n"]
)
def test_chunks_that_break_off(serve: Serve, chunks: bytes) -> None:
    """A client that disconnects in the middle of a chunked body does not affect others."""
    server = serve()
    with Connection(server) as connection:
        connection.send(CHUNKED + chunks)
        connection.end()
        answer = connection.read()
        assert answer is None or answer.status in (400, 413)
    assert post(server, GET_CREDITS).body == DOCUMENTED


def test_expect_continue(serve: Serve) -> None:
    """A client that waits for 100 Continue gets it before it sends the body."""
    body = b"action=GetCredits&clientid=1"
    head = request("POST", ENDPOINT, body, f"Content-Type: {FORM}", "Expect: 100-continue")[: -len(body)]
    with Connection(serve()) as connection:
        for _ in range(2):
            connection.send(head)
            assert (connection.line(), connection.line()) == (b"HTTP/1.1 100 Continue\r\n", b"\r\n")
            assert connection.ask(body).body == DOCUMENTED


@pytest.mark.parametrize("target", [f"{ENDPOINT}?action=GetCredits&clientid=1", ENDPOINT, "/"])
def test_head(serve: Serve, target: str) -> None:
    """HEAD returns the headers of the GET without a body, and the connection is kept."""
    with Connection(serve()) as connection:
        full = connection.ask(request("GET", target))
        head = connection.ask(request("HEAD", target), head_only=True)
        again = connection.ask(request("GET", target))
    full.headers["date"] = again.headers["date"] = head.headers["date"]
    assert head == full._replace(body=b"")
    assert again == full


def test_options(serve: Serve) -> None:
    """OPTIONS lists the methods."""
    with Connection(serve()) as connection:
        answer = connection.ask(request("OPTIONS"))
    assert answer.status == 200
    assert answer.headers["allow"] == "GET, POST, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "post", "BREW"])
def test_other_methods(serve: Serve, method: str) -> None:
    """Any other method is 405 with Allow and one line of text."""
    with Connection(serve()) as connection:
        answer = connection.ask(request(method, f"{ENDPOINT}?action=GetCredits&clientid=1"))
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, POST, HEAD, OPTIONS"
    assert is_plain_line(answer)


@pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]])
@pytest.mark.parametrize("target", [ENDPOINT, f"{ENDPOINT}?action=GetCredits"])
@pytest.mark.parametrize("length", [1024 * 1024 + 1, 10**12, 10**30])
def test_too_large(serve: Serve, target: str, expect: list[str], length: int) -> None:
    """A body over 1 MiB is refused before it is read, and without 100 Continue."""
    head = request("POST", target, b"", f"Content-Type: {FORM}", *expect)
    with Connection(serve()) as connection:
        answer = connection.ask(head.replace(b"Content-Length: 0", b"Content-Length: %d" % length))
    assert answer.status == 413
    assert is_plain_line(answer)


def test_too_large_in_chunks(serve: Serve) -> None:
    """A chunked body is refused as soon as it is over 1 MiB, though more is announced."""
    with Connection(serve()) as connection:
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        answer = connection.ask(CHUNKED + chunk + b"100000\r\nx")
    assert answer.status == 413
    assert is_plain_line(answer)


@pytest.mark.parametrize("chunked", [False, True])
def test_largest_body(serve: Serve, *, chunked: bool) -> None:
    """A body of 1 MiB is read."""
    body = b"action=GetCredits&clientid=1&padding=".ljust(1024 * 1024, b"x")
    with Connection(serve()) as connection:
        if chunked:
            answer = connection.ask(CHUNKED + b"100000\r\n" + body + b"\r\n0\r\n\r\n")
        else:
            answer = connection.ask(request("POST", ENDPOINT, body, f"Content-Type: {FORM}"))
    assert answer.body == DOCUMENTED


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /includes/api.php SMTP/1.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /includes/api.php HTTP/1.1\r\nContent-Length: five\r\n\r\n",
        b"POST /includes/api.php HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /includes/api.php HTTP/1.1\r\nContent-Length: 1,2\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    ],
    ids=lambda data: ascii(data[:60]),
)
def test_broken_http(serve: Serve, data: bytes) -> None:
    """Data that is not HTTP is refused with one line of text, and the next client is served."""
    server = serve()
    with Connection(server) as connection:
        answer = connection.ask(data)
    assert 400 <= answer.status < 600
    assert answer.status != 500
    assert is_plain_line(answer)
    assert post(server, GET_CREDITS).body == DOCUMENTED


# Errors.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("fixtures", "asked", "status", "text"),
    [
        (None, {"action": "GetCredits", "clientid": 2}, 200, "Client ID Not Found"),
        (None, {"action": "GetCredits"}, 200, "Client ID Not Found"),
        (None, {}, 400, "Empty action request"),
        (None, {"action": ""}, 400, "Empty action request"),
        (None, {"action": "GetInvoices"}, 200, "Command Not Found"),
        (None, {"action": "GetCredit"}, 200, "Command Not Found"),
        (SECURED, {"identifier": "ident", "secret": "wrong"}, 403, "Authentication Failed"),
        (SECURED, {}, 403, "Invalid or missing credentials"),
        (ELSEWHERE, {}, 403, "Invalid IP 127.0.0.1"),
        (ELSEWHERE, {"accesskey": "wrong"}, 403, "Invalid IP 127.0.0.1"),
    ],
    ids=str,
)
def test_errors(
    serve: Serve, *, fixtures: str | None, asked: dict[str, Any], status: int, text: str, profile: str, kind: str
) -> None:
    """Each error has its status and its message, and nothing else, in each profile and response type."""
    if fixtures and "action" not in asked:
        asked = {**asked, "action": "GetCredits"}
    answer = post(serve(fixtures, profile=profile), {**asked, "responsetype": kind})
    assert answer.status == status
    assert answer.body == error(text, kind, profile, str(asked.get("action", "")).lower())


@pytest.mark.parametrize(
    ("profile", "kind", "body"),
    [
        (
            "documented",
            "json",
            rb'{    "result": "error",    "message": "Invalid Permissions: API action \"addcredit\" is not allowed"}',
        ),
        (
            "live",
            "json",
            rb'{"result":"error","message":"Invalid Permissions: API action \u0022addcredit\u0022 is not allowed"}',
        ),
        ("live", "nvp", b'result=error;message=Invalid Permissions: API action "addcredit" is not allowed'),
        ("documented", "nvp", b'result=error;message=Invalid Permissions: API action "addcredit" is not allowed'),
    ],
)
def test_permissions(serve: Serve, profile: str, kind: str, body: bytes) -> None:
    """An action that the credentials do not allow is refused, with its name in lower case."""
    asked = {"action": "AddCredit", "identifier": "reader", "secret": "reader-secret", "responsetype": kind}
    answer = post(serve(SECURED, profile=profile), asked)
    assert answer.status == 403
    assert answer.body.replace(b"\n", b"") == body


READER = {"accesskey": "open-sesame", "identifier": "reader", "secret": "reader-secret"}


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        ({"action": "Nonsense"}, 403, "Invalid IP 127.0.0.1"),
        ({"identifier": "ident", "secret": "ident-secret"}, 403, "Invalid IP 127.0.0.1"),
        ({"accesskey": "open-sesame"}, 403, "Invalid or missing credentials"),
        ({**READER, "secret": ""}, 403, "Invalid or missing credentials"),
        ({**READER, "secret": "wrong", "action": "AddCredit"}, 403, "Authentication Failed"),
        (READER, 400, "Empty action request"),
        ({**READER, "action": "Unheard"}, 403, 'Invalid Permissions: API action "unheard" is not allowed'),
        ({**READER, "action": "Nonsense"}, 200, "Command Not Found"),
        ({**READER, "action": "GetCredits"}, 200, "Client ID Not Found"),
    ],
)
def test_order_of_checks(serve: Serve, asked: dict[str, str], status: int, text: str) -> None:
    """The address is checked first, then credentials, permission and action; no secret is revealed."""
    answer = post(serve(ELSEWHERE), asked)
    assert (answer.status, message(answer)) == (status, text)
    for secret in (b"sesame", b"-secret", b"hunter2"):
        assert secret not in answer.body


# Authentication.


@pytest.mark.parametrize(
    "credentials",
    [
        {"identifier": "ident", "secret": "ident-secret"},
        {"username": "ident", "password": "ident-secret"},
        {"username": "admin", "password": ADMIN_HASH},
        {"username": "admin", "password": ADMIN_HASH.upper()},
        {"identifier": "ident", "secret": "ident-secret", "username": "", "password": ""},
        {"identifier": "", "secret": "", "username": "admin", "password": ADMIN_HASH},
        {"identifier": "ident", "secret": "ident-secret", "username": "admin", "password": "wrong"},
        {"identifier": "ident", "secret": "ident-secret", "username": "admin"},
        {"identifier": "ident", "username": "admin", "password": ADMIN_HASH},
        {"identifier": "reader", "secret": "reader-secret", "accesskey": "wrong"},
    ],
)
@pytest.mark.parametrize("ask", [post, get])
def test_credentials(serve: Serve, ask: Callable[..., Answer], credentials: dict[str, str]) -> None:
    """An API pair under either names and an admin's md5 are accepted; empty values count as absent."""
    answer = ask(serve(SECURED), {**GET_CREDITS, **credentials})
    assert (answer.status, json.loads(answer.body)["result"]) == (200, "success")


@pytest.mark.parametrize(
    "credentials",
    [
        {"identifier": "ident", "secret": "wrong"},
        {"identifier": "ident", "secret": "reader-secret"},
        {"identifier": "ident", "secret": "IDENT-SECRET"},
        {"identifier": "IDENT", "secret": "ident-secret"},
        {"identifier": "ident", "secret": "ident-secret "},
        {"identifier": "ident", "secret": "ident-sécret"},
        {"identifier": "nobody", "secret": "ident-secret"},
        {"username": "ident", "password": "wrong"},
        {"username": "ident", "password": md5(b"ident-secret").hexdigest()},
        {"username": "admin", "password": "hunter2"},
        {"identifier": "admin", "secret": ADMIN_HASH},
        {"username": "admin", "password": md5(ADMIN_HASH.encode()).hexdigest()},
        {"identifier": "nobody", "secret": "wrong", "username": "admin", "password": ADMIN_HASH},
    ],
)
def test_wrong_credentials(serve: Serve, credentials: dict[str, str]) -> None:
    """Wrong credentials are refused; with two whole pairs identifier and secret decide."""
    answer = post(serve(SECURED), {**GET_CREDITS, **credentials})
    assert (answer.status, message(answer)) == (403, "Authentication Failed")


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"identifier": "ident"},
        {"secret": "ident-secret"},
        {"username": "admin"},
        {"password": ADMIN_HASH},
        {"identifier": "", "secret": "", "username": "", "password": ""},
        {"identifier": "ident", "secret": ""},
        {"identifier": "ident", "password": "ident-secret"},
        {"username": "ident", "secret": "ident-secret"},
        {"accesskey": "open-sesame"},
    ],
)
def test_missing_credentials(serve: Serve, credentials: dict[str, str]) -> None:
    """No credentials, half a pair, and the access key alone count as missing credentials."""
    answer = post(serve(SECURED), {**GET_CREDITS, **credentials})
    assert (answer.status, message(answer)) == (403, "Invalid or missing credentials")


@pytest.mark.parametrize("credentials", [{}, {"identifier": "any"}, {"username": "any", "password": "thing"}])
def test_no_credentials_in_the_fixtures(serve: Serve, credentials: dict[str, str]) -> None:
    """Fixtures without credentials accept any, and none."""
    assert post(serve(), {**GET_CREDITS, **credentials}).body == DOCUMENTED


@pytest.mark.parametrize(
    ("access", "key", "passes"),
    [
        ("addresses: [127.0.0.1]", "", True),
        ("addresses: [127.0.0.1], key: k", "wrong", True),
        ("addresses: ['::ffff:127.0.0.1']", "", True),
        ("addresses: [127.0.0.2]", "", False),
        ("addresses: [127.0.0.2], key: k", "k", True),
        ("addresses: [127.0.0.2], key: k", "K", False),
        ("addresses: [127.0.0.2], key: k", "", False),
        ("addresses: [127.0.0.2]", "k", False),
        ("addresses: []", "", False),
        ("key: k", "k", True),
        ("key: k", "", False),
        ("key: ключ", "ключ", True),
    ],
)
@pytest.mark.parametrize("ask", [post, get])
def test_access(serve: Serve, ask: Callable[..., Answer], access: str, key: str, *, passes: bool) -> None:
    """An address is admitted if it is listed, or with the access key."""
    answer = ask(serve(f"access: {{{access}}}\nclients: [{{id: 1}}]"), {**GET_CREDITS, "accesskey": key})
    assert answer.status == (200 if passes else 403)
    assert passes or message(answer) == "Invalid IP 127.0.0.1"


def test_access_over_ipv6(serve: Serve) -> None:
    """An IPv6 address is shown in the message, and may be listed."""
    try:
        server = serve(ELSEWHERE, host="::1")
    except ListenError:
        pytest.skip("this machine has no IPv6")
    refused = post(server, GET_CREDITS)
    assert (refused.status, message(refused)) == (403, "Invalid IP ::1")
    assert post(serve("access: {addresses: ['0:0::1']}\nclients: [{id: 1}]", host="::1"), GET_CREDITS).status == 200


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7"]
)
def test_forwarded_address(serve: Serve, header: str) -> None:
    """An address in a header admits nobody."""
    answer = post(serve(ELSEWHERE), GET_CREDITS, header)
    assert message(answer) == "Invalid IP 127.0.0.1"


# XML.


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a & b < c > d", b"a &amp; b &lt; c &gt; d"),
        ("]]>", b"]]&gt;"),
        ("<script>alert(1)</script>", b"&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("&amp;", b"&amp;amp;"),
        ("é😀", "é😀".encode()),
        ("\x00\x0b\x1f\ufffe\ud800", "\ufffd\ufffd\ufffd\ufffd\ufffd".encode()),
        ("a\tb\nc", b"a\tb\nc"),
        ("", b""),
    ],
)
def test_xml_text(serve: Serve, text: str, written: bytes) -> None:
    """Text in XML is escaped, and characters that XML 1.0 forbids are replaced."""
    body = post(serve(describing(text)), {**GET_CREDITS, "responsetype": "xml"}).body
    assert b"<description>%b</description>\n" % written in body
    ET.fromstring(body)


@pytest.mark.parametrize("action", ["<script>", "]]>&", "\x00\x0b", "É", "a b"])
def test_xml_of_an_odd_action(serve: Serve, action: str) -> None:
    """The action in XML is escaped like any text."""
    body = post(serve(), {"action": action, "responsetype": "xml"}).body
    told = ET.fromstring(body).findtext("action")
    assert told == re.sub("[\x00\x0b]", "\ufffd", action.lower())


# NVP.


@pytest.mark.parametrize("text", ["a;b=c", "a&b%20c+d", "é😀", "two\nlines", "trailing;", "", '"<>\\/'])
@pytest.mark.parametrize("profile", PROFILES)
def test_nvp_text(serve: Serve, profile: str, text: str) -> None:
    """Text in NVP is not escaped, and nothing is added at the end."""
    body = post(serve(describing(text), profile=profile), {**GET_CREDITS, "responsetype": "nvp"}).body.decode()
    assert body == (
        "result=success;totalresults=1;clientid=1;credits[credit][0][id]=1;credits[credit][0][date]=2016-01-01;"
        f"credits[credit][0][description]={text};credits[credit][0][amount]=1.00;credits[credit][0][relid]=0"
    )


# Faults.


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("invalid-ip", 403, "Invalid IP 127.0.0.1"),
        ("auth-failed", 403, "Authentication Failed"),
        ("missing-permission", 403, 'Invalid Permissions: API action "getcredits" is not allowed'),
    ],
)
def test_faults_of_the_api(serve: Serve, name: str, status: int, text: str) -> None:
    """A fault of the API is answered as an error, once."""
    server = serve()
    WhmcsMock(server).fail_next(name)
    answer = post(server, GET_CREDITS)
    assert (answer.status, message(answer)) == (status, text)
    assert answer.headers["content-type"] == "application/json"
    assert post(server, GET_CREDITS).body == DOCUMENTED


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("maintenance", 503, b"Down for Maintenance (Err2)"),
        ("waf", 403, b"Access denied by Imunify360 bot-protection"),
        ("rate-limit", 429, b""),
        ("bad-gateway", 502, b""),
        ("gateway-timeout", 504, b""),
    ],
)
def test_faults_in_html(serve: Serve, name: str, status: int, text: bytes) -> None:
    """A fault in front of the API is answered with an HTML page."""
    server = serve()
    WhmcsMock(server).fail_next(name)
    answer = post(server, GET_CREDITS)
    assert answer.status == status
    assert answer.headers["content-type"].startswith("text/html")
    assert text in answer.body
    assert answer.headers.get("retry-after", "").isdigit() == (name == "rate-limit")
    assert post(server, GET_CREDITS).body == DOCUMENTED


@pytest.mark.parametrize(
    ("name", "before"),
    [("php-warning", rb"<br />\n<b>Warning</b>: .* on line <b>\d+</b><br />\n"), ("bom", rb"\xef\xbb\xbf")],
)
def test_faults_before_the_json(serve: Serve, name: str, before: bytes) -> None:
    """A warning or a byte-order mark precedes the correct JSON."""
    server = serve()
    WhmcsMock(server).fail_next(name)
    answer = post(server, GET_CREDITS)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert re.fullmatch(before + re.escape(DOCUMENTED), answer.body)


def test_fault_json_utf8(serve: Serve) -> None:
    """JSON cannot carry text that is not UTF-8, though the action was carried out; XML and NVP can."""
    server = serve()
    mock = WhmcsMock(server)
    mock.fail_next("json-utf8", times=3)
    assert post(server, {**GET_CREDITS, "responsetype": "xml"}).body == XML
    assert post(server, {**GET_CREDITS, "responsetype": "nvp"}).body == NVP
    answer = post(server, {"action": "AddCredit", "clientid": 1, "amount": "2.50", "responsetype": "json"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert message(answer) == (
        "Error generating JSON encoded response: Malformed UTF-8 characters, possibly incorrectly encoded"
    )
    assert str(mock.balance(1)) == "2.50"


def test_fault_empty_body(serve: Serve) -> None:
    """An empty body is a 200 without any bytes."""
    server = serve()
    WhmcsMock(server).fail_next("empty-body")
    answer = post(server, GET_CREDITS)
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")


def test_fault_truncated(serve: Serve) -> None:
    """A truncated answer has the Content-Length of the whole, but the connection ends before that."""
    server = serve()
    WhmcsMock(server).fail_next("truncated")
    answer = post(server, GET_CREDITS)
    assert answer.headers["content-length"] == str(len(DOCUMENTED))
    assert 0 < len(answer.body) < len(DOCUMENTED)
    assert DOCUMENTED.startswith(answer.body)


def test_fault_reset(serve: Serve) -> None:
    """The client sees a connection reset, not the end of the stream."""
    server = serve()
    WhmcsMock(server).fail_next("reset")
    with pytest.raises(ConnectionResetError):
        post(server, GET_CREDITS)
    assert post(server, GET_CREDITS).body == DOCUMENTED


def test_fault_slow(serve: Serve) -> None:
    """A slow answer is correct but late; other clients are not delayed, and a reset releases it."""
    server = serve()
    mock = WhmcsMock(server)
    mock.fail_next("slow", seconds=3600)
    with Connection(server) as connection:
        connection.send(request("GET", f"{ENDPOINT}?action=GetCredits&clientid=1"))
        for _ in range(2000):
            if not mock.problems():  # the fault has met its call
                break
            time.sleep(0.01)
        assert post(server, GET_CREDITS).body == DOCUMENTED
        assert not select.select([connection.socket], [], [], 0)[0]
        server.reset()
        answer = connection.read()
    assert answer
    assert answer.body == DOCUMENTED


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_bodies_end_without_a_newline(serve: Serve, profile: str, kind: str) -> None:
    """No body of the API ends with a newline."""
    server = serve(profile=profile)
    for clientid in (1, 2):
        assert not post(server, {**GET_CREDITS, "clientid": clientid, "responsetype": kind}).body.endswith(b"\n")
