"""Commands for anybody's files, which need no experiment: `personahub check | complete | dedup`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from personahub.core.errors import UserError
from personahub.core.texts.figures import format_seconds


def add_commands(commands: Any) -> None:
    """Add them to the command line's subparsers."""
    for add in (_add_check, _add_complete, _add_dedup):
        add(commands)


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="grade predicted answers against reference answers, row by row",
        description="Rows that cannot be checked are written with verdict `error` and the reason, and counted; "
        "they change no exit code, unless there is no other row.",
    )
    check.add_argument("source", metavar="IN.jsonl", help="rows with a reference and a predicted answer; - reads stdin")
    check.add_argument(
        "target",
        metavar="OUT.jsonl",
        help="the rows with verdict, extracted answer, rule, milliseconds; - writes stdout",
    )
    check.add_argument("--gold-field", default="gold", metavar="FIELD", help="with the reference (default: gold)")
    check.add_argument("--pred-field", default="pred", metavar="FIELD", help="with the answer to grade (default: pred)")
    check.add_argument("--policy", choices=("lenient", "strict"), default="lenient", help="for contested cases")
    check.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="checker processes")
    check.add_argument("--deadline", type=float, default=5.0, metavar="SECONDS", help="for one row (default 5)")
    check.set_defaults(command=_check)


def _add_complete(commands: Any) -> None:
    complete = commands.add_parser("complete", help="answer a file of chat requests (OpenAI's batch format), resumably")
    complete.add_argument("source", type=Path, metavar="REQUESTS.jsonl", help="custom_id, method, url, body per line")
    complete.add_argument("target", type=Path, metavar="OUT.jsonl", help="the replies, in the same order")
    complete.add_argument("--base-url", required=True, help="up to, not including, /chat/completions")
    complete.add_argument("--model", help="of every request, over what its body says")
    complete.add_argument("--n", type=int, help="completions of every request, over what its body says")
    complete.add_argument("--concurrency", type=int, default=64, help="requests in flight at once (default 64)")
    complete.add_argument("--rpm", type=float, help="requests per minute")
    complete.add_argument("--tpm", type=float, help="tokens per minute, both ways")
    complete.add_argument("--price-input", type=float, help="USD per million prompt tokens")
    complete.add_argument("--price-output", type=float, help="USD per million completion tokens")
    complete.add_argument("--max-cost-usd", type=float, help="stop before more is spent; needs the prices")
    complete.add_argument("--api-key-env", default="OPENAI_API_KEY", help="variable that holds the key")
    complete.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for one try (default 600)")
    complete.set_defaults(command=_complete)


def _add_dedup(commands: Any) -> None:
    dedup = commands.add_parser(
        "dedup",
        help="near-duplicates out of JSONL and Parquet files",
        description="Rows that stay are copied as they are. OUT.dropped.jsonl tells of each other row why, and which "
        "row covers it. `surface` finds all pairs whose sets of words have at least this Jaccard similarity, "
        "`minhash` nearly all of those of word n-grams, for long texts; `embedding` goes by the cosine of vectors.",
    )
    dedup.add_argument(
        "source", type=Path, metavar="IN", help="a .jsonl, .jsonl.gz or .parquet file, a folder of them, or a stage's"
    )
    dedup.add_argument("target", type=Path, metavar="OUT", help="a file of the same kind")
    dedup.add_argument(
        "--method", default="surface", help="surface (default), minhash, embedding, or the dotted path of a class"
    )
    dedup.add_argument("--threshold", type=float, default=0.9, help="default 0.9")
    dedup.add_argument("--text-field", default="persona", help="what is compared (default: persona)")
    dedup.add_argument("--against", type=Path, metavar="EXISTING", help="rows that stay, whatever is in IN")
    dedup.add_argument("--keep", choices=("first", "longest"), default="first", help="of near-duplicates")
    dedup.add_argument("--score-field", metavar="FIELD", help="of near-duplicates keep the one with the highest number")
    dedup.add_argument("--ngram", type=int, default=1, help="words in a row, for minhash (default 1)")
    dedup.add_argument(
        "--embedder", default="minilm", help="minilm, hashing, or a sentence-transformers model or folder"
    )
    dedup.add_argument(
        "--search",
        choices=("exact", "clustered"),
        default="exact",
        help="among vectors: all pairs, or within the nearest eight clusters, for more than a few million rows",
    )
    dedup.set_defaults(command=_dedup)


def _check(options: argparse.Namespace) -> int:
    from personahub.core.answers import Policy, check_file

    if not 0 < options.deadline < float("inf"):
        raise UserError(f"--deadline {options.deadline:g}: a row needs some time, such as --deadline 5")
    counts = check_file(
        options.source,
        options.target,
        gold_field=options.gold_field,
        pred_field=options.pred_field,
        workers=options.workers,
        deadline_s=options.deadline,
        policy=Policy.strict() if options.policy == "strict" else Policy(),
    )
    total = max(sum(counts.values()), 1)
    summary = ", ".join(f"{label} {number:,} ({100 * number / total:.1f}%)" for label, number in counts.items())
    print(summary, file=sys.stderr if options.target == "-" else sys.stdout)
    return 0


def _complete(options: argparse.Namespace) -> int:
    from personahub.commands.complete import complete_file, describe
    from personahub.core.config import parse_config
    from personahub.core.engines.remote.endpoint import EndpointConfig

    prices = (options.price_input, options.price_output)
    values = {
        "kind": "openai",
        "model": options.model or "",
        "base_url": options.base_url,
        "concurrency": options.concurrency,
        "rpm": options.rpm,
        "tpm": options.tpm,
        "price": None if None in prices else {"input": prices[0], "output": prices[1]},
        "max_cost_usd": options.max_cost_usd,
        "api_key_env": options.api_key_env,
        "timeout_s": options.timeout,
    }
    config = parse_config(EndpointConfig, values, "complete")
    overrides = {name: value for name in ("model", "n") if (value := getattr(options, name)) is not None}
    result = complete_file(options.source, options.target, config, overrides)
    print(describe(options.target, result))
    return 1 if result.errors and not result.replies else 0


def _dedup(options: argparse.Namespace) -> int:
    from personahub.commands.dedup_files import Options, configure_method, deduplicate_files

    started = time.monotonic()
    settings = {name: getattr(options, name) for name in ("threshold", "ngram", "search")}
    counts = deduplicate_files(
        options.source,
        options.target,
        configure_method(options.method, options.embedder, **settings),
        Options(text_field=options.text_field, keep=options.keep, score_field=options.score_field),
        options.against,
    )
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(f"{options.target}: {told}, in {format_seconds(time.monotonic() - started)}")
    return 0
