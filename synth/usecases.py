"""Use cases other than math, such as logic, instructions and tool interfaces.

    npcs:
      run: synth.usecases
      inputs: {personas: personas}
      config: {engine: teacher, use_case: npc, background: configs/data/world_of_sallow_reach.txt}
    recipes:
      run: synth.usecases
      inputs: {personas: personas}
      config: {engine: teacher, use_case: my/recipe.md}

A use case is a prompt with a `contract` in its head, which says what a reply must look like
(`synth.contracts.contract`, docs/use_case.md). The stage sends one request per persona and sample.
If a reply has several texts, the first is kept and the summary counts the others (`surplus_texts`).
`template` replaces the prompt and keeps the contract. `synth.conversations` continues instructions,
and `synth.tools` implements tool interfaces. `persona: false` is the no-persona arm: the same ids and
seeds, but the persona's text is not shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from personahub.core.config import CONTENT_PATH, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.generation.llm_stage import PERSONA_TOKENS, estimate_tokens, forecast_requests, generate_records
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import SYNTHETIC, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from personahub.core.texts.replies import escape_tags
from synth.contracts.contract import Output, load_use_case, parse_reply
from synth.contracts.examples import (
    Example,
    PromptingConfig,
    check_examples,
    check_template,
    draw_examples,
    load_examples,
)
from synth.prompts import PROMPTS

VERSION = "2"
INPUTS = ("personas", "example_personas?", "*")  # others: benchmarks that must not contain the examples


class Config(PromptingConfig):
    """Configuration for a use case."""

    use_case: Annotated[str, TemplateFolder(PROMPTS)] = Field(
        description="Name of a prompt in `synth/prompts` that has a contract, or path of your own prompt."
    )
    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(
        default="", description="Another prompt that keeps the contract of the use case; by default its own."
    )
    background: Annotated[str | None, CONTENT_PATH] = Field(
        default=None, description="Path of a text that the prompt shows, such as the world of a game for `npc`."
    )
    per_persona: int = Field(default=1, gt=0, description="Requests per persona.")
    structured: bool = Field(
        default=False, description="Send the JSON schema of the reply to the engine. For contracts with a `json_model`."
    )
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=2048)
    attempts: int = Field(default=3, gt=0, description="Attempts per reply until one keeps the contract.")

    @model_validator(mode="before")
    @classmethod
    def _default_template(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("template") and "use_case" in values:
            return {**values, "template": values["use_case"]}
        return values

    @field_validator("use_case")
    @classmethod
    def _check_use_case(cls, name: str) -> str:
        try:
            load_use_case(name)
        except UserError as error:
            raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _check_contract(self) -> Config:
        contract = load_use_case(self.use_case).contract
        if ("background" in contract.needs) != (self.background is not None):
            verb = "does not need" if self.background else "needs"
            raise ValueError(
                f"the use case {self.use_case} {verb} `background`, the path of a text (`needs` in its contract)"
            )
        check_template(self, self.template, ("persona", "examples", "background", "fields"))
        if self.structured and contract.json_model is None:
            raise ValueError(f"`structured` needs a `json_model` in the contract, which {self.use_case} does not have")
        return self


def run(stage: Stage[Config]) -> None:
    """Writes one text per persona of `personas` and sample."""
    config = stage.config
    check_examples(config, stage.inputs)
    asking = prompts(config, load_template(config.template, PROMPTS), load_examples(config, stage.inputs))
    generate_records(
        stage, stage.input("personas"), SYNTHETIC, asking, parse(config), record(config), config.attempts, _surplus
    )
    stage.report(surplus_texts=stage.totals()[1].noted.get("surplus_texts", 0))


def _surplus(reply: tuple[Output, str]) -> dict[str, int]:
    return {"surplus_texts": reply[0].surplus}


def prompts(config: Config, template: Template, examples: Sequence[Example]) -> Callable[[Row], list[Request]]:
    """Returns the function that makes the requests for one persona, one per sample."""
    background = read_background(config.background) if config.background else None
    contract = load_use_case(config.use_case).contract
    fields, model = contract.fields(), contract.model()
    schema = model.model_json_schema(by_alias=True) if model and config.structured else None

    def of_persona(row: Row) -> list[Request]:
        messages = template.render(
            persona=row["persona"] if config.persona else None,
            examples=draw_examples(config, examples, row["id"]),
            background=background,
            fields=fields,
        )
        seed = partial(derive_seed, config.seed, row["id"])
        return [
            Request(messages, config.sampling, seed(sample), sample, json_schema=schema, engine=config.engine)
            for sample in range(config.per_persona)
        ]

    return of_persona


def read_background(path: str) -> str:
    """Reads the text that a prompt shows between `<background>` tags.

    Raises:
        UserError: the file cannot be read or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"background: {path} cannot be read: {error}") from None
    if not text:
        raise UserError(f"background: {path} is empty")
    return escape_tags(text, "background")


def parse(config: Config) -> Callable[[Request, Completion], tuple[Output, str]]:
    """Returns a parser of replies into (output, model). See `synth.contracts.contract` for the reasons to reject."""
    contract = load_use_case(config.use_case).contract

    def reply(_: Request, completion: Completion) -> tuple[Output, str]:
        return parse_reply(completion, contract), completion.model

    return reply


def record(config: Config) -> Callable[[Row, int, tuple[Output, str]], Row]:
    """Returns the function that makes the output record of a reply."""
    use_case = Path(config.use_case).stem

    def of_reply(persona: Row, sample: int, reply: tuple[Output, str]) -> Row:
        output, model = reply
        return {
            "id": content_id(use_case, output.text, persona["id"], sample),
            "use_case": use_case,
            "text": output.text,
            "fields": json.dumps(output.fields, ensure_ascii=False),
            "persona_id": persona["id"],
            "persona": persona["persona"] if config.persona else None,
            "document_id": persona.get("document_id"),
            "template": Path(config.template).stem,
            "prompting": config.prompting,
            "sample": sample,
            "seed": derive_seed(config.seed, persona["id"], sample),
            "licence": persona.get("licence"),
            "model": model,
            "machine_generated": True,
        }

    return of_reply


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per record. Repeated requests after rejected replies are not counted."""
    contract = load_use_case(config.use_case).contract
    examples = [] if config.prompting == "zero_shot" else [Example(text="x" * 800, persona="x" * 100)] * config.shots
    messages = load_template(config.template, PROMPTS).render(
        persona="x" if config.persona else None,
        examples=examples,
        background=read_background(config.background) if config.background else None,
        fields=contract.fields(),
    )
    prompt = estimate_tokens(messages) + PERSONA_TOKENS
    count, tokens = rows_in["personas"] * config.per_persona, contract.tokens
    return Forecast(
        rows_out=count,
        requests=forecast_requests((config.engine, count, prompt, tokens)),
        disk_bytes=count * tokens * 6,
        notes=(f"assumes {prompt} tokens in and {tokens} out per record",),
    )
