"""What full or LoRA fine-tuning of a decoder needs: parameters, memory by component, FLOPs.

Everything here is arithmetic on a model's shape; nothing is loaded. Symbols in the formulas:
V vocabulary, d hidden size, i intermediate size, L layers, k = num_kv_heads * head size,
N parameters, T tokens on one device in one forward pass, s sequence length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from personahub.core.errors import UserError


@dataclass(frozen=True)
class ModelShape:
    """Shape of a Qwen2-like decoder: grouped-query attention with biases on q, k, v, and a gated MLP."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    tied_embeddings: bool
    attention_bias: bool = True

    @property
    def kv_size(self) -> int:
        """Width of the keys (and of the values): k."""
        return self.hidden_size // self.num_heads * self.num_kv_heads

    @property
    def parameters(self) -> int:
        """N: embeddings V*d (twice if untied), L layers, final norm d."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * self.layer_parameters + self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Attention 2*d*d + 2*d*k, its biases d + 2*k, MLP 3*d*i, norms 2*d."""
        d, k = self.hidden_size, self.kv_size
        biases = d + 2 * k if self.attention_bias else 0
        return 2 * d * d + 2 * d * k + biases + 3 * d * self.intermediate_size + 2 * d

    @property
    def multiplied_parameters(self) -> int:
        """Parameters that every token is multiplied with: N without the input embedding, which is a lookup."""
        return self.parameters - (0 if self.tied_embeddings else self.vocab_size * self.hidden_size)

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of LoRA on PEFT's default targets for Qwen2, q and v: rank * (inputs + outputs) of each."""
        return self.num_layers * rank * (self.hidden_size * 2 + self.hidden_size + self.kv_size)

    def training_flops(self, tokens: float, sequence_length: float, trains_all: bool = True) -> float:
        """FLOPs of training on `tokens`, without what activation checkpointing computes again.

        Per token 6 * multiplied parameters (2 forward, 4 backward; Kaplan et al. 2020, arXiv
        2001.08361, section 2.1) plus 6*L*d*s for attention, each token looking back at s/2 others on
        average. With LoRA the frozen weights have no gradient of their own: 4 instead of 6.

        Args:
            tokens: seen in all, padding not counted.
            sequence_length: s, average length of an example.
            trains_all: False for LoRA.
        """
        matrices = (6 if trains_all else 4) * self.multiplied_parameters
        return tokens * (matrices + 6 * self.num_layers * self.hidden_size * sequence_length)


# https://huggingface.co/Qwen: config.json of each model. Qwen2, Qwen2.5 and Qwen2.5-Math share their shapes.
_SHAPES: Mapping[str, ModelShape] = {
    "0.5B": ModelShape(151_936, 896, 4_864, 24, 14, 2, tied_embeddings=True),
    "1.5B": ModelShape(151_936, 1_536, 8_960, 28, 12, 2, tied_embeddings=True),
    "3B": ModelShape(151_936, 2_048, 11_008, 36, 16, 2, tied_embeddings=True),
    "7B": ModelShape(152_064, 3_584, 18_944, 28, 28, 4, tied_embeddings=False),
    "14B": ModelShape(152_064, 5_120, 13_824, 48, 40, 8, tied_embeddings=False),
}


def known_shape(hub_name: str) -> ModelShape | None:
    """Shape of a published Qwen2 model, such as `Qwen/Qwen2.5-7B-Instruct`; None for any other name."""
    parts = hub_name.removeprefix("Qwen/").split("-")
    if parts[0] not in ("Qwen2", "Qwen2.5"):
        return None
    return next((_SHAPES[part] for part in parts[1:] if part in _SHAPES), None)


def shape_of_folder(folder: str | Path) -> ModelShape | None:
    """Shape of the model saved in `folder`; None if it is built in another way than Qwen2.

    Raises:
        UserError: it holds no model.
    """
    try:
        values = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no model: there is no config.json in it") from None
    except ValueError as error:
        raise UserError(f"{folder}/config.json: not JSON: {error}") from None
    return shape_of_config(values)


def shape_of_config(values: Any) -> ModelShape | None:
    """Shape from the values of a config.json; None if it lacks what Qwen2's has."""
    try:
        return ModelShape(
            vocab_size=values["vocab_size"],
            hidden_size=values["hidden_size"],
            intermediate_size=values["intermediate_size"],
            num_layers=values["num_hidden_layers"],
            num_heads=values["num_attention_heads"],
            num_kv_heads=values["num_key_value_heads"],
            tied_embeddings=values["tie_word_embeddings"],
            attention_bias=values["model_type"] == "qwen2",
        )
    except (KeyError, TypeError):
        return None


