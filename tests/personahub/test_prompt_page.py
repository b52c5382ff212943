"""The printed prompts are those that are used."""

from __future__ import annotations

from pathlib import Path

from personahub.prompt_page import SHOWN, page
from personahub.text_to_persona import PROMPTS


def test_every_prompt_is_printed_as_it_is(repository: Path) -> None:
    assert set(SHOWN) == {file.stem for file in PROMPTS.glob("*.md")}
    printed = (repository / "docs/persona_prompts.md").read_text(encoding="utf-8")
    assert printed == page(), "out of date: python -m personahub.prompt_page > docs/persona_prompts.md"
