"""The control API under /_mock/: every route, every refusal, and no secret in any answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from command import ENDPOINT, FORM, Answer, Server, eventually, serving
from hypothesis import given, settings
from hypothesis import strategies as st

import whmcs_mock
from whmcs_mock import Ledger, load_fixtures
from whmcs_mock.app import App
from whmcs_mock.request import Request

PAGES = Path(__file__).parent / "pages"
FIXTURES = """\
clients:
  - id: 1
    credits:
      - {id: 1, date: 2016-01-01, description: Prepayment, amount: 10.00}
      - {id: 2, date: 2016-01-02, description: Applied, amount: -2.50, relid: 7}
  - id: 2
"""
CLIENT_1: dict[str, Any] = {
    "id": 1,
    "balance": "7.50",
    "credits": [
        {"id": 1, "date": "2016-01-01", "description": "Prepayment", "amount": "10.00", "relid": 0},
        {"id": 2, "date": "2016-01-02", "description": "Applied", "amount": "-2.50", "relid": 7},
    ],
}
CLIENT_2 = {"id": 2, "balance": "0.00", "credits": []}
ADD = {"action": "AddCredit", "clientid": "1", "description": "Gift", "amount": "5.00"}
SECRETS = ("F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo", "hunter2hunter2", "secret_key_passphrase", "posted-secret-1234")
GUARDED = """\
credentials:
  - {identifier: D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv, secret: F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo}
  - {username: admin, password: hunter2hunter2}
access: {addresses: [127.0.0.1], key: secret_key_passphrase}
clients: [{id: 1}]
"""
ROUTES = {
    "": "GET, HEAD",
    "health": "GET, HEAD",
    "reset": "POST",
    "fixtures": "POST",
    "clients": "GET, HEAD",
    "clients/1": "GET, HEAD",
    "calls": "GET, DELETE, HEAD",
    "report": "GET, HEAD",
    "profile": "PUT",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start one server for all tests in this file; each test uses its own world."""
    folder = tmp_path_factory.mktemp("control")
    (folder / "clients.yaml").write_text(FIXTURES)
    with serving(folder / "stderr.log", str(folder / "clients.yaml")) as running:
        yield running


