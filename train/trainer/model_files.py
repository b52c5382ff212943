"""Writes a trained model for transformers and vLLM: weights, tokenizer and card."""

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
    """Returns whether a name is a folder or not of the form `owner/name`, as on the hub."""
    return Path(name).is_dir() or name.startswith(("/", ".", "~")) or name.count("/") > 1


def publish(folder: Path, write: Callable[[Path], None], name: str = MODEL) -> None:
    """Creates `folder/name` completely or not at all, even after a power failure.

    Args:
        folder: the folder of the artifact.
        write: writes the files into the folder it receives.
        name: name of the new folder.
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
    """Deletes a folder or a link to one, if it exists."""
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
    """Saves weights, configs, tokenizer, chat template and README.md. The default weights are the model's own."""
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def consolidate_weights(model: PreTrainedModel, gathered: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Converts gathered weights to `dtype` if they are wider, as under FSDP2. Drops duplicates of tied weights."""
    import torch

    width = torch.finfo(getattr(torch, dtype)).bits
    return {
        name: weight.to(getattr(torch, dtype))
        if weight.is_floating_point() and torch.finfo(weight.dtype).bits > width
        else weight
        for name, weight in gathered.items()
        if name not in model.all_tied_weights_keys
    }


def greedy_generation(tokenizer: PreTrainedTokenizerBase, extra_eos: list[int] | None = None) -> GenerationConfig:
    """Configures greedy decoding that stops at the end of a turn or a text.

    Args:
        tokenizer: its EOS token ends a turn.
        extra_eos: other token ids that end generation, such as those of the base model.
    """
    from transformers import GenerationConfig

    eos = [tokenizer.eos_token_id, *(extra_eos or [])]
    return GenerationConfig(do_sample=False, eos_token_id=list(dict.fromkeys(eos)), pad_token_id=tokenizer.pad_token_id)


def model_card(stage: Stage[Any], base: str, results: Mapping[str, Any]) -> str:
    """README.md of a trained model: its data, its training and its results."""
    data = stage.input("data")
    upstream = "model" in stage.inputs
    name = f"`{stage.input('model').name}` (fingerprint `{stage.input('model').fingerprint}`)" if upstream else base
    config = {key: value for key, value in stage.spec.identity.items() if value not in (None, {}, [])}
    numbers = "\n".join(f"| {key} | {_format_value(value)} |" for key, value in results.items())
    authors = ", ".join(results["models"]) or "unknown"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
license: other
tags: [sft, trl, synthetic-data]
---
# {stage.spec.experiment} / {stage.name}

Fine-tuned from {name} on `{data.name}` (fingerprint `{data.fingerprint}`), with the loss on the solutions only.

**Machine-generated data.** The training text was written by {authors} and may be wrong.
**Licenses of the training records:** {", ".join(results["licences"]) or "not stated"}. The license of the base model also applies.

| result | value |
|---|---|
{numbers}

Configuration:

```json
{json.dumps(config, indent=2, ensure_ascii=False)}
```
"""


def _format_value(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False) if value else "none"
    return str(value)
