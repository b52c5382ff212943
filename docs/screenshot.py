"""Pictures of a report for the README: `python docs/screenshot.py runs/quickstart/report/index.html docs/report.png`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_WIDTH, _HEIGHT = 1200, 1255  # the head, the cards and the accuracy section


def main(page: str, picture: str) -> None:
    """Photograph the top of `page` with a Chromium that is installed."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
        opened.goto(Path(page).resolve().as_uri())
        opened.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
