"""What SECURITY.md promises and no other test holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import environment

from whmcs_mock import FixtureError, load_fixtures

#: Serves, is called by another process, checks a file, and notes every connection and look-up that it makes itself.
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
    """A tag that would run code with another loader is a problem, wherever it is, and nothing is run."""
    tag = f'!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{tmp_path / "run"}"]]'
    path = tmp_path / "tags.yaml"
    path.write_text(f"x-own: {tag}\nanswers:\n  - {{action: A, result: {{a: {tag}}}}}\nclients: {tag}\n")
    with pytest.raises(FixtureError, match="tags are not allowed"):
        load_fixtures(path)
    assert not (tmp_path / "run").exists()


def test_no_outgoing_call() -> None:
    """A server that loads, serves, misbehaves and is steered connects to nothing and looks up no name."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        cwd=Path(__file__).parent.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
