"""The stages' own prompts, and the simulated teacher asked with them."""

from __future__ import annotations

from pathlib import Path

from personahub.core.engines.base import Completion, Message, Request, Sampling
from personahub.core.template import load_template
from synth.simulated.engine import Config, answer
from synth.simulated.faults import FaultRates
from synth.simulated.persona_faults import PersonaRates

ROOT = Path(__file__).parents[2]
TEXT = (
    "The lighthouse on the northern headland was automated in 1987, but its Fresnel lens still needs a keeper. "
    "Lens cleaning takes two days, and the mercury bath beneath the lens has to be skimmed. Mail bob@keepers.org "
    "or call 020 7946 0123 to volunteer at the lighthouse. Visitors climb 199 steps to see the Fresnel lens turn."
)
SOUND = PersonaRates(refusal=0, malformed=0, near_duplicate=0, low_quality=0, prompt_copy=0, contact=0)
FAULTLESS = Config(rates=FaultRates.none(), persona_rates=SOUND)


def ask(prompt: str | tuple[Message, ...], seed: int = 1, config: Config = FAULTLESS, **sampling) -> Completion:
    messages = (Message(role="user", content=prompt),) if isinstance(prompt, str) else prompt
    return answer(Request(messages, Sampling(**sampling), seed), config)


def personas_prompt(text: str = TEXT, count: int = 3, mode: str = "read", granularity: str = "fine"):
    template = load_template("text_to_persona", ROOT / "personahub" / "prompts")
    return template.render(text=text, count=count, mode=mode, granularity=granularity)


def related_prompt(persona: str, count: int = 2):
    return load_template("persona_to_persona", ROOT / "personahub" / "prompts").render(persona=persona, count=count)


def synth_prompt(name: str, **values):
    if name == "math":
        values = {
            "persona": None,
            "persona_kind": None,
            "focus": None,
            "difficulty": None,
            "examples": [],
            "key_points": [],
            "words": [],
            **values,
        }
    return load_template(name, ROOT / "synth" / "prompts").render(**values)


def read_personas(text: str) -> list[str]:
    lines = text.split("\n")
    assert all(line.startswith("Persona: ") for line in lines), text
    return [line.removeprefix("Persona: ") for line in lines]
