"""The web page of ``whmcs-mock serve`` in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from browser import MISSING, Page, chromium
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from whmcs_mock import Client, Credit, Ledger, MockServer
from whmcs_mock.request import ENDPOINT, FORM, Request

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

MARKUP = "<img src=x onerror=alert(1)>"
SECRET = "F1CKGXRIpylM"
SENT = {"identifier": "D4j1dKYE3g40", "secret": SECRET, "responsetype": "json"}
TWO_CLIENTS = """
clients:
  - id: 1
    credits:
      - {date: 2016-01-01, description: Prepayment, amount: 10.10}
      - {date: 2016-01-02, description: "Credit Applied to Invoice #1", amount: -30.20}
  - {id: 7}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(driver: Any, serve: Callable[..., MockServer]) -> Iterator[Page]:
    """Yield the page; the console must be empty at the end, unless the test expects failed requests."""
    del serve  # torn down after this fixture, so the page is left before its server stops
    page = Page(driver)
    yield page
    left = page.problems()
    page.leave()
    assert left == [], "the console has errors"


@pytest.fixture
def server(serve: Callable[..., MockServer], page: Page) -> MockServer:
    """Return a server with two clients, and open its page."""
    server = serve(TWO_CLIENTS)
    page.open(server.url_for("/_mock/"))
    return server


def call(server: MockServer, action: str = "GetCredits", **params: object) -> requests.Response:
    return requests.post(server.url, data={"action": action, **SENT, **params}, timeout=30)


def focused(page: Page) -> str:
    return str(page.run("return document.activeElement.id || document.activeElement.name"))


# Calls


def test_call_appears(page: Page, server: MockServer) -> None:
    """A new call is listed without reloading, with its action, client, status and reason."""
    page.run("window.mark = 1")
    page.shows("#no-calls", f"No calls yet. Point your code at {server.url}")
    call(server, clientid=1)
    call(server, clientid=99)
    page.lists("GetCredits | 1 | 200 | client 1 has 2 credits", "GetCredits | 99 | 200 | Client ID Not Found")
    assert page.run("return window.mark") == 1


def test_details(page: Page, server: MockServer) -> None:
    """The details of a call show masked parameters, reason, advice, exact answer, and a curl command."""
    answer = requests.post(server.url, data={"action": "GetCredits", "clientid": "01", "x": "it's", **SENT}, timeout=30)
    requests.post(server.url, data={"action": "GetCredits", "clientid": 1}, timeout=30)
    page.choose("GetCredits")
    page.shows("#call h2", "200 success")
    assert page.run("return document.querySelector('#answer').textContent") == answer.text
    pairs = page.run("return [...document.querySelectorAll('#call tr')].map((row) => row.innerText.split('\\t'))")
    assert ["secret", "***"] in pairs
    assert ["clientid", "01"] in pairs
    assert "client 1 has 2 credits" in page.text("#call")
    curl = page.run("return document.querySelector('#curl').textContent")
    assert curl.startswith(f"curl -sS {server.url} \\\n")
    assert "--data-urlencode 'x=it'\\''s'" in curl
    assert SECRET not in page.driver.page_source
    assert not page.all(".advice li")
    page.find("#call-list").send_keys(Keys.ARROW_DOWN)
    page.shows(".advice", "no credentials were sent, which a real WHMCS refuses")
    page.shows(".advice", "no responsetype was sent")


def test_curl_is_runnable(page: Page, server: MockServer) -> None:
    """The copied curl command repeats the call."""
    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    page.driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": permissions})
    params = {"action": "GetCredits", "clientid": "7", "responsetype": "json", "note": "a'b\"c $d\\ <&>\nend"}
    sent = requests.get(server.url, params=params, timeout=30)
    page.choose("GetCredits")
    page.click("#call button")
    page.shows("#note", "Copied.")
    command = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout == sent.text
    first, second = requests.get(server.url_for("/_mock/calls"), timeout=30).json()
    assert (second["method"], second["params"]) == (first["method"], first["params"])


