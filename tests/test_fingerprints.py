"""No change makes a finished run stale unless a stage's VERSION says so."""

from __future__ import annotations

import json

import pytest

from tests.fingerprints import CONFIGS, RECORDED, ROOT, fingerprints


@pytest.mark.parametrize("config", CONFIGS)
def test_fingerprints_are_those_on_record(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert fingerprints(config) == recorded[config], (
        "raise the VERSION of the stages that changed, say why in CHANGELOG.md, then run python -m tests.fingerprints"
    )
