"""Run the command as its users do: to its end, or as a server beside the test."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest import mock
from urllib.parse import urlencode, urlsplit

import pytest

from whmcs_mock.cli import main

COMMAND = [sys.executable, "-m", "whmcs_mock"]
FORM = "application/x-www-form-urlencoded"
ENDPOINT = "/includes/api.php"
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither these signals nor terminals")

T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    ours = ("WHMCS_MOCK", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | more


def run(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end: ``serve``, which changes its process, in one of its own, and the others here."""
    kept = environment(**more)
    if "serve" in args:
        return subprocess.run(
            [*COMMAND, *args], capture_output=True, encoding="utf-8", env=kept, timeout=30, check=False
        )
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    code: Any = 0
    with mock.patch.dict(os.environ, kept, clear=True), redirect_stdout(out), redirect_stderr(err):
        try:
            main(args)
        except SystemExit as error:
            code = error.code
    texts = [stream.detach().getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(args, code, *texts)


def eventually(wanted: Callable[[], T], seconds: float = 15) -> T:
    """Return what a function returns as soon as that is true."""
    until = time.monotonic() + seconds
    while not (found := wanted()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return found


class Answer(NamedTuple):
    """Hold an HTTP response; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Return the sentence of an error of the control API."""
        assert isinstance(self.json["error"], str)
        return str(self.json["error"])


@dataclass
class Server:
    """A running ``whmcs-mock serve``."""

    process: subprocess.Popen[str]
    ready: str
    log: Path
    ca: str | None = None

    @property
    def url(self) -> str:
        return self.ready.split()[2]

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def connect(self) -> http.client.HTTPConnection:
        if self.url.startswith("http:"):
            return http.client.HTTPConnection(*self.address, timeout=30)
        return http.client.HTTPSConnection(
            *self.address, timeout=30, context=ssl.create_default_context(cafile=self.ca)
        )

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body.encode() if isinstance(body, str) else body, dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())

    def request(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        answer = self.ask(method, path, body, {"Content-Type": FORM})
        return answer.status, answer.text

    def call(self, world: str = "", /, **params: str) -> str:
        return self.request("POST", world + ENDPOINT, urlencode(params))[1]

    def lines(self) -> list[str]:
        """Return what it has written to stderr."""
        return self.log.read_text("utf-8").splitlines()

    def stop(self) -> list[str]:
        """End it, and return what it has written to stderr."""
        self.process.terminate()
        self.process.wait(30)
        return self.lines()


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
