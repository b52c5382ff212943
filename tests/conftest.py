"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the real data sets (MATH, GSM8K, web text, personas); skips where it is missing."""
    spec = importlib.util.spec_from_file_location("local_data", REPOSITORY / "tests" / "local_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.local_data()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set PERSONAHUB_TEST_DATA")
    return folder
