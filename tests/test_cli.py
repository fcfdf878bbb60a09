"""The command: what it prints and logs, how it ends, and what it makes of its options."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
from documented import DOCUMENTED, NOT_FOUND

COMMAND = [sys.executable, "-m", "whmcs_mock"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BROKEN = "clients:\n  - id: 0\n  - {id: 2, name: Ada}\n"
SECRETS = ("F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo", "hunter2", "2ab96390c7dbe3439de74d0c9b0b1767", "secret_key_passphrase")
GUARDED = """\
credentials:
  - {identifier: D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv, secret: F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo}
  - {username: admin, password: hunter2}
access:
  addresses: [127.0.0.1]
  key: secret_key_passphrase
clients:
  - id: 1
"""
STEERING = (
    "\n",
    "\r",
    "\r\n",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x00",
    "\x08",
    "\x7f",
    "\x85",
    "\x9b",
    "\u2028",
    "\u202e",
)
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these signals nor terminals")


def environment(**more: str) -> dict[str, str]:
    ours = ("WHMCS_MOCK", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | more


def run(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *args], capture_output=True, encoding="utf-8", env=environment(**more), timeout=30, check=False
    )


@dataclass
class Server:
    """A running ``whmcs-mock serve``."""

    process: subprocess.Popen[str]
    ready: str
    log: Path

    @property
    def url(self) -> str:
        return self.ready.split()[2]

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, FORM)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def call(self, **params: str) -> str:
        return self.request("POST", "/includes/api.php", urlencode(params))[1]

    def stop(self) -> list[str]:
        """End it, and return the lines of its access log."""
        self.process.terminate()
        self.process.wait(30)
        return self.log.read_text("utf-8").splitlines()


@contextlib.contextmanager
def serving(log: Path, *args: str, **more: str) -> Iterator[Server]:
    """Serve on a free port, unless another is named; what it writes to stderr goes to a file."""
    port = () if "--port" in args or "WHMCS_MOCK_PORT" in more else ("--port", "0")
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [*COMMAND, "serve", *port, *args],
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            env=environment(**more),
        ) as process,
    ):
        assert process.stdout
        try:
            ready = process.stdout.readline()
            assert ready, log.read_text("utf-8")
            yield Server(process, ready, log)
        finally:
            process.kill()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the place where the server's stderr goes."""
    return tmp_path / "stderr.log"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Give a folder of two files with 3 clients and 17 credits."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    credits = "\n".join("      - {date: 2016-01-01, amount: 1}" for _ in range(17))
    (folder / "a.yaml").write_text(f"clients:\n  - id: 1\n    credits:\n{credits}\n")
    (folder / "b.yml").write_text("clients:\n  - id: 2\n  - id: 3\n")
    return folder


@pytest.fixture
def guarded(tmp_path: Path) -> Path:
    """Give a file with credentials and access rules."""
    path = tmp_path / "guarded.yaml"
    path.write_text(GUARDED)
    return path


@pytest.fixture
def free_port() -> int:
    """Give a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


# serve: what it prints.


@pytest.mark.parametrize(("named", "counts"), [(False, "clients=1 credits=2"), (True, "clients=3 credits=17")])
def test_ready(named: bool, counts: str, ledger: Path, free_port: int, log: Path) -> None:
    """One line on stdout says that it listens, where, and what it has."""
    with serving(log, *([str(ledger)] if named else []), "--port", str(free_port)) as server:
        assert server.ready == f"whmcs-mock ready http://127.0.0.1:{free_port}/includes/api.php {counts}\n"
        server.call(action="GetCredits")
        server.stop()
        assert server.process.stdout
        assert server.process.stdout.read() == ""


def test_answer(log: Path) -> None:
    """Without fixtures it serves the example of the documentation, byte for byte, and its error."""
    with serving(log) as server:
        assert server.call(action="GetCredits", clientid="1", responsetype="json") == DOCUMENTED
        assert server.call(action="GetCredits", clientid="2", responsetype="json") == NOT_FOUND


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])
def test_ready_url(host: str, log: Path) -> None:
    """The URL of the ready line can be called, whatever the host."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with serving(log, "--host", host) as server:
        assert server.request("GET", "/includes/api.php?action=GetCredits&clientid=1") == (200, DOCUMENTED)


