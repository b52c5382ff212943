"""Reads one choice of a chat completion in the shapes that different servers write: why it ended, and its text.

`FINISH_REASONS` has the spellings of OpenAI, Azure, Anthropic, Gemini, Bedrock, Cohere, Mistral, vLLM, SGLang, TGI,
TensorRT-LLM, llama.cpp, Ollama, LM Studio, xAI, watsonx and Yandex. Case and separators do not matter. A name that is
not in the table is classified by its words, so `output_limit` is a length limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from personahub.core.texts.replies import mark_thinking

Finish = Literal["stop", "length", "filtered", "tool", "failed", "unknown"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FINISH_REASONS: dict[Finish, frozenset[str]] = {
    "stop": _names(
        "stop stopped stop_sequence stop_string stop_string_found stop_token stop_words eos eos_token eos_found end "
        "end_id end_turn end_of_turn end_of_text endoftext pause_turn complete completed done finish finished final "
        "normal success succeeded word unspecified other null none load unload language"
    ),
    "length": _names(
        "length length_limit limit max_tokens max_token max_len max_length max_output_tokens max_new_tokens "
        "max_completion_tokens max_context max_predicted_tokens_reached token_limit context_length context_length_reached "
        "context_length_exceeded context_window_exceeded model_context_window_exceeded model_length error_limit incomplete "
        "not_finished truncated truncated_final time_limit timed_out repetition"
    ),
    "filtered": _names(
        "content_filter content_filtered filtered safety image_safety recitation image_recitation blocklist blocked "
        "blacklist prohibited_content image_prohibited_content spii sensitive refusal refused guardrail "
        "guardrail_intervened moderation flagged policy_violation error_toxic"
    ),
    "tool": _names(
        "tool tool_call tool_calls tool_use function_call function_calls function malformed_function_call "
        "malformed_tool_use unexpected_tool_call too_many_tool_calls"
    ),
    # The server gave up in the middle: the same request may succeed.
    "failed": _names(
        "abort aborted cancel cancelled canceled user_cancel user_stopped error failed interrupted network_error "
        "insufficient_system_resource malformed_response malformed_model_output"
    ),
}
_FINISH_OF: dict[str, Finish] = {name: kind for kind, names in FINISH_REASONS.items() for name in names}
_WORDS: dict[Finish, frozenset[str]] = {  # in order of precedence
    "filtered": _names(
        "filter filtered filtering safety unsafe policy blocked blocklist blacklist prohibited sensitive recitation "
        "guardrail guardrails moderation moderated refusal refused toxic toxicity harm harmful harassment copyright "
        "flagged censored pii spii"
    ),
    "length": _names("max maximum limit limited length len truncated truncation exceeded window budget"),
    "tool": _names("tool tools function functions"),
    "failed": _names("abort aborted error cancelled canceled failed failure interrupted timeout unavailable"),
}
_PREFIX = re.compile("^(?:finish_reason|stop_reason|done_reason|reason|alternative_status)_(?=.)")
# Some servers name the reason differently; vLLM's `stop_reason` is a stop string, so the usual name goes first.
_FINISH_FIELDS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "native_finish_reason")

# Where servers put thinking text that is not in `content`; they may repeat it under several names.
THOUGHT_FIELDS = (
    "reasoning_content",
    "reasoning",
    "reasoning_details",
    "reasoning_text",
    "thinking",
    "thinking_blocks",
    "thinking_content",
    "thought",
    "thoughts",
)
_THOUGHT_WORDS = _names("thinking reasoning thought thoughts think redacted summary")
_TEXT_FIELDS = ("text", "thinking", "reasoning", "reasoning_content", "thought", "summary", "content", "value")
_CONTENT_FIELDS = frozenset({"type", "text", "parts", "content", "value"})


@dataclass
class ModelMessage:
    """What the model wrote in one choice. `text` is the answer without the thinking text."""

    text: str = ""
    thought: str = ""
    refusal: str = ""
    tools: list[Any] = field(default_factory=list)  # tool calls
    skipped: list[str] = field(default_factory=list)  # types of parts that have no text, such as images

    @property
    def marked(self) -> str:
        """The thinking text between markers, and the answer."""
        return mark_thinking(self.thought, self.text) if self.thought else self.text


def finish_of(choice: Mapping[str, Any]) -> tuple[Finish, str]:
    """Return why the choice ended, and the server's name for it. A missing reason counts as `stop`."""
    for name in _FINISH_FIELDS:
        reason = choice.get(name)
        if isinstance(reason, dict):  # SGLang's own API: {"type": "length", "length": 16}
            reason = reason.get("type")
        if reason is not None and reason != "":
            spelled = str(reason)
            kind = _classify(spelled[:200])
            if kind != "unknown" or name == "finish_reason":
                return kind, spelled
    return "stop", ""


