"""The printed prompts are those that are used."""

from __future__ import annotations

from pathlib import Path

from make_persona_prompts import SHOWN, page

from personahub.prompts import PROMPTS


def test_every_prompt_is_printed_as_it_is(repository: Path) -> None:
    assert set(SHOWN) == {file.stem for file in PROMPTS.glob("*.md")}
    printed = (repository / "docs/persona_prompts.md").read_text(encoding="utf-8")
    assert printed == page(), "out of date: python docs/make_persona_prompts.py > docs/persona_prompts.md"
