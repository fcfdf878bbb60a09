"""The package: its imports, the contents of its distributions, and whether it works when installed."""

from __future__ import annotations

import email.parser
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest
from documented import DOCUMENTED

import whmcs_mock

ROOT = Path(__file__).parent.parent
SCRIPTS = "Scripts" if sys.platform == "win32" else "bin"
TEST_OF_A_USER = """\
from urllib.request import urlopen

def test_credits(whmcs_mock):
    assert whmcs_mock.balance(1) == 0
    assert urlopen(f"{whmcs_mock.url}?action=GetCredits&clientid=1").status == 200
"""


def run(*command: str | Path, cwd: Path | None = None, **more: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WHMCS_MOCK", "PYTHONPATH", "PYTEST"))}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=300, cwd=cwd, env=environment | more, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


# Imports.


def test_import() -> None:
    """Importing the package imports none of its heavy dependencies."""
    code = "import sys; before = {*sys.modules}; import whmcs_mock; print(*({*sys.modules} - before))"
    imported = {name.partition(".")[0] for name in run(sys.executable, "-c", code).split()}
    assert imported.isdisjoint({"werkzeug", "yaml", "_yaml", "pytest", "pytest_httpserver"})
    assert "whmcs_mock" in imported


def test_names() -> None:
    """Every public name can be imported, also with a star, and is in dir(); other names raise AttributeError."""
    promised = "create_app load_fixtures MockServer Client Credit Ledger FixtureError AddressInUseError ApiError"
    assert {*promised.split()} <= {*whmcs_mock.__all__} <= {*dir(whmcs_mock)}
    for name in whmcs_mock.__all__:
        assert getattr(whmcs_mock, name).__name__ == name
    code = "from whmcs_mock import *; import whmcs_mock; print(*({*whmcs_mock.__all__} - {*globals()}))"
    assert run(sys.executable, "-c", code) == "\n"
    with pytest.raises(AttributeError, match=r"module 'whmcs_mock' has no attribute 'MockSever'"):
        whmcs_mock.MockSever  # noqa: B018  # the lookup raises


def test_version() -> None:
    """The version of the package is the version of the distribution."""
    assert whmcs_mock.__version__ == importlib.metadata.version("whmcs-mock")


def test_source(tmp_path: Path) -> None:
    """A source checkout that is not installed serves the documented example, from any folder."""
    for folder in ("whmcs_mock", "fixtures"):
        shutil.copytree(ROOT / folder, tmp_path / "checkout" / folder)
    code = "import whmcs_mock.cli; assert 'checkout' in whmcs_mock.__file__; whmcs_mock.cli.main()"
    call = [sys.executable, "-c", code, "call", "GetCredits", "clientid=1"]
    assert run(*call, cwd=tmp_path, PYTHONPATH=str(tmp_path / "checkout")).rstrip("\n") == DOCUMENTED


# Distributions.


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from it; return their folder."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """Return the path of the wheel."""
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and its dependencies in a new environment; return its folder of programs."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder]
    run(*pip, "install", "--quiet", "--no-compile", wheel)
    return folder / SCRIPTS


def test_wheel(wheel: Path) -> None:
    """The wheel is pure Python and contains the package, py.typed, the page, the documented example and the licence."""
    version = whmcs_mock.__version__
    assert wheel.name == f"whmcs_mock-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        example = archive.read("whmcs_mock/documented.yaml")
        about = email.parser.BytesParser().parsebytes(archive.read(f"whmcs_mock-{version}.dist-info/METADATA"))
    assert example == (ROOT / "fixtures" / "documented.yaml").read_bytes()
    assert {"whmcs_mock/py.typed", f"whmcs_mock-{version}.dist-info/licenses/LICENSE"} <= {*names}
    assert {name.partition("/")[0] for name in names} == {"whmcs_mock", f"whmcs_mock-{version}.dist-info"}
    assert {Path(name).suffix for name in names if name.startswith("whmcs_mock/")} == {
        ".html",
        ".py",
        ".typed",
        ".yaml",
    }
    assert about["Requires-Python"] == ">=3.10"
    assert about["License-Expression"] == "MIT"
    assert {"test", "dev", "tls"} <= {*about.get_all("Provides-Extra", [])}
    assert about["Description-Content-Type"] == "text/markdown"


def test_sdist(built: Path) -> None:
    """The source distribution contains all files tracked by git."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("this is no git checkout")
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*run("git", "ls-files", "--cached", cwd=ROOT).splitlines()} <= names


# The installed package.


def test_installed_command(installed: Path, tmp_path: Path) -> None:
    """The installed command checks, calls and serves the documented example."""
    command = installed / "whmcs-mock"
    assert run(command, "--version", cwd=tmp_path).split()[-1] == whmcs_mock.__version__
    assert run(command, "check", cwd=tmp_path) == "ok: 1 file, 1 client, 2 credits\n"
    assert run(command, "call", "GetCredits", "clientid=1", cwd=tmp_path).rstrip("\n") == DOCUMENTED
    with subprocess.Popen(
        [command, "serve", "--port=0"], cwd=tmp_path, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().split()[2]
            with urllib.request.urlopen(f"{url}?action=GetCredits&clientid=1", timeout=30) as answer:
                assert answer.read().decode() == DOCUMENTED
        finally:
            process.terminate()


def test_installed_plugin(installed: Path, tmp_path: Path) -> None:
    """The installed plugin works without any configuration."""
    (tmp_path / "test_user.py").write_text(TEST_OF_A_USER)
    assert "1 passed" in run(installed / "python", "-m", "pytest", "-W", "error", cwd=tmp_path)


def test_installed_library(installed: Path, tmp_path: Path) -> None:
    """The installed library serves without any extra, and is not imported from the checkout."""
    code = """if True:
        from urllib.request import urlopen
        import whmcs_mock
        with whmcs_mock.MockServer() as server, urlopen(f"{server.url}?action=GetCredits&clientid=1") as answer:
            print(whmcs_mock.__file__, answer.read().decode(), sep="\\n")
    """
    where, _, answer = run(installed / "python", "-W", "error", "-c", code, cwd=tmp_path).partition("\n")
    assert Path(where).is_relative_to(installed.parent)
    assert answer.rstrip("\n") == DOCUMENTED
