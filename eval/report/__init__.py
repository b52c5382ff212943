"""The report of an experiment: `index.html` to look at, `summary.json` to compute with, `report.md` to paste.

    report:
      run: eval.report
      inputs: {documents: documents, personas: personas, verified: verified, sft: sft, benchmark: benchmark}

Name every stage that the report shall cover: any number of inputs under any names. `index.html` is
one file that makes no network request and needs no server.
"""

from __future__ import annotations

from pydantic import Field

from eval.report.embedding_map import read_maps
from eval.report.lineage import lineage_samples, rejected_examples
from eval.report.page import render_markdown, render_page
from eval.report.summary import in_order, made_by, read_metrics, summarize
from personahub.core.config import StageConfig
from personahub.core.files import write_json
from personahub.core.stage import Stage

VERSION = "4"
INPUTS = ("*",)


class Config(StageConfig):
    """How much of the records is shown."""

    samples: int = Field(default=36, ge=0, le=200, description="Records whose whole lineage can be browsed.")
    examples_per_reason: int = Field(default=2, ge=0, le=10, description="Rejected records shown per stage and reason.")


def run(stage: Stage[Config]) -> None:
    """Write the three files and no records."""
    artifacts = in_order(list(stage.inputs.values()))
    summary = summarize(stage.spec.experiment, artifacts)
    page = render_page(
        summary,
        lineage_samples(artifacts, stage.config.samples, stage.config.seed),
        rejected_examples(artifacts, stage.config.examples_per_reason),
        {artifact.manifest.stage: read_metrics(artifact) for artifact in made_by(artifacts, "train.sft")},
        read_maps(artifacts),
    )
    write_json(stage.path / "summary.json", summary)
    (stage.path / "report.md").write_text(render_markdown(summary), encoding="utf-8")
    (stage.path / "index.html").write_text(page, encoding="utf-8")
