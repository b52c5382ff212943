"""The command line: `personahub plan | run | show | diff | check`.

Exit codes: 0 done, 1 a stage failed, 2 something for the user to mend, 130 interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiment import Experiment, describe, describe_differences, load_experiment
from personahub.core.plan import format_plan, plan_experiment
from personahub.core.progress import format_seconds
from personahub.core.runner import StageFailedError, run_experiment
from personahub.core.worker import COMMAND_VARIABLE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.insert(0, str(Path.cwd()))  # a user's own stage and engine modules lie beside their YAML
    options = _parse(words)
    options.words = words
    try:
        return options.command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageFailedError as error:
        if error.code != 2:  # with 2 the stage has said in one line what is to be mended
            print(f"error: {error}. To go on: {shlex.join(['personahub', *words])}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(f"\nstopped; nothing is lost. To go on: {shlex.join(['personahub', *words])}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `personahub show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    plan = commands.add_parser("plan", help="what is done, what is to come, and its cost; spends nothing")
    _add_experiment(plan)
    plan.set_defaults(command=_plan)

    run = commands.add_parser("run", help="run an experiment; finished stages are left alone")
    _add_experiment(run)
    run.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")
    run.add_argument(
        "--redo", action="append", default=[], metavar="STAGE", help="make it and what depends on it again"
    )
    run.set_defaults(command=_run)

    show = commands.add_parser("show", help="counts and some records of an artifact")
    show.add_argument("artifact", help="its folder, such as runs/quickstart/personas")
    show.add_argument("-n", type=int, default=3, help="records to show (default 3)")
    show.add_argument("--rejected", action="store_true", help="show rejected records instead")
    show.set_defaults(command=_show)

    check = commands.add_parser(
        "check",
        help="grade predicted answers against reference answers, row by row",
        description="Rows that cannot be checked are written with verdict `error` and the reason, and counted; "
        "they change no exit code.",
    )
    check.add_argument("source", metavar="IN.jsonl", help="rows with a reference and a predicted answer; - reads stdin")
    check.add_argument(
        "target",
        metavar="OUT.jsonl",
        help="the rows with verdict, extracted answer, rule, milliseconds; - writes stdout",
    )
    check.add_argument("--gold-field", default="gold")
    check.add_argument("--pred-field", default="pred")
    check.add_argument("--policy", choices=("lenient", "strict"), default="lenient", help="for contested cases")
    check.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="checker processes")
    check.add_argument("--deadline", type=float, default=5.0, metavar="SECONDS", help="for one row (default 5)")
    check.set_defaults(command=_check)

    diff = commands.add_parser("diff", help="how two artifacts differ: config, inputs, counts")
    diff.add_argument("a")
    diff.add_argument("b")
    diff.set_defaults(command=_diff)
    return parser


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="the experiment's YAML")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as stages.sft.config.seed=1")
    parser.add_argument("--runs", default="runs", help="folder of all experiments (default: runs)")


def _load(options: argparse.Namespace) -> Experiment:
    return load_experiment(options.config, options.overrides, options.runs)


def _plan(options: argparse.Namespace) -> int:
    print(format_plan(plan_experiment(_load(options))))
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

    if options.deadline <= 0:
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


def _diff(options: argparse.Namespace) -> int:
    a, b = (open_artifact(path).manifest for path in (options.a, options.b))
    results = {"counts", "usage", "summary", "versions"}
    old, new = ({**describe(m), **m.model_dump(mode="json", include=results)} for m in (a, b))
    lines = describe_differences(old, new)
    print("\n".join(lines) if lines else f"same: fingerprint {a.fingerprint}")
    return 0
