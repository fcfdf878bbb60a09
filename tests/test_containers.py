"""Dockerfile, compose.yaml and the CI snippets: linted, and their steps run without a container engine.

The tests follow the lines of the Dockerfile: they copy what COPY copies, run what RUN runs, and start the command
with its user and environment. Absolute paths are placed below a folder that stands for the image.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CI = ROOT / "docs" / "examples" / "ci"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an image is made for Linux")


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def last(word: str) -> str:
    return [rest for name, rest in instructions() if name == word][-1]


def found(program: str) -> str:
    """Return the path of a program, also from the folder of Python; skip the test if it is not installed."""
    path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return path or pytest.skip(f"{program} is not installed")


# Static checks.


def test_lint() -> None:
    """The linter hadolint reports nothing for the Dockerfile."""
    done = subprocess.run([found("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_signals_and_user() -> None:
    """The command receives SIGTERM without a shell in between, and runs as a numeric user other than root."""
    assert json.loads(last("ENTRYPOINT")) + json.loads(last("CMD")) == ["whmcs-mock", "serve"]
    assert last("HEALTHCHECK").endswith(' CMD ["whmcs-mock", "health"]')
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def is_sent(path: str) -> bool:
    """Return whether .dockerignore includes a path in the build context; the last matching line decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.lstrip("!")
            names = [Path(path), *Path(path).parents]
            if any(
                fnmatch(name.name, pattern[3:]) if pattern[:3] == "**/" else fnmatch(str(name), pattern)
                for name in names
            ):
                sent = line.startswith("!")
    return sent


def sources(rest: str) -> list[str]:
    return shlex.split(rest)[:-1]


def test_context() -> None:
    """The build context contains everything that is copied, and nothing like .git or a virtual environment."""
    copied = {
        path for word, rest in instructions() if word == "COPY" and "--from" not in rest for path in sources(rest)
    }
    assert all((ROOT / path).exists() and is_sent(path) for path in copied)
    assert not any(is_sent(path) for path in (".git/config", ".venv/bin/python", "tests/wire.py", "fixtures/own.yaml"))
    assert not is_sent("whmcs_mock/__pycache__/cli.pyc")


