"""Unmodified third-party WHMCS clients: they get the right answers and errors."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import whmcspy  # type: ignore[import-untyped]  # has no type annotations
from documented import DOCUMENTED

from whmcs_mock import Client, Credentials, Ledger, MockServer, load_fixtures

CLIENTS = Path(__file__).parent / "clients"
IDENTIFIER, SECRET = "D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv", "F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo"
FIELDS = "action=GetCredits&clientid=1&responsetype=json"
PASSWORD = hashlib.md5(b"hunter2").hexdigest()
ANSWERS: dict[str, dict[str, Any]] = {
    "documented": json.loads(DOCUMENTED),
    "live": {
        "result": "success",
        "totalresults": 2,
        "clientid": "1",
        "credits": {
            "credit": [
                {
                    "id": "1",
                    "date": "2016-01-01",
                    "description": "This is a sample credit record",
                    "amount": "10.00",
                    "relid": "0",
                },
                {
                    "id": "2",
                    "date": "2016-01-01",
                    "description": "Credit Applied to Invoice #1",
                    "amount": "-10.00",
                    "relid": "0",
                },
            ]
        },
    },
}


class Refused(Exception):
    """An error that the client reports to its user."""


class GetCredits(Protocol):
    """A function that requests a credit log with a client; it raises Refused on an error."""

    def __call__(self, url: str, clientid: int = 1, *, secret: str = SECRET) -> Any: ...


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(text: str) -> Any:
    answer = json.loads(text)
    if answer["result"] == "error":
        raise Refused(answer["message"])
    return answer


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def needs_php() -> str:
    php = needs("php")
    if output(php, "-r", "echo extension_loaded('curl');") != "1":
        pytest.skip("php has no curl extension")
    return php


@pytest.fixture(scope="module")
def npm_whmcs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that calls ``whmcs`` from npm, which is installed in a temporary folder."""
    node, npm = needs("node"), needs("npm")
    folder = tmp_path_factory.mktemp("npm")
    options = ["--prefix", str(folder), "--prefer-offline", "--fetch-retries=0", "--no-audit", "--no-fund"]
    install = [npm, "install", *options, "whmcs@1.2.2"]
    done = subprocess.run(install, capture_output=True, encoding="utf-8", timeout=120, check=False)
    if done.returncode != 0:
        reason = re.search(r"^npm err.*", done.stderr, re.IGNORECASE | re.MULTILINE)
        pytest.skip(f"npm cannot install whmcs: {reason[0] if reason else done.stderr}")
    script = shutil.copy(CLIENTS / "whmcs.js", folder)

    def call(url: str, username: str, password: str, *args: str) -> Any:
        told = json.loads(output(node, "--no-deprecation", script, url, username, password, *args))
        if "error" in told:
            raise Refused(told["error"])
        return told["answer"]

    return call


@pytest.fixture(params=["whmcspy", "npm whmcs", "php", "curl"])
def get_credits(request: pytest.FixtureRequest) -> GetCredits:
    """Return each client in turn; together they use all ways to authenticate."""
    if request.param == "npm whmcs":
        npm_whmcs = request.getfixturevalue("npm_whmcs")
    elif request.param == "php":
        php = needs_php()
    elif request.param == "curl":
        curl = needs("curl")

    def by_whmcspy(url: str, clientid: int = 1, *, secret: str = SECRET) -> Any:
        try:
            return whmcspy.WHMCS(url, IDENTIFIER, secret).call("GetCredits", clientid=clientid)
        except whmcspy.exceptions.Error as error:
            raise Refused(str(error)) from error

    def by_npm(url: str, clientid: int = 1, *, secret: str = SECRET) -> Any:
        return npm_whmcs(url, IDENTIFIER, secret, "customers", "getCredits", str(clientid))

    def by_php(url: str, clientid: int = 1, *, secret: str = SECRET) -> Any:
        return read(output(php, CLIENTS / "getcredits.php", url, IDENTIFIER, secret, str(clientid)))

    def by_curl(url: str, clientid: int = 1, *, secret: str = SECRET) -> Any:
        password = PASSWORD if secret == SECRET else secret
        login = f"username=admin&password={password}"
        return read(output(curl, "-s", "-d", login, "-d", FIELDS.replace("=1", f"={clientid}"), url))

    return {"whmcspy": by_whmcspy, "npm whmcs": by_npm, "php": by_php, "curl": by_curl}[request.param]


