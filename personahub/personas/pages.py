"""Extracts the main text of a web page with trafilatura.

Drops navigation, ads, cookie notices and footers. page = read_page(Path("page.html").read_bytes()) page.text,
page.address, page.licence
"""

from __future__ import annotations

import logging
from typing import NamedTuple

_MAX_SOURCE = 2_000_000  # bytes or characters of a page's source to read; real pages have 0.1 to 2 MB
# The page's date is not needed, and finding it takes as long as everything else.
_NO_DATE = {"extensive_search": False, "original_date": False, "max_date": "2100-01-01"}


class Page(NamedTuple):
    """The content of a page. `text` may be empty; the other fields are None if the page does not declare them."""

    text: str
    address: str | None  # the page's canonical link
    licence: str | None  # from a Creative Commons or similar mark


def read_page(html: bytes | str) -> Page:
    """Extracts the main text of an HTML page, one paragraph per line.

    Bytes are decoded as the page declares. Visitors' comments are left out. A page that cannot be parsed has no text.
    A fragment of a page, such as one `<p>`, counts as main text as a whole.
    """
    html = _cut(html)
    page = _extract(html)
    if page.text:
        return page
    # The parser makes a single element the root, but the extraction looks for text below a body.
    body = _wrap_in_body(html)
    return page if body is None else page._replace(text=_extract(body).text)


def _wrap_in_body(html: bytes | str) -> bytes | str | None:
    """Wraps a fragment in a body; returns None if the page has one already."""
    if isinstance(html, bytes):
        return None if b"<body" in html.lower() else b"<html><body>%b</body></html>" % html
    return None if "<body" in html.lower() else f"<html><body>{html}</body></html>"


def _extract(html: bytes | str) -> Page:
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs every page without text
    document = trafilatura.bare_extraction(
        html, include_comments=False, with_metadata=True, date_extraction_params=_NO_DATE
    )
    if document is None:
        return Page("", None, None)
    found = document if isinstance(document, dict) else document.as_dict()
    return Page((found.get("text") or "").strip(), found.get("url"), found.get("license"))


def _cut(html: bytes | str) -> bytes | str:
    """Cuts a page at a tag's end before `_MAX_SOURCE`. Half a character would mislead the encoding detection."""
    if len(html) <= _MAX_SOURCE:
        return html
    end = html.rfind(b">", 0, _MAX_SOURCE) if isinstance(html, bytes) else html.rfind(">", 0, _MAX_SOURCE)
    return html[: end + 1]
