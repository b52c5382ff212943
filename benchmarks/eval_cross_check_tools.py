"""Run lm-eval's graders of MATH as a process: JSON lines in, verdicts out. `eval_cross_check.py` starts it.

    python benchmarks/eval_cross_check_tools.py < completions.jsonl > verdicts.jsonl

Reads {"problem", "solution", "completion"} and calls `process_docs` and `process_results` of the tasks
as lm-eval does, so that it uses lm-eval's own extraction and normalization. It runs in the environment
that has lm-eval installed, and imports only the standard library at the top.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def task(name: str) -> ModuleType:
    """Load the task's `utils.py` without the package around it, which would import torch."""
    package = importlib.util.find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(f"lm-eval is not installed for {sys.executable}")
    file = Path(package.submodule_search_locations[0]) / "tasks" / name / "utils.py"
    spec = importlib.util.spec_from_file_location(f"lm_eval_{name}", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Docs(list[dict[str, Any]]):
    """The part of `datasets.Dataset` that the tasks use."""

    def map(self, function: Any) -> Docs:
        return Docs(function(row) for row in self)


def main() -> None:
    if importlib.util.find_spec("datasets") is None:  # used only in annotations
        sys.modules["datasets"] = SimpleNamespace(Dataset=Docs)  # type: ignore[assignment]
    minerva, hendrycks = task("minerva_math"), task("hendrycks_math")
    for line in sys.stdin:
        row = json.loads(line)
        docs = Docs([{"problem": row["problem"], "solution": row["solution"]}])
        verdicts = minerva.process_results(minerva.process_docs(docs)[0], [row["completion"]])
        strings = hendrycks.process_results(hendrycks.process_docs(docs)[0], [row["completion"]])
        print(
            json.dumps(
                {
                    "minerva math_verify": bool(verdicts["math_verify"]),
                    "minerva exact_match": bool(verdicts["exact_match"]),
                    "hendrycks exact_match": bool(strings["exact_match"]),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
