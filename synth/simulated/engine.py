r"""The simulated teacher: an engine without weights that knows the right answers.

    engines:
      teacher: {kind: simulated}

It recognizes a task by the output contract in the prompt ("Persona:", "Relation:", "Math problem:",
"Logic problem:", a ```python block, \boxed, ...) and reads its input between the last `<text>`, `<persona>`,
`<problem>`, ... tags outside `<example>` tags. It therefore answers the project's templates and any user
template that keeps their contract. It answers another prompt by the labels that the prompt quotes, as in
`"Title:"`. An answer is a function of the messages, the temperature, the seed (which temperature 0 ignores,
as greedy decoding does) and the config; the engine has no state.

It makes mistakes the way LLMs do, at the configured rates, and `Completion.truth` says which. Measurements
with it describe the pipeline, not real LLMs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, model_validator

from personahub.core.config import EXECUTION, suggest
from personahub.core.engines.base import Completion, Engine, EngineConfig, Request, RequestRefused
from personahub.core.identity import digest
from synth.simulated.faults import FaultRates
from synth.simulated.grammar import Difficulty
from synth.simulated.judging import same_answer, same_problem
from synth.simulated.persona import Mode, persona_to_persona, text_to_persona
from synth.simulated.persona_faults import PersonaRates
from synth.simulated.problems import family_names, judge, make_problem, solve
from synth.simulated.profiles import as_profiles
from synth.simulated.usecases import QUOTED_LABEL, WRITERS, answer_use_case

_CHARACTERS_PER_TOKEN = 4
_YIELD_EVERY = 32  # answers before the event loop gets its turn


class Config(EngineConfig):
    """Configuration for the simulated teacher. Engines with different `model` names make independent mistakes."""

    VERSION: ClassVar[str | None] = "3"  # raise it when the same request gets another answer

    kind: str = "simulated"
    model: str = "simulated-teacher"
    rates: FaultRates = FaultRates()
    persona_rates: PersonaRates = PersonaRates()
    difficulty: Difficulty = Field(default="easy", description="Difficulty of its problems: easy, medium or hard.")
    families: tuple[str, ...] | None = Field(
        default=None, description="Problem families that it knows; by default all."
    )
    heeds_conditions: bool = Field(
        default=True,
        description="False: its math problems ignore persona, key points and words, a planted null effect.",
    )
    latency_ms: Annotated[float, EXECUTION] = Field(default=0.0, ge=0, description="Time per answer.")

    @model_validator(mode="after")
    def _known_families(self) -> Config:
        if self.families is None:
            return self
        for family in self.families:
            if family not in family_names():
                raise ValueError(f"no problem family {family!r}. {suggest(family, family_names())}")
        if not set(self.families).intersection(family_names(difficulty=self.difficulty)):
            raise ValueError(f"none of the families exists at difficulty {self.difficulty!r}")
        return self


def open_engine(config: Config) -> SimulatedEngine:
    return SimulatedEngine(config)


class SimulatedEngine(Engine[Config]):
    """See the module docstring."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._until_yield = _YIELD_EVERY

    async def complete(self, request: Request) -> Completion:
        """Answers immediately, or after `latency_ms`.

        Raises:
            RequestRefused: the request has a JSON schema other than that of profiles.
        """
        self._until_yield -= 1
        if self.config.latency_ms:
            await asyncio.sleep(self.config.latency_ms / 1000)
        elif self._until_yield <= 0:
            # Answers take no time, but the loop must draw progress and notice Ctrl-C.
            self._until_yield = _YIELD_EVERY
            await asyncio.sleep(0)
        return answer(request, self.config)


