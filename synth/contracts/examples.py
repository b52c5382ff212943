"""The paper's three prompting modes (section 3), and examples for two of them.

* `zero_shot`: the task and the persona.
* `few_shot`: examples before the persona.
* `persona_few_shot`: examples, each with its own persona.

Examples are JSON lines with `text` (a whole reply, including its label) and optionally `persona`. By default
they come from `examples/NAME.jsonl` next to the prompt; `examples:` names another file. Text-to-Persona can
infer missing personas in an earlier stage:

    example_texts:    {run: personahub.sources, config: {path: examples.jsonl, min_chars: 1}}
    example_personas:
      run: personahub.text_to_persona
      inputs: {documents: example_texts}
      config: {engine: teacher, modes: [write], personas_per_text: 1}
    problems:
      run: synth.problems
      inputs: {personas: personas, example_personas: example_personas}
      config: {engine: teacher, prompting: persona_few_shot, examples: examples.jsonl}

Models repeat what a prompt shows, so an example from a benchmark leaks into all generated data. Every other
input of `synth.problems` and `synth.usecases` is a benchmark (an artifact of `eval.datasets`, as in
`inputs: {personas: personas, math: math}`). The examples are compared with it by the rules and defaults of
`synth.decontaminate`, and a match stops the stage before its first request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, TypedDict

from pydantic import Field, model_validator

from personahub.core.artifact import Artifact
from personahub.core.config import CONTENT_PATH, EngineName, StageConfig, suggest
from personahub.core.errors import UserError
from personahub.core.identity import content_id, derive_seed
from personahub.core.template import load_template
from personahub.core.texts.rows import SourceRow, read_rows
from synth.contracts.contract import examples_file
from synth.overlap.index import BenchmarkIndex, read_items
from synth.prompts import PROMPTS

Prompting = Literal["zero_shot", "few_shot", "persona_few_shot"]


class Example(TypedDict):
    """An example as templates see it; `persona` is None except in `persona_few_shot`."""

    text: str
    persona: str | None


class PromptingConfig(StageConfig):
    """Base configuration of the stages that generate something from a persona."""

    engine: EngineName
    persona: bool = Field(default=True, description="False: the no-persona arm.")
    prompting: Prompting = "zero_shot"
    shots: int = Field(
        default=3, gt=0, description="Examples per prompt, drawn for each persona; at most as many as the file has."
    )
    examples: Annotated[str | None, CONTENT_PATH] = Field(
        default=None, description="JSON lines; by default `examples/NAME.jsonl` next to the prompt."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_examples(cls, values: Any) -> Any:
        """Fills in the path of the default examples. Their content is then part of the identity."""
        if not isinstance(values, dict) or values.get("examples") is not None:
            return values
        if values.get("prompting", "zero_shot") == "zero_shot":
            return values
        return {**values, "examples": str(examples_file(str(values.get("use_case", "math"))))}


def check_template(config: PromptingConfig, name: str, known: Collection[str]) -> None:
    """Checks that a template uses known values only, and shows examples if there are any.

    Raises:
        ValueError: it does not, so the prompts could not be made or would lack the examples.
    """
    try:
        template = load_template(name, PROMPTS)
    except UserError as error:
        raise ValueError(str(error)) from None
    for value in sorted(template.names.difference(known)):
        raise ValueError(f"{name}: the template uses the unknown value {value!r}. {suggest(value, known)}")
    if config.prompting != "zero_shot" and "examples" not in template.names:
        raise ValueError(f"`prompting: {config.prompting}` needs a template that uses `examples`; {name} does not")


EXAMPLE_PERSONAS = "example_personas"


def load_examples(config: PromptingConfig, inputs: Mapping[str, Artifact] | None = None) -> list[Example]:
    """Loads all examples that prompts may show; none for `zero_shot`.

    Args:
        config: names the file, and decides whether examples need a persona.
        inputs: inputs of the stage. `example_personas` are the personas that Text-to-Persona inferred from the
            same texts, for examples without a persona.

    Raises:
        UserError: the file is missing, empty or malformed, or an example lacks a persona that it needs.
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
                f"{where}: the example has no `persona`. Add one, or run personahub.text_to_persona on the examples and"
                " use that stage as the input `example_personas` (see synth/contracts/examples.py)"
            )
        examples.append(Example(text=text, persona=persona))
    return examples


def check_examples(config: PromptingConfig, inputs: Mapping[str, Artifact]) -> None:
    """Compares the examples that prompts may show with a stage's benchmark inputs.

    Raises:
        UserError: an example matches; the message names the line, the benchmark, the item and the rule.
    """
    benchmarks = [artifact for name, artifact in inputs.items() if name not in ("personas", EXAMPLE_PERSONAS)]
    if not benchmarks or config.prompting == "zero_shot" or config.examples is None:
        return
    index = BenchmarkIndex(read_items(benchmarks))
    for where, row in _read(Path(config.examples)):
        text = row["text"].strip()
        # a label such as "Math problem:" belongs to the form, not to the example
        match = index.find(text) or index.find(_LABEL.sub("", text))
        if match is not None:
            raise UserError(f"{where}: the example is in a benchmark: {match}. Replace it")


_LABEL = re.compile(r"^[^\n:：]{1,40}[:：]\s*")


def _read(path: Path) -> list[SourceRow]:
    rows = list(read_rows(path))
    for where, row in rows:
        if not isinstance(row.get("text"), str) or not row["text"].strip():
            raise UserError(f"{where}: an example needs a non-empty string `text`")
        if not isinstance(row.get("persona", ""), str | None):
            raise UserError(f"{where}: `persona` must be a string")
    if not rows:
        raise UserError(f"{path}: the file has no examples")
    return rows


def draw_examples(config: PromptingConfig, examples: Sequence[Example], record_id: str) -> list[Example]:
    """Draws the examples for one persona, in the order shown."""
    draw = Random(derive_seed(config.seed, "examples", record_id))  # noqa: S311 - not for secrets
    return draw.sample(examples, min(config.shots, len(examples)))
