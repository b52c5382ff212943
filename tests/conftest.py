"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the real data sets (MATH, GSM8K, web text, personas); skips where it is missing."""
    folder = Path(os.environ.get("PERSONAHUB_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set PERSONAHUB_TEST_DATA")
    return folder