def test_port_0(log: Path, tmp_path: Path) -> None:
    """Port 0 takes a free port, another one for each server."""
    with serving(log) as one, serving(tmp_path / "other.log") as other:
        assert one.address != other.address


# serve: its access log.


def test_log(log: Path) -> None:
    """The access log has one line for each call: the action, the clientid, the result and the status."""
    with serving(log) as server:
        server.call(action="GetCredits", clientid="1", responsetype="json")
        server.call(action="getcredits", clientid="77", responsetype="xml")
        server.call(clientid="1")
        server.request("GET", "/elsewhere")
        lines = server.stop()
    for line, words in zip(
        lines,
        [
            ("GetCredits", "clientid=1", "success", "200"),
            ("getcredits", "clientid=77", "error", "200", "Client ID Not Found"),
            ("clientid=1", "error", "400", "Empty action request"),
            ("GET", "/elsewhere", "404"),
        ],
        strict=True,
    ):
        for word in words:
            assert re.search(rf"(^|\W){word}(\W|$)", line)


def test_log_secrets(guarded: Path, log: Path) -> None:
    """No secret stands in the access log, wherever it was sent and whatever came of it."""
    good = {"identifier": "D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv", "secret": "F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo"}
    get, add = {"action": "GetCredits", "clientid": "1"}, {"action": "AddCredit", "clientid": "1"}
    with serving(log, str(guarded)) as server:
        for secret in SECRETS:
            calls: list[Mapping[str, str]] = [
                {**get, **good, "accesskey": secret},
                {**get, **good, "clientid": secret},
                {**get, **good, "responsetype": secret},
                {**get, **good, secret: "1"},
                {**good, "action": secret},
                {**add, **good, "type": secret},
                {**add, **good, "amount": secret},
                {**add, **good, "amount": "1", "date": secret},
                {**get, "identifier": secret, "secret": secret},
                {**get, "username": "admin", "password": secret},
                {**get, "username": secret, "password": "x"},
                {**get, "password": secret},
            ]
            for call in calls:
                server.call(**call)
            for path in ("/includes/api.php?secret=", "/includes/api.php&secret=", "/"):
                server.request("GET", path + secret)
        lines = server.stop()
    assert len(lines) == len(SECRETS) * (len(calls) + 3)
    assert [line for line in lines if any(secret.lower() in line.lower() for secret in SECRETS)] == []


def test_log_forged(log: Path) -> None:
    """What a client sends can neither begin a line of the access log nor steer the terminal."""
    with serving(log) as server:
        for text in STEERING:
            forged = f"x{text}12:00:00 AddCredit -> 200 json success"
            server.call(**{"action": "GetCredits", "clientid": "1", forged: "1"})
            server.call(action="GetCredits", clientid=forged)
            server.call(action=forged, clientid="1")
            server.call(action="GetCredits", clientid="1", responsetype=forged)
            server.request("GET", "/" + quote(forged))
        server.stop()
    lines = log.read_bytes().decode().split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert len(lines) == 5 * len(STEERING) + 1


