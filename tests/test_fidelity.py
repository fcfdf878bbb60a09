"""docs/fidelity.md names tests that exist, and every fault."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from whmcs_mock import MockServer, WhmcsMock

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.split(" | ")] for line in re.findall(r"^\| (?!-|\*\*)(.*) \|$", PAGE, re.MULTILINE)
]
BASES = ["documented", "evidence H", "evidence M", "evidence L", "choice"]


@cache
def functions_in(path: str) -> list[str]:
    """Name the functions at the top level of a file."""
    nodes = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef)]


def test_every_row_has_a_basis_and_a_test() -> None:
    """Each row below a heading names its basis and a test that exists."""
    assert len(ROWS) > 150
    for *_, basis, test in (row for row in ROWS if row[-1] != "Test"):
        assert basis in BASES, (basis, test)
        named = re.fullmatch(r"`(tests/\w+\.py)::(\w+)`", test)
        assert named, test
        assert named[2] in functions_in(named[1]), test


def test_every_fault_has_a_row() -> None:
    """The faults of the page are those that fail_next takes."""
    listed = [row[0].strip("`") for row in ROWS if len(row) == 4 and row[0] != "Fault"]
    with MockServer() as server, pytest.raises(ValueError, match="there is no fault") as error:
        WhmcsMock(server).fail_next("nothing")
    known = re.search("write one of (.*)", str(error.value))
    assert known
    assert sorted(listed) == sorted(known[1].split(", "))