@lru_cache(maxsize=256)
def _classify(reason: str) -> Finish:
    name = _snake_case(reason)
    if not name:
        return "stop" if not reason.strip() else "unknown"
    short = _PREFIX.sub("", name)
    known = _FINISH_OF.get(name) or _FINISH_OF.get(short)
    if known is not None:
        return known
    words = set(short.split("_"))
    for kind, hints in _WORDS.items():
        if words & hints:
            return kind
    return "unknown"


def _snake_case(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def read_message(choice: Mapping[str, Any]) -> ModelMessage:
    """Read the message of a choice.

    Raises:
        KeyError, TypeError, AttributeError: the choice has no message, or its content is of an unknown shape.
    """
    message = choice.get("message")
    if message is None:
        message = {"content": choice["text"]}  # the shape of the older completions API
    content = message.get("content")
    if isinstance(content, str) and len(message) == 2 and "role" in message:
        return ModelMessage(content)  # nearly all replies
    read = ModelMessage()
    if isinstance(content, str):
        read.text = content
    elif content is not None:
        _read_parts(read, content)
    for name in THOUGHT_FIELDS:
        if (value := message.get(name)) and (thought := _flatten(value)).strip():
            read.thought = thought if thought not in read.text else read.thought
            break
    refusal = message.get("refusal")
    read.refusal = read.refusal or (_flatten(refusal) if refusal else "")
    read.tools += _listed(message.get("tool_calls")) + _listed(message.get("function_call"))
    return read


def _read_parts(read: ModelMessage, content: Any) -> None:
    """Read `content` that is a list of parts, or a single part."""
    if isinstance(content, dict) and content.keys() & _CONTENT_FIELDS:
        content = _listed(content.get("parts")) or [content]
    if not isinstance(content, list):
        raise TypeError(f"content is a {type(content).__name__}")
    other = ""
    for part in content:
        if isinstance(part, str):
            read.text += part
        elif isinstance(part, dict):
            kind = _snake_case(str(part.get("type") or "text"))
            words = set(kind.split("_"))
            if words & _THOUGHT_WORDS or part.get("thought") is True:
                read.thought += _flatten(part)
            elif "refusal" in words:
                read.refusal += _flatten(part.get("refusal")) or _flatten(part)
            elif words & {"tool", "function"}:
                read.tools.append(part)
            elif "text" in words:
                read.text += _flatten(part)
            elif found := _flatten(part):
                other += found
            else:
                read.skipped.append(kind)
        elif part is not None:
            read.skipped.append(type(part).__name__)
    if not read.text:  # better the text of an unknown part than none
        read.text = other


def _listed(value: Any) -> list[Any]:
    if not value:
        return []
    return value if isinstance(value, list) else [value]


def _flatten(value: Any) -> str:
    """All text in a value of any shape: a string, parts, or parts of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_flatten, value))
    if isinstance(value, dict):
        return next((found for name in _TEXT_FIELDS if (found := _flatten(value.get(name)))), "")
    return ""
