"""The prompt under which the student is trained and evaluated: one file for both, so they cannot drift apart.

template: StudentTemplate = "solve"                   # in a stage's Config
ask = student_prompt(config.template, config.system_prompt)
ask("What is 2 + 2?")                                 # messages, ending with the user's
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from personahub.core.config import TemplateFolder
from personahub.core.template import Message, load_template

PROMPTS = Path(__file__).parent / "prompts"

StudentTemplate = Annotated[str, TemplateFolder(PROMPTS)]


def student_prompt(template: str, system: str | None = None) -> Callable[[str], tuple[Message, ...]]:
    """Renderer of a problem into the messages that the student answers.

    Args:
        template: name of a file in `personahub/core/prompts`, or path of the user's own.
        system: system message; without one, a chat template may put in its own default.

    Raises:
        UserError: no such template.
    """
    loaded = load_template(template, PROMPTS)
    return lambda problem: loaded.render(problem=problem, system=system)
