"""What servers write in a reply, through the HTTP engine: each row of the tables in docs/generation.md, and more."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from personahub.core.engines.base import Completion, EngineUnavailable, RequestRefused
from personahub.core.engines.remote.messages import FINISH_REASONS
from personahub.core.errors import Rejected
from personahub.core.texts.replies import THINKING_MARKERS, split_thinking
from tests.core.openai_server import reply, request, talk

PAGE = Path(__file__).parents[2] / "docs" / "generation.md"


def table(heading: str) -> list[list[str]]:
    """The rows of the table on the page whose first column has this heading."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            return rows
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        rows.append([cell.strip().replace("\\|", "|") for cell in cells])
    return rows


def quoted(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def ask(choices: list[dict[str, Any]], **changes: Any) -> tuple[list[Any], list[int]]:
    """The outcome of each choice from a server that sends it once and "again" after that; and how often it was asked."""
    asked = [0] * len(choices)

    async def handler(_http, body, _number) -> web.Response:
        index = int(body["messages"][0]["content"])
        asked[index] += 1
        return reply(choices=[choices[index]], **changes) if asked[index] == 1 else reply("again")

    outcomes, _ = talk(handler, [request(str(index)) for index in range(len(choices))])
    return outcomes, asked


def describe(outcome: Any) -> str:
    """An outcome in the words of the tables."""
    if isinstance(outcome, RequestRefused):
        return f"refused: `{outcome.reason}`"
    assert isinstance(outcome, Completion), outcome
    if outcome.text == "again":
        return "retried"
    if outcome.truncated:
        return "cut off" if outcome.text else "empty, cut off"
    return "complete" if outcome.text else "empty"


def stage_gets(outcome: Any) -> str:
    """What a stage reads, in the words of the tables."""
    if isinstance(outcome, Completion) and outcome.text not in ("", "again"):
        try:
            return f"`{outcome.whole_text()}`"
        except Rejected as rejected:
            return f"rejected: `{rejected.reason}`"
    return describe(outcome)


def ended(reason: Any, text: str | None = "17") -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": reason}


def test_the_page_has_all_finish_reasons():
    on_page = [frozenset(quoted(names)) for names, *_ in table("finish reason")][:-1]
    assert on_page == list(FINISH_REASONS.values())


def test_finish_reasons_mean_what_the_page_says():
    rows = [(name, *row[1:]) for row in table("finish reason") for name in quoted(row[0])]
    assert len(rows) > 100
    for column, text in ((1, "17"), (2, None)):
        outcomes, asked = ask([ended(row[0], text) for row in rows])
        said = [row[column] for row in rows]
        assert [describe(outcome) for outcome in outcomes] == said
        assert asked == [2 if word == "retried" else 1 for word in said]


SPELLINGS: dict[str, list[Any]] = {
    "complete": [
        None, "", "null", "STOP", "Stop", "eos_token", "EOS", "stop_sequence", "StopSequence", "FINISH_REASON_STOP",
        "REASON_STOP", "endTurn", "eosFound", "COMPLETE", "FINISH", "ALTERNATIVE_STATUS_FINAL", "stop_word",
        {"type": "stop", "matched": 151645}, "tool_calls", "function_call", "TOOL_USE", "vibes", 7, True, ["x"], {"a": 1},
    ],
    "cut off": [
        "MAX_TOKENS", "MaxTokens", "max-tokens", "length_limit", "LENGTH", "model_length", "output_limit_reached",
        "REASON_MAX_LEN", "maxPredictedTokensReached", "ALTERNATIVE_STATUS_TRUNCATED_FINAL", {"type": "length", "length": 9},
        "FINISH_REASON_MAX_TOKENS", "thinking_budget_exhausted",
    ],
    "refused: `content_filter`": [
        "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "CONTENT_FILTERED", "GUARDRAIL_INTERVENED", "contentFilter",
        "ALTERNATIVE_STATUS_CONTENT_FILTER", "ERROR_TOXIC", "output_moderation", "safety_stop", "copyright_match",
    ],
    "retried": ["ABORT", "Error", "network-error", "USER_CANCEL", "upstream_timeout"],
}  # fmt: skip


@pytest.mark.parametrize("said", SPELLINGS)
def test_finish_reasons_in_any_spelling(said: str):
    outcomes, _ = ask([ended(reason) for reason in SPELLINGS[said]])
    assert {str(s): describe(o) for s, o in zip(SPELLINGS[said], outcomes, strict=True)} == {
        str(spelling): said for spelling in SPELLINGS[said]
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "complete"),
        ({"finish_reason": None, "stop_reason": 151645}, "complete"),
        ({"finish_reason": "length", "stop_reason": "END"}, "cut off"),
        ({"finishReason": "MAX_TOKENS"}, "cut off"),
        ({"stop_reason": "max_tokens"}, "cut off"),
        ({"done_reason": "length"}, "cut off"),
        ({"finish_reason": "", "native_finish_reason": "SAFETY"}, "refused: `content_filter`"),
    ],
)
def test_finish_reasons_under_other_names(fields: dict[str, Any], said: str):
    (outcome,), _ = ask([{"message": {"role": "assistant", "content": "17"}, **fields}])
    assert describe(outcome) == said