class World:
    """A client for one world of a server."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.base = server, f"/world/{name}" if name else ""

    def ask(self, method: str, path: str, body: str | bytes | None = None, **headers: str) -> Answer:
        return self.server.ask(method, f"{self.base}/_mock/{path}", body, headers)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    def call(self, **params: str) -> str:
        return self.server.call(self.base, **params)


@pytest.fixture
def world(server: Server, request: pytest.FixtureRequest) -> World:
    """Return a world of the server that no other test uses."""
    return World(server, re.sub(r"[^A-Za-z0-9.-]", "_", request.node.name)[:60])


# The routes.


def test_health(server: Server, world: World) -> None:
    """The health route returns status, version, URL, profile, counts, fixture paths and an empty list of problems."""
    world.call(action="GetCredits", clientid="1")
    host, port = server.address
    assert world.get("health") == {
        "status": "ok",
        "version": whmcs_mock.__version__,
        "url": f"http://{host}:{port}{world.base}{ENDPOINT}",
        "profile": "documented",
        "clients": 2,
        "credits": 2,
        "actions": 2,
        "calls": 1,
        "fixtures": [str(server.log.with_name("clients.yaml"))],
        "problems": [],
    }


def test_doubled_slash(server: Server) -> None:
    """A base URL that ends in a slash leads to the same routes."""
    with contextlib.closing(http.client.HTTPConnection(*server.address, timeout=20)) as connection:
        connection.request("GET", "//_mock/health")
        assert connection.getresponse().status == 200


def test_clients(world: World) -> None:
    """Clients are returned in the format of a fixture file, with their current credits and balance."""
    assert world.get("clients") == {"clients": [CLIENT_1, CLIENT_2]}
    assert world.get("clients/2") == {"clients": [CLIENT_2]}
    world.call(**ADD, date="2016-01-03")
    [client] = world.get("clients/1")["clients"]
    added = {"id": 3, "date": "2016-01-03", "description": "Gift", "amount": "5.00", "relid": 0}
    assert client == {"id": 1, "balance": "12.50", "credits": [*CLIENT_1["credits"], added]}


@pytest.mark.parametrize("id", ["3", "0", "x", "-1", "1/2", "%E2%82%AC", "1" * 400])
def test_client_missing(id: str, world: World) -> None:
    """A request for a client that does not exist returns 404."""
    answer = world.ask("GET", f"clients/{id}")
    assert (answer.status, "no client" in answer.error) == (404, True)


@pytest.mark.parametrize("reset", ["", "?reset=true"])
def test_snapshot(reset: str, world: World) -> None:
    """The response of GET clients can be posted back as a snapshot, which restores the clients."""
    world.call(**ADD)
    snapshot = world.ask("GET", "clients").body
    world.call(**ADD)
    assert world.ask("POST", f"fixtures{reset}", snapshot).status == 200
    assert world.ask("GET", "clients").body == snapshot


def test_reset(world: World) -> None:
    """A reset removes calls, faults and everything that was added, and restores the initial profile."""
    world.call(**ADD)
    world.ask(
        "POST", "fixtures", "clients: [{id: 9}]\nfaults: [{fault: maintenance}]\nanswers: [{action: x, result: {}}]"
    )
    world.ask("PUT", "profile", "live")
    answer = world.ask("POST", "reset")
    assert (answer.status, answer.body) == (204, b"")
    assert world.get("clients") == {"clients": [CLIENT_1, CLIENT_2]}
    assert world.get("calls") == []
    health = world.get("health")
    assert (health["profile"], health["actions"], health["calls"]) == ("documented", 2, 0)
    assert '"success"' in world.call(action="GetCredits", clientid="1", responsetype="json")


@pytest.mark.parametrize(
    "body",
    [
        "clients:\n  - id: 3\n    credits: [{date: 2020-01-01, amount: 1.50}]\n",
        '{"clients": [{"id": 3, "credits": [{"date": "2020-01-01", "amount": "1.50"}]}]}',
    ],
)
@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/yaml", "x/y", ""])
def test_post_fixtures(body: str, content_type: str, world: World) -> None:
    """A fixture file can be posted as YAML or JSON with any content type, and is added to the existing data."""
    answer = world.ask("POST", "fixtures", body, **{"Content-Type": content_type})
    assert (answer.status, answer.json) == (200, {"clients": 3, "credits": 3, "actions": 2})
    credit = {"id": 3, "date": "2020-01-01", "description": "", "amount": "1.50", "relid": 0}
    assert world.get("clients/3") == {"clients": [{"id": 3, "balance": "1.50", "credits": [credit]}]}
    assert '"3"' in world.call(action="GetCredits", clientid="3", responsetype="json")


def test_post_everything(world: World) -> None:
    """Every section of a fixture file can be posted: answers, faults, credentials, access and admins."""
    body = """\
