"""Prompt templates of the synthesis stages."""

from __future__ import annotations

from pathlib import Path

PROMPTS = Path(__file__).parent