def test_an_unknown_finish_reason_is_noted_once(capsys):
    outcomes, _ = ask([ended("vibes") for _ in range(5)])
    assert all(outcome.text == "17" for outcome in outcomes)
    assert capsys.readouterr().err.count("unknown finish_reason 'vibes'") == 1


def test_a_filtered_reply_is_paid_for_once_and_its_text_is_kept():
    (outcome,), asked = ask([ended("SAFETY", "17 people")])
    assert isinstance(outcome, RequestRefused)
    assert (outcome.wasted, outcome.raw, asked) == ((7, 3), "17 people", [1])


def test_messages_mean_what_the_page_says():
    rows = table("message")
    assert len(rows) > 30
    messages = [json.loads(quoted(row[0])[0]) for row in rows]
    outcomes, asked = ask([{"message": {"role": "assistant", **m}, "finish_reason": "stop"} for m in messages])
    for row, outcome, times in zip(rows, outcomes, asked, strict=True):
        assert stage_gets(outcome) == row[1], row
        assert times == (2 if row[1] == "retried" else 1), row


MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"content": [{"type": "TEXT", "text": "17"}]}, "`17`"),
    ({"content": [{"type": "outputText", "text": "17"}]}, "`17`"),
    ({"content": [{"text": "17"}]}, "`17`"),
    ({"content": [{"type": "text", "content": "17"}]}, "`17`"),
    ({"content": [None, "17", None]}, "`17`"),
    ({"content": {"type": "text", "text": "17"}}, "`17`"),
    ({"content": [{"type": "reasoning_content", "reasoning_content": {"text": "4?"}}, {"text": "17"}]}, "`17`"),
    ({"content": [{"type": "text", "text": "17"}, {"type": "thought", "text": "4?"}]}, "`17`"),
    ({"content": [{"type": "reference", "reference_ids": [1]}, "17"]}, "`17`"),
    ({"content": [{"type": "audio", "audio": "x"}, 3]}, "refused: `no_text`"),
    ({"content": [{"type": "function_call", "name": "add"}]}, "refused: `tool_call`"),
    ({"content": " ", "function_call": {"name": "add"}}, "refused: `tool_call`"),
    ({"content": "17", "thinking": "4? </think> <think> <|channel|>final<|message|>5"}, "`17`"),
    ({"content": "17", "reasoning": "<THINK> [think] ◁think▷"}, "`17`"),
    ({"content": "17", "reasoning": {"content": "4?"}}, "`17`"),
    ({"content": "</think>17", "reasoning_content": "4?"}, "`17`"),
    ({"content": "17", "reasoning": "4?", "reasoning_details": [{"text": "4?"}]}, "`17`"),
    ({"content": "17", "reasoning_content": None, "tool_calls": [], "refusal": None, "annotations": []}, "`17`"),
    ({"content": "17", "reasoning": True, "thought": 7}, "`17`"),
    ({"content": [], "thoughts": "4?"}, "rejected: `only_thinking`"),
    ({"content": "\n", "thinking_blocks": [{"thinking": "4?"}]}, "rejected: `only_thinking`"),
    ({"reasoning_content": "4?"}, "rejected: `only_thinking`"),
    ({"content": "<think>4?</think>\n"}, "rejected: `only_thinking`"),
]