answers: [{action: GetInvoice, result: {total: "9.00"}}]
faults: [{fault: maintenance, clientid: 13, times: 1}]
credentials: [{identifier: me, secret: mine}]
access: {addresses: [127.0.0.1]}
admins: [1]
"""
    assert world.ask("POST", "fixtures", body).json == {"clients": 2, "credits": 2, "actions": 3}
    login = {"identifier": "me", "secret": "mine", "responsetype": "json"}
    assert "9.00" in world.call(action="getinvoice", **login)
    assert "Authentication Failed" in world.call(action="getinvoice", identifier="me", secret="no", responsetype="json")
    assert "success" not in world.call(action="GetCredits", clientid="13", **login)
    assert "error" in world.call(**ADD, **login, adminid="2")


def test_post_replaces(world: World) -> None:
    """A posted client replaces the existing client with the same id."""
    world.ask("POST", "fixtures", "clients: [{id: 1, credits: [{date: 2020-01-01, amount: 1}]}]")
    assert [credit["amount"] for credit in world.get("clients/1")["clients"][0]["credits"]] == ["1.00"]
    assert world.get("clients/2") == {"clients": [CLIENT_2]}


@pytest.mark.parametrize("value", ["true", "1", "TRUE"])
def test_post_after_reset(value: str, world: World) -> None:
    """With reset=true, the world is reset before the file is added."""
    world.call(**ADD)
    world.ask("POST", "fixtures", "clients: [{id: 8}]")
    assert world.ask("POST", f"fixtures?reset={value}", "clients: [{id: 9}]").json["clients"] == 3
    assert [client["id"] for client in world.get("clients")["clients"]] == [1, 2, 9]
    assert world.get("calls") == []


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("", ["body:1:1: "]),
        ("clients:\n  - id: 0\n  - {id: 5, name: Ada}\n", ["body:2:9: ", "body:3:13: "]),
        ("clients: [{id: 9}", ["body:1:10: "]),
        ('{"clients": [}', ["body:1:13: "]),
        (b"clients:\n  - id: \xff\n", ["body:2:9: "]),
        ("clients:\n  - {id: 9, credits: [{id: 2, date: 2020-01-01, amount: 1}]}\n", ["body:2:28: "]),
        ("clients: [{id: 9}, {id: 9}]", ["body:1:25: "]),
        ("nothing", ["body:1:1: "]),
        ("faults: [{fault: nope}]", ["body:1:18: "]),
    ],
)
@pytest.mark.parametrize("reset", ["", "?reset=true"])
def test_post_refused(body: str | bytes, lines: list[str], reset: str, world: World) -> None:
    """An invalid file is refused with 400, lists each problem as body:line:column, and changes nothing."""
    if reset and lines == ["body:2:28: "]:
        world.ask("POST", "fixtures", "clients: [{id: 9}]")
    world.call(**ADD)
    before = world.ask("GET", "clients").body, world.ask("GET", "report").body
    answer = world.ask("POST", f"fixtures{reset}", body)
    assert answer.status == 400
    assert [
        line for line, start in zip(answer.error.splitlines(), lines, strict=True) if not line.startswith(start)
    ] == []
    assert (world.ask("GET", "clients").body, world.ask("GET", "report").body) == before


def test_post_many_problems(world: World) -> None:
    """Only the first 50 problems are listed, followed by the number of those left out."""
    lines = world.ask("POST", "fixtures", "clients:\n" + "  - id: 0\n" * 70).error.splitlines()
    assert (len(lines), lines[-1]) == (51, "and 20 more")


@pytest.mark.parametrize("query", ["reset=maybe", "rest=true"])
def test_post_wrong_query(query: str, world: World) -> None:
    """An unknown query parameter or value is refused with 400."""
    answer = world.ask("POST", f"fixtures?{query}", "clients: [{id: 9}]")
    assert (answer.status, "reset=true" in answer.error) == (400, True)
    assert world.get("health")["clients"] == 2


def test_newest_fault_first(world: World) -> None:
    """Posted fault rules take precedence over existing ones."""
    for message, times in (("first", 2), ("second", 1), ("third", 1)):
        world.ask("POST", "fixtures", json.dumps({"faults": [{"message": message, "times": times}]}))
    answers = [json.loads(world.call(action="GetCredits", clientid="1", responsetype="json")) for _ in range(5)]
    assert [answer.get("message") for answer in answers] == ["third", "second", "first", "first", None]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "reset", ""),
        ("DELETE", "calls", ""),
        ("PUT", "profile", "live"),
        ("GET", "clients", ""),
        ("GET", "clients/1", ""),
        ("GET", "report", ""),
        ("GET", "health", ""),
    ],
)
def test_no_query(method: str, path: str, body: str, world: World) -> None:
    """A route that takes no query refuses a query with 400, and changes nothing."""
    world.call(**ADD)
    before = world.ask("GET", "report").body
    answer = world.ask(method, f"{path}?x=1", body)
    assert (answer.status, "takes no query string" in answer.error) == (400, True)
    assert world.ask("GET", "report").body == before


def test_post_beside_calls(world: World) -> None:
    """Fixtures posted while calls add credits are all accepted, and credit ids stay unique."""
    done = threading.Event()

    def add() -> None:
        while not done.is_set():
            world.call(**ADD, responsetype="json")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(add)
        try:
            body = "clients: [{id: %d, credits: [{date: 2020-01-01, amount: 1}]}]"
            answers = [world.ask("POST", "fixtures", body % id).status for id in range(100, 140)]
        finally:
            done.set()
    assert answers == 40 * [200]
    ids = [credit["id"] for client in world.get("clients")["clients"] for credit in client["credits"]]
    assert len(ids) == len(set(ids))


# Calls.


def test_calls(world: World) -> None:
    """Calls are listed from oldest to newest, with all recorded fields."""
    world.call(action="GetCredits", clientid="7", responsetype="json", identifier="x", secret="sesame-sesame")
    world.server.ask("GET", f"{world.base}/elsewhere")
    first, second = world.get("calls")
    assert (
        set(first)
        == set(second)
        == {
            *("id", "time", "action", "clientid", "params", "method", "path", "status", "response_type", "result"),
            *("message", "why", "advice", "duration", "answer"),
        }
    )
    params = {"action": "GetCredits", "clientid": "7", "responsetype": "json", "identifier": "x", "secret": "***"}
    expected = {"action": "GetCredits", "clientid": "7", "params": params, "method": "POST", "path": ENDPOINT}
    told = {"status": 200, "response_type": "json", "result": "error", "message": "Client ID Not Found", "advice": []}
    assert {name: first[name] for name in {**expected, **told}} == {**expected, **told}
    assert json.loads(first["answer"]) == {"result": "error", "message": "Client ID Not Found"}
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", first["time"])
    assert 0 <= first["duration"] < 10
    assert "7" in first["why"]
    assert second["id"] > first["id"]
    assert (second["method"], second["path"], second["status"], second["clientid"]) == ("GET", "/elsewhere", 404, None)


def test_calls_filter(world: World) -> None:
    """Calls can be filtered by action, by any parameter, and by the id they come after."""
    for action, clientid in (("GetCredits", "1"), ("getcredits", "02"), ("AddCredit", "1"), ("GetCredits", "1")):
        world.call(action=action, clientid=clientid, reference="a b")
    every = world.get("calls")

    def found(query: str) -> list[int]:
        return [every.index(call) for call in world.get(f"calls?{query}")]

    assert found("action=GETCREDITS") == [0, 1, 3]
    assert found("action=GetCredits&clientid=1") == [0, 3]
    assert found("clientid=2") == [1]
    assert found("reference=a+b&clientid=1&action=AddCredit") == [2]
    assert found("reference=other") == []
    assert found(f"after={every[1]['id']}") == [2, 3]
    assert found(f"after={every[1]['id']}&action=GetCredits") == [3]


def test_calls_by_secret(world: World) -> None:
    """Calls can be filtered by a secret, which is masked in the response."""
    world.call(action="GetCredits", identifier="x", secret="sesame-sesame")
    [call] = world.get("calls?secret=sesame-sesame")
    assert call["params"]["secret"] == "***"
    assert world.get("calls?secret=other") == []


def test_calls_wait(world: World) -> None:
    """A wait returns as soon as a matching call arrives, including its answer."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(world.ask, "GET", "calls?action=AddCredit&wait=20")
        world.call(action="GetCredits", clientid="1")
        world.call(**ADD)
        [call] = waiting.result(10).json
    assert (call["action"], call["status"], call["result"]) == ("AddCredit", 200, "success")
    assert world.get("calls?action=AddCredit&wait=20") == [call]


