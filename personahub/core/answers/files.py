"""Checks a JSON Lines file, for `personahub check IN.jsonl OUT.jsonl`.

A row that cannot be checked does not stop the run: it is written with the verdict `error` and a rule
that names the file and the line, and it is counted.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from personahub.core.answers.policy import Policy
from personahub.core.answers.pool import CheckerPool
from personahub.core.answers.verdict import LABELS, Verdict
from personahub.core.errors import UserError
from personahub.core.files import replacing
from personahub.core.texts.references import reference_text
from personahub.core.texts.rows import InvalidRow, open_file, parse_row, read_open_lines

JsonRow = dict[str, Any]
STANDARD = "-"  # instead of a path: standard input or output
OTHER_FORMATS = (".parquet", ".arrow", ".csv", ".gz", ".zst", ".bz2", ".xz", ".zip")


def check_file(
    source: str | Path,
    target: str | Path,
    *,
    gold_field: str = "gold",
    pred_field: str = "pred",
    workers: int = 1,
    deadline_s: float = 5.0,
    policy: Policy | None = None,
) -> dict[str, int]:
    """Copies `source` to `target` with a verdict.

    Adds `verdict`, `extracted`, `extraction`, `rule` and `ms`. The function streams, so memory does not grow with the
    file. Rows keep their order. A line that is not a JSON object or lacks a field becomes a row with verdict `error`,
    and its rule says why. The target file appears only when it is complete.

    Args:
        source: JSON lines, or `-` for standard input.
        target: output file, or `-` for standard output, which lags a few rows behind.
        gold_field: the field with the reference, text or a number.
        pred_field: the field with the predicted answer or the completion.
        workers: checker processes.
        deadline_s: wall seconds for one row.
        policy: how to decide contested cases; lenient by default.

    Returns:
        The number of rows for each verdict; all five labels are present.

    Raises:
        UserError: `source` cannot be read or has no rows, `target` cannot be written, both are the same file,
            or no row could be checked (`target` has the reason for each).
    """
    if workers < 1:
        raise UserError(f"workers {workers}: must be at least 1")
    if Path(source).suffix in OTHER_FORMATS:
        raise UserError(f"{source}: only uncompressed JSON Lines can be checked; convert the file first")
    if STANDARD not in (str(source), str(target)) and Path(source).resolve() == Path(target).resolve():
        raise UserError(f"{target}: the output would overwrite the input; choose another name")
    counts: Counter[str] = Counter(dict.fromkeys(LABELS, 0))
    faults: list[str] = []
    try:
        with _open(source) as file, CheckerPool(workers, deadline_s, policy) as pool, _output(target) as out:
            for row, verdict, fault in _checked(file, _name(source), gold_field, pred_field, pool):
                counts[verdict.label] += 1
                faults += [fault] if fault and not faults else []
                out.write(json.dumps({**row, **_fields(verdict)}, ensure_ascii=True) + "\n")
            if not any(counts.values()):
                raise UserError(f"{_name(source)}: there are no rows")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    if faults and counts["error"] == sum(counts.values()):
        raise UserError(f"no row could be checked; first error: {faults[0]}")
    return dict(counts)


def _name(source: str | Path) -> str:
    return "stdin" if str(source) == STANDARD else str(source)


def _open(source: str | Path) -> IO[bytes]:
    return open(0, "rb", closefd=False) if str(source) == STANDARD else open_file(Path(source))


@contextlib.contextmanager
def _output(target: str | Path) -> Iterator[TextIO]:
    """Opens standard output, or a file that is renamed to `target` when complete."""
    if str(target) == STANDARD:
        yield sys.stdout
        sys.stdout.flush()
        return
    with replacing(Path(target)) as partial, partial.open("w", encoding="utf-8") as out:
        yield out


def _checked(
    file: IO[bytes], source: str, gold_field: str, pred_field: str, pool: CheckerPool
) -> Iterator[tuple[JsonRow, Verdict, str | None]]:
    """Yields rows with their verdicts and faults, in order. `rows` holds the rows in flight."""
    rows: deque[tuple[JsonRow, str | None]] = deque()

    def pairs() -> Iterator[tuple[str, str]]:
        for number, line in read_open_lines(file, source):
            row, fault = _parsed(line, f"{source}, line {number}", gold_field, pred_field)
            rows.append((row, fault))
            yield ("", "") if fault else (reference_text(row[gold_field]), reference_text(row[pred_field]))

    for verdict in pool.check_many(pairs()):
        row, fault = rows.popleft()
        yield row, Verdict("error", None, "none", fault, 0.0) if fault else verdict, fault


def _parsed(line: bytes, place: str, gold_field: str, pred_field: str) -> tuple[JsonRow, str | None]:
    """Parses a line into a row and a fault. An unreadable line becomes a row with its location."""
    try:
        row = parse_row(line)
    except InvalidRow as error:
        return {"line": place}, f"{place}: {error}"
    for field in (gold_field, pred_field):
        if field not in row:
            return row, f"{place}: no text in {field!r}; it has {', '.join(row)}"
        try:
            reference_text(row[field])
        except ValueError as error:
            return row, f"{place}: no text in {field!r}: {error}"
    return row, None


def _fields(verdict: Verdict) -> JsonRow:
    return {
        "verdict": verdict.label,
        "extracted": verdict.extracted,
        "extraction": verdict.extraction,
        "rule": verdict.rule,
        "ms": round(verdict.ms, 3),
    }
