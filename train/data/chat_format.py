"""Converts messages to tokens and labels.

A problem and its solution are rendered with the tokenizer's chat template twice: as the prompt, up to the start of the
assistant's turn, and as the whole conversation. The difference is what the model should say, including the end-of-turn
token, and only this part has labels. Prompt and completion are tokenized separately, so the prompt has the same tokens in
training as at inference, whatever the completion begins with.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from personahub.core.errors import Rejected, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label of tokens without loss, as in torch.nn.functional.cross_entropy

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# Renders the same text as the chat template published with Qwen2: ChatML with a default system message.
CHATML_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for turn in messages -%}
{{- '<|im_start|>' ~ turn['role'] ~ '\\n' ~ turn['content'] ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

_DATE_FORMATS = ("%d %b %Y", "%d %B %Y", "%Y-%m-%d", "%B %d, %Y", "%b %d, %Y", "%d/%m/%Y", "%m/%d/%Y")
Messages = Sequence[dict[str, str]]


def fix_values(template: str, values: Mapping[str, Any]) -> str:
    """Returns a chat template with the values set.

    Everyone who loads it then uses them.

    Raises:
        UserError: a value is not text, a number, true, false or null.
    """
    lines = []
    for name, value in values.items():
        if not name.isidentifier() or not isinstance(value, (str, int, float, bool, type(None))):
            raise UserError(f"model.chat_template_kwargs.{name}: {value!r} is not text, a number, true, false or null")
        lines.append(f"{{%- set {name} = {'none' if value is None else json.dumps(value)} -%}}")
    return "".join(lines) + template


@dataclass(frozen=True)
class Example:
    """One training example. `labels` equals `input_ids` on the completion and IGNORED on the prompt."""

    input_ids: list[int]
    labels: list[int]


class ChatFormat:
    """Encodes conversations for one tokenizer.

    Args:
        tokenizer: a tokenizer with a chat template.
        eos_token: the token that ends the model's turn, and generation.

    Raises:
        UserError: the tokenizer has no chat template, or lacks the end-of-turn token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_token: str) -> None:
        if not tokenizer.chat_template:
            raise UserError("the base model's tokenizer has no chat template; set model.chat_template to a Jinja file")
        if eos_token not in tokenizer.get_vocab():
            raise UserError(f"sft.eos_token: {eos_token!r} is not a token of the base model")
        self._tokenizer = tokenizer
        self._eos_token = eos_token
        self._eos_id = tokenizer.convert_tokens_to_ids(eos_token)
        special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(re.escape(token) for token in special)) if special else None

    def encode(self, conversations: Sequence[tuple[Messages, Messages]]) -> list[Example | Rejected]:
        """Encodes (prompt, completion) pairs, or returns why a pair cannot be used.

        Raises:
            UserError: the template changes a prompt when a completion is added, drops a part of the completion, writes
                today's date, or does not end the assistant's turn with the EOS token.
        """
        results: list[Example | Rejected] = []
        rendered = [self._render(prompt, completion) for prompt, completion in conversations]
        texts = [text for pair in rendered if not isinstance(pair, Rejected) for text in pair]
        ids = iter(self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else [])
        for pair in rendered:
            if isinstance(pair, Rejected):
                results.append(pair)
                continue
            prompt_ids, completion_ids = next(ids), next(ids)
            if self._eos_id not in completion_ids:
                raise UserError(
                    f"the chat template ends a turn with {pair[1][-20:]!r} instead of {self._eos_token!r}, so the "
                    "model would not learn to stop; set sft.eos_token to the token that ends a turn"
                )
            results.append(Example(prompt_ids + completion_ids, [IGNORED] * len(prompt_ids) + completion_ids))
        return results

    def _render(self, prompt: Messages, completion: Messages) -> tuple[str, str] | Rejected:
        turns = [*prompt, *completion]
        if not any(turn["content"].strip() for turn in completion):
            return Rejected("empty_completion")
        # A web page or a model may spell out a special token, which would become that token.
        if self._special and (found := next(filter(None, (self._special.search(t["content"]) for t in turns)), None)):
            return Rejected("special_token_in_text", found.group())
        before = self._template(list(prompt), add_generation_prompt=True)
        whole = self._template(turns, add_generation_prompt=False)
        if not whole.startswith(before):
            raise UserError(
                "the chat template renders a prompt differently when an answer follows, so prompts in training would "
                "differ from those at inference; set model.chat_template to a simpler template"
            )
        self._check_completion(completion, whole[len(before) :])
        self._check_date(before)
        return before, whole[len(before) :]

    def _check_completion(self, completion: Messages, rendered: str) -> None:
        """Rejects templates that drop a part of the completion, such as the text before `</think>`."""
        rendered = "".join(rendered.split())
        for turn in completion:
            if turn["role"] == "assistant" and "".join(turn["content"].split()) not in rendered:
                raise UserError(
                    "the chat template drops or rewrites a part of the completion "
                    f"{turn['content'][:60]!r}..., which would not be trained on; set model.chat_template to a template that "
                    "keeps it, or remove the part from the data (synth.sft_data: keep_thinking: false)"
                )

    def _check_date(self, prompt: str) -> None:
        """Raises a UserError if the chat template writes today's date into the prompt."""
        if "strftime_now" not in str(self._tokenizer.chat_template):
            return
        today = datetime.date.today()
        written = next((text for form in _DATE_FORMATS if (text := today.strftime(form)) in prompt), None)
        if written is not None:
            raise UserError(
                f"the chat template writes today's date ({written}) into the prompt, so training would differ from day to "
                "day; fix it with model.chat_template_kwargs, for example {date_string: 26 Jul 2024}"
            )

    def _template(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
        text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=add_generation_prompt, tokenize=False)
        return str(text)
