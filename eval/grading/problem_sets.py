"""Loads benchmark problems with reference answers, from the hub or from files.

Evaluation grades against them and decontamination searches them (both through `eval.datasets`):

    load_problems(ProblemSetConfig(name="math"))                          # the hub, at a pinned commit
    load_problems(ProblemSetConfig(name="math", path="math/test.jsonl"))  # a local copy
    load_problems(ProblemSetConfig(name="my_benchmarks/exam.yaml"))       # described in a file of your own
    load_problems(ProblemSetConfig(name="exam", path="exam.parquet", problem_field="task"))

A benchmark is data: `benchmarks.yaml` lists the known ones, and a user's YAML file describes one more with the
same keys.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from personahub.core.config import CONTENT_PATH, EXECUTION, FrozenModel, parse_config, suggest
from personahub.core.errors import UserError
from personahub.core.experiments.yaml_file import load_yaml
from personahub.core.records import Row
from personahub.core.texts.references import reference_text
from personahub.core.texts.rows import SourceRow, find_files, one_line, read_rows

_KNOWN_FILE = Path(__file__).with_name("benchmarks.yaml")


@dataclass(frozen=True)
class ReferenceProblem:
    """A benchmark problem.

    `id` is unique within its set: the file's own id, or else the row's number from 0. `answer` is the reference
    answer as written, LaTeX included. `level` is MATH's level as text, 1 to 5.
    """

    id: str
    problem: str
    answer: str
    subject: str | None = None
    level: str | None = None


class ProblemSource(FrozenModel):
    """Where a set of problems is and how to read it."""

    name: str = Field(
        min_length=1,
        description="Name in results. math, math500 and gsm8k are known; a path that ends in .yaml describes a "
        "benchmark of your own, named after the file.",
    )
    path: Annotated[str | None, CONTENT_PATH] = Field(
        default=None, description="A .jsonl or .parquet file, or a folder of them. The hub is then not used."
    )
    hub: str | None = Field(default=None, description="Hub data set (owner/name), for benchmarks not known by name.")
    subset: str | None = Field(default=None, description="The hub data set's configuration.")
    split: str | None = Field(default=None, description="The hub data set's split.")
    revision: str | None = Field(default=None, description="Commit of the hub data set, so that it cannot change.")
    problem_field: str | None = Field(default=None, description="Default: `problem`, else `question`.")
    answer_field: str | None = Field(default=None, description="Default: `answer`, else the last box of `solution`.")
    rows: Annotated[int | None, EXECUTION] = Field(
        default=None, gt=0, description="The published number of problems; any other number is an error."
    )

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.path is None and self.hub is None:
            raise ValueError("give `path`, or `hub` with `revision`")
        if self.path is None and self.revision is None:
            raise ValueError("a hub data set needs `revision`, the commit to read, so that results stay comparable")
        return self


class Benchmark(ProblemSource):
    """A benchmark as a YAML file describes it."""

    licence: str | None = None
    source: str | None = Field(default=None, description="The paper or page that published it.")


class ProblemSetConfig(ProblemSource):
    """A problem set to load. For a known benchmark, `name` is enough."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_source(cls, values: Any) -> Any:
        """Writes the benchmark's source into the config for manifests and fingerprints."""
        if not isinstance(values, dict) or not isinstance(values.get("name"), str):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        if given["name"].endswith((".yaml", ".yml")):
            benchmark = _read_benchmark(Path(given["name"]))
            given["name"] = benchmark.name
        else:
            benchmark = known_benchmarks().get(given["name"])
        if benchmark is not None:
            return _source_of(benchmark, given) | given
        if not given.get("path") and not given.get("hub"):
            known = known_benchmarks()
            raise ValueError(
                f"no benchmark named {given['name']!r} (known: {', '.join(known)}). {suggest(given['name'], known)} "
                "For your own benchmark, give `path`, or `hub` with `revision`, or name a .yaml file"
            )
        return given


@functools.cache
def known_benchmarks() -> Mapping[str, Benchmark]:
    """Benchmarks known by name, from benchmarks.yaml."""
    return {name: Benchmark(name=name, **values) for name, values in load_yaml(_KNOWN_FILE).items()}


