"""What a reply of each use case has to look like, and the parser that holds it to that.

A reply is one or several parts, each starting on a line of its own with its label; a tool's interface is
one JSON object. What models add without harm is tolerated: a line of chat in front, Markdown around
a label, a code fence around JSON.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from personahub.core.engines import Completion
from personahub.core.errors import Rejected
from personahub.core.texts.replies import find_refusal, labelled_parts
from synth.contracts.validity import MOST_PARTS, count_parts

Language = Literal["latin", "chinese"]


@dataclass(frozen=True)
class Output:
    """What a reply holds. `text` is all of it without chat; `fields` its parts by name."""

    text: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Contract:
    """Labels in order; what is checked of the last part, which is the one of substance."""

    labels: tuple[str, ...]
    min_chars: int
    max_chars: int
    language: Language = "latin"
    problem: bool = False  # no solution, at most two sub-problems


def parse_parts(completion: Completion, contract: Contract) -> Output:
    """The parts of a reply.

    Raises:
        Rejected: `truncated`, `refusal`, `no_prefix`, `missing_part`, `empty_part`, `too_short`, `too_long`,
            `wrong_language`, `contains_solution` or `multi_part`.
    """
    reply = completion.whole_text()
    fields = {label: without_markdown(text) for label, text in labelled_parts(reply, contract.labels)}
    for label in contract.labels:
        if label not in fields:
            reason = "missing_part" if fields else "refusal" if find_refusal(reply) else "no_prefix"
            raise Rejected(reason, f"no line of the reply starts with '{label}:'")
    for label in contract.labels:
        if not fields[label]:
            raise Rejected("empty_part", label)
    check_text(fields[contract.labels[-1]], contract)
    sheet = "\n".join(f"{label}: {fields[label]}" for label in contract.labels)
    text = sheet if len(fields) > 1 else fields[contract.labels[0]]
    return Output(text, {_key(label): fields[label] for label in contract.labels})


def _key(label: str) -> str:
    return label.lower().replace(" ", "_")


def without_markdown(text: str) -> str:
    """Strip rules and an unbalanced closing `**`, which belonged to a bold label."""
    text = re.sub(r"\s*\n[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*\Z", "", text.strip())
    if text.endswith("**") and text.count("**") % 2:
        text = text[:-2]
    return text.strip()


SOLUTION = re.compile(
    r"\\f?boxed\b|^[ \t>#*_]*(?:(?:step[- ]by[- ]step )?solution|(?:final )?answer|hint|explanation)[ \t*_]*[:：]"
    r"|(?:答案|解析|解释|提示)[ \t*_]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")


def check_text(text: str, contract: Contract) -> None:
    """Length, language and, for problems, that there is no solution and not too many sub-problems."""
    if contract.problem and (solution := SOLUTION.search(text)):
        raise Rejected("contains_solution", solution.group().strip())
    if len(text) < contract.min_chars:
        raise Rejected("too_short", f"{len(text)} characters, at least {contract.min_chars} are asked for")
    if len(text) > contract.max_chars:
        raise Rejected("too_long", f"{len(text)} characters, at most {contract.max_chars} are allowed")
    letters = sum(character.isalpha() for character in text)
    wanted = len((_HAN if contract.language == "chinese" else _LATIN).findall(text))
    if wanted * 2 < letters or wanted == 0:
        raise Rejected("wrong_language", f"{wanted} of {letters} letters are {contract.language}")
    if contract.problem and (parts := count_parts(text)) > MOST_PARTS:
        raise Rejected("multi_part", f"{parts} sub-problems")


JsonType = Literal["string", "integer", "number", "boolean", "array", "object"]


class Argument(BaseModel):
    """One parameter of a tool."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,40}$")
    type: JsonType
    description: str = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        if keyword.iskeyword(name):
            raise ValueError(f"{name!r} is a word of the language")
        return name


class Returned(BaseModel):
    """What a tool returns."""

    model_config = ConfigDict(extra="forbid")

    type: JsonType
    description: str = Field(min_length=1)