@on_posix
@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_log_colours(more: dict[str, str], coloured: bool) -> None:
    """The access log has colours on a terminal only, and with NO_COLOR not even there."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        encoding="utf-8",
        env=environment(TERM="xterm", **more),
    )
    os.close(theirs)
    with process:
        assert process.stdout
        server = Server(process, process.stdout.readline(), Path())
        server.call(action="GetCredits", clientid="1")
        process.terminate()
        log = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "GetCredits" in log
    assert ("\x1b[" in log) is coloured


def test_log_plain(log: Path) -> None:
    """The access log in a file has no colours, even when colours are wished for."""
    with serving(log, FORCE_COLOR="1", CLICOLOR_FORCE="1") as server:
        server.call(action="GetCredits", clientid="1")
        server.stop()
    assert b"\x1b" not in log.read_bytes()


# serve: how it ends.


@on_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals, log: Path) -> None:
    """SIGINT and SIGTERM end it with exit code 0, also while clients hold connections in every state."""
    with serving(log) as server, contextlib.ExitStack() as held:
        for sent in (
            b"",
            b"POST /incl",
            b"POST /includes/api.php HTTP/1.1\r\nContent-Length: 9\r\n\r\nact",
            b"POST /includes/api.php HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nac",
            b"POST /includes/api.php HTTP/1.1\r\nContent-Length: 2000000\r\n\r\nact",
            b"GET /includes/api.php?action=GetCredits HTTP/1.1\r\n\r\n",
        ):
            held.enter_context(socket.create_connection(server.address)).sendall(sent)
        assert server.call(action="GetCredits", clientid="2") == NOT_FOUND
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
    assert "Traceback" not in log.read_text("utf-8")


@on_posix
def test_many_signals(log: Path) -> None:
    """Signals that come thick and fast end it with exit code 0 all the same."""
    for _ in range(3):
        with serving(log) as server:
            for number in 500 * [signal.SIGINT, signal.SIGTERM]:
                server.process.send_signal(number)
            assert server.process.wait(10) == 0
        assert log.read_text("utf-8") == ""


@on_posix
def test_signal_in_background(log: Path) -> None:
    """SIGINT ends it also when a script started it in the background, which ignores SIGINT at first."""
    script = 'trap "" INT; exec "$@"'
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            ["sh", "-c", script, "sh", *COMMAND, "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment(),
        ) as process,
    ):
        assert process.stdout
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@on_posix
@pytest.mark.parametrize("stderr", [">&-", ">/dev/full", "| true"])
def test_stderr_gone(stderr: str) -> None:
    """Calls are answered though the access log cannot be written."""
    if stderr == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    script = f'exec "$@" 2{stderr}' if stderr[0] == ">" else f'{{ exec "$@" 2>&1 >&3 {stderr}; }} 3>&1'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *COMMAND, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            server = Server(process, process.stdout.readline(), Path())
            assert [server.call(action="GetCredits", clientid="1") for _ in range(3)] == 3 * [DOCUMENTED]
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode in (0, -signal.SIGTERM)  # the shell's, where it has a pipe


# serve: what it cannot do.


def test_port_taken() -> None:
    """A taken port is exit code 3, and one sentence that names the host, the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for word in ("127.0.0.1", port, "port 0|--port|another port|0 takes a free"):
        assert re.search(word, done.stderr)


@pytest.mark.parametrize("host", ["203.0.113.7", "a b", "h" * 300])
def test_wrong_host(host: str) -> None:
    """A host that is not this machine's is exit code 3, and one sentence that names it and the port."""
    done = run("serve", "--host", host, "--port", "0")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert host in done.stderr


def test_host_is_no_file(tmp_path: Path) -> None:
    """A file that is named like a Unix socket's host stays what it is."""
    file = tmp_path / "precious"
    file.write_text("data")
    done = run("serve", "--host", f"unix://{file}", "--port", "0")
    assert done.returncode in (2, 3)
    assert file.read_text() == "data"


def test_broken_fixtures(tmp_path: Path) -> None:
    """Broken fixtures are exit code 1 from serve, check and call, with every problem in a line."""
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    serve, check, call = run("serve", str(path)), run("check", str(path)), run("call", "x", "--fixtures", str(path))
    assert [done.returncode for done in (serve, check, call)] == [1, 1, 1]
    assert check.stderr == serve.stdout == call.stdout == ""
    assert check.stdout == serve.stderr == call.stderr
    first, second = check.stdout.splitlines()
    assert first.startswith(f"{path}:2:9: ")
    assert second.startswith(f"{path}:3:13: ")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["serve", "--port", "http"],
        ["serve", "--port", "65536"],
        ["serve", "--profile", "real"],
        ["call"],
        ["call", "GetCredits", "clientid"],
    ],
)
def test_wrong_usage(args: list[str]) -> None:
    """Wrong usage is exit code 2, with the usage on stderr."""
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: whmcs-mock")


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("PROFILE", "real")])
def test_wrong_environment(name: str, value: str) -> None:
    """Wrong usage by the environment is exit code 2 too, and the variable is named."""
    done = run("serve", **{f"WHMCS_MOCK_{name}": value})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"WHMCS_MOCK_{name}" in done.stderr


# Options from the environment.


def test_environment(ledger: Path, guarded: Path, free_port: int, log: Path) -> None:
    """Every option can come from the environment, several paths as in PATH."""
    (ledger / "a.yaml").unlink()
    more = {
        "WHMCS_MOCK_HOST": "localhost",
        "WHMCS_MOCK_PORT": str(free_port),
        "WHMCS_MOCK_PROFILE": "live",
        "WHMCS_MOCK_FIXTURES": os.pathsep.join([str(ledger), str(guarded)]),
    }
    with serving(log, **more) as server:
        assert server.ready == f"whmcs-mock ready http://localhost:{free_port}/includes/api.php clients=3 credits=0\n"
        assert server.call(action="GetCredits") == "result=error;message=Invalid or missing credentials"
    assert run("check", **more).stdout == "ok: 2 files, 3 clients, 0 credits\n"
    assert run("call", "GetCredits", **more).stdout.rstrip() == "result=error;message=Invalid or missing credentials"


