"""The examples of docs/server.md run one by one and all at once, and none leaves a server running.

test_docs.py checks that docs/server.md shows these files as they are, and runs its console commands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
HERE = str(Path(sys.executable).parent)
PATIENCE = 120  # seconds; the first go test compiles

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the examples' tools are found as on Debian")

#: The command that runs the tests of each language, and the output if all pass.
SUITES = {
    "php": (["phpunit"], r"OK \(10 tests, "),
    "node": (["npm", "test"], r" pass 7\n. fail 0\n"),
    "go": (["go", "test", "-count=1", "."], r"^ok\s+example\.com/billing"),
    "shell": (["sh", "test.sh"], r"^ok$"),
}
EXTENSIONS = "exit(extension_loaded('curl') ? 0 : 1);"


def needs(language: str) -> None:
    """Skip a test if the tools of a language are not installed."""
    program = {"php": "phpunit", "node": "npm", "shell": "curl"}.get(language, language)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if language == "php" and subprocess.run(["php", "-r", EXTENSIONS], check=False).returncode:
        pytest.skip("PHP's extension curl is not installed")


def environment(*, path: str = "", **more: str) -> dict[str, str]:
    """Return an environment with a folder first on PATH, and without proxies or variables of our own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WHMCS_", "NODE_", "PYTEST", "COV_")) and not name.lower().endswith("_proxy")
    }
    return kept | {"PATH": f"{path or HERE}:{os.environ['PATH']}", "GOFLAGS": "-mod=mod", "GOPROXY": "off"} | more


