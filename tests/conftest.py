"""Give test files a server for whatever fixtures they write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from whmcs_mock import Ledger, MockServer, load_fixtures


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores, since tests also wait: for a browser, a file system, a package index."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., MockServer]]:
    """Start servers: ``serve(yaml_text_or_ledger, **options_of_MockServer)``; each stops when the test ends."""
    with ExitStack() as running:

        def start(fixtures: str | Ledger | None = None, **options: Any) -> MockServer:
            if isinstance(fixtures, str):
                path = tmp_path / "served.yaml"
                path.write_text(fixtures, encoding="utf-8")
                fixtures = load_fixtures(path)
            return running.enter_context(MockServer(fixtures, **options))

        yield start
