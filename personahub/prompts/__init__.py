"""Prompt templates of the persona stages."""

from __future__ import annotations

from pathlib import Path

PROMPTS = Path(__file__).parent
