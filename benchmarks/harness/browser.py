"""Headless Chromium on a page of this machine: Debian's packages chromium and chromium-driver, driven by selenium."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER = "chromedriver"
QUIET = (
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def available() -> bool:
    """Whether a browser is installed."""
    return shutil.which(DRIVER) is not None


@contextmanager
def opened(page: Path, width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """A browser that shows the page; closed afterwards. A width below 600 is that of a phone."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *QUIET):
            options.add_argument(word)
        options.add_argument(f"--window-size={width},{height}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if width < 600:
            metrics = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}}
            options.add_experimental_option("mobileEmulation", metrics)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which(DRIVER)))
        try:
            driver.get(page.absolute().as_uri())
            yield driver
        finally:
            driver.quit()
