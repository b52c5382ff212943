"""The simulated teacher's vocabulary: fields of work, their people and their contacts.

The files in `words/` hold the data, and `synth.simulated.persona` composes descriptions from it. All of it was
written by hand for this project, so personas made from it are free of other people's licenses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personahub.core.files import read_yaml
from personahub.core.texts.words import read_phrases, read_words

WORDS = Path(__file__).with_name("words")


@dataclass(frozen=True)
class Field:
    """A field of work or life. `words/fields.yaml` explains the attributes."""

    name: str
    keywords: frozenset[str]
    roles: tuple[str, ...]
    settings: tuple[str, ...]
    goals: tuple[str, ...]
    related: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, name: str, values: dict[str, Any]) -> Field:
        lists = {key: tuple(values[key]) for key in ("roles", "settings", "goals")}
        return cls(name, frozenset(values["keywords"].split()), related=tuple(values["related"].items()), **lists)


def _read_fields() -> tuple[Field, ...]:
    fields = read_yaml(WORDS / "fields.yaml")
    return tuple(Field.of(name, values) for name, values in fields.items())


FIELDS = _read_fields()
TRAITS = read_phrases(WORDS / "traits.txt")
INTERESTS = read_phrases(WORDS / "interests.txt")
STOP_WORDS = read_words(WORDS / "stop_words.txt")  # too common in English prose to be a topic
