"""The report in a real browser: it draws, it searches, it asks nobody for anything.

Set PERSONAHUB_CHROMIUM to use another browser than the first Chromium on PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from personahub.core.artifact import Artifact

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENS = [("desktop", "light"), ("phone", "dark")]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page_url(
    experiment: dict[str, Artifact], run: Callable[..., Artifact], tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder = run(tmp_path_factory.mktemp("browser") / "report", "eval.report", experiment).path
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("PERSONAHUB_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUM)} on PATH, and PERSONAHUB_CHROMIUM is not set")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def collection_url(
    collection: dict[str, Artifact], run: Callable[..., Artifact], tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder = run(tmp_path_factory.mktemp("browser") / "collection", "eval.report", collection).path
    return (folder / "index.html").as_uri()


@pytest.fixture(params=SCREENS, ids="-".join)
def page(request: pytest.FixtureRequest, browser: Any, page_url: str) -> Iterator[Any]:
    """The report on a verified run, opened."""
    yield from opened_page(browser, page_url, *request.param)


@pytest.fixture(params=SCREENS, ids="-".join)
def collection_page(request: pytest.FixtureRequest, browser: Any, collection_url: str) -> Iterator[Any]:
    """The report on a run that verified nothing, opened."""
    yield from opened_page(browser, collection_url, *request.param)


def opened_page(browser: Any, page_url: str, device: str, scheme: str) -> Iterator[Any]:
    """The page at an address; whatever goes wrong in the browser until it is closed fails the test."""
    context = browser.new_context(viewport=DESKTOP if device == "desktop" else PHONE, color_scheme=scheme)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("console", lambda message: faults.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    opened.on("request", lambda asked: None if asked.url == page_url else faults.append(f"request: {asked.url}"))
    opened.goto(page_url)
    yield opened
    context.close()
    assert [fault for fault in faults if not fault.startswith("request: data:")] == []


def test_the_charts_are_drawn(page: Any) -> None:
    for section, marks in (
        ("accuracy", "circle.dot"),
        ("funnel", ".bar rect"),
        ("verification", ".bar rect"),
        ("training", "polyline.curve"),
        ("subjects", "rect.range"),
        ("similarity", "rect.box"),
        ("diversity", "circle.point"),
    ):
        boxes = page.eval_on_selector_all(
            f"#{section} {marks}",
            "marks => marks.map(mark => mark.getBoundingClientRect()).map(box => [box.width, box.height, box.left])",
        )
        assert boxes, section
        assert all(width > 0 and height > 0 and left >= 0 for width, height, left in boxes), section


def test_formulae_are_set(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    boxes = page.eval_on_selector_all("math", "all => all.map(one => one.getBoundingClientRect().height)")
    assert len(boxes) > 20
    assert all(height > 0 for height in boxes)
    assert page.evaluate("document.querySelector('math').namespaceURI.endsWith('MathML')")


def test_the_map_is_read_with_pointer_keys_and_search(page: Any) -> None:
    panel = page.locator(".map").first
    panel.scroll_into_view_if_needed()
    said = panel.locator(".map-text")
    assert "arrow key" in said.inner_text()
    dots = page.eval_on_selector(
        ".map",
        "map => [...map.querySelectorAll('.spot')].map(dot => dot.getBoundingClientRect())"
        ".map(box => [box.x + box.width / 2, box.y + box.height / 2])",
    )
    assert len(dots) >= 10
    page.mouse.move(*max(dots, key=lambda dot: dot[1]))
    pointed = said.inner_text()
    assert "arrow key" not in pointed
    assert len(pointed.splitlines()) >= 2  # its topic and its text
    panel.locator(".cloud").focus()
    page.keyboard.press("ArrowUp")
    walked = said.inner_text()
    assert walked not in ("", pointed)
    assert panel.locator(".spot.current").count() == 1
    panel.locator("button").first.click()
    dimmed = panel.locator(".spot.dim").count()
    assert 0 < dimmed < len(dots)
    panel.locator("button").first.click()
    assert panel.locator(".spot.dim").count() == 0
    panel.locator(".map-query").fill("no such word anywhere")
    assert panel.locator(".spot.dim").count() == len(dots)
    assert panel.locator(".map-count").inner_text() == f"0 of {len(dots)}"


def test_formulae_are_found_by_their_source(page: Any) -> None:
    page.fill("#query", "\\times")
    assert page.evaluate("document.querySelectorAll('.sample:not([hidden])').length") > 0


def test_print_has_paper_colours_and_no_controls(page: Any) -> None:
    page.emulate_media(media="print")
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert red + green + blue == 3 * 255
    assert not page.is_visible("#query")
    assert not page.is_visible("nav")


def test_nothing_sticks_out_sideways(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outside = page.eval_on_selector_all(
        "svg text, svg circle, svg rect",
        "marks => marks.map(mark => mark.getBoundingClientRect()).filter(box => box.right > innerWidth || box.left < 0).length",
    )
    assert outside == 0


def test_search_and_filter_narrow_the_samples(page: Any) -> None:
    shown = "document.querySelectorAll('.sample:not([hidden])').length"
    total = page.evaluate(shown)
    assert total >= 30
    page.fill("#query", "BAKER flour")
    some = page.evaluate(shown)
    assert 0 < some < total
    assert page.inner_text("#count") == f"{some} of {total}"
    texts = page.eval_on_selector_all(".sample:not([hidden])", "all => all.map(one => one.textContent.toLowerCase())")
    assert all("baker" in text and "flour" in text for text in texts)
    page.select_option("#outcome", "contaminated")
    page.fill("#query", "")
    assert page.evaluate(shown) == 1
    page.fill("#query", "no such word anywhere")
    assert page.evaluate(shown) == 0
    assert page.is_visible("#nothing")


def test_records_of_an_unverified_run_are_read_and_filtered(collection_page: Any) -> None:
    page, shown = collection_page, "document.querySelectorAll('.sample:not([hidden])').length"
    outcomes = page.eval_on_selector_all("#outcome option", "all => all.map(one => one.value)")
    assert {"", "personas", "npcs", "dialogues", "tools", "refusal", "no_function"} <= set(outcomes)
    counts = {}
    for outcome in outcomes:
        page.select_option("#outcome", outcome)
        counts[outcome] = page.evaluate(shown)
    assert all(counts.values())
    assert counts.pop("") == sum(counts.values()) == 36
    page.select_option("#outcome", "dialogues")
    page.fill("#query", "PARTNER twice")
    assert page.evaluate(shown) == counts["dialogues"]
    page.locator("#query").press("Tab")
    page.keyboard.press("Tab")  # over the filter to the first that is shown
    page.keyboard.press("Enter")
    assert "Check it twice." in page.inner_text(".sample[open] .trail")
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    page.fill("#query", "")
    page.select_option("#outcome", "")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.body.innerText").count('onerror="alert(1)"') >= 1


def test_the_keyboard_is_enough(page: Any) -> None:
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("pilot")
    narrowed = page.inner_text("#count")
    page.keyboard.press("Escape")
    assert page.inner_text("#count") != narrowed
    page.keyboard.press("Tab")  # to the filter
    page.keyboard.press("Tab")  # to the first sample
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    assert page.is_visible(".sample[open] .trail")


def test_text_of_others_stays_text(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.images.length") == 0
    assert page.evaluate("document.body.innerText").count('onerror="alert(1)"') >= 1


def test_the_colours_follow_the_scheme(page: Any) -> None:
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
    assert (red + green + blue < 200) == dark