def test_filter(page: Page, server: MockServer) -> None:
    """The filter matches words in any field, or name=value for a parameter or field; new calls are filtered, too."""
    call(server, clientid=1)
    call(server, clientid=99)
    page.lists("1", "99")
    page.type("#filter", "clientid=99")
    call(server, "AddCredit", clientid=7, amount="5.00", description="x")
    page.shows("#call-count", "1 of 3")
    for text, found in (
        ("action=getcredits clientid=1", ["GetCredits | 1 | 200"]),
        ("clientid=01", ["GetCredits | 1 | 200"]),
        ("status=200 result=error", ["GetCredits | 99 | 200"]),
        ("no client 99", ["GetCredits | 99 | 200"]),
        ("PREPAYMENT", ["GetCredits | 1 | 200"]),
        ("clientid=", ["| 1 |", "| 99 |", "| 7 |"]),
        ("clientid=8", []),
    ):
        page.type("#filter", text)
        page.lists(*found)
        page.shows("#call-count", f"{len(found)} of 3" if len(found) < 3 else "3")
    page.shows("#no-calls", "No calls match the filter.")


def test_markup_is_text(page: Page, server: MockServer) -> None:
    """Markup in a description, an action or a parameter is shown as text; it runs no script and loads nothing."""
    call(server, "AddCredit", clientid=1, amount="1.00", description=MARKUP)
    call(server, MARKUP, clientid=MARKUP, **{MARKUP: MARKUP})
    page.choose("AddCredit")
    page.shows("#call table", MARKUP)
    page.choose(MARKUP)
    page.shows("#call h2", MARKUP)
    page.type("#filter", MARKUP)
    page.click("nav a[href='#clients']")
    page.shows("#log", MARKUP)
    assert page.run("return document.querySelectorAll('img, [onerror]').length") == 0
    asked = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all("/_mock/" in url and not url.endswith("/x") for url in asked)


def test_page_has_strict_policy(server: MockServer) -> None:
    """The Content-Security-Policy allows only the page's own script and style, and requests to its own server."""
    response = requests.get(server.url_for("/_mock/"), timeout=30)
    policy = response.headers["Content-Security-Policy"]
    hash = r"'sha256-[A-Za-z0-9+/=]+'"
    assert re.match(
        rf"default-src 'none'; script-src {hash}; style-src {hash}; connect-src 'self'; base-uri 'none'", policy
    )
    assert "unsafe" not in policy
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\son\w+=|\sstyle=|https?://", response.text
    )


def test_held_call(page: Page, server: MockServer) -> None:
    """A call whose answer is delayed is listed as pending, and updated when it is answered."""
    requests.post(server.url_for("/_mock/fixtures"), json={"faults": [{"fault": "slow", "seconds": 300}]}, timeout=30)
    thread = threading.Thread(target=call, args=[server], kwargs={"clientid": 1})
    thread.start()
    page.lists("GetCredits | 1 | … | waiting for the answer")
    page.choose("GetCredits")
    page.shows("#call", "not answered yet")
    server.world.faults.released.set()
    page.lists("GetCredits | 1 | 200 | fault slow; client 1 has 2 credits")
    page.shows("#call h2", "200 success")
    thread.join()


def test_forgotten_calls(page: Page, server: MockServer) -> None:
    """Calls that the server has forgotten are removed from the list, and later ones are added."""
    call(server, clientid=1)
    page.lists("client 1")
    page.click("#forget")
    page.lists()
    page.shows("#note", "All calls were cleared")
    call(server, clientid=7)
    page.lists("client 7")
    requests.post(server.url_for("/_mock/reset"), timeout=30)
    page.lists()
    call(server, clientid=99)
    call(server, clientid=98)
    page.lists("| 99 |", "| 98 |")


# Control


