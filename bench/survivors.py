"""Try what survived ``mutmut run`` again, and print the changes that no test notices and no list explains.

mutmut forks one process that has imported whmcs_mock and run the tests once. So it cannot see what runs on
import, in a subprocess, or behind a cache. Here each surviving change gets new processes, and all tests of
its module. Wording is left alone: texts with a blank in them. The file survivors.txt lists the changes that
may survive, each with its reason; ``*`` stands for anything.

Run it after ``mutmut run``, with Python 3.11 or newer; arguments name modules, such as ``faults fixtures/schema``.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[1]
MUTANTS = ROOT / "mutants"
LISTED = Path(__file__).with_name("survivors.txt")
#: Those of mutmut, which leave out tests that measure work or run the installed command.
OPTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]["pytest_add_cli_args"]
#: The test files of each module, the quickest first.
TESTS = {
    "api": "actions wire order control",
    "documented": "pages order plugin_faults",
    "faults": "plugin_faults wire control",
    "fixtures": "fixtures pages control fixtures_properties",
    "formats": "formats wire",
    "ledger": "fixtures plugin plugin_faults redaction wire actions control",
    "redaction": "redaction journal",
    "store": "actions plugin control worlds",
}


def survivors() -> Iterator[tuple[str, str, str]]:
    """Yield the key of each change that mutmut could not kill, its module, and what it changes."""
    for meta in sorted(MUTANTS.glob("whmcs_mock/**/*.meta")):
        path = meta.with_suffix("")
        module = path.relative_to(MUTANTS / "whmcs_mock").with_suffix("").as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for key, code in json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"].items():
            name = key.rpartition(".")[2]
            mutant, original = functions.get(name), functions.get(re.sub("__mutmut_[0-9]+$", "__mutmut_orig", name))
            if code in (0, 33) and mutant and original:  # it survived, or no test calls the function
                change = _change(original, mutant)
                if change and not _is_wording(change):
                    yield key, module, f"{module} {re.sub('^x_|__mutmut_[0-9]+$', '', name)}: {change}"


def _change(original: ast.FunctionDef, mutant: ast.FunctionDef) -> str:
    before, after = ([line.strip() for line in ast.unparse(node).splitlines()[1:]] for node in (original, mutant))
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    return "  ".join(line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---"))


def _is_wording(change: str) -> bool:
    old, _, new = change.partition("  +")
    texts = r"'[^']* [^']*'|\"[^\"]* [^\"]*\""
    return re.sub(texts, "text", old[1:]) == re.sub(texts, "text", new)


def is_noticed(key: str, module: str) -> bool:
    """Return whether a test fails on a change, in a process that has it from the beginning."""
    environment = {**os.environ, "MUTANT_UNDER_TEST": key, "PYTHONPATH": str(MUTANTS)}
    for name in TESTS[module.partition("/")[0]].split():
        command = [sys.executable, "-m", "pytest", "-x", "-q", *OPTIONS, f"tests/test_{name}.py"]
        try:
            done = subprocess.run(command, cwd=MUTANTS, env=environment, capture_output=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return True  # it hangs
        if done.returncode:
            return True
    return False


def main() -> None:
    """Print each change that nothing notices or explains, as a line for the list."""
    listed = [line.partition("  # ")[0] for line in LISTED.read_text(encoding="utf-8").splitlines()]
    explained = re.compile("|".join(re.escape(line).replace(r"\*", ".*") for line in listed))
    left = [one for one in survivors() if one[1] in sys.argv[1:] or not sys.argv[1:]]
    left = [one for one in left if not explained.fullmatch(one[2])]
    print(f"{len(left)} changes are tried again", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        noticed = pool.map(lambda one: is_noticed(*one[:2]), left)
        for (_, _, change), seen in zip(left, noticed, strict=True):
            if not seen:
                print(change, flush=True)


if __name__ == "__main__":
    main()
