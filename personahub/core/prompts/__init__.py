"""Prompt templates of the student and of the answer judge."""

from __future__ import annotations

from pathlib import Path

PROMPTS = Path(__file__).parent