def test_calls_wait_in_vain(world: World) -> None:
    """A wait that times out returns 408 with the nearest miss and the report."""
    world.call(action="GetCredits", clientid="1")
    answer = world.ask("GET", "calls?action=GetCredits&clientid=2&wait=0.05")
    assert answer.status == 408
    assert set(answer.json) == {"error", "nearest_miss", "report"}
    assert "GetCredits clientid=2" in answer.error
    assert 'clientid was "1"' in answer.json["nearest_miss"]
    assert 'expected "2"' in answer.json["nearest_miss"]
    assert answer.json["report"] + "\n" == world.ask("GET", "report").text


def test_calls_wait_without_calls(world: World) -> None:
    """A wait that times out without any call has no nearest miss."""
    assert world.ask("GET", "calls?wait=0.01").json["nearest_miss"] == ""


def test_calls_held(world: World) -> None:
    """A call whose answer is delayed has status 0, and already ends a wait."""
    world.ask("POST", "fixtures", "faults: [{fault: slow, seconds: 20}]")
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(world.call, action="GetCredits", clientid="1")
        [call] = world.get("calls?wait=10")
        assert (call["status"], call["result"]) == (0, "")
        world.ask("POST", "reset")
        slow.result(10)


@pytest.mark.parametrize("query", ["after=x", "after=-1", "wait=x", "wait=601", "wait=1e3", "wait=", "after=%00"])
def test_calls_wrong_query(query: str, world: World) -> None:
    """An after or wait parameter that is not a valid number is refused with 400."""
    answer = world.ask("GET", f"calls?{query}")
    assert answer.status == 400
    assert re.search("after is|wait is", answer.error)