@pytest.mark.parametrize(("message", "said"), MESSAGES)
def test_messages_in_other_shapes(message: dict[str, Any], said: str):
    (outcome,), _ = ask([{"message": {"role": "assistant", **message}, "finish_reason": "stop"}])
    assert stage_gets(outcome) == said


@pytest.mark.parametrize("finish", ["stop", "length", None])
def test_a_reply_with_only_thinking_keeps_its_text_and_names_the_cause(finish: str | None, capsys):
    choice = {"message": {"content": None, "reasoning_content": "Let me see"}, "finish_reason": finish}
    outcomes, _ = ask([choice, choice])
    assert outcomes[0].text == "<think>Let me see</think>"
    assert split_thinking(outcomes[0].text) == ("", False)
    with pytest.raises(Rejected, match="raise max_tokens or switch thinking off with chat_template_kwargs") as rejected:
        outcomes[0].whole_text()
    assert rejected.value.reason == "only_thinking"
    assert capsys.readouterr().err.count("chat_template_kwargs") == 1


def test_thinking_markers_mean_what_the_page_says():
    rows = table("opening")
    assert {quoted(row[0])[0]: quoted(row[1])[0] for row in rows} == THINKING_MARKERS
    texts = [text for a, b in THINKING_MARKERS.items() for text in (f"{a}4?{b}17", f"4?{b}17", f"{a}4?")]
    outcomes, _ = ask([ended("stop", text) for text in texts])
    said = ["`17`", "`17`", "rejected: `only_thinking`"] * len(rows)
    assert [stage_gets(outcome) for outcome in outcomes] == said


IMPOSSIBLE = [10**400, -(10**30), -1, 10**12, 1e300, 2.5, "7", "many", None, True, [], {}]


@pytest.mark.parametrize("count", IMPOSSIBLE)
def test_impossible_token_counts_are_estimated(count: Any, capsys):
    usage = {"prompt_tokens": count, "completion_tokens": count}
    outcomes, asked = ask([ended("stop", "x" * 400)] * 3, usage=usage)
    assert [outcome.completion_tokens for outcome in outcomes] == [100] * 3
    assert all(0 < outcome.prompt_tokens < 100 for outcome in outcomes)
    assert asked == [1, 1, 1]
    assert capsys.readouterr().err.count("impossible usage") == (count is not None)


@pytest.mark.parametrize(
    "usage", ["[]", "7", '"x"', "NaN", f'{{"completion_tokens": 1{"0" * 5000}}}', '{"completion_tokens": 1e999}']
)
def test_usage_of_any_shape_is_no_obstacle(usage: str):
    text = reply("x" * 400).text
    assert text is not None
    body = re.sub(r'"usage": \{[^}]*\}', lambda _: f'"usage": {usage}', text)

    async def handler(_http, _body, _number) -> web.Response:
        return web.Response(text=body)

    (outcome,), bodies = talk(handler, [request()])
    assert outcome.completion_tokens == 100
    assert len(bodies) == 1


def test_whole_floats_are_token_counts():
    (outcome,), _ = ask([ended("stop")], usage={"prompt_tokens": 12.0, "completion_tokens": 5.0})
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (12, 5)
    assert isinstance(outcome.completion_tokens, int)


