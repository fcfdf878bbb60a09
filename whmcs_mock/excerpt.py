"""Show the line of a problem in a fixture file, unless it may contain a secret."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from whmcs_mock.fixtures.places import Unreadable, split_lines
from whmcs_mock.redaction import REDACTED, is_secret

if TYPE_CHECKING:
    from whmcs_mock.errors import Problem

_WIDTH = 160  # characters of a line
#: Sections in which only values with a secret's name are secret.
_OPEN = re.compile(r"""[{\s]*["']?(clients|answers|faults|admins)["']?[ ]*:""")
_PRIVATE = re.compile(r"cred(?!it)|acc?es|key|user|ident|auth", re.IGNORECASE)


def excerpt(problem: Problem) -> str:
    """Return the line of a problem with a caret below, or an empty string if it must not be shown."""
    if REDACTED in problem.message:
        return ""
    lines = _read(problem.path)
    line = lines[problem.line - 1].replace("\t", " ").rstrip() if problem.line <= len(lines) else ""
    if not line or not line.isprintable() or len(line) > _WIDTH or _is_private(lines, problem.line):
        return ""
    return f"    {line}\n    {' ' * sum(map(_cells, line[: problem.column - 1]))}^"


def _cells(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.category(character) in ("Mn", "Me"):  # they are shown on the character before
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


@lru_cache(maxsize=1)
def _read(path: str) -> list[str]:
    try:
        if not os.path.isfile(path):
            return []  # a pipe cannot be read twice
        with open(path, "rb") as file:
            return split_lines(file.read())
    except (OSError, Unreadable):
        return []


def _is_private(lines: list[str], number: int) -> bool:
    """Return whether a line may contain a secret, judging by the lines that it is nested in."""
    if lines[0].startswith("{"):  # indentation means nothing there
        return not _OPEN.match("".join(lines)) or any(map(_names_secret, lines))
    if any(map(_names_secret, lines[max(0, number - 2) : number])):
        return True
    below = lines[number - 1]
    for line in reversed(lines[: number - 1]):  # up to the section, through every line that is less indented
        if not _indent(below):
            break
        if line.strip() and _indent(line) < _indent(below):
            if _names_secret(line):
                return True
            below = line
    return bool(_indent(below)) or below.startswith("{") or not _OPEN.match(below)


def _names_secret(line: str) -> bool:
    return is_secret(line) or bool(_PRIVATE.search(line))


def _indent(line: str) -> int:
    line = line.replace("\t", " " * _WIDTH)  # a tab may stand for any indentation, so that every line above counts
    bare = line.lstrip(" ")
    return 2 * (len(line) - len(bare)) + bare.startswith("- ")  # a list may have the same indentation as its key