def test_calls_delete(world: World) -> None:
    """DELETE calls removes the calls and nothing else."""
    world.call(**ADD)
    assert world.ask("DELETE", "calls").status == 204
    assert world.get("calls") == []
    assert world.get("health")["credits"] == 3


def test_long_answer(world: World) -> None:
    """The recorded text of an answer is truncated to 64 KiB."""
    world.ask("POST", "fixtures", json.dumps({"answers": [{"action": "Long", "result": {"text": "x" * 100_000}}]}))
    world.call(action="Long", responsetype="json")
    assert len(world.get("calls")[0]["answer"]) == 65536


def test_many_calls() -> None:
    """Listing ten thousand calls takes less than four seconds of CPU time."""
    app = App(Ledger())
    headers, body = {"content-type": FORM}, b"action=GetCredits&clientid=1&responsetype=json"
    for _ in range(10_000):
        response = app.respond(Request("POST", ENDPOINT, headers=headers, body=body))
        assert response.finish
        response.finish(True)
    begun = time.process_time()
    assert len(json.loads(app.respond(Request("GET", "/_mock/calls")).body)) == 10_000
    assert time.process_time() - begun < 4


def test_report(world: World) -> None:
    """The report is plain text that lists every call."""
    world.call(action="GetCredits", clientid="1")
    answer = world.ask("GET", "report")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "GetCredits clientid=1" in answer.text
    assert "advice: no credentials were sent" in answer.text


def test_profile(world: World) -> None:
    """PUT profile switches the profile of this world only, to the name in the body."""
    for body in ("live", "live\n", '"live"'):
        assert world.ask("PUT", "profile", body).status == 204
        assert world.call(action="GetCredits", clientid="9") == "result=error;message=Client ID Not Found"
    assert world.ask("PUT", "profile", "documented").status == 204
    assert world.get("health")["profile"] == "documented"
    answer = world.ask("PUT", "profile", b"\xff")
    assert (answer.status, "documented" in answer.error, "live" in answer.error) == (400, True, True)


