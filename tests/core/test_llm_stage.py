"""Records and forecasts of a stage made of prompts, parse, record and forecast."""

from __future__ import annotations

from personahub.core.forecast import Requests
from personahub.core.generation.llm_stage import CHARS_PER_TOKEN, estimate_tokens, forecast_requests
from personahub.core.template import Message


def test_tokens_are_estimated_from_the_characters_of_all_messages() -> None:
    messages = [Message(role="system", content="x" * 30), Message(role="user", content="x" * 13)]
    assert estimate_tokens(messages) == 43 // CHARS_PER_TOKEN


def test_requests_of_one_engine_are_added_up() -> None:
    groups = [("teacher", 10, 100, 7), ("judge", 2, 50, 1), ("teacher", 5, 20, 3)]
    assert forecast_requests(*groups) == {"teacher": Requests(15, 1100, 85), "judge": Requests(2, 100, 2)}
