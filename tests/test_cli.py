"""The command: what it prints and logs, how it ends, and what it makes of its options."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
from command import COMMAND, ENDPOINT, Server, environment, eventually, on_posix, run, serving
from documented import DOCUMENTED, NOT_FOUND

from whmcs_mock.access_log import AccessLog
from whmcs_mock.errors import Problem
from whmcs_mock.excerpt import excerpt
from whmcs_mock.terminal import progress

BROKEN = "clients:\n  - id: 0\n  - {id: 2, name: Ada}\n"
PASSWORD = "hunter2hunter2"
MD5 = hashlib.md5(PASSWORD.encode()).hexdigest()
SECRETS = ("F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo", PASSWORD, MD5, "secret_key_passphrase")
GUARDED = """\
credentials:
  - {identifier: D4j1dKYE3g40VROOPCGyJ9zRwP0ADJIv, secret: F1CKGXRIpylMfsrig3mwwdSdYUdLiFlo}
  - {username: admin, password: hunter2hunter2}
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
        url = f"http://127.0.0.1:{free_port}/includes/api.php"
        assert server.ready == f"whmcs-mock ready {url} {counts} actions=2 profile=documented\n"
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
        lines = [line for line in server.stop() if line[0] != " "]
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
    """The access log contains no secret, wherever it was sent and whatever the answer was."""
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
    assert len([line for line in lines if line[0] != " "]) == len(SECRETS) * (len(calls) + 3)
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
    assert len([line for line in lines if line[:1] != " "]) == 5 * len(STEERING) + 1


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
    """An access log in a file has no colours, even if colours are requested."""
    with serving(log, FORCE_COLOR="1", CLICOLOR_FORCE="1") as server:
        server.call(action="GetCredits", clientid="1")
        server.stop()
    assert b"\x1b" not in log.read_bytes()


def test_log_advice(log: Path) -> None:
    """The advice for a call follows its line."""
    with serving(log) as server:
        server.ask("POST", "/includes/api.php", '{"action": "GetCredits"}', {"Content-Type": "application/json"})
        lines = server.stop()
    assert len(lines) > 1
    assert all(line.startswith("  advice: ") for line in lines[1:])
    assert any("JSON" in line for line in lines[1:])


def test_log_hint(log: Path) -> None:
    """Flat keys get a hint once for each client program, in the profile documented only."""
    flat = "/includes/api.php?action=GetCredits&clientid=1&responsetype=json"
    with serving(log) as server:
        for agent in ("Guzzle/7", "Guzzle/7", "curl/8", "Guzzle/7"):
            server.ask("GET", flat, headers={"User-Agent": agent})
        server.ask("GET", flat.replace("=1", "=99"), headers={"User-Agent": "third"})
        server.ask("PUT", "/_mock/profile", "live")
        server.ask("GET", flat, headers={"User-Agent": "fourth"})
        lines = server.stop()
    kinds = ["hint" if "hint:" in line else "call" for line in lines if "advice" not in line]
    assert kinds == ["call", "hint", "call", "call", "hint", "call", "call", "call"]
    assert "--profile live" in next(line for line in lines if "hint:" in line)


def test_quiet(log: Path) -> None:
    """With --quiet only problems are logged, such as a Host that is refused."""
    with serving(log, "--quiet") as server:
        server.call(action="GetCredits", clientid="1")
        server.ask("GET", "/_mock/health", headers={"Host": "evil.example"})
        [line] = server.stop()
    assert "evil.example" in line


def test_log_file(log: Path, tmp_path: Path) -> None:
    """With --log-file the log is appended to that file, without colours."""
    path = tmp_path / "access.log"
    path.write_text("before\n")
    for _ in range(2):
        with serving(log, "--log-file", str(path), "--quiet") as server:
            server.ask("GET", "/_mock/health", headers={"Host": "evil.example"})
            assert server.stop() == []
    first, second, third = path.read_text().splitlines()
    assert (first, "evil.example" in second, "evil.example" in third) == ("before", True, True)


def test_log_file_unusable(tmp_path: Path) -> None:
    """A log file that cannot be opened is exit code 2 and one sentence that names it."""
    for path in (tmp_path, tmp_path / "missing" / "x.log"):
        done = run("serve", "--port", "0", "--log-file", str(path))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert str(path) in done.stderr