def begin(command: list[str], language: str, **more: str) -> subprocess.Popen[str]:
    """Start a command in the folder of a language's example."""
    return subprocess.Popen(
        command,
        cwd=EXAMPLES / language,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    with process:
        output = process.communicate(timeout=PATIENCE)[0]
        return process.returncode, output


def run(command: list[str], language: str, **more: str) -> tuple[int, str]:
    needs(language)
    return finish(begin(command, language, **more))


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Run ``whmcs-mock serve``; yield the ready line."""
    command = [sys.executable, "-m", "whmcs_mock", "serve", "--port", "0", *options]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stdout
        try:
            yield server.stdout.readline()
        finally:
            server.terminate()
    assert server.returncode == 0


def base(ready: str) -> str:
    return ready.split()[2].removesuffix("/includes/api.php")


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return json.load(answer)


def listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port)).close()
    except ConnectionRefusedError:
        return False
    return True


def stops(url: str) -> bool:
    """Return whether a server stops within ten seconds."""
    until = time.monotonic() + 10
    while listens(url) and time.monotonic() < until:
        time.sleep(0.02)
    return not listens(url)


# One by one, and all at once.


@pytest.mark.parametrize("language", SUITES)
def test_alone(language: str, tmp_path: Path) -> None:
    """A suite starts a server, passes, and stops the server; it only needs the command on the PATH."""
    note = tmp_path / "whmcs-mock"
    note.write_text(f'#!/bin/sh\nmkfifo "{tmp_path}/out"\ntee "{tmp_path}/ready" < "{tmp_path}/out" &\n'
                    f'exec "{sys.executable}" -m whmcs_mock "$@" > "{tmp_path}/out"\n')  # fmt: skip
    note.chmod(0o755)
    command, passed = SUITES[language]
    code, output = run(command, language, path=str(tmp_path))
    assert code == 0, output
    assert re.search(passed, output, re.MULTILINE), output
    assert stops(base((tmp_path / "ready").read_text()))


def test_together() -> None:
    """A PHPUnit suite of ten cases and six node:test files share one server, isolated from each other."""
    needs("php")
    needs("node")
    files = sorted(path.name.removesuffix(".test.js") for path in (EXAMPLES / "node" / "test").iterdir())
    assert len(files) == 6
    with serving("--profile", "live", "--quiet") as ready:
        url = base(ready)
        before = get(f"{url}/_mock/health")
        php = begin(["phpunit"], "php", WHMCS_MOCK_URL=url)
        node = begin(["node", "--test", "--test-concurrency=6"], "node", WHMCS_MOCK_URL=url)
        for process, passed in ((node, SUITES["node"][1]), (php, SUITES["php"][1])):
            code, output = finish(process)
            assert code == 0, output
            assert re.search(passed, output), output
        assert get(f"{url}/_mock/health") == before  # nothing was sent to the default world
        last = {name: get(f"{url}/world/{name}/_mock/calls") for name in ["phpunit-1", *(f"node-{f}" for f in files)]}
        assert {name: len(calls) for name, calls in last.items()} == {
            "phpunit-1": 1,  # each case starts with a reset; the last one makes one call
            "node-add-credit": 1,
            "node-background": 1,
            "node-balance": 1,
            "node-invoices": 2,
            "node-retries": 3,
            "node-timeouts": 1,
        }


# Every way to exit, and failures to start.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_node_signals(number: signal.Signals) -> None:
    """A signal to the starter script stops the server and the tests, and sets the exit code."""
    needs("node")
    script = "console.log(process.env.WHMCS_MOCK_URL, process.pid); setInterval(() => {}, 1000);"
    with begin(["node", "with-whmcs-mock.js", "node", "-e", script], "node") as process:
        assert process.stdout
        url, _ = process.stdout.readline().split()
        process.send_signal(number)
        assert process.stdout.read() == ""  # the output is closed, so the tests have ended as well
    assert process.returncode == 128 + number
    assert stops(url)


@pytest.mark.parametrize(
    ("script", "code", "word"),
    [
        ("process.exit(3)", 3, ""),
        ("throw new Error('nobody catches this')", 1, "nobody catches this"),
        ("require('node:test').test('fails', () => { throw new Error('it failed'); })", 1, "it failed"),
        ("process.kill(process.pid, 'SIGKILL')", 128 + signal.SIGKILL, ""),
    ],
    ids=["exit", "uncaught", "failing test", "killed"],
)
def test_node_exits(script: str, code: int, word: str) -> None:
    """However the tests exit, the server stops, and their exit code is returned."""
    script = f"console.log(process.env.WHMCS_MOCK_URL); {script}"
    ended, output = run(["node", "with-whmcs-mock.js", "node", "-e", script], "node")
    assert (ended, word in output) == (code, True)
    assert stops(output.splitlines()[0])


@pytest.mark.parametrize("ending", ["", "throw new Error('oh');", "process.exit(2);"], ids=["stop", "error", "exit"])
def test_node_in_one_process(ending: str) -> None:
    """A server started within the test process stops with it, and stop() lets the process exit normally."""
    script = f"""
        import {{ start }} from "./whmcs-mock.js";
        const {{ url, stop }} = await start("--quiet");
        console.log(url);
        {ending}
        stop();
    """
    code, output = run(["node", "--input-type=module", "-e", script], "node")
    assert code == {"": 0, "p": 2, "t": 1}[ending[:1]]
    assert stops(output.splitlines()[0])


def test_php_signal() -> None:
    """A signal that terminates only PHP also stops the server."""
    needs("php")
    script = "require 'tests/WhmcsMock.php'; echo WhmcsMock::start('--quiet'), PHP_EOL; while (true) usleep(10000);"
    with begin(["php", "-r", script], "php") as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert stops(url)


@pytest.mark.parametrize(
    ("language", "word"),
    [
        ("php", "whmcs-mock did not start: see above; if nothing is shown there, it is not on the PATH"),
        ("node", "the command whmcs-mock is missing: install it, and put its folder on the PATH"),
        ("go", 'whmcs-mock did not start: exec: "whmcs-mock": executable file not found in $PATH'),
        ("shell", "whmcs-mock did not start; see above"),
    ],
)
def test_missing_command(language: str, word: str) -> None:
    """Without the command, a suite fails with one sentence that says so."""
    command, _ = SUITES[language]
    lonely = ":".join(folder for folder in os.environ["PATH"].split(":") if not Path(folder, "whmcs-mock").exists())
    if shutil.which(command[0], path=lonely) is None:
        pytest.skip(f"{command[0]} is in the same folder as whmcs-mock")
    code, output = run(command, language, PATH=lonely)
    assert code, output
    assert word in output


@pytest.mark.parametrize("language", SUITES)
def test_wrong_fixtures(language: str, tmp_path: Path) -> None:
    """With invalid fixtures, a suite fails and shows the loader's message."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("clients: 1\n")
    code, output = run(SUITES[language][0], language, WHMCS_MOCK_FIXTURES=str(wrong))
    assert code, output
    assert f"{wrong}:1:10: " in output
    assert "whmcs-mock did not start" in output


# https.


@pytest.fixture(scope="module")
def https() -> Iterator[tuple[str, str]]:
    """Serve https with a temporary authority; yield the URL and the path of the authority's certificate."""
    pytest.importorskip("trustme")
    with serving("--tls", "--profile", "live", "--quiet") as ready:
        yield base(ready), ready.strip().rpartition(" ca=")[2]


@pytest.mark.parametrize(
    ("language", "command", "variable", "passed"),
    [
        ("php", ["php", "-d", "curl.cainfo=FILE", "PHPUNIT", "--filter", "Balance"], "", r"OK \("),
        ("node", ["node", "--test", "test/balance.test.js"], "NODE_EXTRA_CA_CERTS", r" pass 2\n. fail 0\n"),
        ("go", SUITES["go"][0], "SSL_CERT_FILE", SUITES["go"][1]),
        ("shell", ["sh", "-c", "curl -sS $WHMCS_MOCK_URL/_mock/health"], "CURL_CA_BUNDLE", '"status": "ok"'),
    ],
    ids=["php", "node", "go", "curl"],
)
def test_https(language: str, command: list[str], variable: str, passed: str, https: tuple[str, str]) -> None:
    """Each language trusts the server if the authority is configured as docs/server.md says."""
    needs(language)
    url, file = https
    php = shutil.which("phpunit") or ""
    command = [part.replace("FILE", file).replace("PHPUNIT", php) for part in command]
    code, output = run(command, language, WHMCS_MOCK_URL=url, **({variable: file} if variable else {}))
    assert code == 0, output
    assert re.search(passed, output, re.MULTILINE), output


# More than one process.


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """Run a server in the foreground, and stop it at the end."""
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(command, cwd=folder, env=environment(), stderr=log) as one,
    ):
        try:
            yield
        finally:
            one.terminate()
    assert one.returncode == 0, (folder / "log").read_text()