@pytest.mark.parametrize("path", ["/", "/_mock", "/_mock/", "/world/page", "/world/page/", "/world/page/_mock/"])
def test_page(path: str, server: Server) -> None:
    """The page is HTML with a strict Content-Security-Policy, for the server and for each world."""
    answer = server.ask("GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.body.startswith(b"<!DOCTYPE html>")


def test_worlds_are_apart(server: Server) -> None:
    """Changes to one world do not affect the others."""
    one, other, root = World(server, "apart-1"), World(server, "apart-2"), World(server, "")
    one.ask("POST", "fixtures", "clients: [{id: 77}]")
    one.call(action="GetCredits", clientid="77")
    assert [w.get("health")["clients"] for w in (one, other, root)] == [3, 2, 2]
    assert other.get("calls") == []
    other.ask("POST", "reset")
    assert one.get("health")["calls"] == 1


# Refusals.


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
def test_methods(path: str, allowed: str, world: World) -> None:
    """An unsupported method is refused with 405 and an Allow header; HEAD is answered like GET without a body."""
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "BREW"):
        if method not in allowed:
            answer = world.ask(method, path)
            assert (answer.status, answer.headers["allow"]) == (405, allowed)
            assert allowed in answer.error
            assert not [name for name in answer.headers if name.startswith("access-control")]
    if "GET" in allowed:
        get, head = world.ask("GET", path), world.ask("HEAD", path)
        assert (head.status, head.body, head.headers["content-type"]) == (200, b"", get.headers["content-type"])


@pytest.mark.parametrize("path", ["nope", "health/1", "calls/1", "report/1", "_mock/health", "a%00b", "%ff"])
def test_no_route(path: str, world: World) -> None:
    """An unknown route returns 404 and a list of the existing routes."""
    answer = world.ask("GET", path)
    assert answer.status == 404
    for route in ("/_mock/health", "/_mock/clients/ID", "/_mock/profile"):
        assert route in answer.error


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "%ff", "a:b"])
def test_wrong_world(name: str, server: Server) -> None:
    """An invalid world name returns 404 with a JSON body."""
    answer = server.ask("GET", f"/world/{quote(name, safe='%')}/_mock/health")
    assert (answer.status, "world" in answer.error) == (404, True)


