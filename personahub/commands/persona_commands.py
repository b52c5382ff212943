"""`personahub personas import | sample | stats | search`: collections of personas from the command line.

personahub personas import persona.jsonl personas.parquet --release personahub
personahub personas stats personas.parquet
personahub personas sample runs/quickstart/personas -n 5
personahub personas search personas.parquet nurse night shift
personahub personas search personas.parquet "who works while others sleep" --embedder minilm
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personahub.commands.console import one_line
from personahub.core.errors import UserError

RELEASE_NAMES = ("personahub", "elite_personas", "finepersonas", "nemotron_personas")
EMBEDDERS = ("minilm", "hashing")


def add_commands(commands: Any) -> None:
    """Add `personas` and what is below it to the command line's subparsers."""
    personas = commands.add_parser("personas", help="collections of personas: import, sample, stats, search")
    actions = personas.add_subparsers(required=True, metavar="ACTION")
    _add_import(actions.add_parser("import", help="released personas as records with origin and licence"))

    sample = actions.add_parser("sample", help="some personas, drawn evenly")
    _add_collection(sample)
    sample.add_argument("-n", type=_positive, default=10, help="how many (default 10)")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", type=Path, metavar="OUT", help="write their rows to .jsonl, .jsonl.gz or .parquet")
    sample.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    sample.set_defaults(command=_sample)

    stats = actions.add_parser("stats", help="how many, how long, in what language, who they are, where from")
    _add_collection(stats)
    stats.set_defaults(command=_stats)

    search = actions.add_parser("search", help="find personas by words, or by meaning")
    _add_collection(search)
    search.add_argument("query", nargs="+", metavar="WORD")
    search.add_argument("-n", type=_positive, default=10, help="hits to show (default 10)")
    search.add_argument("--embedder", choices=EMBEDDERS, help="search by meaning: embeds the whole collection")
    search.set_defaults(command=_search)


def _add_collection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "collection", type=Path, metavar="IN", help="JSON Lines, Parquet, a folder of them or a stage's"
    )
    parser.add_argument("--field", default="persona", help="column that holds the persona (default: persona)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.description = "Rows that cannot be taken (empty, too long, repeated) go to OUT's name with .rejected.jsonl, with their reason."
    parser.add_argument(
        "source", metavar="IN", help="file, folder, or https:// or hf://datasets/OWNER/NAME@COMMIT/FILE address"
    )
    parser.add_argument("target", type=Path, metavar="OUT", help="written as .jsonl, .jsonl.gz or .parquet")
    parser.add_argument("--release", choices=RELEASE_NAMES, help="fills in columns, source and licence")
    parser.add_argument("--field", action="append", metavar="COLUMN", help="that holds a persona; may be repeated")
    parser.add_argument("--id-field", metavar="COLUMN", help="the collection's own id")
    parser.add_argument("--document-id-field", metavar="COLUMN", help="id of the text it was inferred from")
    parser.add_argument("--source", dest="origin", help="name of the collection")
    parser.add_argument("--licence", help="such as 'CC BY 4.0'")
    parser.add_argument("--model", help="that wrote the personas")
    parser.add_argument("--limit", type=_positive, metavar="ROWS", help="read at most so many")
    parser.add_argument("--max-chars", type=_positive, help="longer personas are rejected (default 4000)")
    parser.add_argument("--keep-duplicates", action="store_true", help="do not look for personas that come again")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT and OUT's .rejected.jsonl if they exist")
    parser.set_defaults(command=_import)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _import(options: argparse.Namespace) -> int:
    from itertools import islice

    from personahub.commands.collection import CollectionWriter
    from personahub.commands.outputs import require_writable
    from personahub.core.executors.progress import Progress
    from personahub.core.records import PERSONA
    from personahub.personas.documents import list_files
    from personahub.released import Seen, import_row, no_usable_persona, read

    config = _import_config(options)
    stem = options.target.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".parquet")
    rejected_file = options.target.with_name(f"{stem}.rejected.jsonl")
    read_from = list_files(Path(config.path), config.pattern) if config.path is not None else []
    for written in (options.target, rejected_file):
        require_writable(written, read_from)
    had_rejected = rejected_file.exists()  # of another run; it is replaced if --overwrite says so, and never removed
    reasons: Counter[str] = Counter()
    rows, seen = 0, Seen()
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(CollectionWriter(options.target, PERSONA, options.overwrite))
        rejected = stack.enter_context(CollectionWriter(rejected_file, overwrite=options.overwrite))
        progress = stack.enter_context(Progress("import", config.limit))
        for raw in islice(read(config), config.limit):
            rows += 1
            progress.update(1)
            for record, error in import_row(raw, config, seen):
                if error is None:
                    writer.write(record)
                    continue
                reasons[error.reason] += 1
                rejected.write({"where": raw.where, "reason": error.reason, "detail": error.detail, "record": record})
        if writer.rows == 0:
            raise UserError(f"{options.source}: {no_usable_persona(rows, reasons)}")
    if not reasons and not had_rejected:
        rejected_file.unlink()
    counted = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
    kept_at = f"; {sum(reasons.values()):,} rejected ({counted}), see {rejected_file}" if reasons else ""
    print(f"{options.target}: {writer.rows:,} personas from {rows:,} rows{kept_at}")
    print(f"source {config.source or 'unknown'}, licence {config.licence or 'unknown'}")
    return 0