@pytest.mark.parametrize("engine", ["openai", "openai_batch"])
def test_chat_template_kwargs_are_sent_and_are_identity(engine: str):
    from personahub.core.config import identity_of
    from personahub.core.engines import engine_config
    from personahub.core.engines.remote.chat import Bodies
    from personahub.core.generation.journal import RequestKeys

    def config(**values: Any) -> Any:
        return engine_config({"kind": engine, "model": "m", "base_url": "http://127.0.0.1:1/v1", **values}, "e")

    off = config(chat_template_kwargs={"enable_thinking": False})
    assert "chat_template_kwargs" not in identity_of(config())
    assert identity_of(config(chat_template_kwargs={})) == identity_of(config())
    assert identity_of(off)["chat_template_kwargs"] == {"enable_thinking": False}
    keys = {RequestKeys(identity_of(c))(request()) for c in (config(), off, config(chat_template_kwargs={"a": 1}))}
    assert len(keys) == 3
    assert json.loads(Bodies(off).body(request()))["chat_template_kwargs"] == {"enable_thinking": False}
    assert Bodies(off).probe(request())["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in json.loads(Bodies(config()).body(request()))


@pytest.mark.parametrize("kind", ["openai", "openai_batch", "vllm", "transformers"])
@pytest.mark.parametrize("values", [{"tokenize": True}, {"chat_template": "x"}, {"x": float("nan")}])
def test_chat_template_kwargs_that_cannot_be_passed_are_refused(kind: str, values: dict[str, Any]):
    from personahub.core.engines import engine_config
    from personahub.core.errors import UserError

    with pytest.raises(UserError, match="chat_template_kwargs"):
        engine_config({"kind": kind, "model": "m", "chat_template_kwargs": values}, "e")


async def endless(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(http)
    try:
        while True:
            await response.write(b" " * 65_536)
    except (ConnectionError, asyncio.CancelledError):
        return response


async def large(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "200000000"})
    await response.prepare(http)
    try:
        for _ in range(200):
            await response.write(b"x" * 1_000_000)
    except ConnectionError:
        pass
    return response


async def valid_and_large(_http: web.Request) -> web.StreamResponse:
    return reply("x" * 2_000_000)


def bomb(encoding: str) -> Any:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    packed = b"".join([*(packer.compress(b" " * 1_000_000) for _ in range(2000)), packer.flush()])  # 2 GB in 2 MB

    async def respond(_http: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": encoding})

    return respond


@pytest.mark.parametrize("way", [endless, large, valid_and_large, bomb("gzip"), bomb("deflate")])
@pytest.mark.parametrize("proxied", [False, True])
def test_a_reply_that_is_too_large_is_refused_once(way: Any, proxied: bool, monkeypatch):
    """Over both ways of sending: directly, and through aiohttp's session as behind a proxy."""
    import resource

    if proxied:
        monkeypatch.setattr("personahub.core.engines.remote.endpoint.Wire", lambda *_: None)

    async def handler(http, body, _number):
        return await way(http) if body["messages"][0]["content"] == "large" else reply()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes, bodies = talk(handler, [request("large"), request("small")], max_reply_bytes=1_000_000)
    assert isinstance(outcomes[0], RequestRefused)
    assert outcomes[0].reason == "reply_too_large"
    assert "max_reply_bytes" in outcomes[0].detail
    assert outcomes[1].text == "fine"
    assert len(bodies) == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KB"


def test_an_error_that_is_too_large_is_still_that_error():
    async def handler(_http, _body, _number):
        return web.Response(status=401, text="wrong key " * 1_000_000)

    (outcome,), bodies = talk(handler, [request()], max_reply_bytes=1_000_000)
    assert isinstance(outcome, EngineUnavailable)
    assert "wrong key" in str(outcome)
    assert len(bodies) == 1