# serve: how it ends.


@on_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals, log: Path) -> None:
    """SIGINT and SIGTERM end it with exit code 0, even with open connections in every state."""
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
    """Repeated signals end it with exit code 0 as well."""
    for _ in range(3):
        with serving(log) as server:
            flood = 0
            while server.process.poll() is None:
                server.process.send_signal((signal.SIGINT, signal.SIGTERM)[flood % 2])
                flood += 1
            assert server.process.wait(10) == 0
        assert log.read_text("utf-8") == ""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell what a process has open")
def test_signals_while_loading(tmp_path: Path) -> None:
    """Signals while fixtures are being loaded end it with exit code 0, too."""
    pipe = tmp_path / "endless.yaml"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # so that reading it waits
    with subprocess.Popen([*COMMAND, "serve", "--port", "0", str(pipe)], stderr=subprocess.PIPE) as process:
        try:
            files = Path(f"/proc/{process.pid}/fd")
            eventually(lambda: str(pipe) in [os.path.realpath(file) for file in files.iterdir()])
            for _ in range(100):
                process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr
            assert process.stderr.read() == b""
        finally:
            process.kill()
    os.close(writer)


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
def test_interrupted(free_port: int) -> None:
    """Ctrl-C ends a command that is not a server without a word."""
    with socket.create_server(("127.0.0.1", free_port)) as slow:
        call = [*COMMAND, "health", f"http://127.0.0.1:{free_port}", "--wait", "30"]
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            slow.accept()[0].close()
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30) == (b"", b"")
            assert process.returncode == -signal.SIGINT


@on_posix
@pytest.mark.parametrize("stderr", [">&-", ">/dev/full", "| true"])
def test_stderr_gone(stderr: str) -> None:
    """Calls are answered even if the access log cannot be written."""
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


@on_posix
def test_log_to_a_full_pipe() -> None:
    """A pipe that is full and not blocking loses no line: the log goes on once it is read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(writer)
    for _ in range(300):
        log.write(lambda: "x" * 1_000)
    lines = 0
    while lines < 300:
        lines += os.read(reader, 65536).count(b"\n")
    log.close()
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_closed_streams(log: Path, free_port: int) -> None:
    """Standard streams that are closed are the null device, and no socket that the log would write to."""
    script = 'exec "$@" <&- >&- 2>&-'
    command = ["sh", "-c", script, "sh", *COMMAND, "serve", "--port", str(free_port)]
    with subprocess.Popen(command, encoding="utf-8", env=environment()) as process:
        try:
            server = Server(process, f"whmcs-mock ready http://127.0.0.1:{free_port}{ENDPOINT}", log)
            assert run("health", server.url, "--wait", "20").returncode == 0
            assert [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)] == 3 * [os.devnull]
            assert server.call(action="GetCredits", clientid="1") == DOCUMENTED
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize("command", ["check", "call GetCredits clientid=1"])
def test_source_of_a_wrong_path(command: str) -> None:
    """A missing file is reported with where it was looked for, and with the variable if its name is from there."""
    named = run("check", "gone.yaml")
    looked = f"gone.yaml:1:1: no such file or folder; looked for {Path('gone.yaml').absolute()}\n"
    assert (named.returncode, named.stdout + named.stderr) == (1, looked)
    done = run(*command.split(), WHMCS_MOCK_FIXTURES="gone.yaml")
    source = "whmcs-mock: the fixtures are those in WHMCS_MOCK_FIXTURES\n"
    assert (done.returncode, done.stdout + done.stderr) == (1, looked + source)


@pytest.mark.parametrize("command", ["check", "schema", "call GetCredits clientid=1", "--version"])
@on_posix
def test_closed_stdout(command: str) -> None:
    """An output that cannot be written, since stdout is closed, is exit code 4 and one sentence."""
    line = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *command.split()]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=30, check=False)
    assert (done.returncode, done.stderr) == (4, "whmcs-mock: cannot write the output: it is closed\n")


@on_posix
@pytest.mark.parametrize("options", ["--log-file PIPE", "--tls-cert PIPE --tls-key PIPE"])
def test_pipe_without_a_partner(options: str, tmp_path: Path) -> None:
    """A pipe that nobody else has opened, given as an option, does not keep the command from ending on SIGTERM."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    line = [*COMMAND, "serve", "--port", "0", *options.replace("PIPE", str(pipe)).split()]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout
        stat = Path(f"/proc/{process.pid}/wchan")
        eventually(lambda: not stat.exists() or "wait_for_partner" in stat.read_text() or process.poll() is not None)
        process.terminate()
        assert process.wait(10) == 0


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
        ["serve", "--idle-timeout", "nan"],
        ["health", "--wait", "nan"],
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