Dtype = Literal["float32", "bfloat16"]
_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class TrainingSetup:
    """What decides the memory besides the shape.

    Attributes:
        weights: dtype of the weights, their gradients and the optimizer's moments. float32 trains
            with bf16 autocast: the weights stay exact, the matrix products are bf16.
        optimizer: a name of transformers' `optim`.
        tokens_per_device: T, padding included.
        checkpointing: whether activations are computed again in the backward pass.
        shards: devices that weights, gradients and optimizer are spread over (FSDP, ZeRO-3).
        trained_parameters: None for all; with LoRA those of the adapter.
    """

    weights: Dtype = "float32"
    optimizer: str = "adamw_torch_fused"
    tokens_per_device: int = 8192
    checkpointing: bool = True
    shards: int = 1
    trained_parameters: int | None = None


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device, by component.

    Attributes:
        copies: bf16 copies of float32 weights that autocast keeps while a forward pass lasts.
        activations: all that the backward pass needs, as it begins.
        layer: activations of one layer, which are left as the backward pass ends.
        gathered: whole layers that sharded training holds for a moment.
    """

    weights: float
    gradients: float
    optimizer: float
    copies: float
    activations: float
    layer: float
    gathered: float

    @property
    def total(self) -> float:
        """Peak. Copies and activations are gone when the gradients are whole, so the larger side counts."""
        moving = max(self.copies + self.activations, self.gradients + self.layer)
        return self.weights + self.optimizer + self.gathered + moving

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "gradients": self.gradients,
            "bf16 copies": self.copies,
            "activations": self.activations,
            "gathered layers": self.gathered,
        }
        shown = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items() if size)
        return f"{self.total / 1e9:.1f} GB per GPU at the peak ({shown})"


def plan_memory(shape: ModelShape, setup: TrainingSetup) -> MemoryPlan:
    """Memory of a training step on each device.

    Weights and gradients take the bytes of `setup.weights` per parameter, autocast's copies 2 per
    multiplied parameter; see `optimizer_bytes` and `activation_bytes`. Sharded training holds two
    whole layers at a time in bf16, the one in use and the one being fetched. Outside the plan: the
    CUDA context (about 0.5 GB), the allocator's waste, and logits, which TRL's fused head never
    holds all at once.
    """
    weight_bytes = _BYTES[setup.weights]
    trained = shape.parameters if setup.trained_parameters is None else setup.trained_parameters
    added = 0 if setup.trained_parameters is None else trained  # an adapter comes on top of the weights
    autocast = setup.weights == "float32" and setup.shards == 1
    return MemoryPlan(
        weights=weight_bytes * (shape.parameters + added) / setup.shards,
        gradients=weight_bytes * trained / setup.shards,
        optimizer=optimizer_bytes(setup.optimizer, weight_bytes) * trained / setup.shards,
        copies=2.0 * shape.multiplied_parameters if autocast else 0.0,
        activations=activation_bytes(shape, setup),
        layer=float(_layer_bytes(shape, setup.weights) * setup.tokens_per_device),
        gathered=2.0 * 2 * shape.layer_parameters if setup.shards > 1 else 0.0,
    )


def optimizer_bytes(optimizer: str, weight_bytes: int) -> float:
    """Bytes of optimizer state per trained parameter.

    AdamW keeps two moments, Lion one. torch keeps them in the dtype of the weights, bitsandbytes in
    four bytes, or in its 8-bit kinds in one and a float32 scale for each block of 256 (Dettmers et
    al. 2022, arXiv 2110.02861). Adafactor keeps sums of rows and columns, nothing beside a matrix.

    Raises:
        UserError: an optimizer whose state is not known here.
    """
    if optimizer == "sgd" or optimizer.startswith("adafactor"):
        return 0.0
    moments = 2 if "adamw" in optimizer else 1 if "lion" in optimizer else None
    if moments is None or "galore" in optimizer or "apollo" in optimizer or "4bit" in optimizer:
        raise UserError(f"sft.optim: the memory plan does not know the optimizer {optimizer!r}")
    if "8bit" in optimizer:
        return moments * (1 + 4 / 256)
    return moments * (4.0 if "32bit" in optimizer else weight_bytes)


def activation_bytes(shape: ModelShape, setup: TrainingSetup) -> float:
    """What one forward pass over T tokens keeps for the backward pass, with flash or sdpa attention.

    Without checkpointing: every layer (see `_layer_bytes`) and the final norm. With it: the residual
    stream that enters each layer, and one layer at a time, computed again.
    """
    d, tokens = shape.hidden_size, setup.tokens_per_device
    layer = _layer_bytes(shape, setup.weights)
    if setup.checkpointing:
        return float(tokens * (d * _BYTES[setup.weights] * shape.num_layers + layer))
    return float(tokens * (layer * shape.num_layers + _norm_bytes(d, setup.weights)))


def _layer_bytes(shape: ModelShape, weights: Dtype) -> int:
    """Bytes per token that autograd keeps for one layer of transformers' Qwen2, counted tensor by tensor.

    Two norms; inputs of the matrices: 2 bf16 copies, or 5 under autocast, which casts anew for each
    of q, k, v, gate and up; rotated q and the attention's output 2*2*d; k and v 2*2*k; gate, up,
    activation and product of the MLP 4*2*i.
    """
    d = shape.hidden_size
    inputs = 2 * d * (5 if weights == "float32" else 2)
    return 2 * _norm_bytes(d, weights) + inputs + 4 * d + 4 * shape.kv_size + 8 * shape.intermediate_size


def _norm_bytes(hidden_size: int, weights: Dtype) -> int:
    """RMSNorm keeps its input in float32, and its normalized input in the dtype of the weights."""
    return hidden_size * (4 + _BYTES[weights])