def _read_benchmark(file: Path) -> Benchmark:
    """Reads a user's benchmark file. A `path` in it is relative to the file.

    Raises:
        ValueError: the file is missing or malformed.
    """
    try:
        values = {"name": file.stem, **load_yaml(file)}
    except UserError as error:
        raise ValueError(str(error)) from None
    if isinstance(values.get("path"), str):
        values["path"] = str(file.parent / values["path"])
    try:
        return parse_config(Benchmark, values, "")
    except UserError as error:
        raise ValueError(f"{file}: {error}") from None


def _source_of(benchmark: Benchmark, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields to take from a benchmark.

    If the config names another `path` or `hub`, only the names of columns are taken.
    """
    fields = ["problem_field", "answer_field"]
    if not given.keys() & {"path", "hub"}:
        fields += ["path", "hub", "subset", "split", "revision"]
        fields += [] if given.keys() & {"subset", "split"} else ["rows"]
    return {field: value for field in fields if (value := getattr(benchmark, field)) is not None}


def load_problems(config: ProblemSetConfig) -> list[ReferenceProblem]:
    """Reads all problems of a set, in its own order.

    Raises:
        UserError: a file is missing or malformed (with file and row), a row has no problem or no answer, the
            hub cannot be reached, or the number of problems is not `rows`.
    """
    if config.path is not None:
        where = config.path
        rows = [row for file in find_files(Path(config.path), "*") for row in read_rows(file)]
    else:
        where, rows = f"{config.hub}@{config.revision}", _read_hub(config)
    if not rows:
        raise UserError(f"{where}: there are no problems")
    if config.rows is not None and len(rows) != config.rows:
        raise UserError(f"problem set {config.name}: {where} has {len(rows)} rows, not {config.rows}")
    return [_parse_problem(id_, source, config) for id_, source in zip(_ids(rows), rows, strict=True)]


def _ids(rows: list[SourceRow]) -> list[str]:
    for key in ("id", "unique_id", "idx"):
        ids = [str(row[key]) for _, row in rows if row.get(key) is not None]
        if len(ids) == len(rows) == len(set(ids)):
            return ids
    return [str(index) for index in range(len(rows))]


def _parse_problem(id_: str, source: SourceRow, config: ProblemSetConfig) -> ReferenceProblem:
    where, row = source
    fields = (config.problem_field,) if config.problem_field else ("problem", "question")
    problem = next((row[field] for field in fields if isinstance(row.get(field), str)), "")
    if not problem.strip():
        raise UserError(
            f"{where}: no text in {' or '.join(fields)}; its fields are {', '.join(row)}: set problem_field"
        )
    try:
        answer = _answer(row, config.answer_field)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    if not answer:
        raise UserError(f"{where}: no reference answer; its fields are {', '.join(row)}: set answer_field")
    subject = row.get("subject") or row.get("type")
    level = row.get("level")
    return ReferenceProblem(
        id_,
        problem,
        answer,
        str(subject) if subject is not None else None,
        str(level).removeprefix("Level ") if level is not None else None,
    )


def _answer(row: Row, field: str | None) -> str:
    value = row.get(field or "answer")
    if value is not None:
        # GSM8K has the worked solution in `answer`; the result follows the last "####"
        return reference_text(value).rpartition("####")[2].strip()
    solution = row.get("solution")
    if field is not None or not isinstance(solution, str):
        return ""
    from personahub.core.answers.extract import last_box  # takes 0.3 s to import and is rarely needed

    return last_box(solution) or ""


def _read_hub(config: ProblemSetConfig) -> list[SourceRow]:
    import datasets
    from huggingface_hub import HfApi, constants

    source, split = str(config.hub), config.split or "test"
    try:
        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(
                source, revision=config.revision, timeout=10
            )  # fails at once instead of after five retries
        loaded = datasets.load_dataset(source, config.subset, split=split, revision=config.revision)
    except Exception as error:  # noqa: BLE001  (the hub's client passes on any exception of its HTTP library)
        raise UserError(
            f"problem set {config.name}: {source} cannot be read from the hub ({one_line(error)}); give `path:` with a local"
            " .jsonl or .parquet copy, or set HF_HUB_OFFLINE=1 if it is in your cache"
        ) from None
    where = f"{source}@{config.revision}"
    return [SourceRow(f"{where}, row {number}", dict(row)) for number, row in enumerate(loaded, 1)]


def expected_rows(config: ProblemSetConfig) -> int | None:
    """Returns the number of problems in a set whose size is known, else None."""
    known = known_benchmarks().get(config.name)
    return config.rows or (known.rows if known else None)