def test_large_numbers(page: Page, serve: Callable[..., MockServer]) -> None:
    """Ids and amounts of eighteen digits keep every digit when a credit is added."""
    server = serve(Ledger([Client(10**17 + 1, [Credit(10**16 + 1, "2016-01-01", "", f"{'9' * 18}.99")])]))
    page.open(server.url_for("/_mock/#clients"))
    page.lists(f"{10**18 - 1}.99 | {10**18 - 1}.99 | {10**16 + 1}", box="#log")
    page.type("#credit [name=amount]", "0.02")
    page.click("#credit button")
    page.lists(f"{10**16 + 1}", f"0.02 | {10**18}.01 | {10**16 + 2}", box="#log")
    client = server.world.store.client(10**17 + 1)
    assert client is not None
    assert [credit.id for credit in client.credits] == [10**16 + 1, 10**16 + 2]


def test_add_credit(page: Page, server: MockServer) -> None:
    """A credit added on the page appears in the log, the balance and the next answer."""
    page.click("nav a[href='#clients']")
    page.lists("1 | 2 | -20.10", "7 | 0 | 0.00", box="#client-list")
    page.lists("2016-01-01 | Prepayment | 10.10 | 10.10", "#1 | -30.20 | -20.10", box="#log")
    page.shows("#range", "2 entries, 2016-01-01 to 2016-01-02; lowest -20.10, highest 10.10")
    page.type("#credit [name=amount]", "20.15")
    page.type("#credit [name=description]", f"Bonus: {MARKUP}")
    page.find("#credit [name=description]").send_keys(Keys.ENTER)
    page.shows("#note", "A credit was added to client 1.")
    page.lists("Prepayment", "Invoice", f"Bonus: {MARKUP} | 20.15 | 0.05", box="#log")
    page.shows("#balance", "0.05")
    answer = call(server, clientid=1).json()
    assert answer["totalresults"] == "3"
    assert answer["credits[credit][2][amount]"] == "20.15"
    assert answer["credits[credit][2][description]"] == f"Bonus: {MARKUP}"
    assert [answer[f"credits[credit][{place}][id]"] for place in range(3)] == ["1", "2", "3"]


def test_wrong_amount(page: Page, server: MockServer) -> None:
    """An invalid amount is reported below the form, and nothing is sent."""
    page.click("nav a[href='#clients']")
    page.lists("Prepayment", "Invoice", box="#log")
    for amount in ("", "abc", "1,50", "1.005", "1e3", "--1", "01"):
        page.type("#credit [name=amount]", amount)
        page.click("#credit button")
        page.shows("#credit-error", f'The amount must be a number such as 10.00 or -5, not "{amount}".')
        assert page.find("[name=amount]").get_attribute("aria-invalid") == "true"
        assert focused(page) == "amount"
    assert call(server, clientid=1).json()["totalresults"] == "2"


def test_fault(page: Page, server: MockServer) -> None:
    """A fault added on the page applies to matching calls, as many times as requested."""
    page.click("#arm")
    Select(page.find("#fault select")).select_by_value("maintenance")
    assert not page.find("[name=seconds]").is_displayed()
    page.type("#fault [name=action]", "GetCredits")
    page.type("#fault [name=clientid]", "7")
    page.click("#fault button")
    page.shows("#note", "Added: maintenance for the next call to GetCredits for client 7")
    statuses = [call(server, clientid=clientid).status_code for clientid in (1, 7, 7)]
    assert statuses == [200, 503, 200]
    page.lists("| 200 |", "| 7 | 503 | fault maintenance", "| 200 |")


def test_slow_fault_has_seconds(page: Page, server: MockServer) -> None:
    """The seconds of the fault slow can be set."""
    page.click("#arm")
    Select(page.find("#fault select")).select_by_value("slow")
    page.type("#fault [name=seconds]", "0.2")
    page.click("#fault button")
    page.shows("#note", "Added: slow")
    assert call(server, clientid=1).elapsed.total_seconds() >= 0.2


def test_refusal_in_words(page: Page, server: MockServer) -> None:
    """An error message of the server is shown on the page."""
    page.click("#arm")
    page.type("#fault [name=times]", "often")
    page.click("#fault button")
    page.shows("#error", "times is a positive integer, not")
    assert call(server, clientid=1).status_code == 200
    assert all("400 (Bad Request)" in line for line in page.problems())