@pytest.mark.parametrize(
    "args",
    [
        *(["serve", name, ""] for name in ("--host", "--port", "--profile", "--log-file", "--idle-timeout")),
        ["serve", ""],
        ["serve", "fixtures", ""],
        ["check", ""],
        ["call", ""],
        ["call", "GetCredits", "--fixtures", ""],
        ["call", "GetCredits", "--profile="],
        ["health", ""],
        ["health", "--wait", ""],
        ["health", "--port", ""],
    ],
)
def test_empty(args: list[str]) -> None:
    """An empty option or path, such as an unset shell variable leaves, is refused in one sentence."""
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert ": empty; is a shell variable unset?" in last
    assert next((arg for arg in args[1:] if arg.startswith("--")), "").rstrip("=") in last


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
        url = f"http://localhost:{free_port}/includes/api.php"
        assert server.ready == f"whmcs-mock ready {url} clients=3 credits=0 actions=2 profile=live\n"
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
    """A path in the environment may contain spaces."""
    path = tmp_path / "my credits.yaml"
    path.write_text("clients: [{id: 1}]")
    assert run("check", WHMCS_MOCK_FIXTURES=str(path)).stdout == "ok: 1 file, 1 client, 0 credits\n"


# check and call.


def test_check(ledger: Path) -> None:
    """Check counts what it has read."""
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
    """Call prints the answer that a server would send."""
    done = run("call", "GetCredits", *args)
    assert (done.returncode, done.stdout.removesuffix("\n")) == (0, answer)


def test_call_with_fixtures(ledger: Path, guarded: Path) -> None:
    """Call takes any number of --fixtures, and credentials as parameters."""
    (ledger / "a.yaml").unlink()
    paths = [f"--fixtures={ledger}", "--fixtures", str(guarded)]
    login = ["username=admin", f"password={MD5}"]
    assert '"totalresults": "0"' in run("call", "getcredits", *login, "clientid=3", *paths).stdout
    assert "Authentication Failed" in run("call", *paths, "getcredits", login[0], "password=x").stdout


def test_call_tells_why() -> None:
    """Call prints the reason for the answer and the advice on stderr."""
    first, *rest = run("call", "GetCredits", "clientid=7").stderr.splitlines()
    assert re.match("why: .*7", first)
    assert all(line.startswith("advice: ") for line in rest)
    assert any("responsetype=json" in line for line in rest)


def test_call_order() -> None:
    """Where stdout and stderr are one, the answer comes before its reason."""
    command = [*COMMAND, "call", "GetCredits", "clientid=7", "responsetype=json"]
    buffered = environment(PYTHONUNBUFFERED="")
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=buffered, check=True).stdout
    assert shown.startswith(NOT_FOUND.encode() + b"\nwhy: ")


def test_call_secrets(guarded: Path) -> None:
    """Call prints no secret on stderr."""
    for secret in SECRETS:
        done = run("call", secret, "username=admin", f"password={secret}", f"{secret}=1", "--fixtures", str(guarded))
        assert secret not in done.stderr
        assert done.returncode == 0


OUTPUTS = [
    ["check"],
    ["call", "GetCredits", "clientid=1"],
    ["schema"],
    ["serve", "--port", "0"],
    ["--help"],
    ["serve", "--help"],
    ["--version"],
]


