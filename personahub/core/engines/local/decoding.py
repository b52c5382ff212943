"""Continuous batching for a causal language model.

Rows join and leave while others continue. A row's prompt is padded on the left. Its padding is masked and its
positions count from its own first token, so other rows change nothing but floating-point noise. A finished row leaves
immediately and new rows join the running ones, so one long answer does not delay the others. Sampling inverts the
cumulative distribution at uniform numbers from the row's own seed, so a sampled answer does not depend on the other
rows either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from personahub.core.engines.local.decode_attention import BufferedLayer


@dataclass(eq=False)
class DecodeRow:
    """One sequence: its parameters and the tokens generated so far. `finish` is None while it runs."""

    prompt: list[int]
    max_tokens: int
    seed: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    is_dropped: Callable[[], bool] = lambda: False
    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    uniforms: torch.Tensor | None = None


class DecodeBatch:
    """Rows that are decoded together, one token per row and step."""

    def __init__(
        self, model: PreTrainedModel, eos_ids: frozenset[int], pad_id: int, decode: Callable[[list[int]], str]
    ) -> None:
        self.rows: list[DecodeRow] = []
        self._model = model
        self._eos_ids = eos_ids
        self._pad_id = pad_id
        self._decode = decode
        # Layers that do not keep all keys (sliding windows, linear attention) cannot be realigned.
        self._can_join = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
        self._cache = DynamicCache()
        self._mask = self._last = self._positions = torch.empty(0)

    def clear(self) -> None:
        """Remove all rows."""
        self.rows = []
        self._cache = DynamicCache()

    def accepts_rows(self) -> bool:
        """Returns whether rows can be admitted now. Some architectures must finish the batch first."""
        return self._can_join or not self.rows

    @torch.inference_mode()
    def admit(self, rows: Sequence[DecodeRow]) -> list[DecodeRow]:
        """Process the prompts of `rows` and generate their first tokens. Returns the rows that are finished."""
        width = max(len(row.prompt) for row in rows)
        ids = self._tensor([[self._pad_id] * (width - len(row.prompt)) + row.prompt for row in rows])
        mask = self._tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = self._new_cache()
        logits = self._forward(ids, mask, positions, cache)
        for row in rows:
            if row.temperature > 0:
                generator = torch.Generator().manual_seed(row.seed)
                row.uniforms = torch.rand(row.max_tokens, generator=generator, dtype=torch.float64)
        last = self._choose(rows, logits)
        positions = positions[:, -1:]
        if self.rows:
            mask = _stack(self._mask, mask, dim=-1)
            layers: Any = zip(cache.layers, self._cache.layers, strict=True)
            for joined, running in layers:
                joined.keys = _stack(running.keys, joined.keys)
                joined.values = _stack(running.values, joined.values)
            last, positions = torch.cat([self._last, last]), torch.cat([self._positions, positions])
        self.rows = [*self.rows, *rows]
        self._cache, self._mask, self._last, self._positions = cache, mask, last, positions
        return self._remove_finished()

    @torch.inference_mode()
    def step(self) -> list[DecodeRow]:
        """Generate one more token for every row. Removes and returns the rows that are finished."""
        self._mask = pad(self._mask, (0, 1), value=1)
        self._positions = self._positions + 1
        logits = self._forward(self._last, self._mask, self._positions, self._cache)
        self._last = self._choose(self.rows, logits)
        return self._remove_finished()

    def _new_cache(self) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        cache.layers = [BufferedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        return cache

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any) -> torch.Tensor:
        """Returns the logits of the next token of every row: [rows, vocabulary]."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]

    def _choose(self, rows: Sequence[DecodeRow], logits: torch.Tensor) -> torch.Tensor:
        """Append the next token to every row and mark finished rows. Returns the tokens: [rows, 1]."""
        tokens = logits.argmax(-1)
        sampled = [i for i, row in enumerate(rows) if row.temperature > 0]
        if sampled:
            tokens[sampled] = sample([rows[i] for i in sampled], logits[sampled])
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if token in self._eos_ids:
                row.finish = "stop"
                continue
            row.tokens.append(token)
            if row.stop and any(stop in self._tail(row) for stop in row.stop):
                row.finish = "stop"
            elif len(row.tokens) == row.max_tokens or row.is_dropped():
                row.finish = "length"
        return tokens[:, None]

    def _tail(self, row: DecodeRow) -> str:
        """Returns the end of the text, where the last token may complete a stop string."""
        return self._decode(row.tokens[-8 - max(map(len, row.stop)) :])

    def _remove_finished(self) -> list[DecodeRow]:
        """Remove finished rows, and columns that are now padding in every row."""
        finished = [row for row in self.rows if row.finish is not None]
        if not finished:
            return []
        if len(finished) == len(self.rows):
            self.clear()
            return finished
        keep = self._tensor([i for i, row in enumerate(self.rows) if row.finish is None])
        self.rows = [row for row in self.rows if row.finish is None]
        self._mask, self._last, self._positions = self._mask[keep], self._last[keep], self._positions[keep]
        self._cache.batch_select_indices(keep)
        if self._can_join and (unused := int(self._mask.argmax(-1).min())):
            self._mask = self._mask[:, unused:]
            layers: Any = self._cache.layers
            for layer in layers:
                layer.keys, layer.values = layer.keys[:, :, unused:], layer.values[:, :, unused:]
        return finished

    def _tensor(self, values: list[Any]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)


def _stack(above: torch.Tensor, below: torch.Tensor, dim: int = -2) -> torch.Tensor:
    """Concatenate along the batch. The tensor that is shorter in `dim` gets zeros at its start."""
    length = max(above.shape[dim], below.shape[dim])
    unchanged = (0, 0) * (-1 - dim)  # `pad` counts dimensions from the last
    return torch.cat([pad(part, (*unchanged, length - part.shape[dim], 0)) for part in (above, below)])


def sample(rows: Sequence[DecodeRow], logits: torch.Tensor) -> torch.Tensor:
    """Sample one token per row.

    Uses temperature, top-k, top-p (Holtzman et al., 2020) and a uniform number.

    Args:
        logits: [rows, vocabulary].
    """

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    uniforms = column([float(row.uniforms[len(row.tokens)]) for row in rows if row.uniforms is not None])
    scaled, order = (logits.double() / column([row.temperature for row in rows])).sort(descending=True)
    probabilities = scaled.softmax(-1)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    before = probabilities.cumsum(-1) - probabilities
    kept = (before < column([row.top_p for row in rows])) & (rank < column([row.top_k or len(rank) for row in rows]))
    cumulative = (probabilities * kept).cumsum(-1)
    place = torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)
    place = torch.minimum(place, kept.sum(-1, keepdim=True) - 1)
    return order.gather(-1, place)[:, 0]
