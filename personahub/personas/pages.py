"""The main text of a web page: navigation, adverts, cookie notices and footers left out, by trafilatura.

page = read_page(Path("page.html").read_bytes())
page.text, page.address, page.licence
"""

from __future__ import annotations

import logging
from typing import NamedTuple

_MOST = 2_000_000  # bytes or characters of a page's source that are looked at; real ones have 0.1 to 2 MB
# The date of a page is not asked for, and looking for it takes as long as the rest.
_NO_DATE = {"extensive_search": False, "original_date": False, "max_date": "2100-01-01"}


class Page(NamedTuple):
    """What a page holds. `text` is empty where there is none; the others are None where the page does not tell."""

    text: str
    address: str | None  # that the page gives for itself (canonical link)
    licence: str | None  # of a Creative Commons or similar mark


def read_page(html: bytes | str) -> Page:
    """The main text of an HTML page, paragraphs as lines; bytes are decoded as the page declares.

    Comments of visitors are no part of it. A page that cannot be parsed has no text. A fragment of a page, such as
    one `<p>`, is all main text.
    """
    html = _cut(html)
    page = _extract(html)
    if page.text:
        return page
    # Of a single element the parser makes the root, and the extraction looks for the text below a body.
    body = _within_body(html)
    return page if body is None else page._replace(text=_extract(body).text)


def _within_body(html: bytes | str) -> bytes | str | None:
    """A fragment as the body of a page; None of what has one."""
    if isinstance(html, bytes):
        return None if b"<body" in html.lower() else b"<html><body>%b</body></html>" % html
    return None if "<body" in html.lower() else f"<html><body>{html}</body></html>"


def _extract(html: bytes | str) -> Page:
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports every page that it finds empty
    document = trafilatura.bare_extraction(
        html, include_comments=False, with_metadata=True, date_extraction_params=_NO_DATE
    )
    if document is None:
        return Page("", None, None)
    found = document if isinstance(document, dict) else document.as_dict()
    return Page((found.get("text") or "").strip(), found.get("url"), found.get("license"))


def _cut(html: bytes | str) -> bytes | str:
    """The first `_MOST` of a page, up to the end of a tag: half a character would spoil the guess of its encoding."""
    if len(html) <= _MOST:
        return html
    end = html.rfind(b">", 0, _MOST) if isinstance(html, bytes) else html.rfind(">", 0, _MOST)
    return html[: end + 1]