def test_size(world: World) -> None:
    """A posted file larger than 16 MiB is refused with 413, as is a call larger than 1 MiB."""
    comment = b"# " + b"x" * (16 * 1024 * 1024 - 21) + b"\nclients: [{id: 3}]"
    assert len(comment) == 16 * 1024 * 1024
    assert world.ask("POST", "fixtures", comment).status == 200
    answer = world.ask("POST", "fixtures", comment + b"\n")
    assert (answer.status, "16777216" in answer.error) == (413, True)
    assert world.server.ask("POST", world.base + ENDPOINT, b"x" * (1024 * 1024 + 1)).status == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8421"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "["},
        {"Host": "@localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_foreign(headers: dict[str, str], world: World) -> None:
    """A request from another site, or with a foreign Host header, is refused with 403."""
    for method, path in (("GET", "health"), ("POST", "reset"), ("GET", ""), ("GET", "nope")):
        answer = world.ask(method, path, **headers)
        assert answer.status == 403
        assert answer.error
        assert not [name for name in answer.headers if name.startswith("access-control")]
    shown = world.base.rpartition("/")[2]
    assert shown
    assert eventually(lambda: [line for line in world.server.lines() if "refused" in line and "/_mock/reset" in line])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8421", "a.localhost."]
)
def test_own_names(host: str, world: World) -> None:
    """A request with a local Host header is accepted, and so is one from the server's own page."""
    assert world.ask("GET", "health", Host=host).status == 200
    own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert world.ask("POST", "reset", **own).status == 204


def test_other_names(tmp_path: Path) -> None:
    """A server that listens on all addresses accepts any Host header, but still refuses requests from other sites."""
    with serving(tmp_path / "log", "--host", "0.0.0.0") as server:
        assert server.ask("GET", "/_mock/health", headers={"Host": "whmcs:8421"}).status == 200
        assert server.ask("GET", "/_mock/health", headers={"Origin": "http://evil.example"}).status == 403


def test_no_control(tmp_path: Path) -> None:
    """With --no-control, the control routes and the page return 404 with one line of plain text."""
    with serving(tmp_path / "log", "--no-control") as server:
        for method, path in (
            ("GET", "/"),
            ("GET", "/_mock/"),
            ("POST", "/_mock/reset"),
            ("GET", "/world/a/_mock/health"),
        ):
            answer = server.ask(method, path)
            assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
            assert answer.text.strip().count("\n") == 0
        assert "success" in server.call(action="GetCredits", clientid="1")


def test_stop_ends_wait(tmp_path: Path) -> None:
    """Stopping the server ends pending waits at once."""
    with serving(tmp_path / "log") as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(lambda: server.ask("GET", "/_mock/calls?wait=60"))
        server.call(action="Begin")  # may arrive before or after the wait above
        pool.submit(lambda: server.ask("GET", "/_mock/calls?wait=60&action=Never"))
        waiting.result(10)
        begun = time.monotonic()
        server.process.terminate()
        assert server.process.wait(10) == 0
        assert time.monotonic() - begun < 5


def test_wait_while_stopping() -> None:
    """A wait that the end of the server ends is answered with 503."""
    app = App(load_fixtures())
    app.worlds.release()
    response = app.respond(Request("GET", "/_mock/calls", b"wait=20"))
    assert (response.status, json.loads(response.body)) == (
        503,
        {"error": "whmcs-mock is stopping, or this world was dropped"},
    )


def test_posted_unlisted_message(tmp_path: Path) -> None:
    """A posted fault with a message that the action's page does not list is refused."""
    with serving(tmp_path / "log", str(PAGES)) as server:
        told = []
        for message in ("Voucher ID Not Found", "No such voucher"):
            fault = {"faults": [{"action": "GetVoucher", "message": message}]}
            told.append(server.ask("POST", "/_mock/fixtures", json.dumps(fault)))
    assert [answer.status for answer in told] == [200, 400]
    assert told[1].error.startswith('body:1:13: GetVoucher has no error "No such voucher"; the nearest are ')


# Secrets.


def test_secrets(tmp_path: Path) -> None:
    """Secrets that were loaded, posted or sent never appear in a control API response or in the log."""
    (tmp_path / "guarded.yaml").write_text(GUARDED)
    told: list[bytes] = []
    with serving(tmp_path / "log", str(tmp_path / "guarded.yaml")) as server:
        world = World(server, "")
        posted = SECRETS[-1]
        world.ask("POST", "fixtures", f"credentials: [{{identifier: other, secret: {posted}}}]")
        for secret in SECRETS:
            for params in (
                {"identifier": "D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv", "secret": secret, "action": "GetCredits"},
                {"username": "admin", "password": secret, "action": "GetCredits", "clientid": "1"},
                {"accesskey": secret, "action": secret, "clientid": secret, "responsetype": secret},
            ):
                world.call(**params)
            for method, path, body in (
                ("GET", f"calls?wait=0.01&secret={secret}", None),
                ("GET", f"calls?wait=0.01&action={secret}", None),
                ("GET", f"calls?wait=0.01&clientid={secret}&{secret}=1", None),
                ("GET", f"calls?wait={secret}", None),
                ("GET", f"calls?after={secret}", None),
                ("GET", f"clients/{secret}", None),
                ("GET", f"{'x' * 30}/{secret}", None),
                ("POST", secret, None),
                ("PUT", "profile", secret),
                ("POST", "fixtures", f"credentials: [{{identifier: a, secret: [{secret}]}}]"),
                ("POST", "fixtures", f"credentials: [{{identifier: a, secrt: {secret}}}]"),
                ("POST", "fixtures", f"credentials: {secret}"),
                ("POST", "fixtures", f"credentials: [{{username: a, password: {secret}, password: {secret}}}]"),
                ("POST", "fixtures", f'{{"credentials": [{{"identifier": "a", "secret": "{secret}"}}, ]}}'),
                ("POST", "fixtures", f"access: {{key: {secret}, kye: {secret}}}"),
                ("POST", "fixtures", f"acess: {{kee: {secret}}}"),
                ("POST", "fixtures", f"access: {{addresses: [{secret}]}}"),
                ("POST", "fixtures", f"credentials:\n  - identifier: a\n    secret: {secret}\n   password: {secret}"),
            ):
                told.append(world.ask(method, path, body).body)
            told.append(world.ask("GET", "health", Host=secret).body)
        told += [world.ask("GET", path).body for path in ("calls", "report", "health", "clients", "")]
        lines = server.stop()
    assert [text for text in told if any(secret.encode() in text for secret in SECRETS)] == []
    assert [line for line in lines if any(secret in line for secret in SECRETS)] == []


# Arbitrary input.

METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]) | st.text(max_size=5)
NAMES = st.sampled_from([*ROUTES, "clients/", "calls?", "nope"])
PATHS = st.builds(
    "/{}_mock/{}{}".format, st.sampled_from(["", "", "world/a/"]), NAMES, st.just("") | st.text(max_size=8)
)
QUERIES = st.binary(max_size=20) | st.builds(
    lambda pairs: urlencode(pairs).encode(),
    st.dictionaries(
        st.sampled_from(["after", "action", "clientid", "reset", "x"]),
        st.text(max_size=6) | st.just("true"),
        max_size=3,
    ),
)
PIECES = st.sampled_from(
    [
        "clients",
        "answers",
        "faults",
        "credentials",
        ": ",
        "- ",
        "\n",
        "  ",
        "[",
        "]",
        "{",
        "}",
        "id",
        "1",
        "0",
        "credits",
        "&a",
    ]
)
BODIES = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(PIECES, max_size=25).map(lambda pieces: "".join(pieces).encode())
    | st.sampled_from(
        [b"live", b"documented", b"clients: [{id: 5}]", b'{"clients": [{"id": 1, "credits": [{"id": 2}]}]}']
    )
)
HEADERS = st.dictionaries(
    st.sampled_from(["host", "origin", "sec-fetch-site", "content-type", "content-encoding"]),
    st.text(max_size=12) | st.sampled_from(["localhost", "[::1]", "[", "same-origin"]),
    max_size=2,
)