def test_every_fault_is_offered(page: Page, server: MockServer) -> None:
    """The page offers the same faults as a fixture file."""
    refusal = requests.post(server.url_for("/_mock/fixtures"), json={"faults": [{"fault": "?"}]}, timeout=30)
    named = refusal.json()["error"].split("write one of ")[1].split(", ")
    offered = page.run("return [...document.querySelector('#fault select').options].map((option) => option.value)")
    assert sorted(offered) == sorted(named)


def test_profile(page: Page, server: MockServer) -> None:
    """The profile can be switched on the page, which also shows changes made elsewhere."""
    assert page.find("[value=documented]").is_selected()
    page.click("[value=live] + span")
    page.shows("#note", "The profile is now live.")
    assert server.profile == "live"
    server.profile = "documented"
    page.until(lambda: page.find("[value=documented]").is_selected(), "the page shows the profile")


def test_reset(page: Page, server: MockServer) -> None:
    """A reset on the page removes calls, additions and faults, and restores the profile."""
    call(server, "AddCredit", clientid=7, amount="5.00", description="x")
    server.profile = "live"
    page.lists("AddCredit")
    page.click("nav a[href='#clients']")
    page.lists("1 |", "7 | 1 | 5.00", box="#client-list")
    page.click("#reset")
    page.shows("#note", "Reset to the fixtures")
    page.lists("1 |", "7 | 0 | 0.00", box="#client-list")
    page.click("nav a[href='#calls']")
    page.lists()
    assert server.profile == "documented"


def test_world(page: Page, server: MockServer) -> None:
    """The page of a world shows and controls only that world; a field opens another world."""
    page.type("#world", "a/b")
    page.find("#world").send_keys(Keys.ENTER)
    page.shows("#error", "The name of a world is 1 to 64 of the characters")
    page.type("#world", "job-42")
    page.find("#world").send_keys(Keys.ENTER)
    page.until(lambda: "/world/job-42/_mock/" in page.driver.current_url, "the page of the world is open")
    page.shows("#url", "/world/job-42/includes/api.php")
    assert page.find("#world").get_attribute("value") == "job-42"
    call(server, clientid=1)
    requests.post(server.url_for("/world/job-42/includes/api.php"), data={"action": "GetCredits", **SENT}, timeout=30)
    page.lists("GetCredits |  | 200 | Client ID Not Found")
    page.click("[value=live] + span")
    page.shows("#note", "live")
    assert server.profile == "documented"
    assert server.app.worlds["job-42"].profile == "live"


def test_server_gone(page: Page, server: MockServer, serve: Callable[..., MockServer]) -> None:
    """The page reports that the server is gone, and reconnects to a new server on the same port."""
    call(server, clientid=1)
    page.lists("client 1")
    port = server.port
    server.stop()
    page.shows("#gone", "The server has not answered since")
    page.shows("#state", "offline")
    page.click("#reset")
    page.shows("#error", "The server does not answer.")
    again = serve(TWO_CLIENTS, port=port)
    call(again, clientid=7)
    page.lists("client 7")
    page.shows("#state", "connected")
    assert page.text("#gone") == ""
    # A request that was waiting for a call is answered with 503, or ends with its connection.
    assert all("net::ERR_" in line or "status of 503" in line for line in page.problems())


