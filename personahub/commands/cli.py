"""The `personahub` command line: runs a command and turns errors into exit codes.

Each command is a module of this package with two functions, `add_arguments(parser)` and `run(options)`, and its
docstring is the command's help text. Only the module of the command that was given is imported.

Exit codes: 0 success, 1 a stage failed or no request of a file was answered, 2 an error that the user can fix,
130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personahub.commands.console import close_output, escape_unencodable_output
from personahub.core.errors import UserError
from personahub.core.files import disk_error

COMMANDS = {
    "plan": "Show what an experiment will do and what it will cost",
    "run": "Run an experiment, or resume it",
    "show": "Show the counts and some records of an artifact",
    "diff": "Compare two artifacts: config, inputs, counts",
    "check": "Grade predicted answers against reference answers",
    "complete": "Answer a file of chat requests in OpenAI's batch format",
    "dedup": "Remove near-duplicates from JSON Lines and Parquet files",
    "personas": "Import, sample, summarize and search collections of personas",
    "push": "Publish an artifact and its dataset card on the Hugging Face Hub",
    "forget": "Remove a record, and everything made from it, from an experiment",
    "cache": "Show or delete the journals of completions",
    "wandb": "Send runs to Weights & Biases that it does not have yet",
}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks of descriptions. The usage line shows only required options."""

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        if prefix == "":  # the name of a subcommand
            return super()._format_usage(usage, actions, groups, prefix)
        groups = [group for group in groups if group.required]
        choices = [action for group in groups for action in group._group_actions]
        shown = [action for action in actions if not action.option_strings or action.required or action in choices]
        line = super()._format_usage(usage, shown, groups, prefix)
        return line.replace(self._prog, f"{self._prog} [OPTIONS]", 1)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose -h is described in the style of the other options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(add_help=False, formatter_class=_Formatter, **settings)
        self.add_argument("-h", "--help", action="help", help="Show this help and exit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.insert(0, str(Path.cwd()))  # users keep their own stage and engine modules next to their YAML
    escape_unencodable_output()
    try:
        options = parse(words)
        options.words = words
        code = options.run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
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
        print(f"\nstopped; nothing is lost. To resume: {shlex.join(['personahub', *words])}", file=sys.stderr)
        return 130
    else:
        return code


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Overrides may come before, between and after options, which argparse does not allow."""
    parser = _parser(next((word for word in words if not word.startswith("-")), ""))
    options, extra = parser.parse_known_args(words)
    if extra and (not hasattr(options, "overrides") or any(word.startswith("-") for word in extra)):
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    if extra:
        options.overrides = [*options.overrides, *extra]
    return options


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Return the parser of all commands, where only the `chosen` one has its arguments."""
    parser = _Parser(
        prog="personahub",
        description="Make training data with personas, verify it, train on it, and measure whether it helped.",
        epilog="`personahub COMMAND --help` describes a command and its options.",
    )
    parser.add_argument(
        "--version", action="version", version=f"personahub {_version()}", help="Show the version and exit"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == chosen:
            module = importlib.import_module(f"personahub.commands.{name}")
            command.description = module.__doc__
            command.set_defaults(run=getattr(module, "run", None))
            module.add_arguments(command)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("persona-hub-harness")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
