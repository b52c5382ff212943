"""Web pages, addresses and hub files as origins of rows; damage that checksums show; known corpora."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.personas.documents import read_hub_files, read_urls
from personahub.personas.pages import read_page
from personahub.sources import Config, cut_text, read, to_document

STORY = (
    "The river gauge at the old weir was read each hour by a keeper who lived next to it. She wrote the level "
    "into a book, and the mill down the valley sent a boy to look at the book before the stones were set to turn. "
)
PAGE = f"""<!DOCTYPE html><html lang="en"><head><title>The gauge</title><meta charset="utf-8">
<link rel="canonical" href="https://weir.example/gauge"/></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/shop">Our shop</a></li></ul></nav>
<div id="cookie-banner">We use cookies. <button>Accept all</button></div>
<article><h1>The gauge</h1><p>{STORY}</p><p>{STORY.replace("gauge", "café’s gauge")}</p></article>
<aside>Subscribe to our newsletter</aside>
<footer>Imprint. <a rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">CC BY-SA 4.0</a></footer>
<script>var tracker = "spy";</script></body></html>"""


def test_of_a_page_only_its_main_text_address_and_licence_are_kept() -> None:
    page = read_page(PAGE.encode())
    assert page.text.startswith("The gauge\nThe river gauge at the old weir")
    assert "café’s" in page.text
    for boilerplate in ("cookies", "Our shop", "newsletter", "Imprint", "spy", "<p>"):
        assert boilerplate not in page.text
    assert (page.address, page.licence) == ("https://weir.example/gauge", "CC BY-SA 4.0")


def test_a_page_in_its_declared_encoding() -> None:
    latin = PAGE.replace("’", "'").replace("utf-8", "iso-8859-1").encode("iso-8859-1")
    assert "café's" in read_page(latin).text


@pytest.mark.parametrize(
    "html",
    [b"", b"\x00\xff\xfe", b"plain words without a tag", "<div>" * 50_000, "<a b='" * 20_000, b"<html><body></body>"],
)
def test_a_page_without_text_has_none(html: bytes | str) -> None:
    assert len(read_page(html).text) <= len("plain words without a tag")


def test_of_an_enormous_page_the_beginning_is_read() -> None:
    html = f"<html><body><article><p>{STORY}</p></article><!--" + "x" * 30_000_000
    assert read_page(html.encode()).text in ("", STORY.strip())


def test_folders_of_pages_and_columns_of_pages_give_the_same_documents(tmp_path: Path, run: Any) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/a.html").write_text(PAGE)
    (tmp_path / "pages/b.htm").write_text("<html><body><nav><a href='/'>Home</a></nav></body></html>")
    rows = [{"html": PAGE, "url": "u1"}, {"html": None, "url": "u2"}, {"html": PAGE, "licence": "told by the row"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages = {
        "pages": {"run": "personahub.sources", "config": {"path": str(tmp_path / "pages"), "licence": "unknown"}},
        "rows": {
            "run": "personahub.sources",
            "config": {"path": str(tmp_path / "rows.jsonl"), "text_field": "html", "text_is_html": True},
        },
    }
    artifacts = run(stages)
    (page,), (row,) = artifacts["pages"].rows(), artifacts["rows"].rows()
    assert page == row
    assert (page["source"], page["licence"]) == ("https://weir.example/gauge", "CC BY-SA 4.0")
    assert artifacts["pages"].manifest.counts.rejected == {"too_short": 1}
    assert artifacts["rows"].manifest.counts.rejected == {"duplicate_document": 1, "no_text": 1}


@pytest.mark.parametrize(
    "wrap", ["<p>{}</p>", "<div><p>{}</p></div>", "<span>{}</span>", "{}", "<!-- a --><pre>{}</pre>"]
)
def test_a_column_of_single_elements_keeps_their_text(tmp_path: Path, run: Any, wrap: str) -> None:
    story = STORY.strip()
    html = wrap.replace("{}", f"{story}<script>var tracker = 'spy';</script>")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"html": html}) + "\n")
    config = {"path": str(tmp_path / "rows.jsonl"), "text_field": "html", "text_is_html": True}
    (row,) = run({"rows": {"run": "personahub.sources", "config": config}})["rows"].rows()
    assert row["text"] == story


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves `tmp_path` on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_rows_behind_addresses_are_streamed_in_order(tmp_path: Path, server: str, run: Any) -> None:
    for number in range(2):
        lines = "".join(json.dumps({"raw_content": f"{number} {i} {STORY}", "url": f"u{i}"}) + "\n" for i in range(3))
        (tmp_path / f"{number}.json.gz").write_bytes(gzip.compress(lines.encode()))
    config = {"urls": [f"{server}/1.json.gz", f"{server}/0.json.gz"], "text_field": "raw_content", "id_field": "url"}
    rows = list(run({"texts": {"run": "personahub.sources", "config": config}})["texts"].rows())
    assert [row["text"][:3] for row in rows] == ["1 0", "1 1", "1 2", "0 0", "0 1", "0 2"]
    assert [row["source"] for row in rows[:3]] == ["#u0", "#u1", "#u2"]


def test_addresses_that_cannot_be_read_are_named(tmp_path: Path, server: str) -> None:
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 9000)[:-20])
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "empty.jsonl").write_text("")
    for name, message in (
        ("missing.jsonl", r"missing\.jsonl: cannot be read: .*"),
        ("torn.jsonl.gz", r"torn\.jsonl\.gz: damaged gzip file"),
        ("bad.jsonl", r"bad\.jsonl, line 2: not JSON"),
        ("empty.jsonl", r"empty\.jsonl: there are no rows"),
        ("page.pdf", r"page\.pdf: unknown file type"),
    ):
        with pytest.raises(UserError, match=message) as error:
            list(read_urls([f"{server}/{name}"]))
        assert "\n" not in str(error.value)


def test_files_of_a_data_set_are_read_by_pattern(tmp_path: Path) -> None:
    (tmp_path / "Elite").mkdir()
    for name in ("Elite/part2.jsonl", "Elite/part1.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(json.dumps({"persona": name}) + "\n")
    rows = [row.row["persona"] for row in read_hub_files(str(tmp_path), "a" * 40, "Elite/*.jsonl")]
    assert rows == ["Elite/part1.jsonl", "Elite/part2.jsonl"]


def test_hub_files_offline_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"no-owner/no-set \(\*\.jsonl, bbbbbbbb\): (cannot be read|no file)") as error:
        list(read_hub_files("no-owner/no-set", "b" * 40, "*.jsonl"))
    assert "\n" not in str(error.value)


def test_known_corpora_fill_in_their_columns_and_the_config_comes_first() -> None:
    fineweb = parse_config(Config, {"corpus": "fineweb", "hub": {"revision": "a" * 40, "config": "sample-10BT"}}, "c")
    assert fineweb.hub is not None
    assert (fineweb.hub.name, fineweb.hub.config) == ("HuggingFaceFW/fineweb", "sample-10BT")
    assert (fineweb.text_field, fineweb.id_field, fineweb.source) == ("text", "id", "HuggingFaceFW/fineweb")
    assert parse_config(Config, fineweb.model_dump(mode="json"), "c") == fineweb
    pajama = {"corpus": "redpajama_v2", "redpajama": {"snapshot": "2023-14", "language": "de", "shards": 2}}
    config = parse_config(Config, {**pajama, "licence": "mine"}, "c")
    assert (config.text_field, config.licence) == ("raw_content", "mine")
    assert config.redpajama is not None
    assert [url.rpartition("/documents/")[2] for url in config.redpajama.urls()] == [
        "2023-14/0000/de_head.json.gz",
        "2023-14/0001/de_head.json.gz",
    ]
    local = parse_config(Config, {"corpus": "redpajama_v2", "path": "en_head.json.gz"}, "c")
    assert (local.hub, local.text_field) == (None, "raw_content")
    with pytest.raises(UserError, match=r"c\.redpajama\.snapshot"):
        parse_config(Config, {"redpajama": {"snapshot": "../../etc"}}, "c")


def corrupt(file: Path) -> None:
    """Turn over the bits of one byte amid the data."""
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
def test_a_corrupt_parquet_shard_is_named_and_leaves_no_manifest(tmp_path: Path, run: Any, compression: str) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"text": [f"{number} {STORY}" for number in range(2000)]})
    for name in ("a", "b"):
        file = tmp_path / f"in/{name}.parquet"
        pq.write_table(table, file, compression=compression, use_dictionary=False, write_page_checksum=True)
    corrupt(tmp_path / "in/b.parquet")
    config = {"path": str(tmp_path / "in"), "rows_per_shard": 500}
    with pytest.raises(UserError, match=r"b\.parquet: not a readable Parquet file") as error:
        run({"texts": {"run": "personahub.sources", "config": config}})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("runs/*/texts/manifest.json"))


def test_a_corrupt_shard_of_an_artifact_is_named(tmp_path: Path, run: Any) -> None:
    rows = "".join(json.dumps({"text": f"{number} {STORY}"}) + "\n" for number in range(2000))
    (tmp_path / "t.jsonl").write_text(rows)
    artifact = run({"texts": {"run": "personahub.sources", "config": {"path": str(tmp_path / "t.jsonl")}}})["texts"]
    corrupt(artifact.path / "00000.parquet")
    with pytest.raises(UserError, match=r"00000\.parquet: not a readable Parquet file.*--redo"):
        list(artifact.rows())


def test_a_document_of_ten_megabytes_is_cut(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": STORY * 50_000}) + "\n")
    config = Config(path=str(tmp_path / "t.jsonl"), max_chars=3000)
    (document,) = (to_document(raw, config) for raw in read(config))
    assert 2700 < len(document["text"]) <= 3000
    assert document["text"].endswith("turn.")


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("She met Dr. Okoro there. It was late. Then Mr. Lund came by", 50, "She met Dr. Okoro there. It was late."),
        ("We saw it, e.g. here and there. J. R. Lund of the U.S. Navy said so", 62, "We saw it, e.g. here and there."),
        ("Was it so? yes it was. And then they all went away again", 40, "Was it so? yes it was."),
        ("He asked: “Why?” Nobody knew an answer to that", 30, "He asked: “Why?”"),
        ("See Fig. 3 and vol. 7. That is all there is to see", 40, "See Fig. 3 and vol. 7."),
    ],
)
def test_abbreviations_end_no_sentence(text: str, limit: int, expected: str) -> None:
    assert cut_text(text, limit) == expected


@pytest.mark.skipif(not shutil.which("setpriv") or os.geteuid() != 0, reason="needs root and setpriv")
def test_files_that_may_not_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "secret.jsonl"
    file.write_text('{"persona": "A nurse", "text": "x"}\n')
    file.chmod(0)
    (tmp_path / "e.yaml").write_text(
        f"experiment: e\nstages: {{s: {{run: personahub.sources, config: {{path: {file}}}}}}}\n"
    )
    commands = ["personas stats secret.jsonl", "personas import secret.jsonl o.jsonl", "dedup secret.jsonl o.jsonl"]
    for command in [*commands, "plan e.yaml"]:
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        words = [*drop, sys.executable, "-m", "personahub", *command.split()]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "secret.jsonl: cannot be read: Permission denied" in done.stderr