def answer(request: Request, config: Config) -> Completion:
    """Returns the completion of `request`; a pure function.

    A token is counted for every 4 characters, rounded up, which is about right for English.

    Raises:
        RequestRefused: the request has a JSON schema other than that of profiles.
    """
    task = read_task(request)
    if request.json_schema is not None and not task.name.endswith("_profiles"):
        raise RequestRefused("unsupported", "the simulated teacher only supports the JSON schema of profiles")
    seed = request.seed if request.sampling.temperature > 0 else 0
    contents = [[message["role"], message["content"]] for message in request.messages]
    source = int(digest("simulated", config.model, contents, request.sampling.temperature, seed, size=8), 16)
    whole, truth = _ANSWERS[task.name](task, source, config)
    text = whole
    for stop in request.sampling.stop:
        text = text.partition(stop)[0]
    limit = request.sampling.max_tokens * _CHARACTERS_PER_TOKEN
    truncated = len(text) > limit or truth.get("fault") == "truncation"
    text = text[:limit]
    if len(text) < len(whole) and "correct" in truth:
        truth = {**truth, "correct": False}  # the answer was at the end
    return Completion(
        text=text,
        finish_reason="length" if truncated else "stop",
        prompt_tokens=sum(count_tokens(content) for _, content in contents),
        completion_tokens=count_tokens(text),
        model=config.model,
        truth={**truth, "task": task.name, "truncated": truncated},
    )


def count_tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Task:
    """A task: its name, the tagged input, and the rest of the prompt (`instructions`)."""

    name: str
    source: str | None
    instructions: str
    persona: str | None = None
    key_points: str | None = None
    words: str | None = None
    reference: str | None = None


_BLOCK = re.compile(
    r"<(text|persona|problem|example|background|conversation|interface|partner|key_points|words|reference|candidate)>"
    r"\n?(.*?)\n?</\1>",
    re.DOTALL,
)
# The first match decides: an instruction to box an answer is more specific than a mention of personas.
_TASKS = (
    ('{"personas": [', "text_to_profiles", "text"),
    ('{"related": [', "persona_to_profiles", "persona"),
    ("Judgement:", "judgement", "candidate"),
    ("Same problem:", "same_problem", "candidate"),
    ("Verdict:", "check_problem", "problem"),
    ("tool with this interface", "tool_code", "interface"),
    ("```python", "solve_pot", "problem"),
    ("\\boxed", "solve_cot", "problem"),
    ("Math problem:", "math", "persona"),
    ("Logic problem:", "logic_general", "persona"),
    ("Spatial problem:", "logic_spatial", "persona"),
    ("问题：", "logic_ruozhiba", "persona"),
    ("Instruction:", "instruction", "persona"),
    ("Follow-up:", "followup", "conversation"),
    ("Says:", "dialogue", "conversation"),
    ("Article:", "article", "persona"),
    ("Reading text:", "reading", "persona"),
    ("Meets players:", "npc", "background"),
    ("function_name", "tool_interface", "persona"),
    ("Answer the user's last message", "assistant", "problem"),
    ("Relation:", "persona_to_persona", "persona"),
    ("Persona:", "text_to_persona", "text"),
)


def read_task(request: Request) -> Task:
    """Recognizes the task of a request by its output contract.

    Returns `unknown` if it has none. A problem to solve may have no tags, as in most benchmark prompts. In this case
    the last user message is the problem.
    """
    conversation = "\n".join(message["content"] for message in request.messages if message["role"] != "assistant")
    blocks = {match[1]: match[2] for match in _BLOCK.finditer(conversation)}  # the last of each kind wins
    instructions = _BLOCK.sub(" ", conversation)
    for mark, name, tag in _TASKS:
        if mark in instructions:
            source = blocks.get(tag)
            if source is None and tag == "problem":
                source = request.messages[-1]["content"]
            shown = (blocks.get(tag) for tag in ("persona", "key_points", "words", "reference"))
            return Task(name, source, instructions, *shown)
    name = "labelled" if QUOTED_LABEL.search(instructions) else "unknown"
    return Task(name, instructions, instructions, blocks.get("persona"))


_Answer = tuple[str, dict[str, Any]]
_COUNT = re.compile(r"exactly (\d+)")
_MODE = re.compile(r"likely to (read|write|like|dislike)\b")


def _count(task: Task) -> int:
    match = _COUNT.search(task.instructions)
    return int(match[1]) if match else 1


