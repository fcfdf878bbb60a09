"""The command's https: certificates given and made, clients that speak the wrong protocol, and what cannot be used."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import trustme
from command import COMMAND, Server, environment, eventually, on_posix, run, serving
from documented import DOCUMENTED

CALL = {"action": "GetCredits", "clientid": "1", "responsetype": "json"}


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the paths of an authority, a certificate with its key, and another key."""
    folder = tmp_path_factory.mktemp("pems")
    authority = trustme.CA()
    issued, other = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("localhost")
    parts = {
        "ca": authority.cert_pem,
        "cert": issued.cert_chain_pems[0],
        "key": issued.private_key_pem,
        "other": other.private_key_pem,
    }
    for name, pem in parts.items():
        pem.write_to_path(folder / f"{name}.pem")
    return {name: str(folder / f"{name}.pem") for name in parts}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the place where the server's stderr goes."""
    return tmp_path / "stderr.log"


@pytest.fixture
def free_port() -> int:
    """Give a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def fact(server: Server, name: str) -> str:
    return dict(part.split("=", 1) for part in server.ready.split()[3:])[name]


def test_certificate(pems: dict[str, str], log: Path) -> None:
    """With a certificate and its key it serves https, which clients that know the authority trust."""
    with serving(log, "--tls-cert", pems["cert"], "--tls-key", pems["key"]) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert requests.post(server.url, CALL, verify=pems["ca"], timeout=10).text == DOCUMENTED
        with pytest.raises(requests.exceptions.SSLError):
            requests.post(server.url, CALL, timeout=10)
        server.ca = pems["ca"]
        told = server.ask("GET", "/_mock/health").json
        assert told["url"] == server.url
        assert "ca" not in told
        own = {"Origin": server.url.removesuffix("/includes/api.php")}
        assert server.ask("POST", "/_mock/reset", headers=own).status == 204
        assert (
            server.ask("POST", "/_mock/reset", headers={"Origin": own["Origin"].replace("https", "http")}).status == 403
        )


@on_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_own_authority(number: signal.Signals, log: Path) -> None:
    """With --tls its authority's file is named by the ready line and by health, and is gone with the server."""
    with serving(log, "--tls") as server:
        server.ca = fact(server, "ca")
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{server.address[1]}/includes/api.php"
            assert requests.post(url, CALL, verify=server.ca, timeout=10).text == DOCUMENTED
        assert server.ask("GET", "/_mock/health").json["ca"] == server.ca
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert not Path(server.ca).exists()
        assert not Path(server.ca).parent.exists()


def test_own_authority_for_host(log: Path) -> None:
    """The certificate of --tls is for --host as well."""
    with serving(log, "--tls", "--host", "127.0.0.2") as server:
        assert requests.post(server.url, CALL, verify=fact(server, "ca"), timeout=10).text == DOCUMENTED


def test_health(pems: dict[str, str], log: Path) -> None:
    """The command health takes an https URL, whoever signed the certificate."""
    with serving(log, "--tls-cert", pems["cert"], "--tls-key", pems["key"]) as server:
        done = run("health", server.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
        done = run("health", server.url.replace("https", "http"))
        assert (done.returncode, "https" in done.stderr, done.stderr.count("\n")) == (1, True, 1)


def test_http_to_https(pems: dict[str, str], log: Path) -> None:
    """Plain HTTP on the TLS port gets one line of text, and one line in the log."""
    with serving(log, "--tls-cert", pems["cert"], "--tls-key", pems["key"]) as server:
        answer = requests.post(server.url.replace("https", "http"), CALL, timeout=10)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.strip().count("\n") == 0
        assert "https" in answer.text
        lines = server.stop()
    assert len(lines) == 1
    assert "https" in lines[0]


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_https_to_http(quiet: list[str], log: Path) -> None:
    """A TLS handshake on the plain port has one line in the log, and the server goes on."""
    with serving(log, *quiet) as server:
        context = ssl.create_default_context()
        with socket.create_connection(server.address, timeout=10) as plain, pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="localhost")
        assert eventually(server.lines)
        assert server.call(**CALL) == DOCUMENTED
        lines = [
            line for line in server.stop() if "GetCredits" not in line and "advice" not in line and "hint" not in line
        ]
    assert len(lines) == 1
    assert "https" in lines[0]


def test_unusable(pems: dict[str, str], tmp_path: Path) -> None:
    """Files that cannot be used are exit code 2 and one sentence that names them, and no secret is asked for."""
    locked = tmp_path / "locked.pem"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:sesame", "-in", pems["key"], "-out", str(locked)]
    encrypted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    for cert, key, named in (
        ("missing.pem", pems["key"], "missing.pem"),
        (pems["cert"], "missing.pem", "missing.pem"),
        (pems["cert"], str(tmp_path), str(tmp_path)),
        (pems["cert"], pems["other"], pems["other"]),
        (pems["key"], pems["cert"], pems["key"]),
        *([(pems["cert"], str(locked), str(locked))] if encrypted else []),
    ):
        done = run("serve", "--port", "0", "--tls-cert", cert, "--tls-key", key)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert named in done.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tls-cert", "x"], "--tls-key"),
        (["--tls-key", "x"], "--tls-cert"),
        (["--tls", "--tls-cert", "x", "--tls-key", "y"], "--tls-cert"),
        (["--tls-cert", ""], "--tls-cert"),
    ],
)
def test_wrong_options(options: list[str], named: str) -> None:
    """Options that do not go together are wrong usage."""
    done = run("serve", "--port", "0", *options)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("variables", [{"TLS": "1"}, {"TLS_CERT": "cert", "TLS_KEY": "key"}])
def test_health_by_environment(variables: dict[str, str], pems: dict[str, str], log: Path, free_port: int) -> None:
    """The variables that make serve speak https make health ask by https, without a URL."""
    more = {f"WHMCS_MOCK_{name}": pems.get(value, value) for name, value in variables.items()}
    more["WHMCS_MOCK_PORT"] = str(free_port)
    with serving(log, **more):
        done = run("health", **more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_without_trustme() -> None:
    """Without trustme, --tls says how to install it."""
    code = "import sys; sys.modules['trustme'] = None; from whmcs_mock.cli import main; main(['serve', '--tls', '--port', '0'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment(), timeout=30, check=False
    )
    assert done.returncode == 2
    assert "whmcs-mock[tls]" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tls", [[], ["--tls"]])
def test_no_warning(tls: list[str], tmp_path: Path) -> None:
    """Nothing is left open, also as Python's development mode sees it."""
    python = [sys.executable, "-X", "dev", "-W", "error", *COMMAND[1:]]
    with (
        (tmp_path / "log").open("wb") as stderr,
        subprocess.Popen([*python, "serve", "--port", "0", *tls], stdout=subprocess.PIPE, stderr=stderr) as process,
    ):
        try:
            assert process.stdout
            assert process.stdout.readline()
            process.terminate()
            assert process.wait(20) == (0 if os.name == "posix" else 1)
        finally:
            process.kill()
    assert (tmp_path / "log").read_text() == ""