class ToolInterface(BaseModel):
    """The interface of a tool; the paper's six keys, and an example call that its code has to pass."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=3, max_length=80, description="what a person calls it")
    description: str = Field(min_length=20, description="when to use it, what goes in, what comes out")
    function_name: str = Field(pattern=r"^[a-z_][a-z0-9_]{0,60}$", description="its name in Python, in snake_case")
    input_args: list[Argument] = Field(
        min_length=1,
        max_length=12,
        description='the parameters in order, a list of {"name", "type", "description"}; types are string, integer,'
        " number, boolean, array and object",
    )
    returns: Returned = Field(alias="return", description='what it returns, {"type", "description"}')
    depend: list[str] = Field(description="modules of the standard library that the code needs, a list of names")
    example: dict[str, Any] = Field(
        description="arguments of one typical call, by name, with values of the right types"
    )

    @model_validator(mode="after")
    def _coherent(self) -> ToolInterface:
        names = [argument.name for argument in self.input_args]
        if len(set(names)) < len(names):
            raise ValueError("two parameters have the same name")
        if keyword.iskeyword(self.function_name):
            raise ValueError(f"function_name {self.function_name!r} is a word of the language")
        if set(self.example) != set(names):
            raise ValueError(f"the example gives {sorted(self.example)}, the parameters are {sorted(names)}")
        for argument in self.input_args:
            if not fits(self.example[argument.name], argument.type):
                raise ValueError(f"the example's {argument.name} is no {argument.type}")
        return self


def fits(value: Any, kind: JsonType) -> bool:
    """Whether a JSON value is of a JSON type. A boolean is no number."""
    if kind == "boolean":
        return isinstance(value, bool)
    python = {"string": str, "integer": int, "number": (int, float), "array": list, "object": dict}[kind]
    return isinstance(value, python) and not isinstance(value, bool)


TOOL_FIELDS = tuple(
    {"name": field.alias or name, "meaning": field.description} for name, field in ToolInterface.model_fields.items()
)
TOOL_SCHEMA = ToolInterface.model_json_schema(by_alias=True)

_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n(.*?)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


def parse_tool(completion: Completion, contract: Contract) -> Output:
    """The interface in a reply, as JSON with sorted layout.

    Raises:
        Rejected: `truncated`, `refusal`, `no_json`, `bad_json`, `schema` (with the key) or `too_long`.
    """
    reply = completion.whole_text()
    fenced = _FENCED.search(reply)
    body = fenced[1] if fenced else reply[reply.find("{") : reply.rfind("}") + 1] if "{" in reply else ""
    if not body.strip().startswith("{"):
        raise Rejected("refusal" if find_refusal(reply) else "no_json", "the reply holds no JSON object")
    if len(body) > contract.max_chars:
        raise Rejected("too_long", f"{len(body)} characters, at most {contract.max_chars} are allowed")
    try:
        value = json.loads(body)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Rejected("bad_json", str(error)) from None
    try:
        interface = ToolInterface.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejected("schema", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    fields = interface.model_dump(by_alias=True)
    return Output(json.dumps(fields, indent=2, ensure_ascii=False), fields)


CONTRACTS = {
    "logic_general": Contract(("Logic problem",), 40, 3000, problem=True),
    "logic_spatial": Contract(("Spatial problem",), 40, 3000, problem=True),
    "logic_ruozhiba": Contract(("问题",), 6, 120, language="chinese", problem=True),
    "instruction": Contract(("Instruction",), 15, 6000),
    "article": Contract(("Title", "Article"), 400, 12000),
    "reading": Contract(("Title", "Reading text"), 400, 12000),
    "npc": Contract(("Name", "Role", "Appearance", "Character", "Background", "Meets players"), 40, 3000),
    "tool_interface": Contract((), 0, 6000),
}

Parser = Callable[[Completion, Contract], Output]


def parser_of(use_case: str) -> Parser:
    """How the replies of a use case are read."""
    return parse_tool if use_case == "tool_interface" else parse_parts
