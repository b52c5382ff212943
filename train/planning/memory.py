"""Computes parameters, memory and FLOPs of full or LoRA fine-tuning of a decoder.

Everything here is arithmetic on the shape of the model; nothing is loaded. Symbols in the formulas: V vocabulary,
d hidden size, i intermediate size, L layers, k = num_kv_heads * head size, N parameters, T tokens on one device in one
forward pass, s sequence length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from personahub.core.errors import UserError


@dataclass(frozen=True)
class ModelShape:
    """Shape of a Qwen2-like decoder. Grouped-query attention with biases on q, k, v, and a gated MLP."""

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
        """Width of the keys and of the values: k."""
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
        """Returns the parameters that multiply every token. This is N without the input embedding, a lookup."""
        return self.parameters - (0 if self.tied_embeddings else self.vocab_size * self.hidden_size)

    def adapter_parameters(self, rank: int, targets: str | Sequence[str] | None = None) -> int:
        """Returns the parameters of LoRA: rank * (inputs + outputs) of every adapted matrix.

        Args:
            rank: r.
            targets: PEFT's `target_modules`: names of projections, `all-linear` for all seven, or None for PEFT's default
                for Qwen2, which is q and v.
        """
        d, k, i = self.hidden_size, self.kv_size, self.intermediate_size
        sides = {
            "q_proj": 2 * d,
            "k_proj": d + k,
            "v_proj": d + k,
            "o_proj": 2 * d,
            "gate_proj": d + i,
            "up_proj": d + i,
            "down_proj": d + i,
        }
        names = sides if targets == "all-linear" else targets or ("q_proj", "v_proj")
        return self.num_layers * rank * sum(sides[name] for name in names if name in sides)

    def training_flops(self, tokens: float, sequence_length: float, trains_all: bool = True) -> float:
        """Returns the FLOPs of training on `tokens`.

        Recomputation for checkpointing is not included. Per token there are 6 * multiplied parameters (2 forward, 4
        backward; Kaplan et al. 2020, arXiv 2001.08361, section 2.1), plus 6*L*d*s for attention, because a token
        attends to s/2 others on average. With LoRA the frozen weights have no gradient, so the factor is 4 instead of
        6.

        Args:
            tokens: total number of tokens, without padding.
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
    """Returns the shape of a published Qwen2 model by name, or None for other names."""
    parts = hub_name.removeprefix("Qwen/").split("-")
    if parts[0] not in ("Qwen2", "Qwen2.5"):
        return None
    return next((_SHAPES[part] for part in parts[1:] if part in _SHAPES), None)


def shape_of_folder(folder: str | Path) -> ModelShape | None:
    """Reads the shape of the model in `folder`.

    Returns None if its architecture is not Qwen2's.

    Raises:
        UserError: the folder has no model.
    """
    try:
        values = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: not a model folder: it has no config.json") from None
    except ValueError as error:
        raise UserError(f"{folder}/config.json: not JSON: {error}") from None
    return shape_of_config(values)


def shape_of_config(values: Any) -> ModelShape | None:
    """Reads the shape from a config.json's values. Returns None if a value of Qwen2's config is missing."""
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


