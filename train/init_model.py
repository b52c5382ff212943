"""Creates a small Qwen2 model with random weights and a tokenizer of its own.

This is for runs without a GPU and without a download, such as the quickstart. The tokenizer is a byte-level BPE with
Qwen2's pre-tokenization (every digit is one token), trained on the training split only. The weights are drawn from the
seed. The artifact's `model/` loads like any model from the hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.stage import Stage
from train.data.chat_format import CHATML_TEMPLATE, END_OF_TEXT, TURN_END, TURN_START
from train.planning.memory import ModelShape
from train.trainer.environment import silence_progress_bars, stay_offline
from train.trainer.model_files import greedy_generation, publish, save_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERSION = "1"
INPUTS = ("data",)

_MIN_VOCABULARY = 256 + 3  # all bytes and the special tokens


class Config(StageConfig):
    """Shape of the model, with the names of transformers' Qwen2Config."""

    vocab_size: int = Field(
        default=2048, ge=_MIN_VOCABULARY, description="Maximum size; small data gives fewer tokens."
    )
    hidden_size: int = Field(default=128, gt=0)
    intermediate_size: int = Field(default=512, gt=0)
    num_hidden_layers: int = Field(default=4, gt=0)
    num_attention_heads: int = Field(default=4, gt=0)
    num_key_value_heads: int = Field(default=2, gt=0)
    max_position_embeddings: int = Field(default=1024, gt=0)
    tie_word_embeddings: bool = True
    initializer_range: float = Field(default=0.02, gt=0)

    @model_validator(mode="after")
    def _check_divisible(self) -> Config:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError("hidden_size must be an even multiple of num_attention_heads")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self

    def shape(self) -> ModelShape:
        """Returns the shape for the memory plan."""
        return ModelShape(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_hidden_layers,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.num_key_value_heads,
            tied_embeddings=self.tie_word_embeddings,
        )


def run(stage: Stage[Config]) -> None:
    """Trains the tokenizer, draws the weights and saves both as `model/`."""
    stay_offline()
    silence_progress_bars()
    data = stage.input("data")
    tokenizer, characters = _train_tokenizer(data, stage.config.vocab_size)
    model = _random_model(stage.config, tokenizer)
    card = _model_card(stage, model.num_parameters())
    publish(stage.path, lambda folder: save_model(folder, model, tokenizer, card))
    text = "\n".join(_texts(data, limit=1000))
    stage.report(
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        characters_per_token=round(len(text) / len(tokenizer(text)["input_ids"]), 3),
        trained_on_characters=characters,
    )


def forecast(config: Config, _rows_in: Mapping[str, int]) -> Forecast:
    """Forecasts the size of the model."""
    parameters = config.shape().parameters
    return Forecast(rows_out=0, disk_bytes=4 * parameters, notes=(f"{parameters:,} parameters, random weights",))


def _train_tokenizer(data: Artifact, vocab_size: int) -> tuple[PreTrainedTokenizerBase, int]:
    from transformers import Qwen2Tokenizer

    characters = 0

    def counted() -> Iterator[str]:
        nonlocal characters
        for text in _texts(data):
            characters += len(text)
            yield text

    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        counted(), vocab_size=vocab_size, new_special_tokens=[TURN_START, TURN_END], show_progress=False
    )
    if not characters:
        raise UserError(f"{data.path}: no record has split 'train', so there is nothing to train a tokenizer on")
    tokenizer.chat_template = CHATML_TEMPLATE
    tokenizer.eos_token, tokenizer.pad_token = TURN_END, END_OF_TEXT
    return tokenizer, characters


def _texts(data: Artifact, limit: int | None = None) -> Iterator[str]:
    """Yields the text between special tokens of each rendered training conversation.

    The text is rendered so that role names and the template's default system message also become whole tokens.
    """
    from transformers import Qwen2Tokenizer

    renderer = Qwen2Tokenizer()
    rows = (row for row in data.rows(["split", "prompt", "completion"]) if row["split"] == "train")
    for row in islice(rows, limit):
        turns = [*row["prompt"], *row["completion"]]
        text = renderer.apply_chat_template(turns, chat_template=CHATML_TEMPLATE, tokenize=False)
        yield str(text).replace(TURN_START, "").replace(TURN_END, "")


def _random_model(config: Config, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

    vocabulary = tokenizer.get_vocab()
    set_seed(config.seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            max_position_embeddings=config.max_position_embeddings,
            tie_word_embeddings=config.tie_word_embeddings,
            initializer_range=config.initializer_range,
            eos_token_id=vocabulary[TURN_END],
            pad_token_id=vocabulary[END_OF_TEXT],
        )
    )
    model.generation_config = greedy_generation(tokenizer, [vocabulary[END_OF_TEXT]])
    return model


def _model_card(stage: Stage[Config], parameters: int) -> str:
    data = stage.input("data")
    return (
        f"# Untrained {parameters / 1e6:.2f}M-parameter Qwen2 model\n\n"
        f"Random weights (seed {stage.config.seed}) and a byte-level BPE tokenizer trained on the training split of "
        f"`{data.name}` (fingerprint `{data.fingerprint}`). It is a starting point for training and cannot generate useful text.\n"
    )
