"""Use cases as data: a prompt with a contract in its head, and its reply parser.

    ---
    version: 1
    description: A recipe.
    contract: {labels: [Title, Recipe], min_chars: 200}
    ---
    ## user
    ...

    use_case = load_use_case("my/recipe.md")           # or the name of a prompt in synth/prompts
    output = parse_reply(completion, use_case.contract)

A reply is one or several parts, each of which starts with its label on a new line, or one JSON object.
Harmless additions by the model are accepted: a line of chat in front, Markdown around a label, a code
fence around JSON.
"""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from personahub.core.config import FrozenModel, parse_config, suggest
from personahub.core.engines import Completion
from personahub.core.errors import Rejected, UserError
from personahub.core.template import Template, load_template
from personahub.core.texts.replies import find_refusal, labelled_parts, without_thinking
from synth.contracts.additions import strip_additions
from synth.contracts.validity import MOST_PARTS, count_parts
from synth.prompts import PROMPTS


class Contract(FrozenModel):
    """What replies to a prompt must look like: `contract` in the prompt's head."""

    labels: tuple[str, ...] = Field(default=(), description="Labels of the parts, in order, without colon.")
    json_model: str | None = Field(
        default=None, description="Instead of labels: dotted path of a pydantic model; the reply is one JSON object."
    )
    min_chars: int = Field(default=1, ge=1, description="Shortest last part.")
    max_chars: int = Field(default=6000, ge=1, description="Longest last part, or longest JSON object.")
    language: Literal["latin", "chinese", "any"] = Field(
        default="latin", description="Script of at least half of the letters in the last part."
    )
    problem: bool = Field(
        default=False, description=f"Reject solutions and problems with more than {MOST_PARTS} sub-problems."
    )
    needs: tuple[Literal["background"], ...] = Field(
        default=(), description="Config keys that the prompt needs in addition to a persona."
    )
    tokens: int = Field(default=200, gt=0, description="Expected length of a reply, for `personahub plan`.")

    @model_validator(mode="after")
    def _check_consistency(self) -> Contract:
        if bool(self.labels) == (self.json_model is not None):
            raise ValueError("needs either `labels` or `json_model`")
        keys = [_key(label) for label in self.labels]
        if not all(keys) or len(set(keys)) < len(keys):
            raise ValueError("`labels` must be distinct and not empty")
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars is {self.min_chars}, above max_chars ({self.max_chars})")
        return self

    def model(self) -> type[BaseModel] | None:
        """Returns the class that `json_model` names.

        Raises:
            UserError: there is no such class, or it is not a pydantic model.
        """
        return None if self.json_model is None else _load_model(self.json_model)

    def fields(self) -> list[dict[str, str]]:
        """Name and meaning of each key of the JSON object, as prompts show them."""
        model = self.model()
        fields = model.model_fields.items() if model else ()
        return [{"name": field.alias or name, "meaning": field.description or ""} for name, field in fields]


@cache
def _load_model(path: str) -> type[BaseModel]:
    module, _, name = path.rpartition(".")
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"json_model: {path} cannot be imported: {error}") from None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise UserError(f"json_model: {path} is not a pydantic model")
    return model


@dataclass(frozen=True)
class UseCase:
    """A prompt with its contract. `name` is the stem of the prompt's file."""

    name: str
    template: Template
    contract: Contract


def load_use_case(name: str) -> UseCase:
    """Loads the use case of a prompt in `synth/prompts`, or of a user's `.md` file.

    Raises:
        UserError: there is no such prompt, or its head has no valid contract.
    """
    if not name.endswith(".md") and name not in built_in():
        raise UserError(
            f"no use case {name!r}. {suggest(name, built_in())} For your own, give the path of a .md file with a"
            " `contract` in its head (docs/use_case.md)"
        )
    template = load_template(name, PROMPTS)
    if "contract" not in template.head:
        raise UserError(f"{name}: the head has no `contract`, which says what replies look like (docs/use_case.md)")
    contract = parse_config(Contract, template.head["contract"], f"{name}: contract")
    contract.model()
    return UseCase(template.name, template, contract)


@cache
def built_in() -> tuple[str, ...]:
    """Returns the names of the prompts in `synth/prompts` that have a contract."""
    names = sorted(path.stem for path in PROMPTS.glob("*.md"))
    return tuple(name for name in names if "contract" in load_template(name, PROMPTS).head)


def examples_file(use_case: str) -> Path:
    """Returns the default file of examples: `examples/NAME.jsonl` next to the prompt."""
    prompt = Path(use_case) if use_case.endswith(".md") else PROMPTS / use_case
    return prompt.parent / "examples" / f"{prompt.stem}.jsonl"


@dataclass(frozen=True)
class Output:
    """The content of a reply: `text` is all of it without chat. `fields` are its parts by name.

    `surplus` is the number of further texts in the reply, which only one was asked for.
    """

    text: str
    fields: dict[str, Any]
    surplus: int = 0


