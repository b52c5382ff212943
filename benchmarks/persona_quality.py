"""Measure the rules of `personahub.quality` on released personas, labeled texts and a run with planted faults.

    python -m benchmarks.persona_quality [PERSONAS.jsonl] [--run runs/personas]

1. Released personas (by default 5,000 of the Persona Hub release): personas dropped by each rule, and the pass rate.
2. Descriptions that we wrote and labeled (tests/personahub/data/people_and_contacts.jsonl): recall and precision of
   the rules for names and contact data. The rules were fixed on the part `tuned`; `held_out` was written before that
   and read afterwards.
3. With --run, the folder of an experiment with the simulated teacher whose stages `first_personas`,
   `related_personas` and `good_personas` are those of configs/personas.yaml: how many personas with each planted
   fault the rules found, and what else they dropped.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.stats.measures import wilson_interval
from personahub.core.artifact import open_artifact
from personahub.core.errors import Rejected
from personahub.quality import CHECKS, Config, check
from tests.local_data import local_data

LABELLED = Path(__file__).parents[1] / "tests" / "personahub" / "data" / "people_and_contacts.jsonl"


def released(file: Path) -> None:
    """Print counts by rule over a file of personas, with default settings and with `named_person: subject`."""
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


def labelled() -> None:
    """Print recall by kind of person and of contact data, and precision, with 95% Wilson intervals."""
    rows = [json.loads(line) for line in LABELLED.read_text(encoding="utf-8").splitlines()]
    print(f"\n{len(rows)} labeled descriptions\n\n| what | tuned | held out |\n|---|---|---|")
    found = {part: Counter(map(_outcome, (r for r in rows if r["part"] == part))) for part in ("tuned", "held_out")}
    people = ("private", "public", "fictional")
    lines = {f"found, {kind} persons": ([(kind, True)], [(kind, True), (kind, False)]) for kind in people}
    named = [(kind, True) for kind in people]
    lines["of the matches, names of persons"] = (named, [*named, ("none", True)])
    lines["found, contact data"] = ([("contact", True)], [("contact", True), ("contact", False)])
    lines["of the matches, contact data"] = ([("contact", True)], [("contact", True), ("no contact", True)])
    for name, (good, of) in lines.items():
        shares = [(sum(count[key] for key in good), sum(count[key] for key in of)) for count in found.values()]
        print(f"| {name} | " + " | ".join(_share(*share) for share in shares) + " |")


def _outcome(row: Mapping[str, Any]) -> tuple[str, bool]:
    """Return its label, and whether the rule drops it."""
    if "person" in row:
        return row["person"], CHECKS["named_person"](row["text"], Config()) is not None
    return "contact" if row["contact"] else "no contact", CHECKS["contact_data"](row["text"], Config()) is not None


def _share(number: int, total: int) -> str:
    if not total:
        return "-"
    interval = wilson_interval(number, total)
    return f"{number}/{total}, {100 * number / total:.0f}% ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def planted(run: Path) -> None:
    """Print recall by planted fault, and the dropped personas without a fault."""
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
    labelled()
    if options.run is not None:
        planted(options.run)


if __name__ == "__main__":
    main()
