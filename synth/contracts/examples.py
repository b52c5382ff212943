"""The three prompting modes of the paper (section 3), and the examples that two of them show.

* `zero_shot`: the task and the persona.
* `few_shot`: examples in front of them.
* `persona_few_shot`: each example with a persona of its own.

Examples are JSON lines with `text` (a whole reply, its label included) and, if it is known, `persona`. There
is a small set for each use case in synth/prompts/examples; `examples:` names another file. A persona
that is missing is inferred by Text-to-Persona, in a stage before:

    example_texts:    {run: personahub.sources, config: {path: examples.jsonl, min_chars: 1}}
    example_personas:
      run: personahub.text_to_persona
      inputs: {documents: example_texts}
      config: {engine: teacher, modes: [write], personas_per_text: 1}
    problems:
      run: synth.problems
      inputs: {personas: personas, example_personas: example_personas}
      config: {engine: teacher, prompting: persona_few_shot, examples: examples.jsonl}

What a prompt shows, a model repeats: an example that stands in a benchmark leaks it into everything that
is made. Every other input of `synth.problems` and `synth.usecases` is a benchmark (an artifact of
`eval.datasets`, as in `inputs: {personas: personas, math: math}`) that the examples are compared with, by
the rules and defaults of `synth.decontaminate`. A match stops the stage before it asks anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, TypedDict

from pydantic import Field, model_validator

from personahub.core.artifact import Artifact
from personahub.core.config import CONTENT_PATH, EngineName, StageConfig
from personahub.core.errors import UserError
from personahub.core.identity import content_id, derive_seed
from personahub.core.texts.rows import SourceRow, read_rows
from synth.overlap.index import BenchmarkIndex, read_items
from synth.prompts import PROMPTS

Prompting = Literal["zero_shot", "few_shot", "persona_few_shot"]


class Example(TypedDict):
    """As templates see it; `persona` is None outside of `persona_few_shot`."""

    text: str
    persona: str | None


class PromptingConfig(StageConfig):
    """What all stages that make something from a persona have in common."""

    engine: EngineName
    persona: bool = Field(default=True, description="False: the no-persona arm.")
    prompting: Prompting = "zero_shot"
    shots: int = Field(default=3, gt=0, description="Examples per prompt, drawn for each persona; or all there are.")
    examples: Annotated[str | None, CONTENT_PATH] = Field(default=None, description="JSON lines; null: our own few.")

    @model_validator(mode="before")
    @classmethod
    def _own_examples(cls, values: Any) -> Any:
        """The path of our own examples, so that their content is part of the identity."""
        if not isinstance(values, dict) or values.get("examples") is not None:
            return values
        if values.get("prompting", "zero_shot") == "zero_shot":
            return values
        return {**values, "examples": str(PROMPTS / "examples" / f"{cls.use_case_of(values)}.jsonl")}

    @classmethod
    def use_case_of(cls, values: Mapping[str, Any]) -> str:
        """Which of our own sets of examples belongs to a config."""
        return str(values.get("use_case", "math"))


EXAMPLE_PERSONAS = "example_personas"


def load_examples(config: PromptingConfig, inputs: Mapping[str, Artifact] | None = None) -> list[Example]:
    """All examples that prompts may show, none for `zero_shot`.

    Args:
        config: says which file, and whether they need a persona.
        inputs: of the stage. `example_personas` was made by Text-to-Persona from the same texts, for the
            examples that have no persona.

    Raises:
        UserError: the file is missing, empty or malformed, or an example has no persona where it needs one.
    """
    personas = (inputs or {}).get(EXAMPLE_PERSONAS)
    if config.prompting == "zero_shot" or config.examples is None:
        return []
    with_persona = config.prompting == "persona_few_shot" and config.persona
    inferred = {row["document_id"]: row["persona"] for row in personas.rows()} if personas and with_persona else {}
    examples = []
    for where, row in _read(Path(config.examples)):
        text = row["text"].strip()
        persona = (row.get("persona") or inferred.get(content_id("document", text))) if with_persona else None
        if with_persona and not persona:
            raise UserError(
                f"{where}: the example has no `persona`. Add it, or run personahub.text_to_persona on the examples and name"
                " its stage as the input `example_personas` (see synth/contracts/examples.py)"
            )
        examples.append(Example(text=text, persona=persona))
    return examples


def check_examples(config: PromptingConfig, inputs: Mapping[str, Artifact]) -> None:
    """Compare the examples that prompts may show with the benchmarks among the inputs of a stage.

    Raises:
        UserError: one matches; the message names the line, the benchmark, the item and the rule.
    """
    benchmarks = [artifact for name, artifact in inputs.items() if name not in ("personas", EXAMPLE_PERSONAS)]
    if not benchmarks or config.prompting == "zero_shot" or config.examples is None:
        return
    index = BenchmarkIndex(read_items(benchmarks))
    for where, row in _read(Path(config.examples)):
        text = row["text"].strip()
        # "Math problem: ..." and its like are of the form, not of the example
        match = index.find(text) or index.find(_LABEL.sub("", text))
        if match is not None:
            raise UserError(f"{where}: the example is in a benchmark: {match}. Put another in its place")


_LABEL = re.compile(r"^[^\n:：]{1,40}[:：]\s*")


def _read(path: Path) -> list[SourceRow]:
    rows = list(read_rows(path))
    for where, row in rows:
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise UserError(f"{where}: an example needs a non-empty string `text`")
        if not isinstance(row.get("persona", ""), str | None):
            raise UserError(f"{where}: `persona` must be a string")
    if not rows:
        raise UserError(f"{path}: there are no examples in it")
    return rows


def draw_examples(config: PromptingConfig, examples: Sequence[Example], record_id: str) -> list[Example]:
    """The examples shown for one persona, in the order shown."""
    draw = Random(derive_seed(config.seed, "examples", record_id))  # noqa: S311 - not for secrets
    return draw.sample(examples, min(config.shots, len(examples)))
