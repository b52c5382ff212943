"""Benchmark problems with their reference answers, from the Hugging Face hub by name or from files.

Evaluation grades against them and decontamination searches them (both through `eval.datasets`):

    load_problems(ProblemSetConfig(name="math"))                        # the hub, at a pinned commit
    load_problems(ProblemSetConfig(name="math", path="math/test.jsonl"))  # a local copy
    load_problems(ProblemSetConfig(name="mine", path="exam.parquet", problem_field="task"))

Known by name, all three under the MIT licence:

* `math`: the 5,000 test problems of MATH (Hendrycks et al. 2021, https://arxiv.org/abs/2103.03874).
* `math500`: the 500 of them that Lightman et al. 2023 (https://arxiv.org/abs/2305.20050) test on.
* `gsm8k`: the 1,319 test problems of GSM8K (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from personahub.core.config import CONTENT_PATH, FrozenModel
from personahub.core.errors import UserError
from personahub.core.records import Row


@dataclass(frozen=True)
class ReferenceProblem:
    """A benchmark problem. `id` is unique in its set: the file's own id, else the row's number from 0.

    `answer` is the reference answer as written, LaTeX included; `level` is MATH's 1 to 5 as text.
    """

    id: str
    problem: str
    answer: str
    subject: str | None = None
    level: str | None = None


@dataclass(frozen=True)
class _HubSet:
    hub: str
    subset: str
    split: str
    revision: str
    rows: int


# Commits, not branches: a benchmark that changes under its name makes results incomparable.
# Of the copies of MATH on the hub this one keeps the original split; several hold 500 test rows.
_KNOWN = {
    "math": _HubSet(
        "DigitalLearningGmbH/MATH-lighteval", "default", "test", "0530c78699ea5e8eb5530600900e1f328b48acad", 5000
    ),
    "math500": _HubSet("HuggingFaceH4/MATH-500", "default", "test", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be", 500),
    "gsm8k": _HubSet("openai/gsm8k", "main", "test", "740312add88f781978c0658806c59bc2815b9866", 1319),
}


class ProblemSetConfig(FrozenModel):
    """Where a problem set is. `name` alone suffices for math, math500 and gsm8k."""

    name: str = Field(min_length=1, description="Name in results; math, math500 and gsm8k are known on the hub.")
    path: Annotated[str | None, CONTENT_PATH] = Field(
        default=None, description="A .jsonl or .parquet file, or a folder of them; then the hub is not asked."
    )
    hub: str | None = Field(default=None, description="Hub data set (owner/name), for sets not known by name.")
    subset: str | None = Field(default=None, description="The hub data set's configuration.")
    split: str | None = Field(default=None, description="The hub data set's split.")
    revision: str | None = Field(default=None, description="Commit of the hub data set, so that it cannot change.")
    problem_field: str | None = Field(default=None, description="Default: `problem`, else `question`.")
    answer_field: str | None = Field(default=None, description="Default: `answer`, else the last box of `solution`.")

    @model_validator(mode="before")
    @classmethod
    def _name_the_source(cls, values: Any) -> Any:
        """Write the pinned hub source into the config, so that manifests and fingerprints hold it."""
        if not isinstance(values, dict) or values.get("path"):
            return values
        known = _KNOWN.get(str(values.get("name"))) if not values.get("hub") else None
        if known is not None:
            source = {"hub": known.hub, "subset": known.subset, "split": known.split, "revision": known.revision}
            return source | {key: value for key, value in values.items() if value is not None}
        if not values.get("hub"):
            raise ValueError(f"give `path`, or `hub` with `revision`; known by name alone: {', '.join(_KNOWN)}")
        if not values.get("revision"):
            raise ValueError("a hub data set needs `revision`, the commit to read, so that results stay comparable")
        return values


def load_problems(config: ProblemSetConfig) -> list[ReferenceProblem]:
    """All problems of a set, in its own order.

    Raises:
        UserError: the file is missing or malformed (with file and row), a row lacks its problem or
            answer, or the hub cannot be reached.
    """
    if config.path is not None:
        where, rows = config.path, list(_read_path(Path(config.path)))
    else:
        where, rows = f"{config.hub}@{config.revision}", _read_hub(config)
    if not rows:
        raise UserError(f"{where}: holds no problems")
    problems = [_reference(row, config, f"{where}, row {index + 1}") for index, row in enumerate(rows)]
    ids = _ids(rows)
    return [ReferenceProblem(id_, *fields) for id_, fields in zip(ids, problems, strict=True)]


def _ids(rows: list[Row]) -> list[str]:
    for key in ("id", "unique_id", "idx"):
        ids = [str(row[key]) for row in rows if row.get(key) is not None]
        if len(ids) == len(rows) == len(set(ids)):
            return ids
    return [str(index) for index in range(len(rows))]


def _reference(row: Row, config: ProblemSetConfig, where: str) -> tuple[str, str, str | None, str | None]:
    fields = (config.problem_field,) if config.problem_field else ("problem", "question")
    problem = next((row[field] for field in fields if isinstance(row.get(field), str)), "")
    if not problem.strip():
        raise UserError(
            f"{where}: no text in {' or '.join(fields)}; its fields are {', '.join(row)}: set problem_field"
        )
    answer = _answer(row, config.answer_field)
    if not answer:
        raise UserError(f"{where}: no reference answer; its fields are {', '.join(row)}: set answer_field")
    subject = row.get("subject") or row.get("type")
    level = row.get("level")
    return (
        problem,
        answer,
        str(subject) if subject is not None else None,
        str(level).removeprefix("Level ") if level is not None else None,
    )


def _answer(row: Row, field: str | None) -> str:
    value = row.get(field or "answer")
    if value is not None:
        # GSM8K keeps the worked solution in `answer`; the result stands behind the last "####"
        return str(value).rpartition("####")[2].strip()
    solution = row.get("solution")
    if field is not None or not isinstance(solution, str):
        return ""
    from personahub.core.answers import extract  # a third of a second to import, and seldom needed

    found = extract(solution)
    return found.answer if found.answer and found.rule == "boxed" else ""


def _read_path(path: Path) -> Iterator[Row]:
    files = sorted(p for p in path.glob("*") if p.suffix in (".jsonl", ".parquet")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: holds no .jsonl or .parquet file")
    for file in files:
        if file.suffix == ".parquet":
            yield from _read_parquet(file)
        elif file.suffix == ".jsonl":
            yield from _read_jsonl(file)
        else:
            raise UserError(f"{file}: problems are read from .jsonl or .parquet files")


def _read_parquet(file: Path) -> list[Row]:
    try:
        return pq.read_table(file).to_pylist()
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: not a readable Parquet file ({error})") from None


def _read_jsonl(file: Path) -> Iterator[Row]:
    try:
        with file.open("rb") as lines:
            yield from _parse_lines(file, lines)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None


def _parse_lines(file: Path, lines: Iterable[bytes]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{file}:{number}: not valid JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{file}:{number}: a row is a JSON object (got {type(row).__name__})")
        yield row


def _read_hub(config: ProblemSetConfig) -> list[Row]:
    import datasets
    from huggingface_hub import HfApi, constants

    source, split = str(config.hub), config.split or "test"
    try:
        if not constants.HF_HUB_OFFLINE:
            HfApi().dataset_info(source, revision=config.revision, timeout=10)  # fails at once, not after five retries
        loaded = datasets.load_dataset(source, config.subset, split=split, revision=config.revision)
    except Exception as error:  # noqa: BLE001  (the hub's client passes on what its HTTP library raises, whichever that is)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"problem set {config.name}: {source} cannot be read from the hub ({reason}); give `path:` with a local"
            " .jsonl or .parquet copy, or set HF_HUB_OFFLINE=1 if it is in your cache"
        ) from None
    rows = [dict(row) for row in loaded]
    known = _KNOWN.get(config.name)
    if known is not None and (known.hub, known.split) == (config.hub, config.split) and len(rows) != known.rows:
        raise UserError(f"problem set {config.name}: {config.hub} gave {len(rows)} rows, not {known.rows}")
    return rows


def known_rows(config: ProblemSetConfig) -> int | None:
    """Number of problems of a set that is known by name; None for any other."""
    known = _KNOWN.get(config.name)
    return known.rows if known else None
