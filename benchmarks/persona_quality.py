"""The rules of `personahub.quality`: what they drop of real personas, and of a run whose faults are known.

    python -m benchmarks.persona_quality [PERSONAS.jsonl] [--run runs/personas]

1. Released personas (by default 5,000 of the Persona Hub release): dropped by each rule, and the pass rate.
2. With --run, the folder of an experiment with the simulated teacher whose stages `first_personas`,
   `related_personas` and `good_personas` are those of configs/personas.yaml: for each planted fault how
   many personas the rules found, and what else they dropped.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from personahub.core.artifact import open_artifact
from personahub.core.errors import Rejected
from personahub.quality import CHECKS, Config, check
from tests.local_data import local_data


def released(file: Path) -> None:
    """Counts by rule over a file of personas, by default settings and with `named_person: subject`."""
    personas = [json.loads(line)["persona"] for line in file.read_text(encoding="utf-8").splitlines()]
    counts = [Counter(_reason(persona, config) for persona in personas) for config in _CONFIGS]
    print(
        f"{len(personas):,} personas of {file.name}\n\n| rule | dropped | with `named_person: subject` |\n|---|---|---|"
    )
    for name in (*CHECKS, None):
        print(f"| {name or 'kept'} | " + " | ".join(f"{count[name]:,}" for count in counts) + " |")


_CONFIGS = (Config(), Config(named_person="subject"))


def _reason(persona: str, config: Config) -> str | None:
    try:
        check(persona, config)
    except Rejected as error:
        return error.reason
    return None


def planted(run: Path) -> None:
    """Recall by planted fault, and what was dropped that bears none."""
    faults: dict[str, str | None] = {}
    for stage in ("first_personas", "related_personas"):
        for row in open_artifact(run / stage).truth():
            faults |= {persona["text"].strip(): persona["fault"] for persona in json.loads(row["truth"])["personas"]}
    good = open_artifact(run / "good_personas")
    kept = Counter(faults.get(row["persona"]) or "none" for row in good.rows(["persona"]))
    dropped: Counter[tuple[str, str]] = Counter()
    for row in good.rejected():
        dropped[faults.get(json.loads(row["record"])["persona"]) or "none", row["reason"]] += 1
    print("\n| planted fault | personas | dropped | by rule |\n|---|---|---|---|")
    for fault in sorted({*kept, *(name for name, _ in dropped)}):
        rules = {rule: count for (name, rule), count in dropped.most_common() if name == fault}
        total = kept[fault] + sum(rules.values())
        named = ", ".join(f"{rule} {count:,}" for rule, count in rules.items())
        print(f"| {fault} | {total:,} | {sum(rules.values()):,} | {named} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = local_data() / "personas" / "personahub_tool_personas.jsonl"
    parser.add_argument("personas", nargs="?", type=Path, default=default)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    if options.personas.is_file():
        released(options.personas)
    else:
        print(f"{options.personas}: no such file; name a JSON Lines file with a column `persona`")
    if options.run is not None:
        planted(options.run)


if __name__ == "__main__":
    main()
