"""Fast decoding on a CPU: attention and a key-value cache for one token per row.

PyTorch's fused attention is made for many queries per row. For a single query it copies every key to all query
heads that share it, and appending a token copies the whole cache. Here, a step reads each key and value once,
in two batched matrix products, and writes only its own.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "personahub_decode"
_SPARE_TOKENS = 64  # space for new tokens before a cache is copied into a larger buffer


def use_decode_attention(model: PreTrainedModel) -> None:
    """Make a model on the CPU use the attention below for decoding. Other models are not changed."""
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
    """Attention for transformers.

    Prompts use PyTorch's, single tokens two matrix products.

    Args:
        query: [rows, heads, tokens, size].
        key, value: [rows, shared heads, length, size].
        attention_mask: [rows, 1, tokens, length], True where attention is allowed.

    Returns:
        [rows, tokens, heads, size], and None instead of weights.
    """
    rows, heads, tokens, size = query.shape
    plain = attention_mask is None or attention_mask.dtype == torch.bool
    if tokens > 1 or not plain or options.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask=attention_mask, scaling=scaling, **options
        )
    shared, length = key.shape[1:3]
    grouped = query.reshape(rows * shared, heads // shared, size) * (scaling if scaling is not None else size**-0.5)
    scores = torch.bmm(grouped, key.reshape(rows * shared, length, size).transpose(1, 2))
    if attention_mask is not None:
        scores.view(rows, heads, 1, length).masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
    mixed = torch.bmm(scores.softmax(-1), value.reshape(rows * shared, length, value.shape[-1]))
    return mixed.view(rows, 1, heads, value.shape[-1]), None


class BufferedLayer(DynamicLayer):
    """A layer's keys and values in buffers with space for more tokens.

    `keys` and `values` may be replaced from outside, as the batch does when rows join or leave. The next
    update then moves them into new buffers.
    """

    _buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [rows, heads, tokens, size] to keys and values; return all of both."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if self._buffers is None or not self._fits(self._buffers[0], end):
            self._buffers = (_with_space(self.keys, key_states, end), _with_space(self.values, value_states, end))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def _fits(self, buffer: torch.Tensor, end: int) -> bool:
        """Return whether `keys` is still a view of `buffer`, which has space up to `end`."""
        same = self.keys is not None and self.keys.data_ptr() == buffer.data_ptr() and len(self.keys) == len(buffer)
        return same and end <= buffer.shape[2]


def _with_space(held: torch.Tensor | None, states: torch.Tensor, end: int) -> torch.Tensor:
    """Return a larger buffer that starts with `held`. Shape and type are those of `states`."""
    rows, heads, _, size = states.shape
    buffer = states.new_empty(rows, heads, end + _SPARE_TOKENS, size)
    if held is not None and held.numel():
        buffer[:, :, : held.shape[2]] = held
    return buffer
