"""Drive the page in the Chromium of the system."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

pytest.importorskip("selenium", reason="the page is tried with selenium, which is not installed")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "" if BROWSER and DRIVER else "the page is tried in Chromium; install chromium and chromium-driver"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Start Chromium with an empty profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page in a browser; whatever the console tells is kept for ``problems()``."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1280, height: int = 800, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.prefer(scheme)
        self.driver.get(url)
        self.until(lambda: self.text("#state") == "connected", "the page has reached the server")

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def until(
        self, condition: Callable[[], T], what: str, *, seconds: float = 20, seen: Callable[[], object] = str
    ) -> T:
        """Wait until a condition holds; fail with what was seen instead."""

        def met(_driver: object) -> T | bool:
            try:
                return condition()
            except StaleElementReferenceException:  # a list was drawn anew meanwhile
                return False

        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.03).until(met)  # type: ignore[return-value]  # it waits while that is False
        except TimeoutException:
            pytest.fail(f"not within {seconds} s: {what}; seen: {seen()!r}")

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, css: str) -> str:
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"  # nothing while it is drawn anew
        return str(self.run(script, css)).strip()

    def rows(self, box: str = "#call-list") -> list[str]:
        """Return the rows that are drawn in a list, a line each."""
        script = """return [...document.querySelectorAll(`${arguments[0]} .row`)].map(
            (row) => [...row.children].map((cell) => cell.innerText.trim().replaceAll("\\n", " ")).join(" | "))"""
        return list(self.run(script, box))

    def shows(self, css: str, text: str) -> None:
        self.until(lambda: text in self.text(css), f"{css} shows {text!r}", seen=lambda: self.text(css))

    def lists(self, *texts: str, box: str = "#call-list") -> None:
        """Wait until a list has as many rows as texts, each with its text."""

        def met() -> bool:
            rows = self.rows(box)
            return len(rows) == len(texts) and all(text in row for text, row in zip(texts, rows, strict=True))

        self.until(met, f"{box} lists {texts}", seen=lambda: self.rows(box))

    def click(self, css: str) -> None:
        self.until(lambda: self.find(css).is_displayed(), f"{css} is shown")
        self.find(css).click()

    def choose(self, text: str, box: str = "#call-list") -> None:
        """Click on the first row that has a text."""

        def click() -> bool:
            rows = [row for row in self.all(f"{box} .row") if text in row.text]
            if rows:
                rows[0].click()
            return bool(rows)

        self.until(click, f"{box} has {text!r}")

    def type(self, css: str, text: str) -> None:
        field = self.find(css)
        field.clear()
        field.send_keys(text)

    def problems(self) -> list[str]:
        """Return what the console has told since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]  # selenium has no types for it

    def leave(self) -> None:
        """Go to an empty page, so that this one asks no server that is about to stop."""
        try:
            self.driver.get("about:blank")
        except WebDriverException as error:
            pytest.fail(f"the browser is gone: {error.msg}")
