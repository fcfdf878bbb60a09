# ruff: noqa: INP001  # scripts are no package
"""Make page-light.png and page-dark.png: the page of a running server, with calls of a test suite.

Needs selenium, Chromium and its driver: ``python docs/images/make_page.py``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import requests

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import Page, chromium  # noqa: E402  # it is beside the tests

from whmcs_mock import MockServer, load_fixtures  # noqa: E402  # of this clone, whatever is installed

PAIR = {"identifier": "D4j1dKYE3g40", "secret": "F1CKGXRIpylM", "responsetype": "json"}
CALLS: list[dict[str, object]] = [
    {"action": "GetCredits", "clientid": 1, **PAIR},
    {"action": "GetClientsDetails", "clientid": 10, **PAIR},
    {"action": "AddCredit", "clientid": 10, "description": "Refund", "amount": "15.00", **PAIR},
    {"action": "GetCredits", "clientid": 10, **PAIR},
    {"action": "AddCredit", "clientid": 10, "description": "Refund", "amount": "15", "type": "give", **PAIR},
    {"action": "GetCredits", "clientid": 99, **PAIR},
    {"action": "GetInvoices", "userid": 10, **PAIR},
    {"action": "GetCredit", "clientid": 1, **PAIR},
    {"action": "GetCredits", "clientid": 10, "password": "secret"},
    {"action": "GetCredits", "clientid": 12, **PAIR},
    {"action": "SendEmail", "id": 10, "messagename": "Reminder", **PAIR},
    {"action": "GetCredits", "clientid": 12, **PAIR},
]
FAULTS = [{"fault": "maintenance", "clientid": 12, "times": 1}]


def main() -> None:
    """Make both images."""
    os.chdir(ROOT)  # paths are shown as they are given
    files = [f"fixtures/{name}.yaml" for name in ("documented", "clients", "answers")]
    with (
        MockServer(load_fixtures(*files), port=8421) as server,
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile)) as driver,
    ):
        page = Page(driver)
        requests.post(server.url_for("/_mock/fixtures"), json={"faults": FAULTS}, timeout=30)
        for params in CALLS:
            requests.post(server.url, data=params, timeout=30)
        page.open(server.url_for("/_mock/"))
        page.shows("#call-count", str(len(CALLS)))
        page.all("#call-list .row")[8].click()
        page.click("#arm")
        page.find("#fault [name=action]").send_keys("AddCredit")
        page.click("h1")
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            driver.save_screenshot(str(HERE / f"page-{scheme}.png"))
        page.leave()


if __name__ == "__main__":
    main()
