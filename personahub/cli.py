"""The command line: `personahub plan | run | show | diff | check | complete | dedup | personas | push | cache | wandb | forget`.

Exit codes: 0 done, 1 a stage failed, 2 something for the user to mend, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personahub.console import close_output, write_any_text
from personahub.core.artifact import Artifact, disk_error, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiment import Experiment, describe, describe_differences, load_experiment
from personahub.core.pilot import read_pilot
from personahub.core.plan import plan_experiment
from personahub.core.plan_table import format_plan
from personahub.core.progress import format_seconds
from personahub.core.runner import StageFailedError, run_experiment
from personahub.core.worker import COMMAND_VARIABLE
from personahub.persona_commands import add_commands as add_persona_commands

Commands = Any  # what argparse has no public name for: the object that `add_subparsers` returns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.insert(0, str(Path.cwd()))  # a user's own stage and engine modules lie beside their YAML
    write_any_text()
    options = _parse(words)
    options.words = words
    try:
        code = options.command(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageFailedError as error:
        if error.code != 2:  # with 2 the stage has said in one line what is to be mended
            print(f"error: {error}. To go on: {shlex.join(['personahub', *words])}", file=sys.stderr)
        return error.code
    except BrokenPipeError:  # `personahub show ... | head`
        close_output()
        return 0
    except OSError as error:
        if (line := disk_error(error, Path.cwd())) is None:
            raise
        close_output()
        print(f"error: {line if error.filename else f'the output: {error.strerror}'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; nothing is lost. To go on: {shlex.join(['personahub', *words])}", file=sys.stderr)
        return 130
    else:
        return code


def _parse(words: list[str]) -> argparse.Namespace:
    """Overrides may stand before, between and behind options, which argparse alone does not allow."""
    parser = _parser()
    options, extra = parser.parse_known_args(words)
    if extra and (not hasattr(options, "overrides") or any(word.startswith("-") for word in extra)):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    if extra:
        options.overrides = [*options.overrides, *extra]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="personahub", description="Persona-driven synthetic data: made, verified, trained on and measured."
    )
    parser.add_argument("--version", action="version", version=f"personahub {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_plan, _add_run, _add_show, _add_check, _add_complete, _add_dedup, _add_cache, add_persona_commands, _add_push,
        _add_forget, _add_wandb, _add_diff,
    ):  # fmt: skip
        add(commands)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("persona-hub-harness")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _add_plan(commands: Commands) -> None:
    plan = commands.add_parser("plan", help="what is done, what is to come, and its cost; spends nothing")
    _add_experiment(plan)
    plan.add_argument("--pilot", type=Path, metavar="RUN", help="correct the estimates by what this small run took")
    plan.set_defaults(command=_plan)


def _add_run(commands: Commands) -> None:
    run = commands.add_parser("run", help="run an experiment; finished stages are left alone")
    _add_experiment(run)
    run.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")
    run.add_argument(
        "--redo", action="append", default=[], metavar="STAGE", help="make it and what depends on it again"
    )
    run.set_defaults(command=_run)


def _add_show(commands: Commands) -> None:
    show = commands.add_parser("show", help="counts and some records of an artifact")
    show.add_argument("artifact", help="its folder, such as runs/quickstart/personas")
    show.add_argument("-n", type=int, default=3, help="records to show (default 3)")
    show.add_argument("--rejected", action="store_true", help="show rejected records instead")
    show.set_defaults(command=_show)


def _add_check(commands: Commands) -> None:
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


def _add_complete(commands: Commands) -> None:
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


def _add_dedup(commands: Commands) -> None:
    dedup = commands.add_parser(
        "dedup",
        help="near-duplicates out of JSONL and Parquet files",
        description="Rows that stay are copied as they are. OUT.dropped.jsonl tells of each other row why, and which "
        "row covers it. `surface` finds all pairs whose sets of words have at least this Jaccard similarity, "
        "`minhash` nearly all of those of word n-grams, for long texts; `embedding` goes by the cosine of vectors.",
    )
    dedup.add_argument("source", type=Path, metavar="IN", help="a .jsonl or .parquet file, or a folder of them")
    dedup.add_argument("target", type=Path, metavar="OUT", help="a file of the same kind")
    dedup.add_argument(
        "--method", choices=("surface", "minhash", "embedding"), default="surface", help="default: surface"
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


def _add_cache(commands: Commands) -> None:
    cache = commands.add_parser("cache", help="the journals of completions: what they take, and removing them")
    cache.add_argument("action", choices=("stats", "prune"), help="prune: those of complete stages")
    cache.add_argument("experiments", nargs="*", default=[], metavar="EXPERIMENT", help="by name (default: all)")
    cache.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all experiments (default: runs)")
    cache.add_argument("--yes", action="store_true", help="prune: remove them; without it, only say what would go")
    cache.set_defaults(command=_cache)


def _add_push(commands: Commands) -> None:
    push = commands.add_parser("push", help="publish an artifact with its dataset card on the Hugging Face hub")
    push.add_argument("artifact", help="its folder, such as runs/quickstart/problems")
    where = push.add_mutually_exclusive_group(required=True)
    where.add_argument("--repo", metavar="OWNER/NAME", help="the data set; needs a token in HF_TOKEN")
    where.add_argument(
        "--dry-run", type=Path, metavar="FOLDER", help="write what would be uploaded, and upload nothing"
    )
    push.add_argument("--private", action="store_true", help="if the data set is made now")
    push.set_defaults(command=_push)


def _add_forget(commands: Commands) -> None:
    forgetting = commands.add_parser("forget", help="take a record, and all that was made from it, out of a run")
    forgetting.add_argument("id", help="of a web text, persona, problem or any other record")
    forgetting.add_argument("--experiment", type=Path, required=True, help="the run's folder, such as runs/quickstart")
    forgetting.add_argument("--yes", action="store_true", help="remove it; without it, only say what would go")
    forgetting.set_defaults(command=_forget)


def _add_wandb(commands: Commands) -> None:
    wandb = commands.add_parser("wandb", help="send what was tracked offline to Weights & Biases")
    wandb.add_argument("action", choices=["sync"], help="send each run once")
    wandb.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of runs (default: runs)")
    wandb.add_argument("--dry-run", action="store_true", help="list what would be sent")
    wandb.set_defaults(command=_wandb)


def _add_diff(commands: Commands) -> None:
    diff = commands.add_parser("diff", help="how two artifacts differ: config, inputs, counts")
    diff.add_argument("a", metavar="A", help="an artifact's folder, such as runs/quickstart/problems")
    diff.add_argument("b", metavar="B", help="another's, such as runs/real/problems")
    diff.set_defaults(command=_diff)


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="the experiment's YAML")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="such as stages.sft.config.seed=1"
    )
    parser.add_argument("--runs", default="runs", help="folder of all experiments (default: runs)")


def _load(options: argparse.Namespace) -> Experiment:
    return load_experiment(options.config, options.overrides, options.runs)


def _plan(options: argparse.Namespace) -> int:
    pilot = read_pilot(options.pilot) if options.pilot else None
    experiment = _load(options)
    print(format_plan(plan_experiment(experiment, pilot), experiment.engines))
    return 0


def _run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    experiment = _load(options)
    os.environ[COMMAND_VARIABLE] = shlex.join(["personahub", *options.words])
    manifests = run_experiment(experiment, options.only, options.redo, lambda line: print(line, flush=True))
    print(f"{experiment.folder}: done in {format_seconds(time.monotonic() - started)}")
    for manifest in manifests:
        page = experiment.folder / manifest.stage / "index.html"
        if page.exists():
            print(f"report: {page}")
    return 0


def _dedup(options: argparse.Namespace) -> int:
    from personahub.dedup_files import Options, deduplicate_files, embedder

    started = time.monotonic()
    counts = deduplicate_files(
        options.source,
        options.target,
        Options(
            method=options.method,
            threshold=options.threshold,
            text_field=options.text_field,
            keep=options.keep,
            score_field=options.score_field,
            ngram=options.ngram,
            search=options.search,
            embedder=embedder(options.embedder),
        ),
        options.against,
    )
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    print(f"{options.target}: {told}, in {format_seconds(time.monotonic() - started)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    artifact = open_artifact(options.artifact)
    _print_head(artifact)
    rows = artifact.rejected() if options.rejected else artifact.rows()
    for row in itertools.islice(rows, max(options.n, 0)):
        print(json.dumps(row, indent=2, ensure_ascii=False, default=str))
    return 0


def _print_head(artifact: Artifact) -> None:
    manifest = artifact.manifest
    counts = manifest.counts
    print(f"{artifact.path}: {manifest.module} version {manifest.version}, fingerprint {manifest.fingerprint}")
    print(
        f"made {manifest.created} in {format_seconds(manifest.seconds)}; {counts.rows_in:,} in, {counts.rows_out:,} out"
    )
    for reason, number in sorted(counts.rejected.items(), key=lambda item: -item[1]):
        print(f"  rejected {number:,}: {reason}")
    if manifest.usage.requests:
        print(f"  usage: {manifest.usage.model_dump()}")
    if manifest.summary:
        print(f"  summary: {json.dumps(manifest.summary, ensure_ascii=False)[:2000]}")


def _check(options: argparse.Namespace) -> int:
    from personahub.core.answers import Policy, check_file

    if not 0 < options.deadline < float("inf"):
        raise UserError(f"--deadline {options.deadline:g}: a row needs some time, such as --deadline 5")
    counts = check_file(
        options.source,
        options.target,
        gold_field=options.gold_field,
        pred_field=options.pred_field,
        workers=max(options.workers, 1),
        deadline_s=options.deadline,
        policy=Policy.strict() if options.policy == "strict" else Policy(),
    )
    total = max(sum(counts.values()), 1)
    summary = ", ".join(f"{label} {number:,} ({100 * number / total:.1f}%)" for label, number in counts.items())
    print(summary, file=sys.stderr if options.target == "-" else sys.stdout)
    return 0


def _complete(options: argparse.Namespace) -> int:
    from personahub.complete import complete_file, describe
    from personahub.core.config import parse_config
    from personahub.core.engines.endpoint import EndpointConfig

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
    print(describe(options.target, complete_file(options.source, options.target, config, overrides)))
    return 0


def _cache(options: argparse.Namespace) -> int:
    from personahub.core.journal_cache import describe_journals, journals, prune

    found = journals(options.runs, options.experiments)
    if options.action == "stats":
        print(describe_journals(found))
        return 0
    gone = prune(found) if options.yes else [journal for journal in found if journal.complete]
    completions, megabytes = sum(j.completions for j in gone), sum(j.size for j in gone) / 1e6
    for journal in gone:
        print(journal.stage)
    if options.yes:
        print(f"{completions:,} completions removed, {megabytes:,.1f} MB; `run --redo` asks for them again")
    else:
        print(
            f"{completions:,} completions, {megabytes:,.1f} MB, would go with --yes. The stages stay as they are; "
            "only `run --redo` would ask, and pay, for these completions again"
        )
    return 0


def _forget(options: argparse.Namespace) -> int:
    from personahub.forget import describe, forget

    print(describe(forget(options.experiment, options.id, options.yes), options.yes))
    return 0


def _wandb(options: argparse.Namespace) -> int:
    from personahub.core.tracking import offline_runs, sync

    found = offline_runs(options.runs)
    if not found:
        print(f"{options.runs}: no run that was tracked offline and is not sent yet (tracking.wandb=offline)")
        return 0
    if options.dry_run:
        print("\n".join(map(str, found)))
        return 0
    return 1 if sync(found) else 0


def _push(options: argparse.Namespace) -> int:
    from personahub.push import push, write_upload

    artifact = open_artifact(options.artifact)
    if options.dry_run is None:
        print(push(artifact, options.repo, private=options.private))
        return 0
    for file in write_upload(artifact, options.dry_run):
        print(f"{file} ({file.stat().st_size:,} bytes)")
    print("nothing was uploaded; with --repo OWNER/NAME instead of --dry-run it would be")
    return 0


def _diff(options: argparse.Namespace) -> int:
    a, b = (open_artifact(path).manifest for path in (options.a, options.b))
    results = {"counts", "usage", "summary", "versions"}
    old, new = ({**describe(m), **m.model_dump(mode="json", include=results)} for m in (a, b))
    lines = describe_differences(old, new)
    print("\n".join(lines) if lines else f"same: fingerprint {a.fingerprint}")
    return 0
