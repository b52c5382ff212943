"""docs/prompts.md: every prompt of synth/prompts as a model sees it, with the reasons for its wording.

python docs/make_prompts.py > docs/prompts.md
"""

from __future__ import annotations

import sys
from typing import Any

from personahub.core.template import load_template
from synth.contracts.contract import TOOL_FIELDS
from synth.contracts.examples import load_examples
from synth.problems import Config as MathConfig
from synth.prompts import PROMPTS

PERSONA = "A lighthouse keeper who breeds herring gulls"
PARTNER = "A bookbinder who repairs parish registers"

HEAD = """# Prompts

Each prompt is one Markdown file in `synth/prompts` with a version in its head; its text is part of the fingerprint of the stage that uses it. A prompt of your own is a file of the same form, named by its path: `template: my/prompt.md`. It has to keep the output contract of its use case (`synth/contracts/contract.py`), which is the last paragraph of each prompt. Text-to-Persona and Persona-to-Persona are in `personahub/prompts`, and what a student is asked in an evaluation in `personahub/core/prompts`.

Below, each is rendered zero-shot for the persona "{persona}". This page is made by `python docs/make_prompts.py`.

## What all of them share

- **The persona decides what it is about, not who is addressed.** Prompts say to take situation, objects and knowledge from the persona's world and not to describe the person. Otherwise models open with "As a lighthouse keeper, ...", which is worth nothing to a reader and gives the persona's text away.
- **The no-persona twin is the same file** rendered with `persona=None`. Words are only taken out, none are put in, and the requirements stay as they are (`tests/synth/test_prompts.py` compares all of them in all modes), so that an ablation measures the persona and not another prompt.
- **The input comes between tags, and it is material**: where it may hold requests of its own (a world, a conversation), the prompt says not to follow them.
- **One label at the start of a line** tells the reply from chat around it. Parsers tolerate Markdown and a greeting; what breaks the contract is asked for again and finally kept in `rejected/` with reason and raw text.
- **No solution in a problem.** A model that solves what it poses makes easy problems and leaks answers; solutions come from `synth.solutions`, several and independent.

## Prompting modes

`prompting: few_shot` puts examples in front of the persona, `persona_few_shot` gives each its persona. They come from a file of yours (`examples: FILE.jsonl`, lines with `text` and maybe `persona`) or from a few of our own in `synth/prompts/examples`; `shots` of them are drawn for each persona. A missing persona is inferred by Text-to-Persona (see `synth/contracts/examples.py`). Examples show the form; the prompt says to take neither subject nor wording from them, because models copy both. Benchmarks named as further inputs of the stage (`inputs: {{personas: personas, math: math}}`) are compared with the examples before anything is asked; one that matches stops the stage. This is what `persona_few_shot` adds to the math prompt:

{modes}
"""

# Why each is worded as it is.
REASONS = {
    "math": "Solvable from the text alone and with one answer that a program can compare: verification and grading have nothing else. `focus`, `difficulty` and `persona_kind: professional` are those of the paper's section 4.1; a professional's specialty makes harder problems than any adjective does. `key_points` and `words` are for the other arms of an ablation ([experiments](experiments.md)): each puts its list where the persona was.",
    "logic_general": "Counting is the most calculation that is allowed, else models fall back on word problems. One answer that is a word or a short list keeps votes comparable.",
    "logic_spatial": "Who looks in which direction is what such problems forget most often, so it is asked for by name.",
    "logic_ruozhiba": "The style is defined in the prompt, as few models know it by its name: six kinds of wrong step, one of them per question, and nothing that points at it. The Chinese terms are there because the tricks are tricks of Chinese. The parser wants Chinese characters.",
    "instruction": "The message has to be answerable, so what it refers to is in it. People do not introduce themselves to an assistant; models that play a persona do, unless told not to.",
    "followup": "The user goes on from the assistant's last reply: without that, models write a second opening or a thank-you.",
    "dialogue": "Each side knows only what its persona knows; one reply per request, so that either may come from another model.",
    "assistant": "What the assistant is told in a conversation. It does not see the persona.",
    "article": "The title is the question, as on Quora. Facts, figures and cases are asked for because the persona is there to reach the knowledge that goes with it; invented sources are what such texts get wrong.",
    "reading": "The other way round: not what the persona knows, but what it would want to learn, one step beyond.",
    "npc": "The world is an input and no commercial game's. The persona is translated into it, else one meets a software engineer in a harbour tavern. The last part says how players come into it.",
    "tool_interface": "The paper's six keys, with typed arguments and a seventh: an example call, by which the code is tried. Tools that need network or files cannot be tried in a sandbox, so they are left out.",
    "tool_code": "The function has to match the interface by name and parameters. It is loaded, compared and run on the interface's example in the sandbox (`synth/tools.py`).",
    "solve_cot": "The answer alone in the last box, exact unless the problem says otherwise: that is what is compared.",
    "solve_pot": "The program computes instead of printing a number worked out in the head; the last line that it prints is its vote.",
    "check_problem": "A judge that is asked to solve first believes its solution. This one looks for what would make a student raise a hand, and names one of four flaws.",
    "same_problem": "What counts as a rewrite is said by what it would cost: with one solution in hand, the other is written down. Topic and method alone are shared by most problems of a field, so they do not count. Both texts are material, and a label of the judge's in one of them is defused.",
}


def main() -> None:
    """Print the page."""
    sys.stdout.write(page())


def page() -> str:
    """The whole page as Markdown."""
    config = MathConfig.model_validate({"engine": "none", "prompting": "persona_few_shot"})
    enhanced = render("math", examples=load_examples(config)[:2])[0][1]
    block = enhanced[enhanced.index("Examples of what") : enhanced.rindex("</example>") + len("</example>")]
    parts = [HEAD.format(persona=PERSONA, modes=_fenced(block))]
    for name, reason in REASONS.items():
        template = load_template(name, PROMPTS)
        messages = render(name)
        text = messages[0][1] if len(messages) == 1 else "\n\n".join(f"[{role}]\n{text}" for role, text in messages)
        parts.append(f"## {name} (version {template.version})\n\n{reason}\n\n{_fenced(text)}\n")
    return "\n".join(parts)


def render(name: str, **more: Any) -> list[tuple[str, str]]:
    """Role and text of each message, for the persona of this page."""
    values = {
        "persona": PERSONA,
        "partner": PARTNER,
        "key_points": [],
        "words": [],
        "persona_kind": None,
        "focus": None,
        "difficulty": None,
        "examples": [],
        "turns": [{"speaker": "User", "text": "..."}, {"speaker": "Assistant", "text": "..."}],
        "speaker": "Person A",
        "other": "Person B",
        "background": "(the text of the world)",
        "fields": TOOL_FIELDS,
        "interface": "(the JSON object)",
        "problem": "(the problem)",
        "item": "(the benchmark's problem)",
        "candidate": "(the problem)",
    }
    if name == "dialogue":
        values["turns"] = []
    return [
        (message["role"], message["content"]) for message in load_template(name, PROMPTS).render(**{**values, **more})
    ]


def _fenced(text: str) -> str:
    """Four backticks: prompts speak of fences with three."""
    return f"````text\n{text}\n````"


if __name__ == "__main__":
    main()