def test_compose() -> None:
    """The PHP example waits until whmcs-mock is healthy, calls it by its service name, and mounts existing folders."""
    file = yaml.safe_load((ROOT / "compose.yaml").read_text())
    whmcs, php = file["services"]["whmcs"], file["services"]["php"]
    assert (ROOT / whmcs["build"] / "Dockerfile").is_file()
    assert php["depends_on"] == {"whmcs": {"condition": "service_healthy"}}
    assert php["environment"]["WHMCS_MOCK_URL"] == f"http://whmcs:{last('EXPOSE')}"
    assert whmcs["ports"] == [f"127.0.0.1:8421:{last('EXPOSE')}"]
    for volume in whmcs["volumes"] + php["volumes"]:
        assert (ROOT / volume.split(":")[0]).is_dir()
    assert "composer test" in php["command"]
    assert json.loads((ROOT / "docs/examples/php/composer.json").read_text())["scripts"]["test"] == "phpunit"


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("compose-spec", ROOT / "compose.yaml"),
        ("github-workflows", CI / "github.yaml"),
        ("gitlab-ci", CI / "gitlab.yaml"),
    ],
    ids=["compose", "github", "gitlab"],
)
def test_schemas(schema: str, file: Path) -> None:
    """Each file is valid under the schema of its tool."""
    command = [found("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gitlab() -> None:
    """The job calls the service by its alias, and finally prints the report of the world used by PHPUnit."""
    job = yaml.safe_load((CI / "gitlab.yaml").read_text())["phpunit"]
    assert job["variables"]["WHMCS_MOCK_URL"] == f"http://{job['services'][0]['alias']}:8421"
    assert job["after_script"] == ['curl -sS "$WHMCS_MOCK_URL/world/phpunit-1/_mock/report"']


# The steps, run without an engine.


class Image(NamedTuple):
    root: Path
    environment: dict[str, str]
    user: dict[str, Any]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Run the steps of the Dockerfile in a world-readable folder, which stands for the image."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        yield build(root)


def choose_python(user: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a Python that can create virtual environments, and the user to run it: the given one if possible."""
    if os.geteuid() == 0:
        for python in (os.path.realpath(sys.executable), "/usr/local/bin/python3", "/usr/bin/python3"):
            with suppress(OSError, subprocess.CalledProcessError):
                subprocess.run([python, "-c", "import ensurepip"], check=True, cwd="/", env={}, **user)
                return python, user
    return sys.executable, {}


def build(root: Path) -> Image:
    def inside(text: str) -> str:
        return re.sub(r"(?<![\w./])/(?=[a-z])", f"{root}/", text)

    uid, gid = map(int, last("USER").split(":"))
    python, user = choose_python({"user": uid, "group": gid, "extra_groups": []})
    folder = root
    own = ("HOME", "PATH", "LANG", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE")
    environment = {name: os.environ[name] for name in own if name in os.environ}
    environment["PIP_NO_COMPILE"] = "0"  # pip takes this as yes
    for word, rest in instructions():
        if word == "WORKDIR":
            folder = Path(inside(rest))
            folder.mkdir()
        elif word == "FROM":
            folder = root
        elif word == "COPY" and "--from" not in rest:
            copy(sources(rest), Path(folder, inside(shlex.split(rest)[-1])))
        elif word == "RUN":
            command = inside(rest).replace("python ", f"{python} ", 1).replace("--no-cache-dir", "--quiet")
            done = subprocess.run(
                ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        elif word == "ENV":
            values = re.findall(r"(\w+)=(\S+)", inside(rest))
            environment |= {name: value.replace("$PATH", environment["PATH"]) for name, value in values}
    environment |= {"WHMCS_MOCK_FIXTURES": f"{root}{environment['WHMCS_MOCK_FIXTURES'].removeprefix(str(root))}"}
    return Image(root, environment | {"HOME": "/"}, user)


def copy(names: list[str], target: Path) -> None:
    """Copy like COPY: the contents of a folder, without the files in .dockerignore."""
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as one:
        port: int = one.getsockname()[1]
        return port


@contextmanager
def started(image: Image, *before: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Start the command of the image on a free port."""
    environment = image.environment | {"WHMCS_MOCK_PORT": str(free_port())}
    command = [*before, *json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    user = {} if before else image.user
    with subprocess.Popen(
        command, cwd=image.root, env=environment, stdout=subprocess.PIPE, encoding="utf-8", **user
    ) as process:
        try:
            yield process, environment
        finally:
            process.kill()


def health(image: Image, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return subprocess.run(
        [*command, *more], cwd=image.root, env=environment, capture_output=True, text=True, check=False, **image.user
    )


def test_image(image: Image) -> None:
    """The image serves /fixtures as its user, is healthy, accepts its service name as Host, and stops at once."""
    with started(image) as (process, environment):
        assert health(image, environment, "--wait", "20").stdout == "ok\n"
        assert health(image, environment).returncode == 0
        if image.user:
            assert Path(f"/proc/{process.pid}").stat().st_uid == image.user["user"]
        port = int(environment["WHMCS_MOCK_PORT"])
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request("POST", "/_mock/reset", headers={"Host": f"whmcs:{port}"})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (204, b"")
            connection.request("GET", "/_mock/health", headers={"Host": f"whmcs:{port}"})
            told = json.load(connection.getresponse())
        assert told["url"] == f"http://whmcs:{port}/includes/api.php"
        assert [Path(path).name for path in told["fixtures"]] == ["documented.yaml"]
        begun = time.monotonic()
        process.terminate()
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 2
    assert health(image, environment).returncode == 1


def test_first_process(image: Image) -> None:
    """SIGTERM stops the command even as PID 1, where signals without a handler are ignored."""
    isolated = (found("unshare"), "--pid", "--fork", "--kill-child")
    if subprocess.run([*isolated, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user cannot unshare a namespace of processes")
    with started(image, *isolated) as (process, environment):
        assert health(image, environment, "--wait", "20").stdout == "ok\n"
        [inner] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert process.wait(10) == 0


def test_service_names() -> None:
    """On all addresses, the command accepts any Host header; on loopback, only local names."""
    statuses = {}
    for address in ("0.0.0.0", "127.0.0.1"):
        command = [sys.executable, "-m", "whmcs_mock", "serve", "--host", address, "--port", "0", "--quiet"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as server:
            assert server.stdout
            port = int(re.findall(r":(\d+)/", server.stdout.readline())[0])
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", "/_mock/health", headers={"Host": "whmcs:8421"})
                statuses[address] = connection.getresponse().status
            server.terminate()
    assert statuses == {"0.0.0.0": 200, "127.0.0.1": 403}


def test_github(tmp_path: Path) -> None:
    """The workflow's steps, apart from installations, succeed in order, with a healthy server in the background."""
    job = yaml.safe_load((CI / "github.yaml").read_text())["jobs"]["phpunit"]
    port = str(free_port())
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "WHMCS_MOCK_PORT": port}
    environment |= {name: value.replace("8421", port) for name, value in job["env"].items()}
    steps = [step["run"] for step in job["steps"] if "run" in step and "install" not in step["run"]]
    assert [step.split()[0] for step in steps] == ["whmcs-mock", "whmcs-mock", "composer", "cat"]
    steps[2] = 'curl -sS "$WHMCS_MOCK_URL/includes/api.php" -d action=GetCredits -d clientid=1 -d responsetype=json'
    script = "\n".join(["trap 'kill $!' EXIT", *steps])
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ok\n\{.*\}whmcs-mock ready", done.stdout), done.stdout
