"""Fingerprints of every stage of three configs, as recorded in tests/data/fingerprints.json.

A fingerprint that changes makes finished runs stale, so a refactoring must change none. Where a stage's
`VERSION` was raised for a reason, which CHANGELOG.md names, record them again:

    python -m tests.fingerprints
"""

from __future__ import annotations

import json
from pathlib import Path

from personahub.core.experiments.experiment import load_experiment

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests/data/fingerprints.json"
CONFIGS = ("quickstart", "ablation_persona", "usecases")


def fingerprints(config: str) -> dict[str, str]:
    """Fingerprint by stage name of one of the configs in `configs/`."""
    experiment = load_experiment(ROOT / "configs" / f"{config}.yaml")
    return {stage.name: stage.fingerprint for stage in experiment.stages.values()}


def main() -> None:
    """Print what changed and write the new record."""
    old = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    new = {config: fingerprints(config) for config in CONFIGS}
    for config, stages in new.items():
        for stage, fingerprint in stages.items():
            if old.get(config, {}).get(stage) != fingerprint:
                print(f"{config}.{stage}: {old.get(config, {}).get(stage)} -> {fingerprint}")
    RECORDED.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
