"""Serve one static answer from the command line: whmcs-mock beside Prism and Mockoon, where those are installed.

``npm install @stoplight/prism-cli @mockoon/cli`` in the working directory, or their commands on the PATH.
Ready is when the first call is answered, from the launch of the process.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from measure import ENVIRONMENT, FORM, PATH, RawClient, machine, percentile, table

from whmcs_mock import MockServer

LAUNCHES, CALLS, WARM_UP = 5, 300, 50


def openapi(answer: str) -> dict[str, object]:
    """Describe the answer as Prism wants it."""
    content = {"application/json": {"example": json.loads(answer), "schema": {"type": "object"}}}
    responses = {"200": {"description": "The credit log", "content": content}}
    body = {"content": {FORM: {"schema": {"type": "object"}}}}
    paths = {PATH: {"post": {"requestBody": body, "responses": responses}}}
    return {"openapi": "3.0.3", "info": {"title": "WHMCS", "version": "1"}, "paths": paths}


def mockoon(answer: str) -> dict[str, object]:
    """Describe the answer as Mockoon wants it."""
    response = {"uuid": "r", "body": answer, "statusCode": 200, "default": True, "bodyType": "INLINE", "rules": []}
    response["headers"] = [{"key": "Content-Type", "value": "application/json"}]
    route = {"uuid": "a", "type": "http", "method": "post", "endpoint": PATH[1:], "responses": [response]}
    return {"uuid": "e", "lastMigration": 33, "name": "WHMCS", "port": 3000, "routes": [route]}


def ready(command: Sequence[str], port: int) -> tuple[float, subprocess.Popen[bytes], RawClient]:
    """Launch a server; return the seconds to its first answer, and both ends."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    client = RawClient(f"http://127.0.0.1:{port}{PATH}")
    while time.perf_counter() < begun + 60:
        try:
            client.call()
        except ConnectionError:
            client.close()
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            time.sleep(0.005)
        else:
            return time.perf_counter() - begun, process, client
    raise TimeoutError(f"{command[0]} was not ready within a minute")


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> None:
    """Launch all in turns, and call each."""
    print(machine())
    with MockServer() as server:
        answer = RawClient(server.url, kept=False).call().decode()
    where = os.pathsep.join([os.environ["PATH"], os.path.join("node_modules", ".bin")])
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{name}.json") for name in ("prism", "mockoon")}
        files["prism"].write_text(json.dumps(openapi(answer)))
        files["mockoon"].write_text(json.dumps(mockoon(answer)))
        commands = {
            "whmcs-mock": [sys.executable, "-m", "whmcs_mock", "serve", "--port"],
            "Prism": ["prism", "mock", str(files["prism"]), "--port"],
            "Mockoon": [
                "mockoon-cli",
                "start",
                "--data",
                str(files["mockoon"]),
                "--repair",
                "--disable-log-to-file",
                "--port",
            ],
        }
        for name, command in list(commands.items()):
            if found := shutil.which(command[0], path=where):
                command[0] = found
            else:
                print(f"{name} is left out: there is no command {command[0]}")
                del commands[name]
        launches: dict[str, list[float]] = {name: [] for name in commands}
        calls: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(LAUNCHES):
            for name, command in commands.items():
                port = free_port()
                seconds, process, client = ready([*command, str(port)], port)
                launches[name].append(seconds)
                for call in range(WARM_UP + CALLS):
                    begun = time.perf_counter()
                    client.call()
                    if call >= WARM_UP:
                        calls[name].append(time.perf_counter() - begun)
                client.close()
                process.terminate()
                process.wait()
    table(
        f"{LAUNCHES} launches, {CALLS} calls in each, on a kept connection",
        ("", "launch to first answer", "ratio", "p50", "p99", "p50 ratio"),
        *(
            (
                name,
                f"{median(launches[name]) * 1e3:.0f} ms",
                f"{median(launches[name]) / median(launches['whmcs-mock']):.1f}",
                f"{median(times) * 1e6:,.0f} µs",
                f"{percentile(times, 99) * 1e6:,.0f} µs",
                f"{median(times) / median(calls['whmcs-mock']):.1f}",
            )
            for name, times in calls.items()
        ),
    )


if __name__ == "__main__":
    main()
