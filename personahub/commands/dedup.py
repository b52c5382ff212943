"""Remove near-duplicates from JSON Lines and Parquet files.

    personahub dedup personas.jsonl unique.jsonl
    personahub dedup new.parquet unique.parquet --against old.parquet
    personahub dedup texts.jsonl unique.jsonl --method minhash --ngram 5 --threshold 0.8 --text-field text
    personahub dedup personas.jsonl unique.jsonl --method embedding --score-field quality

Three methods compare texts: `surface` finds all pairs whose word sets have at least the threshold
as Jaccard similarity; `minhash` finds nearly all such pairs of sets of word n-grams, for long
texts; `embedding` finds all pairs whose vectors have a cosine above the threshold.

Kept rows are copied unchanged. OUT.dropped.jsonl lists every other row with the reason, the
similarity, and the row that was kept in its place.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from personahub.commands.dedup_files import Options, deduplicate_files
from personahub.commands.embedder_options import add_embedder_options, embedder_from_options
from personahub.commands.model_options import ModelOptions
from personahub.core.errors import UserError
from personahub.core.texts.figures import format_seconds
from personahub.deduplication.method import Method
from personahub.deduplication.methods import METHODS, method_class

_SETTINGS = ModelOptions(*METHODS.values(), exclude=("method", "version", "embedder"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub dedup`."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="IN",
        help="A .jsonl, .jsonl.gz or .parquet file, a folder of such files, or the folder of a stage",
    )
    parser.add_argument("target", type=Path, metavar="OUT", help="Output file of the same type")
    parser.add_argument(
        "--text-field", default="persona", metavar="FIELD", help="Field that is compared (default: persona)"
    )
    parser.add_argument(
        "--against", type=Path, metavar="EXISTING", help="Also drop rows of IN that are near-duplicates of these"
    )
    parser.add_argument(
        "--keep",
        choices=("first", "longest"),
        default="first",
        help="Which of two near-duplicates to keep (default: first)",
    )
    parser.add_argument(
        "--score-field", metavar="FIELD", help="Keep the near-duplicate with the highest number in this field"
    )
    parser.add_argument(
        "--method", default="surface", help=f"{', '.join(METHODS)}, or the dotted path of a class (default: surface)"
    )
    _SETTINGS.add_to(parser)
    add_embedder_options(parser, "For --method embedding", default="minilm")


def run(options: argparse.Namespace) -> int:
    """Deduplicate and print the counts."""
    started = time.monotonic()
    counts = deduplicate_files(
        options.source,
        options.target,
        _method(options),
        Options(text_field=options.text_field, keep=options.keep, score_field=options.score_field),
        options.against,
    )
    summary = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(f"{options.target}: {summary}, in {format_seconds(time.monotonic() - started)}")
    return 0


def _method(options: argparse.Namespace) -> Method:
    try:
        kind = method_class(options.method)
    except ValueError as error:
        raise UserError(f"--method: {error}") from None
    values = {"embedder": embedder_from_options(options)} if "embedder" in kind.model_fields else {}
    return _SETTINGS.build(kind, options, method=options.method, **values)
