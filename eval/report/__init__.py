"""Writes the report of an experiment: `index.html`, `summary.json`, `report.md`.

    report:
      run: eval.report
      inputs: {documents: documents, personas: personas, verified: verified, sft: sft, benchmark: benchmark}

List every stage that the report should cover as an input, under any name. `index.html` is a single file that makes no
network request and needs no server.
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
    """How many records the report shows."""

    samples: int = Field(default=36, ge=0, le=200, description="Number of records shown with their whole lineage.")
    examples_per_reason: int = Field(
        default=2, ge=0, le=10, description="Number of rejected records shown per stage and reason."
    )


def run(stage: Stage[Config]) -> None:
    """Writes the three files, and no records."""
    artifacts = in_order(list(stage.inputs.values()))
    summary = summarize(stage.spec.experiment, artifacts, stage.spec.source)
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
