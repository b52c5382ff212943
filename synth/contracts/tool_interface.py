"""The interface of a tool: the JSON object of `use_case: tool_interface`."""

from __future__ import annotations

import keyword
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

JsonType = Literal["string", "integer", "number", "boolean", "array", "object"]


class Argument(BaseModel):
    """One parameter of a tool."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,40}$")
    type: JsonType
    description: str = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _is_identifier(cls, name: str) -> str:
        if keyword.iskeyword(name):
            raise ValueError(f"{name!r} is a Python keyword")
        return name


class Returned(BaseModel):
    """What a tool returns."""

    model_config = ConfigDict(extra="forbid")

    type: JsonType
    description: str = Field(min_length=1)


# The prompt shows the fields' descriptions, so they are part of its wording.
class ToolInterface(BaseModel):
    """A tool's interface: the paper's six keys, and an example call for its code."""

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
    def _check_consistency(self) -> ToolInterface:
        names = [argument.name for argument in self.input_args]
        if len(set(names)) < len(names):
            raise ValueError("two parameters have the same name")
        if keyword.iskeyword(self.function_name):
            raise ValueError(f"function_name {self.function_name!r} is a Python keyword")
        if set(self.example) != set(names):
            raise ValueError(f"the example has {sorted(self.example)}, but the parameters are {sorted(names)}")
        for argument in self.input_args:
            if not has_type(self.example[argument.name], argument.type):
                raise ValueError(f"the example's {argument.name} is not of type {argument.type}")
        return self


def has_type(value: Any, kind: JsonType) -> bool:
    """Returns whether a JSON value has a JSON type. A boolean is not a number."""
    if kind == "boolean":
        return isinstance(value, bool)
    python = {"string": str, "integer": int, "number": (int, float), "array": list, "object": dict}[kind]
    return isinstance(value, python) and not isinstance(value, bool)