@settings(max_examples=200, deadline=None)
@given(method=METHODS, path=PATHS, query=QUERIES, body=BODIES, headers=HEADERS)
def test_anything(method: str, path: str, query: bytes, body: bytes, headers: dict[str, str]) -> None:
    """Arbitrary requests below /_mock/ never cause a 500; errors are JSON, and a refused request changes nothing."""
    app = App(whmcs_mock.load_fixtures())

    def state() -> list[bytes]:
        paths = [f"{base}/_mock/{name}" for base in ("", "/world/a") for name in ("clients", "report", "health")]
        return [app.respond(Request("GET", one)).body for one in paths]

    before = state()
    response = app.respond(Request(method, path, query, headers, body, "127.0.0.1", server="127.0.0.1"))
    assert response.status in (200, 204, 400, 403, 404, 405)
    if response.status >= 400:
        assert json.loads(response.body)["error"]
        assert state() == before


@settings(max_examples=60, deadline=None)
@given(sent=st.binary(max_size=80), length=st.integers(0, 100))
def test_anything_on_the_wire(sent: bytes, length: int, server: Server) -> None:
    """Arbitrary bytes after the request line of a request to /_mock/ never cause a 500."""
    with socket.create_connection(server.address, timeout=10) as connection:
        head = b"POST /world/wire/_mock/fixtures HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length
        connection.sendall(head + sent)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert re.match(rb"HTTP/1\.1 (200|4\d\d) ", answer)
    assert not [line for line in server.lines() if "Traceback" in line]
