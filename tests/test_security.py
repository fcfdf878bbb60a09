"""The promises of SECURITY.md that no other test covers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import environment

from whmcs_mock import FixtureError, load_fixtures

#: A script that serves calls of another process, and records every connection and look-up that it makes itself.
WATCHED = """
import subprocess, sys
noted = []
def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        noted.append((event, str(args[0])[:1] if event == "socket.connect" else args[0]))
sys.addaudithook(note)
from whmcs_mock import MockServer, load_fixtures
with MockServer(load_fixtures("fixtures/clients.yaml", "fixtures/faults.yaml")) as server:
    call = [sys.executable, "-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], data=sys.argv[2].encode()).read()"]
    for clientid in (10, 9010, 404):
        subprocess.run([*call, server.url, f"action=GetCredits&clientid={clientid}"], check=True)
    subprocess.run([*call, server.url_for("/_mock/fixtures"), "clients: [{id: 1}]"], check=True)
    assert len(server.world.journal.calls()) == 3
assert all(where in ("127.0.0.1", None) for event, where in noted if event != "socket.connect"), noted
assert not [event for event, _ in noted if event in ("socket.connect", "socket.sendto")], noted
"""


def test_fixture_files_run_no_code(tmp_path: Path) -> None:
    """A YAML tag that could run code is reported as a problem, and no code is run."""
    tag = f'!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{tmp_path / "run"}"]]'
    path = tmp_path / "tags.yaml"
    path.write_text(f"x-own: {tag}\nanswers:\n  - {{action: A, result: {{a: {tag}}}}}\nclients: {tag}\n")
    with pytest.raises(FixtureError, match="tags are not allowed"):
        load_fixtures(path)
    assert not (tmp_path / "run").exists()


def test_no_outgoing_call() -> None:
    """A server opens no connections and looks up no names, whatever calls and control requests it handles."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=Path(__file__).parent.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
