"""Import, sample, summarize and search collections of personas.

    personahub personas import persona.jsonl personas.parquet --release personahub
    personahub personas stats personas.parquet
    personahub personas sample runs/quickstart/personas -n 5
    personahub personas search personas.parquet nurse night shift
    personahub personas search personas.parquet "who works while others sleep" --embedder minilm

A collection is a JSON Lines or Parquet file, a folder of such files, or the folder of a stage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from personahub.commands.collection import (
    CollectionWriter,
    Persona,
    parquet_schema,
    read_collection,
    sample,
    search_embedding,
    search_words,
    stats,
)
from personahub.commands.console import one_line
from personahub.commands.embedder_options import add_embedder_options, embedder_from_options
from personahub.commands.model_options import ModelOptions
from personahub.commands.outputs import require_writable
from personahub.core.errors import UserError
from personahub.core.executors.progress import Progress
from personahub.core.records import PERSONA
from personahub.core.texts.rows import EVERY_FILE, ROW_SUFFIXES
from personahub.personas.documents import list_files
from personahub.released import Config, Seen, import_row, no_usable_persona, read

_COLUMN_OPTIONS = {
    "columns.persona": "--field",
    "columns.id": "--id-field",
    "columns.document_id": "--document-id-field",
}
_IMPORT = ModelOptions(
    Config,
    only=(
        "release", *_COLUMN_OPTIONS, "source", "licence", "model", "machine_generated", "pattern", "limit", "max_chars",
    ),
    names=_COLUMN_OPTIONS,
    descriptions={
        "columns.persona": "Field that holds a persona. A row may lack some of these fields, not all",
        "release": "Fills in the fields, source and licence of a known collection",
    },
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub personas`."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    for name, summary, add, function in (
        ("import", "Write released personas as records with their origin and licence", _add_import, _import),
        ("sample", "Draw some personas at random", _add_sample, _sample),
        ("stats", "Count personas, lengths, languages, kinds of people and sources", _add_collection, _stats),
        ("search", "Find personas by words or by meaning", _add_search, _search),
    ):
        action = actions.add_parser(name, help=summary, description=f"{summary}.")
        action.set_defaults(run=function)
        add(action)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write released personas as records with their origin and licence.\n\n"
        "Rows that cannot be used (empty, too long, repeated) are written to OUT's name with .rejected.jsonl,\n"
        "with the reason."
    )
    parser.add_argument(
        "source", metavar="IN", help="A file, a folder, or an https:// or hf://datasets/OWNER/NAME@COMMIT/FILE URL"
    )
    parser.add_argument("target", type=Path, metavar="OUT", help="A .jsonl, .jsonl.gz or .parquet file")
    _IMPORT.add_to(parser)
    parser.add_argument("--keep-duplicates", action="store_true", help="Do not reject repeated personas")
    parser.add_argument("--overwrite", action="store_true", help="Replace OUT and its .rejected.jsonl if they exist")


def _add_collection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "collection", type=Path, metavar="IN", help="A JSON Lines or Parquet file, a folder of such files, or a stage"
    )
    parser.add_argument(
        "--field", default="persona", metavar="FIELD", help="Field that holds the persona (default: persona)"
    )
    parser.add_argument("--json", action="store_true", help="Print JSON")


def _add_sample(parser: argparse.ArgumentParser) -> None:
    _add_collection(parser)
    parser.add_argument("-n", type=_positive, default=10, metavar="N", help="Number of personas (default: 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="Seed of the random choice (default: 0)")
    parser.add_argument(
        "--out", type=Path, metavar="OUT", help="Write the rows to a .jsonl, .jsonl.gz or .parquet file"
    )
    parser.add_argument("--overwrite", action="store_true", help="Replace OUT if it exists")


def _add_search(parser: argparse.ArgumentParser) -> None:
    _add_collection(parser)
    parser.add_argument("query", nargs="+", metavar="WORD", help="What to search for")
    parser.add_argument("-n", type=_positive, default=10, metavar="N", help="Number of results (default: 10)")
    add_embedder_options(parser, "Search by meaning; embeds the whole collection")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _import(options: argparse.Namespace) -> int:
    config = _import_config(options)
    stem = options.target.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".parquet")
    rejected_file = options.target.with_name(f"{stem}.rejected.jsonl")
    sources = list_files(Path(config.path), config.pattern) if config.path is not None else []
    for written in (options.target, rejected_file):
        require_writable(written, sources)
    had_rejected = rejected_file.exists()  # from another run: --overwrite replaces it, nothing deletes it
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
    counts = ", ".join(f"{reason} {number:,}" for reason, number in reasons.most_common())
    rejections = f"; {sum(reasons.values()):,} rejected ({counts}), see {rejected_file}" if reasons else ""
    print(f"{options.target}: {writer.rows:,} personas from {rows:,} rows{rejections}")
    print(f"source {config.source or 'unknown'}, licence {config.licence or 'unknown'}")
    return 0


def _import_config(options: argparse.Namespace) -> Config:
    values: dict[str, Any] = {"unique": not options.keep_duplicates}
    if "://" in options.source:
        values["urls"] = [options.source]
    else:
        values["path"] = options.source
        if "release" not in _IMPORT.given(options):
            values["source"] = Path(options.source).name
    return _IMPORT.build(Config, options, **values)


def _read(options: argparse.Namespace) -> Iterator[Persona]:
    return read_collection(options.collection, options.field)


def _sample(options: argparse.Namespace) -> int:
    if options.out is not None:
        require_writable(options.out, list_files(options.collection, EVERY_FILE, ROW_SUFFIXES))
    drawn = sample(_read(options), options.n, options.seed)
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
    found = stats(_read(options))
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
    query = " ".join(options.query)
    if options.embedder is None:
        hits = search_words(lambda: _read(options), query, options.n)
    else:
        with Progress("search", None, "personas embedded") as progress:
            embedder = embedder_from_options(options)
            hits = search_embedding(_read(options), query, options.n, embedder, progress.update)
    for score, persona in hits:
        if options.json:
            print(json.dumps({"score": round(score, 4), **persona.row}, ensure_ascii=False, default=str))
        else:
            print(f"{score:6.3f}  {one_line(persona.text)}")
    if not hits and not options.json:
        print(f"nothing found for {query!r}")
    return 0
