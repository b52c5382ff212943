"""The command line: `personahub plan | run | show | diff | check | complete | dedup | personas | push | cache | wandb | forget`.

Exit codes: 0 done, 1 a stage failed or no request of a file was answered, 2 something for the user to mend, 130 interrupted.
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

from personahub.commands.console import close_output, write_any_text
from personahub.commands.file_commands import add_commands as add_file_commands
from personahub.commands.persona_commands import add_commands as add_persona_commands
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiments.experiment import Experiment, describe, describe_differences, load_experiment
from personahub.core.experiments.pilot import read_pilot
from personahub.core.experiments.plan import plan_experiment
from personahub.core.experiments.plan_table import format_plan
from personahub.core.experiments.runner import StageFailedError, run_experiment
from personahub.core.experiments.stage_process import COMMAND_VARIABLE
from personahub.core.files import disk_error
from personahub.core.texts.figures import format_seconds

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
        _add_plan, _add_run, _add_show, add_file_commands, add_persona_commands, _add_push, _add_forget, _add_wandb,
        _add_cache, _add_diff,
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
    wandb = commands.add_parser(
        "wandb", help="send to Weights & Biases what it has not got: tracked offline, or while it was away"
    )
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
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="this stage and what it needs")


def _load(options: argparse.Namespace) -> Experiment:
    return load_experiment(options.config, options.overrides, options.runs)


def _plan(options: argparse.Namespace) -> int:
    pilot = read_pilot(options.pilot) if options.pilot else None
    experiment = _load(options)
    print(format_plan(plan_experiment(experiment, pilot, options.only), experiment.engines))
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
    if manifest.source:
        print(f"  harness: commit {manifest.source}")
    if manifest.usage.requests:
        print(f"  usage: {manifest.usage.model_dump()}")
    if manifest.summary:
        print(f"  summary: {json.dumps(manifest.summary, ensure_ascii=False)[:2000]}")


def _cache(options: argparse.Namespace) -> int:
    from personahub.commands.cache import describe_journals, journals, prune

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
    from personahub.commands.forget import describe, forget

    print(describe(forget(options.experiment, options.id, options.yes), options.yes))
    return 0


def _wandb(options: argparse.Namespace) -> int:
    from personahub.commands.wandb_sync import sync, unlinked_stages, unsent_runs

    if not options.runs.is_dir():
        raise UserError(f"{options.runs}: no such folder; --runs names the one that holds the experiments")
    found = [*unsent_runs(options.runs), *unlinked_stages(options.runs)]
    if not found:
        print(f"{options.runs}: no run that W&B has not got (tracking.wandb=offline, or online when it was away)")
        return 0
    if options.dry_run:
        print("\n".join(map(str, found)))
        return 0
    return sync(options.runs)


def _push(options: argparse.Namespace) -> int:
    from personahub.commands.push import push, write_upload

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
    results = {"counts", "usage", "summary", "versions", "source"}
    old, new = ({**describe(m), **m.model_dump(mode="json", include=results)} for m in (a, b))
    lines = describe_differences(old, new)
    print("\n".join(lines) if lines else f"same: fingerprint {a.fingerprint}")
    return 0
