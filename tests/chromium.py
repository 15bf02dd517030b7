"""Debian's Chromium, driven by Playwright: for the browser tests and the benchmarks."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it. Its absence is a failure, not a reason to skip."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "Chromium is needed: `apt-get install chromium`, or set CHROMIUM to its path."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
