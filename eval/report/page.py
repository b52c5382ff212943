"""Renders the page as one HTML file with its style, script and charts.

It makes no network request. Jinja's autoescaping escapes the text of models and data sets, and a content security
policy allows no script other than the page's own, identified by its hash.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from eval.report import ablation, diversity, embedding_map, pipeline, results
from eval.report.blocks import SAMPLE_KINDS
from eval.report.charts import new_environment, percent
from eval.report.headline import describe_choice
from eval.report.prose import line, prose, tex
from personahub.core.artifact import Source
from personahub.core.records import Row
from personahub.core.texts.figures import format_number, format_seconds

_FOLDER = Path(__file__).parent
_FEW_PAIRS = 10  # fewer are too few for a headline


def render_page(
    summary: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    examples: Mapping[str, Any],
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    map_rows: Mapping[str, Sequence[Row]],
) -> str:
    """Renders the whole page as HTML.

    Args:
        summary: from `eval.report.summary.summarize`.
        samples: from `eval.report.lineage.lineage_samples`.
        examples: from `eval.report.lineage.rejected_examples`.
        metrics: logged steps of each training stage, by its name.
        map_rows: from `eval.report.embedding_map.read_maps`.
    """
    found = [
        *ablation.ablation(summary),
        results.accuracy(summary),
        pipeline.funnel(summary, examples),
        pipeline.personas(summary),
        pipeline.verification(summary),
        pipeline.training(summary, metrics),
        results.breakdown(summary),
        diversity.similarity(summary),
        diversity.diversity(summary),
        embedding_map.maps(summary, map_rows),
        pipeline.samples(samples),
        pipeline.cost(summary),
        pipeline.repeat(summary),
    ]
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=summary["experiment"],
            notice=summary["notice"],
            facts=_facts(summary),
            cards=_cards(summary),
            source=_source_text(summary),
            sections=[section for section in found if section is not None],
            style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704  (a file of this package)
            script=Markup(script),  # noqa: S704  (a file of this package)
            script_hash=f"sha256-{script_hash}",
        )
    )


def render_markdown(summary: Mapping[str, Any]) -> str:
    """Renders the headline numbers as Markdown, for a README or an issue."""
    return _environment().get_template("page.md").render(summary=summary, rows=markdown_rows(summary))


def _environment() -> jinja2.Environment:
    environment = new_environment()
    environment.filters["line"] = line
    environment.filters["prose"] = prose
    environment.filters["tex"] = tex
    environment.globals["kinds"] = SAMPLE_KINDS
    return environment


def _facts(summary: Mapping[str, Any]) -> list[str]:
    totals = summary["totals"]
    facts = [f"{len(summary['stages'])} stages", f"{format_seconds(totals['seconds'])} of stage time"]
    if totals["requests"]:
        tokens = totals["prompt_tokens"] + totals["completion_tokens"]
        facts.append(f"{totals['requests']:,} requests, {format_number(tokens)} tokens")
    if totals["cost_usd"]:
        facts.append(f"${totals['cost_usd']:,.2f}")
    if summary["created"]:
        created = datetime.datetime.fromisoformat(summary["created"])
        facts.insert(0, f"{created:%B} {created.day}, {created:%Y, %H:%M} UTC")
    return facts


def _source_text(summary: Mapping[str, Any]) -> str:
    """Names the git commits that made the run, and which checkouts had changes."""
    sources = [str(Source.model_validate(source)) for source in summary["sources"]]
    if not sources:
        return "The git commit of the harness was not recorded."
    return f"Git commit{'s' * (len(sources) > 1)} of the harness: {', '.join(sources)}."


def _cards(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    cards = []
    if found := ablation.card(summary["ablations"]):
        cards.append(found)
    if summary["student"]:
        cards.append(_student_card(summary["student"]))
    if summary["benchmarks"] and summary["math"]["status"] != "in_ablation":
        cards.append(_math_card(summary["math"]))
    for data in summary["data"][-1:]:
        texts = sum(stage["rows_out"] for stage in summary["stages"] if stage["module"] == "personahub.sources")
        source = f", from {texts:,} web texts" if texts else ""
        text = f"{data['train']:,} for training and {data['test']:,} for the test{source}"
        cards.append({"title": "Verified problems", "value": f"{data['train'] + data['test']:,}", "text": text})
    cards += _similarity_cards(summary["similarity"])
    for stage in summary["diversity"][:1]:
        name, found = list(stage["collections"].items())[-1]
        _, value, low, high = found["curves"]["vendi"][-1]
        text = f"effective number of different {name.replace('_', ' ')} among {found['texts']:,} (95% interval {low:.1f} to {high:.1f})"
        cards.append({"title": "Vendi score", "value": f"{value:.1f}", "text": text})
    return cards


def _similarity_cards(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    levels = [level for stage in stages for level in stage["series"][0]["levels"] if level["pairs"] >= _FEW_PAIRS]
    if not levels:
        return []
    last = levels[-1]
    text = f"median cosine of two problems whose personas have cosine {last['level']:g} ({last['pairs']:,} pairs)"
    return [{"title": "Problem similarity", "value": f"{last['median']:.2f}", "text": text}]


def _student_card(student: Mapping[str, Any]) -> dict[str, str]:
    after = student["after"] or student["before"]
    text = f"{_interval(after)}, {after['n']:,} problems{_choice_suffix(after)}"
    if student["after"] and student["before"]:
        text += f". Before training {percent(student['before']['accuracy'])} ({_interval(student['before'])})"
    title = "Synthetic test, after training" if student["after"] else "Synthetic test, before training"
    return {"title": title, "value": percent(after["accuracy"]), "text": text}


def _math_card(math: Mapping[str, Any]) -> dict[str, str]:
    if math["status"] == "measured":
        near_zero = " Near zero." if math["near_zero"] else ""
        return {
            "title": "MATH",
            "value": percent(math["accuracy"]),
            "text": f"{_interval(math)}, {math['n']:,} problems{_choice_suffix(math)}.{near_zero}",
        }
    if math["status"] == "skipped":
        return {"title": "MATH", "value": "skipped", "text": "not evaluated; see Accuracy for the reason"}
    return {"title": "MATH", "value": "not evaluated", "text": math["statement"]}


def _choice_suffix(result: Mapping[str, Any]) -> str:
    choice = describe_choice(result)
    return f" ({choice})" if choice else ""


def _interval(result: Mapping[str, Any]) -> str:
    return f"95% interval {100 * result['low']:.1f} to {100 * result['high']:.1f}"


def markdown_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns one row per benchmark and stage."""
    return [
        {
            "benchmark": name,
            "stage": stage["stage"],
            "accuracy": percent(result["accuracy"]),
            "interval": f"{100 * result['low']:.1f}–{100 * result['high']:.1f}",
            "n": f"{result['n']:,}",
        }
        for stage in summary["benchmarks"]
        for name, result in stage["results"].items()
    ]
