"""YAML, `extends`, overrides and identity markers; every mistake ends in one helpful line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from personahub.core.config import (
    EXECUTION,
    UNLESS_DEFAULT,
    ContentPath,
    EngineName,
    FrozenModel,
    StageConfig,
    TemplateFolder,
    engine_names,
    identity_of,
    parse_config,
)
from personahub.core.errors import UserError


class Inner(FrozenModel):
    engine: EngineName = "teacher"
    count: int = 1


class Config(StageConfig):
    path: ContentPath | None = None
    temperature: float = 1.0
    workers: Annotated[int, EXECUTION] = 1
    samples: tuple[Inner, ...] = ()
    inner: Inner = Field(default=Inner())
    judges: dict[str, EngineName] = Field(default_factory=dict)
    files: tuple[ContentPath, ...] | None = None


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temprature": 1}, r"here.temprature: unknown key. Did you mean 'temperature'\?"),
        ({"samples": [{"coutn": 1}]}, r"here.samples.0.coutn: unknown key. Did you mean 'count'\?"),
        ({"inner": {"zzz": 1}}, "Valid: count, engine"),
        ({"temperature": "hot"}, "here.temperature: .*number.*hot"),
        ({"seed": -1}, "here.seed: .*greater than or equal to 0"),
        ({"seed": True}, "here: seed: must be a number, not true$"),
        ({"temperature": False}, "here: temperature: must be a number, not false$"),
    ],
)
def test_bad_keys_name_their_path_and_the_nearest_valid_one(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(Config, values, "here")


def test_identity_is_content_and_engines_but_not_execution(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.txt", "same"), write(tmp_path / "two.txt", "same")
    engines = {"teacher": {"model": "m"}, "judge": {"model": "j"}}
    base = identity_of(Config(path=str(one), workers=1), engines)
    assert base == identity_of(Config(path=str(two), workers=8), engines)
    assert base["inner"]["engine"] == {"model": "m"}
    assert base != identity_of(Config(path=str(one), temperature=0.5), engines)
    assert base != identity_of(Config(path=str(one), inner=Inner(engine="judge")), engines)
    write(two, "changed")
    assert base != identity_of(Config(path=str(two)), engines)
    assert engine_names(Config(samples=(Inner(engine="judge"),))) == {"teacher", "judge"}
    assert engine_names(Config(judges={"first": "judge"})) == {"teacher", "judge"}
    assert identity_of(Config(judges={"first": "judge"}), engines)["judges"] == {"first": {"model": "j"}}
    assert identity_of(Config(files=(str(one),)), engines)["files"] == [base["path"]]
    with pytest.raises(UserError, match="no engine named 'teacher'"):
        identity_of(Config(), {})


def test_a_new_option_does_not_change_the_identity_until_it_is_used(tmp_path: Path) -> None:
    class Extended(Config):
        insert: Annotated[dict[str, Config], UNLESS_DEFAULT] = Field(default_factory=dict)
        limit: Annotated[int | None, UNLESS_DEFAULT] = None
        judge: Annotated[EngineName | None, UNLESS_DEFAULT] = None

    engines = {"teacher": {"model": "m"}, "judge": {"model": "j"}}
    before = identity_of(Config(), engines)
    assert identity_of(Extended(), engines) == identity_of(Extended(insert={}, limit=None), engines) == before
    assert identity_of(Extended(limit=0), engines) == {**before, "limit": 0}
    assert identity_of(Extended(judge="judge"), engines) == {**before, "judge": {"model": "j"}}
    assert engine_names(Extended(judge="judge")) == {"teacher", "judge"}
    path = write(tmp_path / "one.txt", "one")
    first = identity_of(Extended(insert={"places": Config(path=str(path))}), engines)
    assert first["insert"].keys() == {"places"}
    write(path, "two")
    assert identity_of(Extended(insert={"places": Config(path=str(path))}), engines) != first


def test_an_edited_template_is_another_identity(tmp_path: Path) -> None:
    class Templated(StageConfig):
        template: Annotated[str, TemplateFolder(tmp_path)] = "ask"

    write(tmp_path / "ask.md", "---\nversion: 1\n---\n## user\nHello\n")
    before = identity_of(Templated())
    write(tmp_path / "ask.md", "---\nversion: 1\n---\n## user\nHello!\n")
    assert identity_of(Templated()) != before
