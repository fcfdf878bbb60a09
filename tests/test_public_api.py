"""The public names: they exist, are typed, and are documented."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from mypy import api as mypy
from plugin_runs import run

import whmcs_mock

USAGE = Path(__file__).with_name("typed_usage.py")
CACHE = Path(__file__).parents[1] / ".mypy_cache"


def test_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that uses every public name passes mypy in strict mode, and marked mistakes in it are detected."""
    monkeypatch.chdir(tmp_path)  # where only the installed package can be imported
    out, errors, status = mypy.run(["--strict", "--config-file=", f"--cache-dir={CACHE}", str(USAGE)])
    assert (status, errors) == (0, ""), out


def test_usage_runs(pytester: pytest.Pytester) -> None:
    """The typed code also runs without errors."""
    pytester.makepyfile(test_typed_usage=USAGE.read_text())
    run(pytester, "-Wdefault::UserWarning").assert_outcomes(passed=5, warnings=1)


def test_usage_is_whole() -> None:
    """The typed code uses every public name, and every public method of the fixture."""
    used = {node.attr for node in ast.walk(ast.parse(USAGE.read_text())) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(ast.parse(USAGE.read_text())) if isinstance(node, ast.Name)}
    methods = {name for name in vars(whmcs_mock.WhmcsMock) if not name.startswith("_")}
    assert {*whmcs_mock.__all__, *methods} <= used


@pytest.mark.parametrize("name", whmcs_mock.__all__)
def test_documented(name: str) -> None:
    """Every public name can be imported, and has its own docstring, as have its public methods."""
    thing = getattr(whmcs_mock, name)
    assert thing.__module__.startswith("whmcs_mock.")
    assert name in dir(whmcs_mock)
    members = {name: thing}
    if inspect.isclass(thing):
        members |= {key: value for key, value in vars(thing).items() if callable(value) or isinstance(value, property)}
    for key, member in members.items():
        if not key.startswith("_"):
            text = inspect.cleandoc(member.__doc__ or "")
            assert text, f"{name}.{key} has no docstring"
            assert text.split("\n\n")[0].rstrip().endswith((".", ";", ":")), f"{name}.{key}"
            assert not text.startswith(f"{name}("), f"{name} has the docstring that dataclasses make"
