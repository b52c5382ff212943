"""docs/persona_prompts.md: the prompts of the persona stages as a model sees them, with the reasons for their wording.

python docs/make_persona_prompts.py > docs/persona_prompts.md
"""

from __future__ import annotations

import sys

from personahub.core.template import load_template
from personahub.prompts import PROMPTS

TEXT = "(the text, cut to its budget at the end of a sentence)"
PERSONA = "A lighthouse keeper who breeds herring gulls"

HEAD = """# Prompts of the persona stages

The paper names two prompts, "Who is likely to [read/write/like/dislike] this text?" and "Who is in close relationship with the given persona?", and shows neither in full. These are ours: the files of `personahub/prompts`, rendered. A prompt of your own is a file of the same form, named by its path (`template: my/prompt.md`); it keeps the output contract, which is the last paragraph. This page is made by `python docs/make_persona_prompts.py`.

What all of them share:

- **The input is material**: it comes between tags, its own copies of these tags are defused, and the prompt says not to follow requests inside it. Web pages hold plenty of them.
- **Kinds of people, not people**: no names of private persons, no contact details. Models name people all the same; `personahub.quality` drops those.
- **A description that stands on its own**: without "the author of this article" and the like, which mean nothing once the text is gone.
- **Strict contract, lenient reading**: one line (or one JSON object) per reply, so that a broken reply is told from a whole one; greetings, numbering, bold type, code fences and thinking are read over. What breaks the contract is asked for again, then kept in `rejected/` with reason and raw text.
"""

# Why each is worded as it is, and the values for which it is shown.
SHOWN: dict[str, tuple[str, dict[str, object]]] = {
    "text_to_persona": (
        "The mode decides the question and one sentence of guidance: readers are whoever needs the text, writers whoever "
        'has "the knowledge, the motive and the voice". Several personas in one request are asked to differ clearly; '
        "asked one by one, models give the same person again. Shown: mode `read`, granularity `fine`, two personas.",
        {"text": TEXT, "mode": "read", "granularity": "fine", "count": 2},
    ),
    "text_to_persona_structured": (
        "The same question, with a profile. Demographics are where models guess most, and guess by stereotype: an entry "
        "needs a quotation from the text, which is looked up there; what is not found is taken out of the profile and "
        "counted (`unsupported_demographic`). Shown: mode `write`, granularity `medium`, two personas.",
        {"text": TEXT, "mode": "write", "granularity": "medium", "count": 2},
    ),
    "persona_to_persona": (
        "Kinds of relationship are listed, because models that are asked for anybody close name colleagues only; people "
        "who do not write on the web are preferred, because reaching them is what the expansion is for. Shown: two.",
        {"persona": PERSONA, "count": 2},
    ),
    "persona_to_persona_structured": (
        "The same with a profile, without demographics: one sentence about somebody else supports none. Shown: two.",
        {"persona": PERSONA, "count": 2},
    ),
}


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for name, (reason, values) in SHOWN.items():
        template = load_template(name, PROMPTS)
        (message,) = template.render(**values)
        parts.append(f"## {name} (version {template.version})\n\n{reason}\n\n````text\n{message['content']}\n````\n")
    parts.append(_variants())
    return "\n".join(parts)


def _variants() -> str:
    """The lines that mode and granularity change, one each."""
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
