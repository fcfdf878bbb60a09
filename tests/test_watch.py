"""Reloading on a changed file or SIGHUP: all or nothing, and no call is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, Server, environment, eventually, on_posix, serving

CREDITS = 40


def write(path: Path, *ids: int, atomic: bool = True) -> None:
    """Write a file of clients; an editor that is not atomic writes it in two parts."""
    text = json.dumps({"clients": [{"id": id} for id in ids]})
    if atomic:
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)
        return
    with path.open("w", buffering=1) as file:
        file.write(text[: len(text) // 2])
        file.flush()
        time.sleep(0.01)
        file.write(text[len(text) // 2 :])


def health(server: Server) -> dict[str, Any]:
    return dict(server.ask("GET", "/_mock/health").json)


def clients(server: Server, world: str = "") -> list[int]:
    return [client["id"] for client in server.ask("GET", f"{world}/_mock/clients").json["clients"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Provide a fixture file with client 1."""
    path = tmp_path / "fixtures" / "clients.yaml"
    path.parent.mkdir()
    write(path, 1)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the place where the server's stderr goes."""
    return tmp_path / "stderr.log"


@pytest.mark.parametrize("folder", [False, True])
def test_reload(folder: bool, file: Path, log: Path) -> None:
    """A changed file is reloaded in all worlds and logged in one line; additions are dropped, calls are kept."""
    with serving(log, str(file.parent if folder else file)) as server:
        for world in ("", "/world/a"):
            server.ask("POST", f"{world}/_mock/fixtures", "clients: [{id: 8}]")
            server.call(world, action="GetCredits", clientid="8")
        write(file, 1, 2)
        eventually(lambda: clients(server) == [1, 2])
        assert clients(server, "/world/a") == [1, 2]
        assert [health(server)["calls"], len(server.ask("GET", "/world/a/_mock/calls").json)] == [1, 1]
        lines = server.stop()
    assert [line.partition(" ")[2] for line in lines if "reload" in line] == [
        "whmcs-mock: reloaded clients=2 credits=0 actions=2"
    ]


def test_new_and_removed_files(file: Path, log: Path) -> None:
    """In a folder, new files are loaded and removed ones dropped; other files are ignored."""
    with serving(log, str(file.parent)) as server:
        (file.parent / ".clients.yaml.swp").write_text("x")
        (file.parent / "notes.txt").write_text("x")
        other = file.parent / "more.yml"
        write(other, 3)
        eventually(lambda: clients(server) == [1, 3])
        other.unlink()
        eventually(lambda: clients(server) == [1])
        (file.parent / "notes.txt").write_text("xy")
        assert len([line for line in server.stop() if "reload" in line]) == 2


def test_bad_reload(file: Path, log: Path) -> None:
    """An invalid file keeps the last good fixtures; health stays 200 and lists the problems until they are fixed."""
    with serving(log, str(file)) as server:
        server.ask("POST", "/_mock/fixtures", "clients: [{id: 8}]")
        file.write_text("clients:\n  - id: 0\n  - {id: 2, name: Ada}\n")
        first, second = eventually(lambda: health(server)["problems"])
        assert health(server)["status"] == "problems"
        assert first.startswith(f"{file}:2:9: ")
        assert second.startswith(f"{file}:3:13: ")
        assert clients(server) == [1, 8]
        assert first in server.ask("GET", "/_mock/report").text
        assert eventually(lambda: [first, second] == server.lines()[-2:])
        write(file, 1, 2)
        eventually(lambda: clients(server) == [1, 2])
        assert (health(server)["status"], health(server)["problems"]) == ("ok", [])


def test_missing(file: Path, log: Path) -> None:
    """A removed file is a problem until it exists again."""
    with serving(log, str(file)) as server:
        file.unlink()
        [problem] = eventually(lambda: health(server)["problems"])
        assert "no such file" in problem
        write(file, 4)
        eventually(lambda: clients(server) == [4])
        assert not health(server)["problems"]


def test_half_written(file: Path, log: Path) -> None:
    """A half-written file is read again before problems are reported."""
    with serving(log, str(file)) as server:
        for number in range(2, 5):
            with file.open("w") as half:
                half.write('{"clients": [{"id": 1}, {"id')
                half.flush()
                if hasattr(signal, "SIGHUP"):
                    server.process.send_signal(signal.SIGHUP)
                time.sleep(0.2)  # the time in which the other half is not there
                half.write(f'": {number}}}]}}')
            eventually(lambda number=number: clients(server) == [1, number])  # type: ignore[misc]
        assert not [line for line in server.stop() if "not reloaded" in line]


