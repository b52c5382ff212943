"""Check a JSONL file: the function behind `personahub check IN.jsonl OUT.jsonl`."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personahub.core.answers.policy import Policy
from personahub.core.answers.pool import CheckerPool
from personahub.core.answers.verdict import LABELS, Verdict
from personahub.core.errors import UserError

Row = dict[str, Any]


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
    """Copy `source` to `target`, each row with `verdict`, `extracted`, `extraction`, `rule` and `ms` added.

    Streams: memory does not grow with the file. Rows keep their order. A line that is no JSON object or
    lacks a field becomes a row with verdict `error` whose rule says so; it never ends the run.

    Returns:
        How many rows got each verdict; all five labels are present.

    Raises:
        UserError: `source` cannot be read, or `target` is `source`.
    """
    source, target = Path(source), Path(target)
    if source.resolve() == target.resolve():
        raise UserError(f"{target}: the output would overwrite the input; give another name")
    counts: Counter[str] = Counter(dict.fromkeys(LABELS, 0))
    partial = target.with_name(target.name + ".partial")
    try:
        with (
            source.open(encoding="utf-8", errors="surrogateescape") as lines,
            CheckerPool(workers, deadline_s, policy) as pool,
            partial.open("w", encoding="utf-8") as out,
        ):
            for row, verdict in _checked(lines, gold_field, pred_field, pool):
                counts[verdict.label] += 1
                out.write(json.dumps({**row, **_fields(verdict)}, ensure_ascii=True) + "\n")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    partial.replace(target)
    return dict(counts)


def _checked(lines: Any, gold_field: str, pred_field: str, pool: CheckerPool) -> Iterator[tuple[Row, Verdict]]:
    """Rows with their verdicts, in order; `rows` holds those that are in flight."""
    rows: deque[tuple[Row, str | None]] = deque()

    def pairs() -> Iterator[tuple[str, str]]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row, fault = _parsed(line, number, gold_field, pred_field)
            rows.append((row, fault))
            yield ("", "") if fault else (str(row[gold_field]), str(row[pred_field]))

    for verdict in pool.check_many(pairs()):
        row, fault = rows.popleft()
        yield row, Verdict("error", None, "none", fault, 0.0) if fault else verdict


def _parsed(line: str, number: int, gold_field: str, pred_field: str) -> tuple[Row, str | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"line": number}, f"line {number} is not JSON: {error}"
    if not isinstance(row, dict):
        return {"line": number}, f"line {number} is not a JSON object"
    for field in (gold_field, pred_field):
        if not isinstance(row.get(field), (str, int, float)):
            return row, f"line {number} has no text in {field!r}"
    return row, None


def _fields(verdict: Verdict) -> Row:
    return {
        "verdict": verdict.label,
        "extracted": verdict.extracted,
        "extraction": verdict.extraction,
        "rule": verdict.rule,
        "ms": round(verdict.ms, 3),
    }