# TRL's fused head computes the logits in tiles (trl.kernels.chunked_logprob), in a buffer of this size for any
# vocabulary. Without Triton it makes float32 copies of a tile: at most seven and a byte mask at a time.
_HEAD_TOKENS, _HEAD_WIDTH = 4096, 32_768
_HEAD_TEMPORARIES = 7 * 4 + 1


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that determines the memory, apart from the shape.

    Attributes:
        weights: dtype of the weights, their gradients and the optimizer's moments. Adapters are always float32 (PEFT's
            `autocast_adapter_dtype`).
        optimizer: a name of transformers' `optim`.
        tokens_per_device: T, including padding.
        checkpointing: whether the backward pass recomputes activations.
        shards: number of devices that share weights, gradients and optimizer (FSDP, ZeRO-3).
        trained_parameters: None for all; with LoRA the parameters of the adapter.
        adapted: names of the matrices that LoRA adapts, as in `adapter_parameters`.
        autocast: float32 weights with bf16 matrix products: exact updates at the speed of bf16.
        triton: whether the fused head runs as Triton kernels (CUDA) or as torch operations (CPU).
    """

    weights: Dtype = "float32"
    optimizer: str = "adamw_torch_fused"
    tokens_per_device: int = 8192
    checkpointing: bool = True
    shards: int = 1
    trained_parameters: int | None = None
    adapted: str | Sequence[str] | None = None
    autocast: bool = True
    triton: bool = True

    @property
    def casts(self) -> bool:
        """Whether autocast changes any dtype."""
        return self.autocast and self.weights == "float32"

    @property
    def compute_bytes(self) -> int:
        """Bytes of an element in a matrix product."""
        return 2 if self.casts else _BYTES[self.weights]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device, by component.

    Attributes:
        weights: weights of the model and of the adapter.
        optimizer: state of the optimizer.
        gradients: all gradients, at the end of the backward pass.
        copies: bf16 copies of float32 weights that autocast makes for the backward pass.
        activations: all activations, at the start of the backward pass.
        head: memory for the loss and the gradient of its logits, one tile at a time.
        layer: one recomputed layer, or the last remaining one: its activations and bf16 copies.
        gathered: whole layers that sharded training holds temporarily.
        total: the peak, see `plan_memory`.
    """

    weights: float
    optimizer: float
    gradients: float
    copies: float
    activations: float
    head: float
    layer: float
    gathered: float
    total: float

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "optimizer": self.optimizer,
            "gradients": self.gradients,
            "bf16 copies": self.copies,
            "activations": self.activations,
            "one layer": self.layer,
            "logits and their gradients": self.head,
            "gathered layers": self.gathered,
        }
        shown = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items() if size >= 5e7)
        return f"{self.total / 1e9:.1f} GB per GPU at the peak (not all at once: {shown})"


def plan_memory(shape: ModelShape, setup: TrainingSetup) -> MemoryPlan:
    """Plans the memory of a training step on each device.

    Weights and optimizer are always in memory. The rest is the maximum over these moments:

    * the end of the forward pass: copies, activations, a tile of logits;
    * the backward pass of the loss: activations (and, without checkpointing, copies), the head;
    * the backward pass of the last layer: with checkpointing it has just been recomputed, and the gradient of the head
      is in memory;
    * the end of the backward pass of the first layer: all gradients, and that layer; if the embeddings are tied, their
      two gradients before they are added.

    In between, gradients grow while activations shrink. Sharded training holds two whole layers at a time in bf16: the
    one in use and the one being fetched. The plan does not include the CUDA context (about 0.5 GB) and fragmentation of
    the allocator.
    """
    weight_bytes = _BYTES[setup.weights]
    lora = setup.trained_parameters is not None
    trained = setup.trained_parameters if setup.trained_parameters is not None else shape.parameters
    added = 4 * trained if lora else 0  # the adapter is in addition to the weights
    grad_bytes = 4 if lora else weight_bytes
    table = shape.vocab_size * shape.hidden_size

    layer = _layer_bytes(shape, setup) * setup.tokens_per_device + (2.0 * shape.layer_parameters if setup.casts else 0)
    kept = activation_bytes(shape, setup)
    copies = 2.0 * shape.multiplied_parameters if setup.casts and setup.shards == 1 else 0.0
    head = _head_bytes(shape, setup)
    head_gradient = 0.0 if lora else float(weight_bytes * table)
    gradients = grad_bytes * trained / setup.shards
    tied = float(weight_bytes * table) if shape.tied_embeddings and not lora else 0.0
    buffer = _tile_bytes(shape, setup)
    # Autocast keeps copies of trained weights until the forward pass ends. It casts frozen weights each time.
    forward = (0.0 if lora and setup.checkpointing else copies) + kept + buffer
    differentiated = kept + (0.0 if setup.checkpointing else copies) + head
    last_layer = kept + head_gradient + (layer if setup.checkpointing else copies)
    moments = (forward, differentiated, last_layer, gradients + max(layer, tied))

    weights = (weight_bytes * shape.parameters + added) / setup.shards
    optimizer = optimizer_bytes(setup.optimizer, grad_bytes) * trained / setup.shards
    gathered = 2.0 * 2 * shape.layer_parameters if setup.shards > 1 else 0.0
    return MemoryPlan(
        weights=weights,
        optimizer=optimizer,
        gradients=gradients,
        copies=copies,
        activations=kept,
        head=head,
        layer=layer,
        gathered=gathered,
        total=weights + optimizer + gathered + max(moments),
    )