def test_environment_yields(ledger: Path, log: Path) -> None:
    """The command line wins over the environment, and an empty variable is none."""
    more = {"WHMCS_MOCK_HOST": "", "WHMCS_MOCK_PORT": "1", "WHMCS_MOCK_PROFILE": "live", "WHMCS_MOCK_FIXTURES": "no"}
    with serving(log, "--port", "0", "--profile", "documented", str(ledger), **more) as server:
        assert server.address[0] == "127.0.0.1"
        assert server.call(action="GetCredits", clientid="9") == NOT_FOUND
    assert run("check", WHMCS_MOCK_FIXTURES="").stdout == "ok: 1 file, 1 client, 2 credits\n"


def test_path_with_blanks(tmp_path: Path) -> None:
    """A path in the environment may hold blanks."""
    path = tmp_path / "my credits.yaml"
    path.write_text("clients: [{id: 1}]")
    assert run("check", WHMCS_MOCK_FIXTURES=str(path)).stdout == "ok: 1 file, 1 client, 0 credits\n"


# check and call.


def test_check(ledger: Path) -> None:
    """Check counts what is fine."""
    done = run("check", str(ledger))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok: 2 files, 3 clients, 17 credits\n", "")


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        (["clientid=1"], DOCUMENTED),
        ([], NOT_FOUND),
        (["clientid=1=1"], NOT_FOUND),
        (
            ["clientid=2", "--profile", "live", "responsetype=json"],
            '{"result":"error","message":"Client ID Not Found"}',
        ),
        (["--profile=live"], "result=error;message=Client ID Not Found"),
    ],
)
def test_call(args: list[str], answer: str) -> None:
    """Call prints the answer that a server would give."""
    done = run("call", "GetCredits", *args)
    assert (done.returncode, done.stdout.removesuffix("\n"), done.stderr) == (0, answer, "")


def test_call_with_fixtures(ledger: Path, guarded: Path) -> None:
    """Call takes fixtures by --fixtures, as often as wished, and their credentials as parameters."""
    (ledger / "a.yaml").unlink()
    paths = [f"--fixtures={ledger}", "--fixtures", str(guarded)]
    login = ["username=admin", "password=2ab96390c7dbe3439de74d0c9b0b1767"]
    assert '"totalresults": "0"' in run("call", "getcredits", *login, "clientid=3", *paths).stdout
    assert "Authentication Failed" in run("call", *paths, "getcredits", login[0], "password=x").stdout


@on_posix
@pytest.mark.parametrize("args", [["check"], ["call", "GetCredits", "clientid=1"], ["--help"]])
def test_stdout_gone(args: list[str]) -> None:
    """A reader who goes away, as head does, is no reason for a traceback."""
    with subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment()
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""


# Help.


def test_version() -> None:
    """The version is that of the installed distribution."""
    assert re.search(rf"\b{re.escape(importlib.metadata.version('whmcs-mock'))}$", run("--version").stdout.strip())


@pytest.mark.parametrize("command", ["", "serve", "check", "call"])
def test_help(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each help has an example, on one line of 80 columns, which works."""
    shown = run(*command.split(), "--help").stdout
    found = re.search(rf"^ *Example: whmcs-mock ({command or 'serve'}\b.*)$", shown, re.MULTILINE)
    assert found
    example = found[1].split()
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "clients.yaml").write_text("clients: [{id: 1}]")
    monkeypatch.chdir(tmp_path)
    if example[0] == "serve":
        port = example.index("--port") + 1 if "--port" in example else None
        if port:
            example[port] = "0"
        with serving(tmp_path / "log", *example[1:]) as server:
            assert "clients=1 credits=0" in server.ready
    else:
        assert run(*example).returncode == 0


def test_help_environment() -> None:
    """The help of serve names the variables of the environment."""
    shown = run("serve", "--help").stdout
    for option in ("HOST", "PORT", "PROFILE", "FIXTURES"):
        assert f"WHMCS_MOCK_{option}" in shown
