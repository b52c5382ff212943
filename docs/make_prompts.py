"""Writes docs/prompts.md: every prompt of synth/prompts as a model sees it, with the reasons for its wording.

python docs/make_prompts.py > docs/prompts.md
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from personahub.core.template import load_template
from synth.contracts.contract import load_use_case
from synth.contracts.examples import load_examples
from synth.problems import Config as MathConfig
from synth.prompts import PROMPTS

PERSONA = "A lighthouse keeper who breeds herring gulls"
PARTNER = "A bookbinder who repairs parish registers"

HEAD = """# Prompts

Each prompt is one Markdown file in `synth/prompts` with a version in its head. Its text is part of the fingerprint of the stage that uses it. A prompt of your own is a file of the same form, named by its path: `template: my/prompt.md`. The last paragraph of each prompt asks for its output contract, and a prompt of your own must ask for the same. The contract of a use case is the key `contract` in its head; a prompt with a contract of its own is a new use case ([add one](use_case.md)). The prompts for Text-to-Persona and Persona-to-Persona are in `personahub/prompts`, and those for a student in an evaluation are in `personahub/core/prompts`.

Below, each prompt is rendered zero-shot for the persona "{persona}". `python docs/make_prompts.py` writes this page.

## What all prompts share

- **The persona decides the subject, not the addressee.** Prompts say to take situation, objects and knowledge from the persona's world and not to describe the person. Otherwise models open with "As a lighthouse keeper, ...", which is useless to a reader and gives the persona's text away.
- **The no-persona twin is the same file** rendered with `persona=None`. This only removes words, and the requirements stay the same (`tests/synth/test_prompts.py` compares all prompts in all modes), so an ablation measures the persona and not another prompt.
- **The input stands between tags, and it is material**: where it may contain requests (a world, a conversation), the prompt says not to follow them.
- **A label at the start of a line** separates the reply from chat around it. Parsers accept Markdown and a greeting. A reply that breaks the contract is requested again, and finally kept in `rejected/` with its reason and raw text.
- **No solution in a problem.** A model that solves the problem it poses writes easy problems and leaks answers. Solutions come from `synth.solutions`, several and independent.

## Prompting modes

`prompting: few_shot` puts examples in front of the persona, `persona_few_shot` gives each its persona. They come from a file of yours (`examples: FILE.jsonl`, lines with `text` and optionally `persona`) or from `examples/NAME.jsonl` next to the prompt; `shots` of them are drawn for each persona. Text-to-Persona can infer missing personas (see `synth/contracts/examples.py`). Examples show the form. The prompt says to take neither subject nor wording from them, because models copy both. Benchmarks named as further inputs of the stage (`inputs: {{personas: personas, math: math}}`) are compared with the examples before the first request; a match stops the stage. This is what `persona_few_shot` adds to the math prompt:

{modes}
"""

# Why each prompt has its wording.
REASONS = {
    "math": "A problem must be solvable from its text alone and have one answer that a program can compare, because verification and grading have nothing else. `focus`, `difficulty` and `persona_kind: professional` follow the paper's section 4.1; a professional's specialty leads to harder problems than any adjective. `key_points` and `words` are for the other arms of an ablation ([experiments](experiments.md)): each shows its list in place of the persona.",
    "logic_general": "No calculation beyond counting is allowed; otherwise models fall back on word problems. An answer that is one word or a short list keeps votes comparable.",
    "logic_spatial": "Such problems most often forget who looks in which direction, so the prompt asks for it explicitly.",
    "logic_ruozhiba": "Few models know the style by name, so the prompt defines it: six kinds of wrong step, one per question, and nothing that points at it. The Chinese terms are there because the tricks depend on Chinese. The parser requires Chinese characters.",
    "instruction": "The message must be answerable, so it contains whatever it refers to. People do not introduce themselves to an assistant; models that play a persona do, unless the prompt forbids it.",
    "followup": "The user continues from the assistant's last reply. Without that requirement, models write a second opening or a thank-you.",
    "dialogue": "Each side knows only what its persona knows. One reply per request, so the two sides can come from different models.",
    "assistant": "The system prompt of the assistant in a conversation. It does not see the persona.",
    "article": "The title is the question, as on Quora. The prompt asks for facts, figures and cases because the persona is there to reach the knowledge that goes with it. It forbids invented sources, the most common fault of such texts.",
    "reading": "The opposite of an article: not what the persona knows, but what it would want to learn, one step beyond.",
    "npc": "The world is an input and does not come from a commercial game. The persona is translated into the world; otherwise players meet a software engineer in a harbor tavern. The last part says how players get involved.",
    "tool_interface": "The paper's six keys, with typed arguments, and a seventh: an example call that tests the code. Tools that need the network or files cannot be tested in a sandbox, so they are excluded.",
    "tool_code": "The function must match the interface in name and parameters. The sandbox loads it, compares it and runs it on the interface's example (`synth/tools.py`).",
    "solve_cot": "The last box contains only the answer, exact unless the problem says otherwise, because this is what is compared.",
    "solve_pot": "The program must compute, not print a number worked out beforehand. The last line that it prints is its vote.",
    "check_problem": "A judge that solves the problem first believes its own solution. This one looks for what would make a student raise a hand, and names one of five flaws.",
    "same_problem": "A candidate counts as a rewrite if the solution of one problem yields the solution of the other. Most problems of a field share topic and method, so these alone do not count. Both texts are material, and the judge's label is escaped in them.",
}


def main() -> None:
    """Prints the page."""
    sys.stdout.write(page())


def page() -> str:
    """Returns the whole page as Markdown."""
    config = MathConfig.model_validate({"engine": "none", "prompting": "persona_few_shot"})
    enhanced = render("math", examples=load_examples(config)[:2])[0][1]
    block = enhanced[enhanced.index("Examples of what") : enhanced.rindex("</example>") + len("</example>")]
    parts = [HEAD.format(persona=PERSONA, modes=_fenced(block))]
    for name, reason in REASONS.items():
        template = load_template(name, PROMPTS)
        messages = render(name)
        text = messages[0][1] if len(messages) == 1 else "\n\n".join(f"[{role}]\n{text}" for role, text in messages)
        parts.append(f"## {name} (version {template.version})\n\n{reason}\n")
        if "contract" in template.head:
            contract = yaml.safe_dump({"contract": template.head["contract"]}, allow_unicode=True, sort_keys=False)
            parts.append(f"```yaml\n{contract}```\n")
        parts.append(f"{_fenced(text)}\n")
    return "\n".join(parts)


def render(name: str, **more: Any) -> list[tuple[str, str]]:
    """Renders a prompt for the persona of this page, as role and text of each message."""
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
        "fields": load_use_case("tool_interface").contract.fields(),
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
    """Uses four backticks, because prompts mention fences with three."""
    return f"````text\n{text}\n````"


if __name__ == "__main__":
    main()
