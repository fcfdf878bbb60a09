"""Run pytest as a user of the plugin does, and call the mock as the code under test does."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest
import requests

#: Nothing that a failing test shows may hold one of these.
SECRETS = ("topsecret-of-the-api", "hunter2-of-the-admin", "passphrase-of-the-key")

SECRETS_YAML = f"""
credentials:
  - {{identifier: known, secret: {SECRETS[0]}}}
  - {{username: admin, password: {SECRETS[1]}}}
access: {{addresses: [127.0.0.1], key: {SECRETS[2]}}}
clients:
  - {{id: 1, credits: [{{date: 2016-01-01, amount: 10.00}}]}}
  - {{id: 7}}
"""


def ask(url: str, action: str = "GetCredits", **params: object) -> requests.Response:
    """Call an action as a client without fault does."""
    data = {"action": action, "identifier": "any", "secret": "any", "responsetype": "json", **params}
    return requests.post(url, data=data, timeout=30)


def run(
    pytester: pytest.Pytester,
    *args: str,
    plugins: tuple[str, ...] = ("whmcs_mock",),
    environment: Mapping[str, str] | None = None,
    alone: bool = False,
) -> pytest.RunResult:
    """Run pytest with no plugin but the named ones and every warning an error.

    ``alone`` gives it a process of its own, which takes a second: for what looks at the process, starts others,
    or first imports a module here that a later test would import again.
    """
    named = [word for name in plugins for word in ("-p", name)]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WHMCS_MOCK_")]:
            patch.delenv(name)
        patch.setenv("PYTHONPATH", os.path.dirname(__file__), prepend=os.pathsep)
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        if alone:
            return pytester.runpytest_subprocess(*named, "-Werror", *args)
        # Here the plugin is there already, too late to rewrite its assertions.
        return pytester.runpytest_inprocess(*named, "-Werror", *args, "-Wignore:Module already imported")


def shown(result: pytest.RunResult) -> str:
    """Return everything that a run printed."""
    return "\n".join([*result.outlines, *result.errlines])