def _text_to_persona(task: Task, source: int, config: Config) -> _Answer:
    mode = _MODE.search(task.instructions)
    wanted = "coarse" if "in general terms" in task.instructions else mode[1] if mode else "read"
    rng = Random(source)  # noqa: S311 - not for secrets
    reply = text_to_persona(task.source or "", cast(Mode, wanted), _count(task), rng, config.persona_rates)
    return reply.text, reply.truth


def _persona_to_persona(task: Task, source: int, config: Config) -> _Answer:
    rng = Random(source)  # noqa: S311 - not for secrets
    reply = persona_to_persona(task.source or "", _count(task), rng, config.persona_rates)
    return reply.text, reply.truth


def _text_to_profiles(task: Task, source: int, config: Config) -> _Answer:
    text, truth = _text_to_persona(task, source, config)
    return as_profiles("personas", text, truth, task.source or "", Random(source))  # noqa: S311 - not for secrets


def _persona_to_profiles(task: Task, source: int, config: Config) -> _Answer:
    text, truth = _persona_to_persona(task, source, config)
    return as_profiles("related", text, truth, None, Random(source))  # noqa: S311 - not for secrets


def _math(task: Task, source: int, config: Config) -> _Answer:
    families = _focused(task.instructions.lower(), config) or config.families
    heeded = task if config.heeds_conditions else Task("math", None, "")
    problem = make_problem(
        heeded.persona or None,
        source,
        key_points=heeded.key_points,
        words=heeded.words,
        difficulty=config.difficulty,
        families=families,
        rates=config.rates,
    )
    return problem.reply, problem.truth


# "Intermediate Algebra" and "Prealgebra" come before "Algebra", which is part of both.
_SUBJECTS = (
    "Intermediate Algebra",
    "Prealgebra",
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Number Theory",
    "Precalculus",
)


def _focused(instructions: str, config: Config) -> tuple[str, ...]:
    """Returns the families of the MATH subject that the prompt names, or () if it names none."""
    for subject in _SUBJECTS:
        if subject.lower() in instructions or (subject[:3] == "Cou" and "probability" in instructions):
            names = family_names(subject, config.difficulty)
            return tuple(name for name in names if config.families is None or name in config.families)
    return ()


def _solve(kind: Literal["cot", "pot"]) -> Callable[[Task, int, Config], _Answer]:
    def answer_solution(task: Task, source: int, config: Config) -> _Answer:
        solution = solve(task.source or "", source, kind, rates=config.rates)
        return solution.text, solution.truth

    return answer_solution


def _check_problem(task: Task, source: int, config: Config) -> _Answer:
    verdict = judge(task.source or "", source, rates=config.rates)
    return verdict.text, verdict.truth


def _judgement(task: Task, source: int, config: Config) -> _Answer:
    rng = Random(source)  # noqa: S311 - not for secrets
    return same_answer(task.reference or "", task.source or "", rng, config.rates)


def _same_problem(task: Task, source: int, config: Config) -> _Answer:
    rng = Random(source)  # noqa: S311 - not for secrets
    return same_problem(task.reference or "", task.source or "", rng, config.rates)


def _use_case(task: Task, source: int, config: Config) -> _Answer:
    rng = Random(source)  # noqa: S311 - not for secrets
    reply = answer_use_case(task.name, task.persona, task.source or "", rng, config.rates)
    return reply.text, reply.truth


def _unknown(_task: Task, _source: int, _config: Config) -> _Answer:
    return "I can only write personas, math problems and their solutions.", {"fault": "unknown_task"}


_ANSWERS: dict[str, Callable[[Task, int, Config], _Answer]] = {
    "judgement": _judgement,
    "same_problem": _same_problem,
    "check_problem": _check_problem,
    "solve_pot": _solve("pot"),
    "solve_cot": _solve("cot"),
    "math": _math,
    "persona_to_persona": _persona_to_persona,
    "text_to_persona": _text_to_persona,
    "persona_to_profiles": _persona_to_profiles,
    "text_to_profiles": _text_to_profiles,
    **dict.fromkeys(WRITERS, _use_case),
    "unknown": _unknown,
}
