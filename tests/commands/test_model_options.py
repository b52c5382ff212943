"""Options made from pydantic models: their names, types, help and errors."""

from __future__ import annotations

import argparse
from typing import Annotated, Literal

import pytest
from pydantic import Field

from personahub.commands.cli import main
from personahub.commands.model_options import ModelOptions
from personahub.core.config import EXECUTION, FrozenModel
from personahub.core.errors import UserError


class Price(FrozenModel):
    input: float
    output: float


class Engine(FrozenModel):
    kind: Literal["a", "b"] = "a"
    timeout_s: Annotated[float, EXECUTION] = Field(default=5, gt=0, description="At most 100% of a try.")
    digits: int | None = Field(default=4, ge=2)
    strict: bool = True
    stop: tuple[str, ...] = ()
    price: Price | None = None
    extra: dict[str, int] = Field(default_factory=dict)


class Other(FrozenModel):
    digits: int = 1
    depth: int = 2


def parsed(options: ModelOptions, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_to(parser)
    return parser.parse_args(words)


def test_values_are_validated_and_defaults_stay() -> None:
    options = ModelOptions(Engine)
    assert options.build(Engine, parsed(options)) == Engine()
    words = ["--kind", "b", "--timeout", "2", "--no-strict", "--stop", "x", "--stop", "y", "--digits", "none"]
    words += ["--price-input", "1", "--price-output", "2"]
    expected = Engine(kind="b", timeout_s=2, strict=False, stop=("x", "y"), digits=None, price=Price(input=1, output=2))
    assert options.build(Engine, parsed(options, *words)) == expected
    assert options.build(Engine, parsed(options, "--digits", "3"), digits=9, kind="b") == Engine(digits=3, kind="b")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeout", "0"], r"^--timeout: Input should be greater than 0 \(got '0'\)$"),
        (["--digits", "two"], "^--digits: Input should be a valid integer"),
        (["--price-input", "1"], "^--price-output: is required$"),
        (["--digits", "1", "--timeout", "x"], "--timeout: .*; --digits: "),
    ],
)
def test_errors_name_the_option(words: list[str], message: str) -> None:
    options = ModelOptions(Engine)
    with pytest.raises(UserError, match=message):
        options.build(Engine, parsed(options, *words))


def test_models_share_options_and_refuse_those_of_others() -> None:
    options = ModelOptions(Engine, Other, exclude=("price", "kind"), names={"depth": "--levels"})
    assert options.build(Other, parsed(options, "--digits", "7", "--levels", "3")) == Other(digits=7, depth=3)
    with pytest.raises(UserError, match=r"^--timeout: Other does not have this option$"):
        options.build(Other, parsed(options, "--timeout", "1"))


def test_help_has_descriptions_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(ModelOptions(Engine, prefix="engine"), "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--engine-timeout SECONDS At most 100% of a try (default: 5)" in text
    assert "--engine-strict, --no-engine-strict (default: yes)" in text
    assert "extra" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["complete", "a", "b", "--base-url", "http://127.0.0.1:9/v1", "--temperature", "-1"], "--temperature: "),
        (["dedup", "a", "b", "--ngram", "3"], "--ngram: Surface does not have this option"),
        (
            ["check", "a", "b", "--rounding-digits", "1"],
            "--rounding-digits: Input should be greater than or equal to 2",
        ),
        (["personas", "import", "a", "b", "--limit", "0"], "--limit: Input should be greater than 0"),
        (["personas", "search", "a", "b", "--embedder", "hashing", "--embedder-prompt", "x"], "prompt"),
    ],
)
def test_commands_name_the_option_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