def test_command(page: Page) -> None:
    """``whmcs-mock serve`` also serves the page at the root path."""
    command = [sys.executable, "-m", "whmcs_mock", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = re.search(r"http://\S+", process.stdout.readline())
            assert url
            page.open(url[0].removesuffix(ENDPOINT) + "/")
            requests.post(url[0], data={"action": "GetCredits", "clientid": 1}, timeout=30)
            page.lists("GetCredits 2 advice | 1 | 200 | client 1 has 2 credits")
            page.leave()
        finally:
            process.terminate()


# Accessibility


def test_keyboard(page: Page, server: MockServer) -> None:
    """Every control can be reached with Tab and shows the focus; arrow keys, Home, End and Enter work in lists."""
    for clientid in (1, 7, 99):
        call(server, clientid=clientid)
    page.lists("client 1", "client 7", "Not Found")
    page.click("h1")
    reached: list[str] = []
    while (name := press(page, Keys.TAB)) not in [*reached, ""]:
        reached.append(name)
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none" or name == "profile"
    wanted = ["world", "profile", "filter", "arm", "forget", "reset", "call-list", "call"]
    assert [name for name in reached if name in wanted] == wanted
    page.find("#call-list").send_keys(Keys.HOME)
    chosen = "#call-list [aria-selected=true]"
    page.until(lambda: "client 1 has" in page.text(chosen), "Home chooses the first")
    page.find("#call-list").send_keys(Keys.ARROW_DOWN)
    page.until(lambda: "client 7 has" in page.text(chosen), "an arrow chooses the next")
    page.find("#call-list").send_keys(Keys.END)
    page.until(lambda: "Not Found" in page.text(chosen), "End chooses the last")
    active = page.find("#call-list").get_attribute("aria-activedescendant")
    assert active == page.find(chosen).get_attribute("id")
    page.find("#call-list").send_keys(Keys.ENTER)
    assert focused(page) == "call"


def press(page: Page, key: str) -> str:
    ActionChains(page.driver).send_keys(key).perform()
    script = (
        "const e = document.activeElement; return e === document.body ? '' : e.id || e.name || e.hash || e.textContent"
    )
    return str(page.run(script))


def test_names_and_landmarks(page: Page, server: MockServer) -> None:
    """Controls have names, regions are landmarks or have names, and new calls are announced in a status region."""
    page.click("#arm")
    for view in ("#clients", "#calls"):
        page.click(f"nav a[href='{view}']")
        nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        names = [(node["role"]["value"], node["name"]["value"]) for node in nodes if is_control(node)]
        assert len(names) > 8
        assert [role for role, name in names if not name] == []
    page.run(
        "const inner = window.setTimeout; window.setTimeout = (call, ms) => inner(call, ms / 50)"
    )  # do not wait for 5 s
    parts = ["header", "nav[aria-label]", "main", "section[aria-label]", "h1", "[role=listbox]", "[role=alert]"]
    assert [css for css in parts if not page.all(css)] == []
    call(server, clientid=1)
    page.shows("#heard", "1 new call, the latest: GetCredits 200")
    assert page.find("#heard").get_attribute("role") == "status"


def is_control(node: dict[str, Any]) -> bool:
    if node["ignored"] or node["role"]["value"] == "RootWebArea":
        return False
    return any(told["name"] == "focusable" and told["value"]["value"] for told in node.get("properties", []))


@pytest.mark.parametrize("view", ["calls", "clients"])
def test_narrow(page: Page, serve: Callable[..., MockServer], view: str) -> None:
    """At a width of 360 px there is no horizontal scrolling, even with long words."""
    long = "a" * 300
    server = serve(Ledger([Client(1, [Credit(10**17, "2016-01-01", long, f"{'9' * 18}.99", 10**17)])]))
    call(server, clientid=1, note=long)
    call(server, long, clientid=1)
    page.open(server.url_for(f"/_mock/#{view}"), width=360, height=740)
    page.click("#arm")
    if view == "calls":
        page.choose(long)
    page.until(lambda: page.rows("#call-list" if view == "calls" else "#log"), "there are rows")
    assert page.run("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    script = """return [...document.querySelectorAll("body *")].filter((one) => one.getClientRects().length
        && !one.closest(".heard, .row, #profile") && one.getBoundingClientRect().right > 360.5).map((one) => one.outerHTML)"""
    assert page.run(script) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, serve: Callable[..., MockServer], scheme: str) -> None:
    """The colour scheme follows the system, and all text has a contrast of at least 4.5 to 1."""
    server = serve(TWO_CLIENTS)
    call(server, clientid=99)
    requests.post(server.url, data={"action": "GetCredits", "clientid": 1}, timeout=30)
    page.open(server.url_for("/_mock/"), scheme=scheme)
    page.choose("client 1 has 2 credits")
    page.click("#arm")
    page.click("#fault button")
    page.shows("#note", "Added")
    assert (luminance(page.run("return getComputedStyle(document.body).backgroundColor")) > 0.5) == (scheme == "light")
    script = """const found = [];
      for (const one of document.querySelectorAll("body *")) {
        if (!one.getClientRects().length || ![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
        let under = one;
        while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
        found.push([one.outerHTML, getComputedStyle(one).color, getComputedStyle(under).backgroundColor]);
      }
      return found;"""
    texts = page.run(script)
    assert len(texts) > 40
    assert [html for html, color, under in texts if contrast(color, under) < 4.5] == []


def luminance(color: str) -> float:
    """Return the relative luminance as defined by WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# Large amounts


def test_ten_thousand_calls(page: Page, serve: Callable[..., MockServer]) -> None:
    """Ten thousand calls can be listed, filtered and scrolled; only the visible rows are drawn."""
    server = serve(TWO_CLIENTS)
    for number in range(10_000):
        body = f"action=GetCredits&clientid={number}&responsetype=json".encode()
        response = server.app.respond(Request("POST", ENDPOINT, headers={"content-type": FORM}, body=body))
        assert response.finish
        response.finish(True)
    page.open(server.url_for("/_mock/"))
    page.shows("#call-count", "10,000")
    page.until(lambda: "| 9999 |" in page.rows()[-1], "the latest call is in sight")
    call(server, clientid=7)
    page.until(lambda: "| 7 | 200 | client 7" in page.rows()[-1], "the next call is in sight")
    page.shows("#call-count", "10,000")  # the maximum that the server keeps
    assert len(page.rows()) < 80
    page.find("#call-list").send_keys(Keys.HOME)
    page.until(lambda: "| 1 |" in page.rows()[0], "the first that is kept is in sight")
    page.type("#filter", "clientid=4321")
    page.lists("| 4321 |")
    page.find("#filter").clear()
    page.find("#filter").send_keys(" ")
    page.shows("#call-count", "10,000")
    spent = page.run("""const begun = performance.now();
      for (const text of ["g", "ge", "get", "clientid=77"]) {
        document.querySelector("#filter").value = text;
        document.querySelector("#filter").dispatchEvent(new Event("input"));
      }
      return performance.now() - begun;""")
    assert spent < 3000, f"four keys in the filter took {spent:.0f} ms"


def test_long_log(page: Page, serve: Callable[..., MockServer]) -> None:
    """A log of twenty thousand entries can be shown, scrolled and extended; its chart is simplified."""
    entries = [Credit(id, "2024-01-01", f"entry {id}", "-1.00" if id % 3 else "3.00") for id in range(1, 20_001)]
    entries[14_141] = Credit(14_142, "2024-01-01", "a peak", "250000.00")
    entries[14_142] = Credit(14_143, "2024-01-01", "and back", "-250000.00")
    server = serve(Ledger([Client(1, entries)]))
    page.open(server.url_for("/_mock/#clients/1"))
    page.shows("#range", "20,000 entries")
    page.until(lambda: "entry 1 |" in page.rows("#log")[0], "the log is drawn")
    assert len(page.rows("#log")) < 80
    path = page.run("return document.querySelector('#steps').getAttribute('d')")
    assert path.count("V") <= 1200
    assert "V8.00" in path  # the maximum is kept
    page.run("document.querySelector('#log').scrollTop = 30 * 10000")
    page.until(lambda: any("entry 10001 |" in row for row in page.rows("#log")), "the middle is drawn")
    page.type("#credit [name=amount]", "5")
    page.click("#credit button")
    page.until(lambda: page.text("#note") == "A credit was added to client 1.", "the credit is added", seconds=60)
    page.until(lambda: "| 5.00 |" in page.rows("#log")[-1], "the new entry is in sight")
    client = server.world.store.client(1)
    assert client is not None
    assert len(client.credits) == 20_001
