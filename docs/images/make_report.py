# ruff: noqa: INP001  # scripts are no package
"""Make report.svg: what pytest prints when a test fails, from a real run.

``python docs/images/make_report.py`` needs what the extra ``test`` installs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = 100
WIDTH, HEIGHT, MARGIN = 8.4, 19, 18  # of a character and of a line, in pixels

FILES = {
    "credits.yaml": "clients:\n  - {id: 1, credits: [{date: 2024-01-15, amount: 25.00}]}\n  - {id: 7}\n",
    "pytest.ini": "[pytest]\nwhmcs_mock_fixtures = credits.yaml\n",
    "test_billing.py": """import requests


def entries(url, clientid):
    call = {"action": "GetCredits", "clientid": clientid, "identifier": "billing", "secret": "s3cret"}
    return requests.post(url, data=call).json()["totalresults"]


def test_entries(whmcs_mock):
    assert entries(whmcs_mock.url, 7) == "0"
    assert entries(whmcs_mock.url, 17) == "0"
""",
}
COLOURS = {
    "1": "#ffffff",
    "31": "#ff7b72",
    "32": "#7ee787",
    "33": "#e3b341",
    "36": "#76e3ea",
    "90": "#8b949e",
    "94": "#79c0ff",
}
PLAIN = "#c9d1d9"
NBSP = "\N{NO-BREAK SPACE}"  # SVG collapses plain ones


def run() -> str:
    """Return what pytest prints for a test that fails, with the escape codes of a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        unset = ("PYTEST", "WHMCS_MOCK", "NO_COLOR", "PY_COLORS")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--color=yes",
            "--tb=short",
            "-q",
            "-p",
            "whmcs_mock",
            "-p",
            "no:cacheprovider",
        ]
        done = subprocess.run(  # noqa: S603  # our own command
            command,
            cwd=folder,
            env={**environment, "COLUMNS": str(COLUMNS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    return done.stdout


def lines(output: str) -> Iterator[list[tuple[str, str]]]:
    """Return each line of a terminal as pieces of one colour, wrapped at its width."""
    colour, line, left = PLAIN, list[tuple[str, str]](), COLUMNS
    for piece in re.split(r"(\x1b\[[0-9;]*m|\n)", f"$ pytest\n{output.strip()}\n"):
        if piece == "\n":
            yield line
            line, left = [], COLUMNS
        elif piece.startswith("\x1b"):
            codes = piece[2:-1].split(";")
            named = [COLOURS[code] for code in codes if code in COLOURS]
            bold = codes == ["1"] and colour != PLAIN  # a bold colour stays that colour
            colour = colour if bold else (named or [PLAIN])[-1]
        while piece.strip("\n") and not piece.startswith("\x1b"):
            line.append((piece[:left], colour))
            piece, left = piece[left:], left - len(piece)  # noqa: PLW2901  # what is left of it
            if left <= 0 and piece:
                yield line
                line, left = [], COLUMNS


def draw(output: str) -> str:
    """Return the output of a terminal as an SVG image."""
    rows = list(lines(output))
    width, height = int(COLUMNS * WIDTH + 2 * MARGIN), len(rows) * HEIGHT + 2 * MARGIN
    texts = [
        f'<text x="{MARGIN}" y="{MARGIN + 14 + number * HEIGHT}">'
        + "".join(f'<tspan fill="{colour}">{escape(text).replace(" ", NBSP)}</tspan>' for text, colour in row)
        + "</text>"
        for number, row in enumerate(rows)
        if row
    ]
    font = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{font}" font-size="14">'
    ground = f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>'
    return "\n".join([head, "<title>The report of a failed test</title>", ground, *texts, "</svg>\n"])


def text_of(image: str) -> str:
    """Return the text that an image shows, without its times."""
    shown = re.sub("<[^>]*>", "", image)
    return re.sub(r"\d+(:\d+:\d+)?\.\d+", "N", shown)


if __name__ == "__main__":
    (HERE / "report.svg").write_text(draw(run()), encoding="utf-8")
