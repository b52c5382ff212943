"""Export training data as one JSONL file per split, with a dataset card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from personahub.core.artifact import read_rows
from personahub.core.files import replacing
from personahub.core.records import Row
from personahub.core.stage import Stage

SPLITS = ("train", "test")


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
    (folder / "README.md").write_text(_card(stage, counts, models, licences), encoding="utf-8")
    return {split: counts[split] for split in SPLITS}


def _rows(path: Path) -> Iterator[Row]:
    for file in sorted(path.glob("[0-9]*.parquet")):
        yield from read_rows(file, ["split", "prompt", "completion", "model", "licence"])


_CARD = """\
---
configs:
- config_name: default
  data_files:
  - {{split: train, path: train.jsonl}}
  - {{split: test, path: test.jsonl}}
tags: [synthetic, machine-generated, math]
---
# {experiment}: math problems with solutions

**Machine-generated.** Problems and solutions were written by language models from synthetic personas;
no person described in them is real. Answers were compared among samples, not checked by people, and
some are wrong.

| split | records |
|---|---|
| train | {train:,} |
| test | {test:,} |

One JSON object per line: `prompt` and `completion` are lists of chat messages. Test problems have no
near duplicate among the training problems (Jaccard similarity of words >= {near_duplicate:g}).

Solutions by model: {models}.

Licences of the sources, by record: {licences}.
Conditions of a source (such as share-alike or non-commercial use) carry over to what is made from it,
and so may the terms of the models.

Made for training and evaluating language models on mathematics. Not meant as teaching material, nor
as a source of facts about the occupations and places that its stories mention.

Stage `{stage}` of experiment `{experiment}`, fingerprint `{fingerprint}`. The Parquet shards one folder
up keep every record's persona, web text and licence.
"""


def _card(stage: Stage[Any], counts: Mapping[str, int], models: Counter[str], licences: Counter[str]) -> str:
    return _CARD.format(
        experiment=stage.spec.experiment,
        stage=stage.name,
        fingerprint=stage.spec.fingerprint,
        train=counts.get("train", 0),
        test=counts.get("test", 0),
        near_duplicate=stage.config.near_duplicate,
        models=_listed(models),
        licences=_listed(licences),
    )


def _listed(numbers: Counter[str]) -> str:
    return "; ".join(f"{name} ({number:,})" for name, number in numbers.most_common()) or "none"
