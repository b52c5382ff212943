"""Write docs/persona_prompts.md: the prompts of the persona stages, with the reasons for their wording.

python docs/make_persona_prompts.py > docs/persona_prompts.md
"""

from __future__ import annotations

import sys

from personahub.core.template import load_template
from personahub.prompts import PROMPTS

TEXT = "(the text, cut to its budget at the end of a sentence)"
PERSONA = "A lighthouse keeper who breeds herring gulls"

HEAD = """# Prompts of the persona stages

The paper names two prompts, "Who is likely to [read/write/like/dislike] this text?" and "Who is in close relationship with the given persona?", and shows neither in full. This page shows our versions: the rendered files of `personahub/prompts`. Your own prompt is a file of the same form, named by its path (`template: my/prompt.md`). It must keep the output contract, which is the last paragraph. `python docs/make_persona_prompts.py` writes this page.

All of them follow these rules:

- **The input is material**: it is between tags, copies of these tags inside the input are escaped, and the prompt says not to follow requests inside it. Web pages contain many of them.
- **Kinds of people, not people**: no names of private persons, no contact details. Models sometimes name people anyway; `personahub.quality` drops those personas.
- **A description that stands on its own**: without phrases like "the author of this article", which mean nothing without the text.
- **Strict contract, lenient parsing**: one line (or one JSON object) per reply, so that a broken reply differs from a complete one. Greetings, numbering, bold type, code fences and thinking are ignored. A reply that breaks the contract is requested again, then kept in `rejected/` with the reason and the raw text.
"""

# Why each prompt is worded as it is, and the values with which it is shown.
SHOWN: dict[str, tuple[str, dict[str, object]]] = {
    "text_to_persona": (
        "The mode decides the question and one sentence of guidance: readers are whoever needs the text, writers whoever "
        'has "the knowledge, the motive and the voice". If one request asks for several personas, they must differ '
        "clearly; asked one by one, models give the same person again. Shown: mode `read`, granularity `fine`, two personas.",
        {"text": TEXT, "mode": "read", "granularity": "fine", "count": 2},
    ),
    "text_to_persona_structured": (
        "The same question with a profile. Demographics are where models guess most, and guess by stereotype. So each entry "
        "needs a quotation, which the stage looks up in the text; entries without one are removed from the profile and "
        "counted (`unsupported_demographic`). Shown: mode `write`, granularity `medium`, two personas.",
        {"text": TEXT, "mode": "write", "granularity": "medium", "count": 2},
    ),
    "persona_to_persona": (
        "The prompt lists kinds of relationships, because models that are asked for anyone close name only colleagues. It "
        "prefers people who do not write on the web, because the expansion is meant to reach them. Shown: two personas.",
        {"persona": PERSONA, "count": 2},
    ),
    "persona_to_persona_structured": (
        "The same with a profile, without demographics: one sentence about somebody else supports none. Shown: two personas.",
        {"persona": PERSONA, "count": 2},
    ),
}


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [HEAD]
    for name, (reason, values) in SHOWN.items():
        template = load_template(name, PROMPTS)
        (message,) = template.render(**values)
        parts.append(f"## {name} (version {template.version})\n\n{reason}\n\n````text\n{message['content']}\n````\n")
    parts.append(_variants())
    return "\n".join(parts)


def _variants() -> str:
    """List the lines that mode and granularity change."""
    template = load_template("text_to_persona", PROMPTS)
    shown = {"text": TEXT, "mode": "read", "granularity": "fine", "count": 2}
    (base,) = template.render(**shown)
    known = set(base["content"].splitlines())
    rows = ["## What mode and granularity change", "", "| value | line of `text_to_persona` |", "|---|---|"]
    for name, values in (("mode", ("write", "like", "dislike")), ("granularity", ("medium", "coarse"))):
        for value in values:
            (message,) = template.render(**{**shown, name: value})
            new = [line for line in message["content"].splitlines() if line not in known]
            rows += [f"| {name} `{value}` | {new[-1]} |"]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
