"""Options that choose an embedder: `--embedder NAME` and settings of local models."""

from __future__ import annotations

import argparse
from pathlib import Path

from personahub.commands.model_options import ModelOptions
from personahub.core.embedding.config import EmbedderConfig

_SETTINGS = ModelOptions(
    EmbedderConfig, only=("revision", "prompt", "dtype", "device", "batch_tokens"), prefix="embedder"
)


def add_embedder_options(parser: argparse.ArgumentParser, purpose: str, default: str | None = None) -> None:
    """Add the options; `purpose` is the first sentence of the help of `--embedder`."""
    parser.add_argument(
        "--embedder",
        default=default,
        metavar="NAME",
        help=f"{purpose}: minilm, hashing, or the folder or Hub name of a sentence-transformers model"
        + (f" (default: {default})" if default else ""),
    )
    _SETTINGS.add_to(parser)


def embedder_from_options(options: argparse.Namespace) -> EmbedderConfig:
    """Return the embedder that the options name.

    Raises:
        UserError: a setting is invalid or does not apply to this embedder.
    """
    name: str = options.embedder
    if name in ("minilm", "hashing"):
        return _SETTINGS.build(EmbedderConfig, options, kind=name)
    key = "path" if Path(name).is_dir() else "model"
    return _SETTINGS.build(EmbedderConfig, options, kind="sentence_transformers", **{key: name})
