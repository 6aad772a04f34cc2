"""A real browser for tests of pages: Debian's chromium, headless, one for a whole module."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
PATIENCE_S = 30.0


@contextmanager
def started(folder: Path) -> Iterator[Chrome]:
    """A browser with its own empty profile and downloads below ``folder``."""
    chromium, driver = which("chromium"), which("chromedriver")
    assert chromium, "chromium is missing; run: make browser"
    assert driver, "chromedriver is missing; run: make browser"
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder / "downloads")}
    )
    browser = Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def look_like(
    browser: Chrome, width: int = 1200, height: int = 900, dark: bool = False, still: bool = False
) -> None:
    """A window of this size, in the light or the dark, for someone who asked for less motion."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(what: Callable[[], Any], patience: float = PATIENCE_S) -> Any:
    """The first true value of ``what``; fails when there is none in time."""
    end = time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, f"waited {patience} s in vain"
        time.sleep(0.05)
    return found


def complaints(browser: Chrome) -> list[str]:
    """Errors and warnings on the console since the last look, refusals by the page's policy too."""
    entries = browser.get_log("browser")
    return [e["message"] for e in entries if e["level"] in ("SEVERE", "WARNING")]


def picture(browser: Chrome, path: Path, whole: bool = True) -> None:
    """A screenshot of the page, or of the window."""
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole}
    )
    path.write_bytes(base64.b64decode(shot["data"]))
