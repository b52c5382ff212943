"""Export training data as one JSONL file per split, with a dataset card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jinja2

from personahub.core.artifact import read_rows
from personahub.core.files import replacing
from personahub.core.records import Row
from personahub.core.stage import Stage

SPLITS = ("train", "test")
_CARD = Path(__file__).with_suffix(".md")


def export(stage: Stage[Any]) -> dict[str, Any]:
    """Write `export/` from the stage's finished shards. Return the number of records by split."""
    folder = stage.path / "export"
    folder.mkdir(exist_ok=True)
    counts: Counter[str] = Counter()
    models: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    with ExitStack() as stack:
        temporary = {split: stack.enter_context(replacing(folder / f"{split}.jsonl")) for split in SPLITS}
        files = {split: stack.enter_context(temporary[split].open("w", encoding="utf-8")) for split in SPLITS}
        for row in _rows(stage.path):
            pair = {"prompt": row["prompt"], "completion": row["completion"]}
            files[row["split"]].write(json.dumps(pair, ensure_ascii=False) + "\n")
            counts[row["split"]] += 1
            models[row["model"]] += 1
            licences[row["licence"] or "not stated"] += 1
    template = jinja2.Template(_CARD.read_text(encoding="utf-8"), keep_trailing_newline=True)
    card = template.render(
        experiment=stage.spec.experiment,
        stage=stage.name,
        fingerprint=stage.spec.fingerprint,
        counts=counts,
        near_duplicate=stage.config.near_duplicate,
        models=_listed(models),
        licences=_listed(licences),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return {split: counts[split] for split in SPLITS}


def _rows(path: Path) -> Iterator[Row]:
    for file in sorted(path.glob("[0-9]*.parquet")):
        yield from read_rows(file, ["split", "prompt", "completion", "model", "licence"])


def _listed(numbers: Counter[str]) -> str:
    return "; ".join(f"{name} ({number:,})" for name, number in numbers.most_common()) or "none"
