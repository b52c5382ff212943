"""Take screenshots of a report: `python docs/screenshot.py runs/quickstart/report/index.html docs/report.png`.

--phone           at the width of a phone
--section NAME    start at the section with this id (accuracy, ablation, similarity, diversity, ...)
--height PIXELS   height of the picture; 0 for the whole page
--dark            in the dark color scheme
--walk STEPS      move from dot to dot in the section's first map, so that a text is shown
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

_DESKTOP, _PHONE = 1200, 390
_HEIGHT = 1255  # at desktop width: the head, the cards and the accuracy section


def main() -> None:
    """Take a screenshot of a page with the installed Chromium."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("page")
    parser.add_argument("picture")
    parser.add_argument("--phone", action="store_true")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--section")
    parser.add_argument("--walk", type=int, default=0)
    parser.add_argument("--height", type=int, default=_HEIGHT)
    words = parser.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        opened = browser.new_page(
            viewport={"width": _PHONE if words.phone else _DESKTOP, "height": words.height or _HEIGHT},
            color_scheme="dark" if words.dark else "light",
        )
        opened.goto(Path(words.page).resolve().as_uri())
        if words.section:
            opened.evaluate("id => document.getElementById(id).scrollIntoView({behavior: 'instant'})", words.section)
        if words.walk:
            opened.eval_on_selector(f"#{words.section} .cloud", "cloud => cloud.focus({preventScroll: true})")
            for _ in range(words.walk):
                opened.keyboard.press("ArrowRight")
        opened.screenshot(path=words.picture, full_page=words.height == 0)
        browser.close()


if __name__ == "__main__":
    main()