def gunicorn(port: int, *options: str) -> list[str]:
    app = 'whmcs_mock:create_app(profile="live")'
    return [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", *options, app]


def await_ports(*ports: int) -> None:
    """Wait until all ports accept connections."""
    until = time.monotonic() + PATIENCE
    while not all(listens(f"http://127.0.0.1:{port}") for port in ports):
        assert time.monotonic() < until
        time.sleep(0.02)


def post(url: str, body: str) -> Any:
    with urllib.request.urlopen(url, body.encode(), timeout=PATIENCE) as answer:
        return json.load(answer)


def test_gunicorn_workers(tmp_path: Path) -> None:
    """Four gunicorn workers give the same answer to read-only calls."""
    pytest.importorskip("gunicorn")
    [port] = free_ports(1)
    with running(gunicorn(port, "-w", "4"), tmp_path):
        await_ports(port)
        url = f"http://127.0.0.1:{port}/includes/api.php"
        answers = [post(url, "action=GetCredits&clientid=1&responsetype=json") for _ in range(40)]
    assert answers == answers[:1] * 40
    assert [credit["amount"] for credit in answers[0]["credits"]["credit"]] == ["10.00", "-10.00"]


WRAPPER = """\
daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/log;
events {{ }}
http {{
    access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;
    fastcgi_temp_path {0}/fastcgi; uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;
    include {0}/whmcs-mock.conf;
}}
"""


def test_nginx(tmp_path: Path) -> None:
    """With the documented nginx configuration, each world is always served by the same of four gunicorn servers."""
    pytest.importorskip("gunicorn")
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    front, *behind = free_ports(5)
    text = (EXAMPLES / "nginx" / "whmcs-mock.conf").read_text()
    for shown, port in zip([8421, 8431, 8432, 8433, 8434], [front, *behind], strict=True):
        assert text.count(f"127.0.0.1:{shown}") == 1
        text = text.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
    (tmp_path / "whmcs-mock.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(WRAPPER.format(tmp_path))
    with ExitStack() as servers:
        for port in behind:
            servers.enter_context(running(gunicorn(port, "-w", "1", "--threads", "16"), tmp_path))
        servers.enter_context(running([nginx, "-p", f"{tmp_path}", "-c", f"{tmp_path}/nginx.conf"], tmp_path))
        await_ports(front, *behind)
        worlds = [f"/world/job-{number}" for number in range(8)]
        for number, world in enumerate(worlds, 100):
            url = f"http://127.0.0.1:{front}{world}"
            call = f"action=GetCredits&clientid={number}&responsetype=json"
            fixtures = f"{{clients: [{{id: {number}}}], faults: [{{fault: reset, times: 1}}]}}"
            assert post(f"{url}/_mock/fixtures", fixtures)["clients"] == 2
            with pytest.raises(urllib.error.HTTPError, match="502"):  # nginx answers this if the connection is reset
                post(f"{url}/includes/api.php", call)
            for _ in range(2):
                assert post(f"{url}/includes/api.php", call)["result"] == "success"
            assert len(get(f"{url}/_mock/calls?wait=5")) == 3
        counts = [[len(get(f"http://127.0.0.1:{port}{world}/_mock/calls")) for world in worlds] for port in behind]
        assert [sum(column) for column in zip(*counts, strict=True)] == [3] * 8
        assert sum(any(row) for row in counts) > 1
