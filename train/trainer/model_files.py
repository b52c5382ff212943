"""A trained model as files that transformers and vLLM load: weights, tokenizer, card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personahub.core.files import sync
from personahub.core.stage import Stage

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

MODEL = "model"
BEST = "best"


def is_local(name: str) -> bool:
    """Whether a name is a folder, or can be nothing else: the hub's are `owner/name`."""
    return Path(name).is_dir() or name.startswith(("/", ".", "~")) or name.count("/") > 1


def publish(folder: Path, write: Callable[[Path], None], name: str = MODEL) -> None:
    """Make `folder/name` whole or not at all, also after a power failure.

    Args:
        folder: the artifact.
        write: puts the files into the folder it is given.
        name: of the folder made.
    """
    partial = folder / f"{name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write(partial)
    for file in partial.rglob("*"):
        sync(file)
    sync(partial)
    remove(folder / name)
    partial.rename(folder / name)
    sync(folder)


def remove(path: Path) -> None:
    """Delete a folder, or the link that stands for it; nothing where there is none."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    card: str,
    weights: dict[str, Any] | None = None,
) -> None:
    """Weights (the model's own, or those given), configs, tokenizer with chat template, card as README.md."""
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def consolidate_weights(model: PreTrainedModel, gathered: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Weights gathered from shards: a tied one once, and none wider than `dtype`, as FSDP2 holds those that it trains."""
    import torch

    width = torch.finfo(getattr(torch, dtype)).bits
    return {
        name: weight.to(getattr(torch, dtype))
        if weight.is_floating_point() and torch.finfo(weight.dtype).bits > width
        else weight
        for name, weight in gathered.items()
        if name not in model.all_tied_weights_keys
    }


def greedy_generation(tokenizer: PreTrainedTokenizerBase, also_ends: list[int] | None = None) -> GenerationConfig:
    """Greedy decoding that stops where a turn or a text ends.

    Args:
        tokenizer: its EOS ends a turn.
        also_ends: further tokens that end generation, such as the base model's own.
    """
    from transformers import GenerationConfig

    ends = [tokenizer.eos_token_id, *(also_ends or [])]
    return GenerationConfig(
        do_sample=False, eos_token_id=list(dict.fromkeys(ends)), pad_token_id=tokenizer.pad_token_id
    )


def model_card(stage: Stage[Any], base: str, results: Mapping[str, Any]) -> str:
    """README.md of a trained model: what it learnt from, how, and what the text is."""
    data = stage.input("data")
    upstream = "model" in stage.inputs
    name = f"`{stage.input('model').name}` (fingerprint `{stage.input('model').fingerprint}`)" if upstream else base
    config = {key: value for key, value in stage.spec.identity.items() if value not in (None, {}, [])}
    numbers = "\n".join(f"| {key} | {_shown(value)} |" for key, value in results.items())
    authors = ", ".join(results["models"]) or "unknown"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
license: other
tags: [sft, trl, synthetic-data]
---
# {stage.spec.experiment} / {stage.name}

Fine-tuned from {name} on `{data.name}` (fingerprint `{data.fingerprint}`), with loss on the solutions alone.

**Machine-generated data.** The training text was written by {authors} and may be wrong.
**Licences of the training records:** {", ".join(results["licences"]) or "not stated"}. The base model's own licence applies as well.

| result | value |
|---|---|
{numbers}

Configuration:

```json
{json.dumps(config, indent=2, ensure_ascii=False)}
```
"""


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False) if value else "none"
    return str(value)