@on_posix
@pytest.mark.parametrize("watch", [[], ["--no-watch"]])
def test_sighup(watch: list[str], file: Path, log: Path) -> None:
    """SIGHUP reloads at once, even unchanged files and with --no-watch."""
    with serving(log, str(file), *watch) as server:
        before = file.stat()
        server.ask("POST", "/_mock/fixtures", "clients: [{id: 8}]")
        file.write_text(file.read_text().replace("1", "5"))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        begun = time.monotonic()
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: clients(server) == [5])
        assert time.monotonic() - begun < 0.9
        file.write_text("clients: [")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: health(server)["problems"])
        assert server.process.poll() is None


@on_posix
def test_sighup_without_files(log: Path) -> None:
    """SIGHUP begins the documented example anew, too."""
    with serving(log) as server:
        server.ask("POST", "/_mock/fixtures", "clients: [{id: 8}]")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: clients(server) == [1])


def test_no_watch(file: Path, log: Path, tmp_path: Path) -> None:
    """With --no-watch, a changed file is not reloaded."""
    with serving(log, str(file), "--no-watch") as server, serving(tmp_path / "other", str(file)) as other:
        write(file, 1, 2)
        eventually(lambda: clients(other) == [1, 2])
        assert clients(server) == [1]


def test_quiet(file: Path, log: Path) -> None:
    """With --quiet a good reload has no line, a bad one has."""
    with serving(log, str(file), "--quiet") as server:
        write(file, 2)
        eventually(lambda: clients(server) == [2])
        file.write_text("clients: [{id: x}]")
        eventually(lambda: health(server)["problems"])
        lines = server.stop()
    assert (len(lines), "not reloaded" in lines[0]) == (2, True)


def test_many_problems(file: Path, log: Path) -> None:
    """Of many problems the first 50 are shown, and how many more there are."""
    with serving(log, str(file)) as server:
        file.write_text("clients:\n" + "  - id: 0\n" * 70)
        problems = eventually(lambda: health(server)["problems"])
        assert (len(problems), problems[-1]) == (51, "and 20 more")
        assert server.stop()[-51:] == problems


@on_posix
def test_terminal_closed(file: Path) -> None:
    """The SIGHUP of a closed terminal ends the server."""
    ours, theirs = os.openpty()
    code = (
        "import os, sys; os.setsid(); os.close(os.open(os.ttyname(2), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *COMMAND, "serve", "--port", "0", str(file)]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment()) as process:
        os.close(theirs)
        assert process.stdout
        assert process.stdout.readline()
        os.close(ours)
        try:
            assert process.wait(10) == 0
        finally:
            process.kill()


# Under load.


def ask(connection: socket.socket, world: str) -> bytes:
    connection.sendall(f"GET {world}/_mock/clients HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return answer(connection)


def call(connection: socket.socket, world: str, clientid: int) -> bytes:
    target = f"{world}/includes/api.php?action=GetCredits&clientid={clientid}&responsetype=json"
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return answer(connection)


def answer(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or pytest.fail("the connection was closed")
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536) or pytest.fail("the connection was closed")
    assert head.startswith(b"HTTP/1.1 200 ")
    return body


@on_posix
def test_under_load(file: Path, log: Path) -> None:
    """With 200 clients and a reload every 0.1 s, each call is answered and kept, and from one whole set of fixtures."""
    # Every set has as many clients, all with ids of its own: 1001 to 1040, 2001 to 2040 ...
    sets = [range(1000 * n + 1, 1000 * n + CREDITS + 1) for n in range(1, 10)]
    write(file, *sets[0])
    done = threading.Event()
    wrong: list[Any] = []

    def read(number: int, server: Server) -> int:
        world = f"/world/{number % 20}"
        with socket.create_connection(server.address, timeout=30) as connection:
            count = 0
            while not done.is_set():
                if number % 10 == 0:
                    told = [client["id"] for client in json.loads(ask(connection, world))["clients"]]
                    if told not in [list(ids) for ids in sets]:
                        wrong.append(told)
                else:
                    call(connection, world, 1001)
                    count += 1
                time.sleep(0.05)
            return count

    with serving(log, str(file)) as server, ThreadPoolExecutor(200) as pool:
        counts = [pool.submit(read, number, server) for number in range(200)]
        number = 0
        while number < 20 or sum("reloaded" in line for line in server.lines()) < 1:
            assert number < 300, "it does not reload under load"
            number += 1
            write(file, *sets[number % len(sets)], atomic=number % 2 == 0)
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        done.set()
        sent = sum(count.result(30) for count in counts)
        kept = [server.ask("GET", f"/world/{number}/_mock/health").json["calls"] for number in range(20)]
        lines = server.stop()
    assert wrong == []
    assert sent == sum(kept)
    assert not [line for line in lines if "not reloaded" in line or "Traceback" in line]