@pytest.fixture(params=["documented", "live"])
def server(request: pytest.FixtureRequest) -> Iterator[MockServer]:
    """Serve the documented example with credentials, once in each profile."""
    ledger = Ledger(
        [*load_fixtures().clients, Client(2)],
        credentials=(Credentials(IDENTIFIER, SECRET), Credentials("admin", "hunter2", admin=True)),
    )
    with MockServer(ledger, profile=request.param) as server:
        yield server


def test_answer(server: MockServer, get_credits: GetCredits) -> None:
    """A client returns the credit log."""
    assert get_credits(server.url) == ANSWERS[server.profile]


def test_error(server: MockServer, get_credits: GetCredits) -> None:
    """A client reports an unknown client id as an error."""
    with pytest.raises(Refused, match=r"Client ID Not Found$"):
        get_credits(server.url, 77)


def test_authentication(server: MockServer, get_credits: GetCredits) -> None:
    """A client with a wrong secret reports that authentication failed."""
    with pytest.raises(Refused, match=r"Authentication Failed$"):
        get_credits(server.url, secret="wrong")


def test_no_credentials(server: MockServer, get_credits: GetCredits) -> None:
    """A client without a secret reports missing credentials."""
    with pytest.raises(Refused, match=r"Invalid or missing credentials$"):
        get_credits(server.url, secret="")


def test_whmcspy_permission(server: MockServer) -> None:
    """A wrong secret makes whmcspy raise MissingPermission, which it derives from the status."""
    with pytest.raises(whmcspy.exceptions.MissingPermission):
        whmcspy.WHMCS(server.url, IDENTIFIER, "wrong").call("GetCredits", clientid=1)


def test_add_credit(server: MockServer, npm_whmcs: Callable[..., Any]) -> None:
    """A credit added with one client is visible to another."""
    added = npm_whmcs(server.url, IDENTIFIER, SECRET, "billing", "addCredit", "2", "12.50", "Goodwill")
    assert added == {"result": "success", "newbalance": "12.50"}
    whmcs = whmcspy.WHMCS(server.url, IDENTIFIER, SECRET)
    assert whmcs.call("AddCredit", clientid=2, amount="2.50", type="remove", description="") == {
        "result": "success",
        "newbalance": "10.00",
    }
    log = str(whmcs.call("GetCredits", clientid=2))
    assert [text in log for text in ("Goodwill", "'12.50'", "'-2.50'")] == [True, True, True]


@pytest.mark.parametrize(
    "options",
    [
        ["-d", "action=GetCredits", "-d", "clientid=1", "-d", "responsetype=json"],
        ["--data-urlencode", "action=GetCredits", "--data-urlencode", "clientid= 1 "],
        ["-F", "action=GetCredits", "-F", "clientid=1"],
        ["-F", "action=GetCredits", "-F", "clientid=1;type=text/plain", "-F", "file=@README.md"],
        ["--get", "-d", "action=GetCredits", "-d", "clientid=1"],
        ["-d", FIELDS, "-H", "Transfer-Encoding: chunked"],
        ["-d", FIELDS, "-H", "Expect: 100-continue"],
        ["-d", FIELDS, "-d", "padding=" + 100_000 * "x"],
        ["-d", FIELDS, "--http1.0"],
        ["-d", FIELDS, "-H", "Connection: close"],
        ["-d", FIELDS, "-H", "Content-Type: application/x-www-form-urlencoded; charset=utf-8"],
        ["-d", FIELDS, "--compressed", "--location", "--fail"],
        ["-d", FIELDS, "--path-as-is", "--request-target", "//includes/api.php"],
        ["-d", FIELDS, "--request-target", "http://whmcs.example/path/to/whmcs/includes/api.php"],
    ],
    ids=lambda options: " ".join(options)[:60],
)
def test_curl(options: list[str], tmp_path: Path) -> None:
    """Curl gets the documented answer, byte for byte, however its options make it send the request."""
    curl = needs("curl")
    (tmp_path / "README.md").write_text("a file")
    with MockServer() as server:
        command = [curl, "--silent", "--show-error", "--max-time", "20", *options, server.url, server.url]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=tmp_path, check=False)
    text = json.dumps(ANSWERS["documented"], indent=4)
    assert (done.stdout, done.stderr) == (2 * text, "")


def test_php_multipart(server: MockServer, tmp_path: Path) -> None:
    """PHP's cURL sends an array as a multipart form, which is accepted as well."""
    php = needs_php()
    example = (CLIENTS / "getcredits.php").read_text("utf-8").replace("http_build_query(", "(")
    (tmp_path / "multipart.php").write_text(example, "utf-8")
    assert read(output(php, tmp_path / "multipart.php", server.url, IDENTIFIER, SECRET, "1")) == ANSWERS[server.profile]
