"""Measure pytest sessions: what the plugin costs installed, and used, compared with pytest-httpserver.

Nothing but the named plugins is loaded (``PYTEST_DISABLE_PLUGIN_AUTOLOAD``). Installing whmcs-mock installs
pytest-httpserver too, whose own plugin pytest then loads in every session: the last line. A test that uses
a server makes one call to it with ``urllib``; the test with pytest-httpserver stubs the same answer first.
Differences between whole processes are lost in the noise of a busy machine, least so those of the fastest runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import CALL, ENVIRONMENT, PATH, interleaved, machine, table

from whmcs_mock import MockServer

ROUNDS = 15
TESTS = 300
HTTPSERVER, OURS = "pytest_httpserver.pytest_plugin", "whmcs_mock.pytest_plugin"

BODIES = {
    "trivial": "def test(n):\n    assert n >= 0\n",
    "pytest-httpserver": f"""def test(httpserver, n):
    httpserver.expect_request({PATH!r}, method="POST").respond_with_data(BODY, content_type="application/json")
    assert urlopen(httpserver.url_for({PATH!r}), CALL).read() == BODY
""",
    "whmcs-mock": "def test(whmcs_mock, n):\n    assert urlopen(whmcs_mock.url, CALL).read() == BODY\n",
}


def write(folder: Path) -> None:
    """Write each test file with one test and with many."""
    from urllib.request import urlopen

    with MockServer() as server, urlopen(server.url, CALL) as response:
        body = response.read()
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, test in BODIES.items():
        for count in (1, TESTS):
            head = f"import pytest\nfrom urllib.request import urlopen\n\nBODY = {body!r}\nCALL = {CALL!r}\n\n"
            path = folder / f"test_{name.replace('-', '_')}_{count}.py"
            path.write_text(f'{head}@pytest.mark.parametrize("n", range({count}))\n{test}')


def session(folder: Path, name: str, count: int, *options: str) -> Callable[[], float]:
    """Return a function that runs pytest on one file and returns the seconds from launch to exit."""
    file = f"test_{name.replace('-', '_')}_{count}.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, file]
    environment = {**ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run() -> float:
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
        assert done.returncode == 0, done.stdout + done.stderr
        return seconds

    return run


def main() -> None:
    """Let all sessions take turns; print their cost beyond plain pytest."""
    print(machine())
    contenders: dict[str, tuple[str, tuple[str, ...]]] = {  # the test that uses it, and the options that load it
        "no plugin, trivial tests": ("trivial", ()),
        "pytest-httpserver": ("pytest-httpserver", ("-p", HTTPSERVER)),
        "whmcs-mock, its plugin alone": ("whmcs-mock", ("-p", OURS)),
        "whmcs-mock, both as installed": ("whmcs-mock", ("-p", HTTPSERVER, "-p", OURS)),
    }
    sessions: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder)
        for name, (test, options) in contenders.items():
            sessions[f"collect {name}"] = session(folder, "trivial", 1, "--collect-only", *options)
            sessions[f"unused {name}"] = session(folder, "trivial", TESTS, *options)
            sessions[f"one {name}"] = session(folder, test, 1, *options)
            sessions[f"many {name}"] = session(folder, test, TESTS, *options)
        times = {key: min(values) for key, values in interleaved(sessions, ROUNDS).items()}
    plain = next(iter(contenders))
    rows = []
    for name in contenders:
        cells = []
        for what in ("collect", "unused", "one"):
            seconds, base = times[f"{what} {name}"], times[f"{what} {plain}"]
            cells.append(f"{seconds * 1e3:.0f} ms" if name == plain else f"{(seconds - base) * 1e3:+.0f} ms")
        each = (times[f"many {name}"] - times[f"one {name}"]) / (TESTS - 1)
        rows.append((name, *cells, f"{each * 1e3:.2f} ms"))
    table(
        f"The fastest of {ROUNDS} sessions each; + is on top of the first line",
        ("", "collect only, unused", f"{TESTS} tests, unused", "1 test, used", "each further test, used"),
        *rows,
    )


if __name__ == "__main__":
    main()