@on_posix
@pytest.mark.parametrize("args", OUTPUTS)
def test_output_closed(args: list[str]) -> None:
    """A reader that closes the pipe, such as head, is exit code 4 and one sentence."""
    with subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment()
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        told = process.stderr.read()
        assert (process.wait(20), told) == (4, "whmcs-mock: cannot write the output: Broken pipe\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("args", OUTPUTS)
def test_output_full(args: list[str]) -> None:
    """A full disk is exit code 4 and one sentence, also where that cannot be written either."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *args], stdout=full, stderr=subprocess.PIPE, env=environment(), check=False)
        assert (done.returncode, done.stderr.count(b"\n"), b"No space left" in done.stderr) == (4, 1, True)
        done = subprocess.run([*COMMAND, *args], stdout=full, stderr=full, env=environment(), check=False)
        assert done.returncode == 4


def test_check_many(tmp_path: Path) -> None:
    """Of many problems the first 50 are shown, and how many more there are."""
    path = tmp_path / "many.yaml"
    path.write_text("clients:\n" + "  - id: 0\n" * 70)
    done = run("check", str(path))
    assert (done.returncode, done.stderr) == (1, "")
    assert (len(done.stdout.splitlines()), done.stdout.splitlines()[-1]) == (51, "and 20 more")


def test_check_counts(tmp_path: Path) -> None:
    """Check counts files (each page of a folder is one), clients, credits, answers and actions."""
    (tmp_path / "a.yaml").write_text("clients: [{id: 1, credits: [{date: 2020-01-01, amount: 1}]}, {id: 2}]")
    (tmp_path / "b.yaml").write_text("answers: [{action: a, result: {}}, {action: b, result: {}}]")
    pages = Path(__file__).parent / "pages"
    done = run("check", str(tmp_path), str(pages))
    assert done.stdout == "ok: 5 files, 2 clients, 1 credit, 2 answers, 3 actions\n"


def test_check_warnings(tmp_path: Path) -> None:
    """What is probably a mistake is a warning, and exit code 0."""
    path = tmp_path / "a.yaml"
    path.write_text("answers: [{action: a, result: {result: sucess}}]\n")
    done = run("check", str(path))
    first, last = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert first.startswith(f"{path}:1:40: warning: ")
    assert "did you mean success" in first
    assert last.startswith("ok: 1 file")


@on_posix
def test_check_path(tmp_path: Path) -> None:
    """Control characters of a path are escaped, also where a message names it."""
    first, second = tmp_path / "a\x1b[31m\n.yaml", tmp_path / "b\x1b.yaml"
    for path in (first, second):
        path.write_text("clients: [{id: 7}]\n")
    done = run("check", str(first), str(second))
    [line] = done.stdout.splitlines()
    named = rf"{tmp_path}/a\x1b[31m\n.yaml:1:16; keep one of the two"
    assert line == rf"{tmp_path}/b\x1b.yaml:1:16: client 7 is already defined at {named}"


@on_posix
def test_check_pipe(tmp_path: Path) -> None:
    """A pipe is read like a file, and one to which nothing writes does not hang it."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert run("check", str(pipe)).returncode == 1
    piped = subprocess.run(
        [*COMMAND, "check", "/dev/stdin"], input=b"clients: [{id: 1}]", capture_output=True, check=False
    )
    assert piped.stdout == b"ok: 1 file, 1 client, 0 credits\n"


def on_terminal(*args: str, stderr: bool = False) -> str:
    """Run the command to its end, with stdout or stderr on a terminal, and return what it shows there."""
    ours, theirs = os.openpty()
    stdout = subprocess.DEVNULL if stderr else theirs
    with subprocess.Popen([*COMMAND, *args], stdout=stdout, stderr=theirs, env=environment(TERM="xterm")) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells the end of a terminal
            while more := os.read(ours, 65536):
                shown += more
        process.wait(30)
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


@on_posix
@pytest.mark.parametrize("command", [["check"], ["serve", "--port", "0"]])
def test_caret(command: list[str], tmp_path: Path) -> None:
    """On a terminal, and only there, each problem is shown with its source line and a caret."""
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    first, line, caret, second, other, below = on_terminal(
        *command, str(path), stderr=command[0] == "serve"
    ).splitlines()
    assert first.startswith(f"{path}:2:9: ")
    assert (line, caret) == ("      - id: 0", "            ^")
    assert second.startswith(f"{path}:3:13: ")
    assert (other, below) == ("      - {id: 2, name: Ada}", "                ^")
    assert len(run("check", str(path)).stdout.splitlines()) == 2


@on_posix
@pytest.mark.parametrize(
    "text",
    [
        "credentials:\n  - identifier: a\n    secret: sesame-1234\n    secret: sesame-1234\n",
        "credentials:\n- identifier: a\n  secret:\n    [sesame-1234]\n",
        "access:\n  key: [sesame-1234]\n",
        "access:\n  key:\n    [sesame-1234]\n",
        "acess:\n  kee: sesame-1234\n  kee: sesame-1234\n",
        'credentails: [{identifer: a, secert: "sesame-1234", secert: "sesame-1234"}]\n',
        '{"clients": [],\n"credentials": [{"identifier": "a",\n"secret":\n["sesame-1234"]}]}',
        "clients: []\nanswers:\n  - action: a\n    result: {}\n    params:\n      secret:\n        [sesame-1234]\n",
        "answers:\n  - action: a\n    result: {}\n    params: {\n            token:\n        [sesame-1234]}\n",
        "clients: [{id: 0}] # the password is sesame-1234\n",
        "credentials:\n  - {identifier: a, secret: sesame-1234\n",
    ],
)
def test_caret_secrets(text: str, tmp_path: Path) -> None:
    """A line that may hold a secret is never shown."""
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    shown = on_terminal("check", str(path))
    assert f"{path}:" in shown
    assert "ok: " not in shown
    assert "sesame" not in shown


@on_posix
def test_caret_in_json(tmp_path: Path) -> None:
    """A JSON file without secrets has its lines shown, too; a tab counts as one column."""
    path = tmp_path / "broken.json"
    path.write_text('{"clients": [\n\t{"id": 0}\n]}')
    assert '     {"id": 0}\n            ^\n' in on_terminal("check", str(path))


@pytest.mark.parametrize(
    ("before", "cells"),
    [
        ("abc", 3),
        ("é", 1),
        ("e\u0301", 1),
        ("中文", 4),
        ("\uff21", 2),
        ("😀", 2),
        ("☎\ufe0f", 1),
        ("\u0e01\u0e31", 1),
        ("a\u20dd", 1),
    ],
)
def test_caret_columns(before: str, cells: int, tmp_path: Path) -> None:
    """The caret stands below its place, also behind wide and combining characters."""
    path = tmp_path / "broken.yaml"
    path.write_text(f"clients: [{before}: 1]\n", encoding="utf-8")
    problem = Problem(str(path), 1, len("clients: [") + len(before) + 1, "")
    assert excerpt(problem).splitlines()[1] == " " * (4 + len("clients: [") + cells) + "^"


@pytest.mark.parametrize("above", ["", "- id: 1\n", "- id: 1\n  credits:\n"])
def test_caret_tab(above: str, tmp_path: Path) -> None:
    """A line that is indented with a tab is shown, unless a line above may name a secret."""
    path = tmp_path / "broken.yaml"
    line = 2 + above.count("\n")
    path.write_text(f"clients:\n{above}\t- id: sesame\n")
    assert excerpt(Problem(str(path), line, 1, "")) == "     - id: sesame\n    ^"
    other = tmp_path / "secret.yaml"
    other.write_text(f"credentials:\n{above}\t- sesame\n")
    assert excerpt(Problem(str(other), line, 1, "")) == ""
    other = tmp_path / "nested.yaml"
    other.write_text(f"answers:\n{above}      password: |\n        a\n\n        b\n\tsesame\n")
    assert excerpt(Problem(str(other), line + 5, 1, "")) == ""


@on_posix
def test_caret_below_wide_characters(tmp_path: Path) -> None:
    """A wide character takes two columns of a terminal, a combining one none."""
    path = tmp_path / "broken.yaml"
    path.write_text(
        "clients:\n- {id: 1, credits: [{date: 2016-01-01, description: 日本e\u0301, amount: x}]}\n", "utf-8"
    )
    line, caret = on_terminal("check", str(path)).splitlines()[1:]
    assert caret.index("^") == line.index("x}") + 2 - 1


@on_posix
def test_name_that_cannot_be_shown(tmp_path: Path) -> None:
    """Control characters in the name of a file are escaped, so that it can forge no line."""
    path = tmp_path / "a\x1b[31m\nok: b.yaml"
    path.write_text("clients: [{id: 0}]")
    shown = run("check", str(path)).stdout
    assert shown.startswith(f"{tmp_path}/a\\x1b[31m\\nok: b.yaml:1:16: ")
    assert shown.count("\n") == 1


@on_posix
def test_caret_beside_secrets(tmp_path: Path) -> None:
    """A line among clients is shown, also in a file that has secrets elsewhere."""
    path = tmp_path / "broken.yaml"
    path.write_text(f"{GUARDED}    credits:\n    - amount: 1,50\n      date: 2020-01-01\n")
    assert "        - amount: 1,50\n                  ^\n" in on_terminal("check", str(path))


@on_posix
def test_progress(tmp_path: Path) -> None:
    """When loading takes over a second, a terminal shows how far it is; the line is wiped at the end."""
    path = tmp_path / "large.json"
    credits = [{"date": "2020-01-01", "amount": "1.00", "description": "x"}] * 100_000
    path.write_text(json.dumps({"clients": [{"id": 1, "credits": credits}]}))
    shown = on_terminal("call", "GetCredits", "clientid=2", "--fixtures", str(path), stderr=True)
    counted = re.findall(r"\rloading: ([0-9,]+) credits", shown)
    assert counted
    assert sorted(counted, key=lambda count: int(count.replace(",", ""))) == counted
    assert re.search(r"\r +\rwhy: ", shown)
    with progress() as tell:
        assert tell is None  # stderr is no terminal here


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


def test_help_defaults() -> None:
    """The help names the default of every option with a value, zero included."""
    shown = " ".join(run("health", "--help").stdout.split())
    for default in ("WHMCS_MOCK_WAIT; default: 0.0", "default: 127.0.0.1", "default: 8421"):
        assert default in shown


def test_help_environment() -> None:
    """The help of serve names the variables of the environment."""
    shown = run("serve", "--help").stdout
    for option in ("HOST", "PORT", "PROFILE", "FIXTURES"):
        assert f"WHMCS_MOCK_{option}" in shown


# health.


def test_health(log: Path, free_port: int) -> None:
    """Health is exit code 0 for a healthy server, by any URL of it, or by host and port."""
    with serving(log, "--port", str(free_port)) as server:
        base = server.url.removesuffix("/includes/api.php")
        urls = [
            "",
            "/",
            "/world/a",
            "/world/a/includes/api.php",
            "/includes/api.php",
            "/_mock/",
            "/world/a/_mock/health",
        ]
        for args in (*([base + url] for url in urls), [base.removeprefix("http://")], ["--port", str(free_port)]):
            done = run("health", *args)
            assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
        assert run("health", WHMCS_MOCK_HOST="0.0.0.0", WHMCS_MOCK_PORT=str(free_port)).returncode == 0


def test_health_problems(tmp_path: Path, log: Path) -> None:
    """Problems are exit code 1 and their lines."""
    path = tmp_path / "a.yaml"
    path.write_text("clients: [{id: 1}]")
    with serving(log, str(path)) as server:
        path.write_text("clients: [{id: 0}]")
        eventually(lambda: server.ask("GET", "/_mock/health").json["problems"])
        done = run("health", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path}:1:16: " in done.stderr


def test_health_unreachable(log: Path, free_port: int) -> None:
    """A server that does not answer, or not as whmcs-mock, is exit code 1 and one sentence with the URL."""
    with serving(log, "--no-control") as server:
        for url in (f"http://127.0.0.1:{free_port}", "http://a..b", server.url):
            done = run("health", url)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
            assert url in done.stderr


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1", "http://", "http://[", "http://127.0.0.1:99999", "http://127.0.0.1:x", "a b"]
)
def test_health_wrong_url(url: str) -> None:
    """An invalid URL is wrong usage, whatever --wait says."""
    done = run("health", url, "--wait", "20")
    assert (done.returncode, done.stdout) == (2, "")
    assert url in done.stderr


def test_health_wait(log: Path, free_port: int) -> None:
    """With --wait it waits for a server that is about to start."""
    done: list[int] = []
    waiting = threading.Thread(
        target=lambda: done.append(run("health", f"127.0.0.1:{free_port}", "--wait", "20").returncode)
    )
    waiting.start()
    with serving(log, "--port", str(free_port)):
        waiting.join(25)
    assert done == [0]
