"""The WSGI application: made of files or a ledger, and hosted by servers that are not ours."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest
from documented import DOCUMENTED

from whmcs_mock import Client, FixtureError, Ledger, create_app

API = "/includes/api.php"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GET_CREDITS = urlencode({"action": "GetCredits", "clientid": 1, "responsetype": "json"})
WSGI = Callable[..., Any]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def wsgiref(app: WSGI) -> Iterator[int]:
    """Serve an application with the standard library's server, which checks the rules of WSGI; yield the port."""
    with make_server("127.0.0.1", 0, validator(app), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def gunicorn(expression: str, folder: Path, *options: str) -> Iterator[int]:
    """Serve the result of an expression with gunicorn; yield the port."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, expression]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr
        said = ""
        try:
            while not (listening := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            yield int(listening[1])
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, bytes]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body, FORM | headers, encode_chunked=False)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()


@pytest.fixture(scope="module", params=["wsgiref", "gunicorn", "gunicorn threads"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the documented example with each server in turn."""
    folder = tmp_path_factory.mktemp("project")
    if request.param == "wsgiref":
        server = wsgiref(create_app())
    elif sys.platform == "win32":
        pytest.skip("gunicorn does not run on Windows")
    else:
        threads = ["--worker-class=gthread", "--threads=2"] if "threads" in request.param else []
        server = gunicorn("whmcs_mock:create_app()", folder, *threads)
    with server as port:
        yield port


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", API, GET_CREDITS),
        ("POST", "/path/to/whmcs" + API, GET_CREDITS),
        ("POST", "/" + API, GET_CREDITS),
        ("POST", f"{API}?action=GetCredits", "clientid=1"),
        ("GET", f"{API}?{GET_CREDITS}", None),
    ],
)
def test_answer(method: str, path: str, body: str | None, port: int) -> None:
    """Every server returns the documented JSON byte for byte."""
    status, content_type, answer = ask(port, method, path, body)
    assert (status, content_type.split(";")[0], answer.decode()) == (200, "application/json", DOCUMENTED)


def test_chunked(port: int, request: pytest.FixtureRequest) -> None:
    """A chunked body is read if the server supports it."""
    if "wsgiref" in request.node.callspec.id:
        pytest.skip("wsgiref does not read chunked bodies")
    body = f"{len(GET_CREDITS):x}\r\n{GET_CREDITS}\r\n0\r\n\r\n"
    status, _, answer = ask(port, "POST", API, body, **{"Transfer-Encoding": "chunked"})
    assert (status, answer.decode()) == (200, DOCUMENTED)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/elsewhere", None, 404),
        ("POST", "/includes/api", GET_CREDITS, 404),
        ("DELETE", API, None, 405),
        ("PUT", API, GET_CREDITS, 405),
        ("POST", API, 1_100_000 * "x", 413),
    ],
)
def test_refused(method: str, path: str, body: str | None, status: int, port: int) -> None:
    """Requests that never reach the API are refused with one line of text."""
    try:
        answer = ask(port, method, path, body)
    except BrokenPipeError:  # the server has closed the connection, as it may, before it took all of the body
        assert status == 413
    else:
        assert (answer[0], answer[1].split(";")[0], answer[2].count(b"\n")) == (status, "text/plain", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="gunicorn does not run on Windows")
def test_gunicorn_with_fixtures(tmp_path: Path) -> None:
    """The line of the README serves a folder of fixtures, in the profile it names."""
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "clients.yaml").write_text("clients: [{id: 7}]")
    with gunicorn('whmcs_mock:create_app("fixtures", profile="live")', tmp_path) as port:
        assert ask(port, "POST", API, "action=GetCredits&clientid=7")[2].startswith(
            b"result=success;totalresults=0;clientid=7;credits="
        )


def test_ledger() -> None:
    """A ledger is served too, under any path where a larger application mounts it."""

    def mounted(environ: dict[str, Any], start_response: WSGI) -> Any:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/billing", environ["PATH_INFO"].removeprefix("/billing")
        return app(environ, start_response)

    app = create_app(Ledger([Client(5)]), profile="live")
    with wsgiref(mounted) as port:
        answer = ask(port, "POST", f"/billing{API}", "action=GetCredits&clientid=5&responsetype=json")[2]
        assert answer == b'{"result":"success","totalresults":0,"clientid":"5","credits":""}'


def test_wrong_fixtures(tmp_path: Path) -> None:
    """Invalid fixtures raise FixtureError."""
    path = tmp_path / "clients.yaml"
    path.write_text("clients: [{id: 0}]")
    with pytest.raises(FixtureError) as caught:
        create_app(path)
    assert [(problem.path, problem.line, problem.column) for problem in caught.value.problems] == [(str(path), 1, 16)]
