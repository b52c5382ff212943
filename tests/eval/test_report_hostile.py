"""Texts of models and data sets that try to take over the report, opened in a real browser.

Every text in every artifact of a small experiment gets a payload; the page has to show them all as text, run none
of their scripts, follow none of their URLs and take none of their styles.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.core.artifact import MANIFEST, Artifact, open_artifact
from tests.eval.test_report_browser import browser  # noqa: F401  (a fixture)

LEAK = "http://127.0.0.1:9/leak"
PAYLOADS = (
    # scripts and elements that bring them
    "<script>alert('p0')</script>",
    "</script><script>alert('p1')</script>",
    '"><script src=http://127.0.0.1:9/leak></script>',
    "<scr<script>ipt>alert('p3')</scr</script>ipt>",
    "<ScRiPt\n>alert('p4')</sCrIpT >",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    f"<iframe src={LEAK}></iframe><object data={LEAK}></object><embed src={LEAK}>",
    "<template><script>alert('p7')</script></template><noscript><p title='</noscript><img src=x onerror=alert(7)>'>",
    # event handlers, in and out of attributes
    "<img src=x onerror=alert('p8')>",
    "' onmouseover='alert(9)' autofocus onfocus='alert(9)",
    '" onfocus="alert(10)" tabindex=1 autofocus x="',
    "<details open ontoggle=alert('p11')>",
    "<body onload=alert('p12')><input autofocus onfocus=alert(12)><video><source onerror=alert(12)></video>",
    "<svg/onload=alert('p13')>",
    "<svg><animate onbegin=alert('p14') attributeName=x dur=1s></svg>",
    "<svg><script>alert('p15')</script></svg><math><mi//xlink:href='data:x,<script>alert(15)</script>'></math>",
    # addresses
    "<a href='javascript:alert(16)' id=pwned>read on</a>",
    "[read on](javascript:alert(17)) ![x](http://127.0.0.1:9/leak) <javascript:alert(17)>",
    "<a href='&#106;avascript:alert(18)'>x</a><form action=javascript:alert(18)><button id=pwned>go</button></form>",
    f"<base href={LEAK}/><link rel=stylesheet href={LEAK}><meta http-equiv=refresh content='0;url={LEAK}'>",
    f"<img src={LEAK}><img srcset='{LEAK} 2x'><picture><source srcset={LEAK}></picture>",
    "data:text/html,<script>alert('p21')</script>",
    # styles
    f"<style>@import url({LEAK}); body {{ display: none }} #p22 {{ background: url({LEAK}) }}</style>",
    f"</style><style>* {{ color: rgb(1, 2, 3) !important; background: url('{LEAK}') }}</style>",
    f"<div style='position:fixed;inset:0;z-index:9999;background:url({LEAK})'>p24</div>",
    f"red; background: url({LEAK}); x: expression(alert(25))",
    # what templates, JSON, comments and character sets make of it
    "{{ 7 * 7 }} {% raw %} ${7*7} <%= 7*7 %> #{7*7} {{constructor.constructor('alert(26)')()}}",
    '{"a": "</script><script>alert(27)</script>", "__proto__": {"x": 1}}',
    "<!--><script>alert('p28')</script>--><![CDATA[<script>alert(28)</script>]]>",
    "line\u2028separator\u2029paragraph \u202e\u2066 direction \ufeff\u0000\u200b\ufffe",
    "+ADw-script+AD4-alert(30)+ADw-/script+AD4-",
    "\uff1cscript\uff1ealert(31)\uff1c/script\uff1e \u00bcscript\u00bealert(31)",
    "&lt;script&gt;alert(32)&lt;/script&gt; &#60;script&#62;alert(32)&#60;/script&#62;",
    # LaTeX and fenced code, which the page sets apart
    "$\\href{javascript:alert(33)}{x}$ \\[\\url{javascript:alert(33)}\\] \\boxed{<img src=x onerror=alert(33)>}",
    "$\\html{<img src=x onerror=alert(34)>}$ $$\\unicode{<script>alert(34)</script>}$$ \\(\\class{p34}{\\style{x:y}{z}}\\)",
    f"$\\includegraphics{{{LEAK}}}$ $\\input{{/etc/passwd}}$ \\def\\x{{\\x\\x}}\\x",
    "```html\n<script>alert('p36')</script>\n```\n```</code></pre><script>alert(36)</script>",
)
_KEPT = {"id", "split", "kind", "mode", "verdict", "rule", "label", "reason", "arm", "role"}


def poisoned(artifact: Artifact, folder: Path, payloads: Iterator[str]) -> Artifact:
    """A copy in which every text has a payload behind it."""

    def poison(key: str, value: Any) -> Any:
        if key == "record":  # a rejected one, as JSON
            return json.dumps(poison("", json.loads(value)))
        if isinstance(value, dict):
            return {name: poison(name, inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [poison(key, inner) for inner in value]
        keeps = key in _KEPT or key.endswith(("_id", "_ids"))
        return f"{value} {next(payloads)}" if isinstance(value, str) and not keeps else value

    shutil.copytree(artifact.path, folder)
    for file in folder.rglob("*.parquet"):
        table, footer = pq.read_table(file), pq.read_metadata(file).metadata
        rows = [{name: poison(name, value) for name, value in row.items()} for row in table.to_pylist()]
        with pq.ParquetWriter(file, table.schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=table.schema))
            writer.add_key_value_metadata({key: value for key, value in footer.items() if key == b"personahub"})
    manifest = json.loads((folder / MANIFEST).read_text())
    for key in ("command", "summary", "versions"):
        manifest[key] = poison("", manifest[key])
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return open_artifact(folder)


@pytest.fixture(scope="module", params=["experiment", "collection"])
def page_url(
    request: pytest.FixtureRequest, run: Callable[..., Artifact], tmp_path_factory: pytest.TempPathFactory
) -> str:
    root = tmp_path_factory.mktemp("hostile")
    payloads = itertools.cycle(PAYLOADS)
    made: dict[str, Artifact] = request.getfixturevalue(request.param)
    hostile = {name: poisoned(artifact, root / name, payloads) for name, artifact in made.items()}
    return (run(root / "report", "eval.report", hostile).path / "index.html").as_uri()


@pytest.mark.parametrize("scripts", ["allowed by the page", "allowed whatever the page says"])
def test_no_payload_runs_loads_or_styles_anything(scripts: str, browser: Any, page_url: str) -> None:  # noqa: F811
    """Also without the page's content security policy, which is the second line of defence and not the first."""
    context = browser.new_context(bypass_csp=scripts != "allowed by the page")
    page = context.new_page()
    faults: list[str] = []
    page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("request", lambda asked: asked.url in (page_url, "data:,") or faults.append(f"request: {asked.url}"))
    page.on("popup", lambda _: faults.append("a window opened"))
    page.goto(page_url)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    for payload in PAYLOADS:
        page.fill("#query", payload.replace("\n", " "))
        page.evaluate("text => { location.hash = text }", payload)
    page.fill("#query", "")
    shown = page.evaluate("document.body.textContent")
    seen = [payload for payload in PAYLOADS if payload.split("\n")[0].strip()[:25] in shown]
    assert len(seen) >= len(PAYLOADS) - 2, "payloads that the page does not show test nothing"
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.styleSheets.length") == 1
    alien = "iframe, object, embed, img, video, form[action], base, template, animate, svg script, link[rel=stylesheet]"
    alien += ", math [href], math [style], maction, mglyph, semantics, annotation-xml, math :is(a, script, style, svg)"
    assert page.evaluate("selector => document.querySelectorAll(selector).length", alien) == 0
    assert page.evaluate("document.getElementById('pwned')") is None
    handlers = (
        "[...document.querySelectorAll('*')].filter(e => e.getAttributeNames().some(n => n.startsWith('on'))).length"
    )
    assert page.evaluate(handlers) == 0
    links = page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
    assert all(link.startswith("#") for link in links)
    styles = page.eval_on_selector_all("[style]", "all => all.map(one => one.getAttribute('style')).join(' ')")
    assert "127.0.0.1" not in styles
    assert "expression" not in styles
    assert page.url.startswith(page_url)
    context.close()
    assert faults == []
