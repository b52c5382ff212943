"""The prompt under which the student is trained and evaluated: one file for both, so they cannot drift apart.

template: StudentTemplate = "solve"                   # in a stage's Config
ask = student_prompt(config.template, config.system_prompt)
ask("What is 2 + 2?")                                 # messages, ending with the user's

Templates in `personahub/core/prompts`: `solve` (zero-shot, boxed answer; the default), `few_shot`
(worked examples first), `base` (zero-shot for a model that only continues text) and `simple_evals`
(zero-shot, answer on a last line of its own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from personahub.core.config import ContentPath, FrozenModel, TemplateFolder
from personahub.core.errors import UserError
from personahub.core.prompts import PROMPTS
from personahub.core.template import Message, load_template

StudentTemplate = Annotated[str, TemplateFolder(PROMPTS)]


class Example(FrozenModel):
    """A worked example as a template shows it."""

    problem: str
    solution: str


class FewShot(FrozenModel):
    """Worked examples in front of the problem."""

    count: int = Field(default=4, gt=0, description="The first so many of the file.")
    path: ContentPath = Field(
        default=str(PROMPTS / "few_shot.jsonl"),
        description="JSONL with `problem` and `solution`; by default eight of our own invention, in no benchmark.",
    )


def student_prompt(
    template: str, system: str | None = None, examples: Sequence[Example] = ()
) -> Callable[[str], tuple[Message, ...]]:
    """Renderer of a problem into the messages that the student answers.

    Args:
        template: name of a file in `personahub/core/prompts`, or path of the user's own.
        system: system message; without one, a chat template may put in its own default.
        examples: for a template that shows worked examples.

    Raises:
        UserError: no such template.
    """
    loaded = load_template(template, PROMPTS)
    return lambda problem: loaded.render(problem=problem, system=system, examples=examples)


def stop_strings(template: str) -> tuple[str, ...]:
    """Where a model that only continues text has gone past its answer, as the template's head says."""
    return load_template(template, PROMPTS).stop


def shows_examples(template: str) -> bool:
    """Whether worked examples change the prompt."""
    example = Example(problem="EXAMPLE", solution="EXAMPLE")
    return student_prompt(template, None, (example,))("") != student_prompt(template)("")


def load_examples(few_shot: FewShot | None) -> tuple[Example, ...]:
    """The first `count` examples of the file; none without `few_shot`.

    Raises:
        UserError: the file is missing, malformed or too short.
    """
    if few_shot is None:
        return ()
    path = Path(few_shot.path)
    try:
        with path.open(encoding="utf-8") as file:  # not `splitlines`, which parts texts at U+2028 too
            lines = [line for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if len(lines) < few_shot.count:
        raise UserError(f"{path}: holds {len(lines)} examples, fewer than few_shot.count: {few_shot.count}")
    return tuple(_example(line, f"{path}, example {i}") for i, line in enumerate(lines[: few_shot.count], 1))


def _example(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
        problem, solution = row["problem"].strip(), row["solution"].strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f'{where}: an example is one line {{"problem": "...", "solution": "..."}}') from None
    return Example(problem=problem, solution=solution)