def parse_reply(completion: Completion, contract: Contract) -> Output:
    """Parses a reply; see `parse_parts` and `parse_json` for the reasons to reject it.

    If a contract has one label and the reply several texts with it, the first is taken.
    """
    if contract.json_model:
        return parse_json(completion, contract)
    texts = _texts_of(completion, contract.labels[0]) if len(contract.labels) == 1 else []
    if len(texts) > 1 or (texts and not completion.truncated):
        completion = replace(completion, text=f"{contract.labels[0]}: {texts[0]}", finish_reason="stop")
    return replace(parse_parts(completion, contract), surplus=max(0, len(texts) - 1))


_NEXT_ITEM = re.compile(r"\n\s*(?:\d{1,2}[.)]|[-*#]+)\s*\Z")  # of a list whose items start with labels


def _texts_of(completion: Completion, label: str) -> list[str]:
    """The distinct texts in a reply behind `Label:`, `Label 2:` and so on; nothing if a text quotes the label."""
    parts = labelled_parts(without_thinking(completion.text), (label,), repeated=True)
    texts = [without_markdown(_NEXT_ITEM.sub("", part.text) if part is not parts[-1] else part.text) for part in parts]
    if any(text.endswith((":", "：")) for text in texts[:-1]):
        return []
    return list(dict.fromkeys(filter(None, texts)))


def parse_parts(completion: Completion, contract: Contract) -> Output:
    """Returns the labelled parts of a reply.

    Raises:
        Rejected: `truncated`, `refusal`, `no_prefix`, `missing_part`, `empty_part`, `too_short`, `too_long`,
            `wrong_language`, `multi_part`, or a reason of `synth.contracts.additions.strip_additions`.
    """
    reply = completion.whole_text()
    parts = {label: without_markdown(text) for label, text in labelled_parts(reply, contract.labels)}
    last = contract.labels[-1]
    if contract.problem and last in parts:
        parts[last] = strip_additions(parts[last])
    for label in contract.labels:
        if label not in parts:
            reason = "missing_part" if parts else "refusal" if find_refusal(reply) else "no_prefix"
            raise Rejected(reason, f"no line of the reply starts with '{label}:'")
        if not parts[label]:
            raise Rejected("empty_part", label)
    check_text(parts[last], contract)
    sheet = "\n".join(f"{label}: {parts[label]}" for label in contract.labels)
    text = sheet if len(parts) > 1 else parts[contract.labels[0]]
    return Output(text, {_key(label): parts[label] for label in contract.labels})


def _key(label: str) -> str:
    return "_".join(label.lower().split())


def without_markdown(text: str) -> str:
    """Removes a closing rule, and an unbalanced closing `**` that belonged to a label."""
    text = re.sub(r"\s*\n[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*\Z", "", text.strip())
    if text.endswith("**") and text.count("**") % 2:
        text = text[:-2]
    return text.strip()


_LETTERS = {"chinese": re.compile(r"[\u3400-\u9fff]"), "latin": re.compile(r"[A-Za-zÀ-ɏ]")}


def check_text(text: str, contract: Contract) -> None:
    """Checks length and language. A problem must not have too many sub-problems."""
    if len(text) < contract.min_chars:
        raise Rejected("too_short", f"{len(text)} characters; at least {contract.min_chars} are required")
    if len(text) > contract.max_chars:
        raise Rejected("too_long", f"{len(text)} characters; at most {contract.max_chars} are allowed")
    if contract.language != "any":
        letters = sum(character.isalpha() for character in text)
        wanted = len(_LETTERS[contract.language].findall(text))
        if wanted * 2 < letters or wanted == 0:
            raise Rejected("wrong_language", f"{wanted} of {letters} letters are {contract.language}")
    if contract.problem and (parts := count_parts(text)) > MOST_PARTS:
        raise Rejected("multi_part", f"{parts} sub-problems")


_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n(.*?)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


def parse_json(completion: Completion, contract: Contract) -> Output:
    """Returns the JSON object in a reply, formatted with an indentation of 2.

    Raises:
        Rejected: `truncated`, `refusal`, `no_json`, `bad_json`, `schema` (with the key) or `too_long`.
    """
    reply = completion.whole_text()
    fenced = _FENCED.search(reply)
    body = fenced[1] if fenced else reply[reply.find("{") : reply.rfind("}") + 1] if "{" in reply else ""
    if not body.strip().startswith("{"):
        raise Rejected("refusal" if find_refusal(reply) else "no_json", "the reply has no JSON object")
    if len(body) > contract.max_chars:
        raise Rejected("too_long", f"{len(body)} characters; at most {contract.max_chars} are allowed")
    model = contract.model()
    assert model is not None, "the caller checks it"  # noqa: S101
    try:
        value = model.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejected("schema", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise Rejected("bad_json", str(error)) from None
    fields = value.model_dump(mode="json", by_alias=True)
    return Output(json.dumps(fields, indent=2, ensure_ascii=False), fields)
