"""The prompt for training and evaluating the student.

Both use the same file, so they cannot drift apart. template: StudentTemplate = "solve"                   # in a
stage's Config ask = student_prompt(config.template, config.system_prompt) ask("What is 2 + 2?")
# messages; the last one is the user's

Templates in `personahub/core/prompts`: `solve` (zero-shot, boxed answer; the default), `few_shot`
(worked examples first), `base` (zero-shot for a model that only continues text) and `simple_evals`
(zero-shot, the answer on its own last line).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from personahub.core.config import ContentPath, FrozenModel, TemplateFolder
from personahub.core.errors import UserError
from personahub.core.prompts import PROMPTS
from personahub.core.template import Message, load_template
from personahub.core.texts.rows import SourceRow, read_rows

StudentTemplate = Annotated[str, TemplateFolder(PROMPTS)]


class Example(FrozenModel):
    """A worked example, as templates show it."""

    problem: str
    solution: str


class FewShot(FrozenModel):
    """Worked examples before the problem."""

    count: int = Field(default=4, gt=0, description="How many examples to show, from the start of the file.")
    path: ContentPath = Field(
        default=str(PROMPTS / "few_shot.jsonl"),
        description="JSON Lines with `problem` and `solution`. The default has eight examples written for this "
        "project; none is in a benchmark.",
    )


def student_prompt(
    template: str, system: str | None = None, examples: Sequence[Example] = ()
) -> Callable[[str], tuple[Message, ...]]:
    """Returns a function that renders a problem into messages for the student.

    Args:
        template: name of a file in `personahub/core/prompts`, or path of a user's file.
        system: system message. Without one, a chat template may insert its own default.
        examples: worked examples, for templates that show them.

    Raises:
        UserError: the template does not exist.
    """
    loaded = load_template(template, PROMPTS)
    return lambda problem: loaded.render(problem=problem, system=system, examples=examples)


def stop_strings(template: str) -> tuple[str, ...]:
    """Returns strings that end the output of a model that only continues text. From the template's head."""
    return load_template(template, PROMPTS).stop


def shows_examples(template: str) -> bool:
    """Returns whether the template uses worked examples."""
    example = Example(problem="EXAMPLE", solution="EXAMPLE")
    return student_prompt(template, None, (example,))("") != student_prompt(template)("")


def load_examples(few_shot: FewShot | None) -> tuple[Example, ...]:
    """Reads the first `count` examples of the file; without `few_shot`, returns none.

    Raises:
        UserError: the file is missing, malformed or too short.
    """
    if few_shot is None:
        return ()
    rows = list(islice(read_rows(Path(few_shot.path)), few_shot.count))
    if len(rows) < few_shot.count:
        raise UserError(f"{few_shot.path}: has {len(rows)} examples, fewer than few_shot.count: {few_shot.count}")
    return tuple(map(_parse_example, rows))


def _parse_example(source: SourceRow) -> Example:
    problem, solution = (source.row.get(name) for name in ("problem", "solution"))
    if not isinstance(problem, str) or not isinstance(solution, str):
        raise UserError(f'{source.where}: an example must look like {{"problem": "...", "solution": "..."}}')
    return Example(problem=problem.strip(), solution=solution.strip())