def _import_config(options: argparse.Namespace) -> Any:
    from personahub.core.config import parse_config
    from personahub.released import Config

    columns = {"persona": options.field, "id": options.id_field, "document_id": options.document_id_field}
    origin = "urls" if "://" in options.source else "path"
    values: dict[str, Any] = {
        "release": options.release,
        origin: [options.source] if origin == "urls" else options.source,
        "columns": {name: column for name, column in columns.items() if column is not None},
        "source": options.origin,
        "licence": options.licence,
        "model": options.model,
        "limit": options.limit,
        "max_chars": options.max_chars,
        "unique": not options.keep_duplicates,
    }
    given = {name: value for name, value in values.items() if value is not None}
    if options.release is None and "source" not in given and origin == "path":
        given["source"] = Path(options.source).name
    return parse_config(Config, given, "import")


def _personas(options: argparse.Namespace) -> Iterator[Any]:
    from personahub.commands.collection import read_collection

    return read_collection(options.collection, options.field)


def _sample(options: argparse.Namespace) -> int:
    from personahub.commands.collection import CollectionWriter, parquet_schema, sample
    from personahub.commands.outputs import require_writable
    from personahub.core.texts.rows import EVERY_FILE, ROW_SUFFIXES
    from personahub.personas.documents import list_files

    if options.out is not None:
        require_writable(options.out, list_files(options.collection, EVERY_FILE, ROW_SUFFIXES))
    drawn = sample(_personas(options), options.n, options.seed)
    if not drawn:
        raise UserError(f"{options.collection}: holds no persona")
    if options.out is not None:
        schema = parquet_schema(options.collection) if options.out.suffix == ".parquet" else None
        with CollectionWriter(options.out, schema, options.overwrite) as writer:
            for persona in drawn:
                writer.write(persona.row)
        print(f"{options.out}: {writer.rows:,} personas")
        return 0
    for persona in drawn:
        print(json.dumps(persona.row, ensure_ascii=False, default=str) if options.json else one_line(persona.text))
    return 0


def _stats(options: argparse.Namespace) -> int:
    from personahub.commands.collection import stats

    found = stats(_personas(options))
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {number:,}" for key, number in value.items())
        else:
            shown = f"{value:,}"
        print(f"{name.replace('_', ' '):14} {shown}")
    return 0


def _search(options: argparse.Namespace) -> int:
    from personahub.commands.collection import search_embedding, search_words
    from personahub.core.embedding.config import EmbedderConfig
    from personahub.core.executors.progress import Progress

    query = " ".join(options.query)
    if options.embedder is None:
        hits = search_words(lambda: _personas(options), query, options.n)
    else:
        with Progress("search", None, "personas embedded") as progress:
            embedder = EmbedderConfig(kind=options.embedder)
            hits = search_embedding(_personas(options), query, options.n, embedder, progress.update)
    for score, persona in hits:
        if options.json:
            print(json.dumps({"score": round(score, 4), **persona.row}, ensure_ascii=False, default=str))
        else:
            print(f"{score:6.3f}  {one_line(persona.text)}")
    if not hits and not options.json:
        print(f"nothing found for {query!r}")
    return 0