def _tile_bytes(shape: ModelShape, setup: TrainingSetup) -> float:
    """Returns the bytes of a tile of logits. Without Triton, float32 copies are added to the buffer."""
    tokens, width = min(setup.tokens_per_device, _HEAD_TOKENS), min(shape.vocab_size, _HEAD_WIDTH)
    copies = 0 if setup.triton else _HEAD_TEMPORARIES // 2 * tokens * width
    return float(setup.compute_bytes * tokens * _HEAD_WIDTH + copies)


def _head_bytes(shape: ModelShape, setup: TrainingSetup) -> float:
    """Returns the bytes of the logits' backward pass. A tile and the float32 gradients of the head and its input."""
    tokens, width = min(setup.tokens_per_device, _HEAD_TOKENS), min(shape.vocab_size, _HEAD_WIDTH)
    tile = setup.compute_bytes * tokens * _HEAD_WIDTH + (0 if setup.triton else _HEAD_TEMPORARIES * tokens * width)
    gradient = 0 if setup.trained_parameters is not None else 4 * shape.vocab_size * shape.hidden_size
    return float(tile + gradient + 4 * setup.tokens_per_device * shape.hidden_size)


def optimizer_bytes(optimizer: str, weight_bytes: int) -> float:
    """Returns the bytes of optimizer state per trained parameter.

    AdamW keeps two moments, Lion one. torch keeps them in the dtype of the weights. bitsandbytes keeps them in four bytes,
    or its 8-bit variants in one byte with a float32 scale for each block of 256 (Dettmers et al. 2022, arXiv 2110.02861).
    Adafactor keeps sums of rows and columns, which are negligible.

    Raises:
        UserError: the state of the optimizer is not known.
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
    """Returns bytes kept by a forward pass over T tokens, with flash or sdpa attention.

    Without checkpointing: every layer (see `_layer_bytes`) and the final norm. With checkpointing: the residual stream
    at the input of each layer, and the final norm.
    """
    d, tokens = shape.hidden_size, setup.tokens_per_device
    layer = d * _BYTES[setup.weights] if setup.checkpointing else _layer_bytes(shape, setup)
    return float(tokens * (layer * shape.num_layers + _norm_bytes(d, setup.weights)))


def _layer_bytes(shape: ModelShape, setup: TrainingSetup) -> int:
    """Returns the bytes per token that autograd keeps for a layer.

    Counted in transformers' Qwen2, by tensor. An element of a matrix product takes c bytes. Autograd keeps two norms;
    the inputs of trained matrices, which take 2*c*d, or 5*c*d under autocast, which casts separately for each of q,
    k, v, gate and up; rotated q and the output of the attention, 2*c*d; k and v, 2*c*k; gate, up and the activation,
    3*c*i; and the product of the last two, which is the input of down, another c*i. Under LoRA only the adapters need
    inputs: c times the input width of each adapted matrix (q and v by default), cast for each.
    """
    d, i, c = shape.hidden_size, shape.intermediate_size, setup.compute_bytes
    if setup.trained_parameters is None:
        inputs = c * d * (5 if setup.casts else 2) + c * i
    else:
        all_linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        names = all_linear if setup.adapted == "all-linear" else setup.adapted or ("q_proj", "v_proj")
        inputs = sum(c * (i if name == "down_proj" else d) for name in names)
    return 2 * _norm_bytes(d, setup.weights) + inputs + 2 * c * d + 2 * c * shape.kv_size + 3 * c * i


def _norm_bytes(hidden_size: int, weights: Dtype) -> int:
    """Returns the bytes of RMSNorm's saved inputs. One is float32, the normalized one in the weights' dtype."""
    return hidden_size * (4 + _BYTES[weights])
