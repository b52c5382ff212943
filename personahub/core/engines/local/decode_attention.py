"""What makes decoding on a CPU fast: attention and a key-value cache for one new token per row.

PyTorch's fused attention is made for many queries per row. For a single one it copies every key to all
query heads that share it, and the cache is copied whole to append one token. Here a step reads each key
and value once, in two batched matrix products, and writes only its own.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "personahub_decode"
_ROOM = 64  # tokens for which a cache has space before it is copied into a larger one


def use_decode_attention(model: PreTrainedModel) -> None:
    """Let a model on the CPU decode with the attention below; others stay as they are."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        model.set_attn_implementation(_NAME)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: prompts through PyTorch's, single tokens through two products.

    Args:
        query: [rows, heads, tokens, size].
        key, value: [rows, shared heads, length, size].
        attention_mask: [rows, 1, tokens, length], True where attention goes.

    Returns:
        [rows, tokens, heads, size], and no weights.
    """
    rows, heads, tokens, size = query.shape
    plain = attention_mask is None or attention_mask.dtype == torch.bool
    if tokens > 1 or not plain or options.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask=attention_mask, scaling=scaling, **options
        )
    shared, length = key.shape[1:3]
    together = query.reshape(rows * shared, heads // shared, size) * (scaling if scaling is not None else size**-0.5)
    scores = torch.bmm(together, key.reshape(rows * shared, length, size).transpose(1, 2))
    if attention_mask is not None:
        scores.view(rows, heads, 1, length).masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
    mixed = torch.bmm(scores.softmax(-1), value.reshape(rows * shared, length, value.shape[-1]))
    return mixed.view(rows, 1, heads, value.shape[-1]), None


class RoomyLayer(DynamicLayer):
    """A layer's keys and values in buffers with room for more tokens.

    `keys` and `values` may be replaced from outside, as the batch does when rows join or leave; the next
    update then moves them into new buffers.
    """

    _buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [rows, heads, tokens, size] to both; returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if self._buffers is None or not self._is_ours(self._buffers[0], end):
            self._buffers = (_with_room(self.keys, key_states, end), _with_room(self.values, value_states, end))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def _is_ours(self, buffer: torch.Tensor, end: int) -> bool:
        """Whether `keys` still lie in `buffer`, and it has space up to `end`."""
        same = self.keys is not None and self.keys.data_ptr() == buffer.data_ptr() and len(self.keys) == len(buffer)
        return same and end <= buffer.shape[2]


def _with_room(held: torch.Tensor | None, states: torch.Tensor, end: int) -> torch.Tensor:
    """A larger buffer of the form of `states` that begins with what is `held`."""
    rows, heads, _, size = states.shape
    buffer = states.new_empty(rows, heads, end + _ROOM, size)
    if held is not None and held.numel():
        buffer[:, :, : held.shape[2]] = held
    return buffer
