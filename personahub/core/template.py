"""Prompt templates: Markdown files with a YAML head and a Jinja body.

    ---
    version: 1
    description: One math problem for a persona.
    ---
    ## system
    You are a helpful assistant.
    ## user
    Create a math problem{% if persona %} for this person: {{ persona }}{% endif %}.

A `## system`, `## user` or `## assistant` line starts a message. Rendering runs in Jinja's
sandbox, and undefined names are errors. Inserted values are not rendered again, so braces or
`## user` lines in a persona stay text. The no-persona twin of a prompt is the same file rendered with
`persona=None`, so that the two differ only in the persona.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import jinja2
import jinja2.meta
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from personahub.core.errors import UserError
from personahub.core.identity import digest


class Message(TypedDict):
    """One chat message; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ROLE = re.compile(r"^## (system|user|assistant)[ \t]*\n", re.MULTILINE)
_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Template:
    """A parsed prompt file. `fingerprint` is a hash of its whole text, so it changes with every edit."""

    name: str
    version: int
    description: str
    fingerprint: str
    parts: tuple[tuple[str, jinja2.Template], ...]  # role and compiled text
    stop: tuple[str, ...] = ()  # strings after which a base model has gone past the answer
    names: frozenset[str] = frozenset()  # of the values that the text uses
    head: Mapping[str, Any] = field(default_factory=dict)  # all keys of the YAML head

    def render(self, **values: Any) -> tuple[Message, ...]:
        """Render the messages in order. A part that renders to an empty text is left out.

        Raises:
            UserError: the template uses a name that is not in `values`.
        """
        messages = []
        for role, part in self.parts:
            try:
                text = part.render(values).strip()
            except jinja2.TemplateError as error:
                raise UserError(f"template {self.name}: {error.message}") from None
            if text:
                messages.append(Message(role=role, content=text))
        return tuple(messages)


def load_template(name: str, folder: Path) -> Template:
    """Load `folder/name.md`, or the user's own template if `name` is a `.md` path.

    Raises:
        UserError: the template does not exist (the message lists the available ones) or is malformed.
    """
    path = Path(name) if name.endswith(".md") else folder / f"{name}.md"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if name.endswith(".md"):
            raise UserError(f"{path}: no such template; paths are relative to the folder you run in") from None
        known = ", ".join(sorted(p.stem for p in folder.glob("*.md")))
        raise UserError(f"{name!r}: no such template. Use one of {known}, or the path of your own .md file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the template cannot be read: {getattr(error, 'strerror', None) or error}") from None
    head = _HEAD.match(text)
    if not head:
        raise UserError(f"{path}: a template must start with a YAML head between two '---' lines")
    fields = _read_head(head.group(1), path)
    pieces = _ROLE.split(text[head.end() :])
    if pieces[0].strip() or len(pieces) < 3:
        raise UserError(
            f"{path}: the text after the head must start with a line '## system', '## user' or '## assistant'"
        )
    sources = pieces[2::2]
    try:
        parts = tuple(zip(pieces[1::2], map(_ENVIRONMENT.from_string, sources), strict=True))
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{path}: {error.message} (line {error.lineno} of its part)") from None
    names = (
        frozenset()
        .union(*(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(source)) for source in sources))
        .difference(_ENVIRONMENT.globals)
    )
    description = str(fields.get("description", ""))
    stop = tuple(fields.get("stop", ()))
    return Template(path.stem, fields["version"], description, digest(text), parts, stop, names, fields)


def _read_head(text: str, path: Path) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: the head is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(fields, dict) or type(fields.get("version")) is not int:
        raise UserError(f"{path}: the head must have a line 'version: N' with a whole number")
    stop = fields.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise UserError(f'{path}: `stop` in the head must be a list of strings, such as ["\\nProblem:"]')
    return fields
