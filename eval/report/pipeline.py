"""Page sections about the pipeline: funnel, votes, training, cost and samples.

A section with nothing to show is None and is left out of the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.report.blocks import SAMPLE_KINDS, Panel, Section, Table
from eval.report.charts import Line, Segment, bar, line_chart, percent
from eval.report.summary import NO_DATA
from personahub.core.texts.figures import format_number, format_seconds

_COLORS = 6  # CSS classes c0 to c5
_GIST = 180  # characters shown of a closed record
_CURVES = {
    "train/loss": "training loss",
    "eval/accuracy": "accuracy on the validation slice",
    "train/learning_rate": "learning rate",
}


def funnel(summary: Mapping[str, Any], examples: Mapping[str, Any]) -> Section | None:
    """Records read, written and rejected by every stage."""
    stages = [stage for stage in summary["stages"] if not stage["module"].startswith(NO_DATA)]
    if not stages:
        return None
    widest = max(stage["rows_out"] + sum(stage["rejected"].values()) for stage in stages)
    entries = [_funnel_entry(stage, widest, examples.get(stage["stage"], {})) for stage in stages]
    lead = "Records that each stage wrote, and records that it rejected, by reason. A stage may turn one record into several."
    return Section("funnel", "Funnel", "From web text to training data", lead, funnel=entries)


def _funnel_entry(stage: Mapping[str, Any], widest: int, examples: Mapping[str, Any]) -> dict[str, Any]:
    ranked = sorted(stage["rejected"].items(), key=lambda item: -item[1])
    reasons = [
        {"name": reason, "count": f"{count:,}", "series": f"c{i % _COLORS}", "examples": examples.get(reason, ())}
        for i, (reason, count) in enumerate(ranked)
    ]
    segments = [Segment("written", stage["rows_out"], "kept")]
    segments += [Segment(reason, count, f"c{i % _COLORS}") for i, (reason, count) in enumerate(ranked)]
    flow = f"{stage['rows_in']:,} → {stage['rows_out']:,}" if stage["rows_in"] else f"{stage['rows_out']:,}"
    return {
        "name": stage["stage"],
        "module": stage["module"],
        "flow": flow,
        "bar": bar(segments, widest),
        "rejected": f"{sum(stage['rejected'].values()):,}",
        "reasons": reasons,
    }


def personas(summary: Mapping[str, Any]) -> Section | None:
    """Returns the number of personas by hop, and the share of each hop that is new."""
    panels = [
        Panel(f"{stage['stage']}: personas by hop", table=_growth_table(stage["hops"]))
        for stage in summary["personas"]
        if stage["hops"]
    ]
    lead = (
        "Hop 0 has the personas from text. Each later hop has people related to the personas of the hop before. A persona "
        "is new if it is not a near-duplicate, by surface form, of another persona of its own hop or an earlier one."
    )
    return Section("personas", "Personas", "Personas hop by hop", lead, panels=panels) if panels else None


def _growth_table(hops: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for hop in hops:
        factor = "" if hop["factor"] is None else f"{hop['factor']:.2f}"
        new = (f"{hop['new']:,}", percent(hop["new_share"])) if "new" in hop else ("", "")
        rows.append((str(hop["hop"]), f"{hop['personas']:,}", factor, *new))
    return Table(("hop", "personas", "factor", "new", "share new"), rows)


def verification(summary: Mapping[str, Any]) -> Section | None:
    """How far the sampled solutions of the problems agree."""
    panels = []
    for stage in summary["verification"]:
        segments = _vote_segments(stage)
        rows = [(part.label, f"{part.count:,}", percent(part.count / max(stage["problems"], 1))) for part in segments]
        table = Table(("outcome", "problems", "share"), rows, swatches=[part.series for part in segments])
        panels.append(Panel(f"{stage['stage']}: problems by agreement", "", bar(segments, stage["problems"]), table))
        panels.append(Panel(f"{stage['stage']}: votes on accepted problems", table=_status_table(stage["statuses"])))
    lead = "The solutions of a problem vote on its answer. Equivalent answers form a cluster, and the largest cluster wins."
    return Section("verification", "Votes", "Verification votes", lead, panels=panels) if panels else None


def _vote_segments(stage: Mapping[str, Any]) -> list[Segment]:
    """Returns accepted problems by winning share, then rejected ones by reason."""
    segments = []
    for i, level in enumerate(stage["agreement"]):
        share = level["vote_share"]
        label = "accepted without a vote" if share is None else f"accepted with {percent(share)} of the votes"
        segments.append(Segment(label, level["problems"], "kept" if i == 0 else f"c{2 + (i - 1) % 2}"))
    segments += [
        Segment(f"rejected: {reason}", count, f"c{i % 2}")
        for i, (reason, count) in enumerate(stage["rejected"].items())
    ]
    return segments


def _status_table(statuses: Mapping[str, Mapping[str, int]]) -> Table:
    names = sorted({status for by_status in statuses.values() for status in by_status})
    rows = [
        (SAMPLE_KINDS.get(kind, kind), *(f"{by_status.get(name, 0):,}" for name in names))
        for kind, by_status in statuses.items()
    ]
    return Table(("kind", *(name.replace("_", " ") for name in names)), rows)


def training(summary: Mapping[str, Any], metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> Section | None:
    """Loss and learning rate by optimizer step. Values that are not finite become remarks instead."""
    panels, remarks = [], []
    for name, steps in metrics.items():
        for key, title in _CURVES.items():
            points = [(float(step["step"]), float(step[key])) for step in steps if key in step]
            chart = line_chart([Line(title, points, "after" if key == "train/loss" else "other")], "step", title)
            if chart:
                panels.append(Panel(f"{name}: {title}", chart=chart))
        # transformers logs a loss that is not finite as 0, but not the norm of its gradient
        for key, quantity in (("train/loss", "loss"), ("train/grad_norm", "gradient")):
            logged = [(step["step"], float(step[key])) for step in steps if key in step]
            if when := _not_finite(logged):
                remarks.append(f"{name}: the {quantity} was not finite {when}")
    lead = ". ".join(_training_facts(run) for run in summary["training"])
    return Section("training", "Training", "Training", lead, remarks, panels=panels) if panels or remarks else None


def _not_finite(logged: Sequence[tuple[int, float]]) -> str:
    """Says at which steps a quantity was not finite. Empty if it always was."""
    broken = [step for step, value in logged if not math.isfinite(value)]
    if not broken:
        return ""
    last_finite = max((step for step, value in logged if math.isfinite(value)), default=-1)
    if from_here := [step for step in broken if step > last_finite]:
        return f"from step {from_here[0]:,} on"
    return f"at {len(broken):,} of {len(logged):,} logged steps"


def _training_facts(run: Mapping[str, Any]) -> str:
    names = ("parameters", "examples", "steps", "epochs")
    facts = [f"{round(run[name], 2):,} {name}" for name in names if run.get(name) is not None]
    if run.get("first_loss") is not None and run.get("final_loss") is not None:
        facts.append(f"loss from {run['first_loss']:.3f} to {run['final_loss']:.3f}")
    return f"{run['stage']}: {', '.join(facts)}"


def cost(summary: Mapping[str, Any]) -> Section:
    """Returns the requests, tokens, cost and time of every stage."""
    total = summary["totals"]
    rows = [
        _cost_row(stage["stage"] + (" (adopted)" if stage["adopted_from"] else ""), stage)
        for stage in summary["stages"]
    ]
    table = Table(
        ("stage", "requests", "tokens in", "tokens out", "USD", "time"), [*rows, _cost_row("total", total)], ("total",)
    )
    return Section("cost", "Cost", "Cost and time", table=table)


def _cost_row(name: str, numbers: Mapping[str, Any]) -> tuple[str, ...]:
    requests = numbers["requests"]
    tokens = [format_number(numbers[key]) if requests else "" for key in ("prompt_tokens", "completion_tokens")]
    dollars = f"{numbers['cost_usd']:,.2f}" if numbers["cost_usd"] else ""
    seconds = numbers["seconds"]
    shown = f"{seconds:.1f}s" if seconds < 10 else format_seconds(seconds)
    return (name, f"{requests:,}" if requests else "", *tokens, dollars, shown)


def samples(chosen: Sequence[Mapping[str, Any]]) -> Section | None:
    """Browser of sampled records."""
    if not chosen:
        return None
    shown = [{**sample, **_outcome(sample)} for sample in chosen]
    rejected = sorted({sample["label"] for sample in shown if sample["outcome"] == "rejected"})
    kept = dict.fromkeys(sample["label"] for sample in shown if sample["outcome"] != "rejected")
    outcomes = {name: labels for name, labels in (("kept", list(kept)), ("rejected", rejected)) if labels}
    lead = "A sample of the records, each traced from its web text to its verdict."
    return Section("samples", "Samples", "Samples", lead, samples=shown, outcomes=outcomes)


def _outcome(sample: Mapping[str, Any]) -> dict[str, str]:
    gist = next((part["gist"] for part in sample["parts"] if part["gist"]), "")
    if not gist and sample["personas"]:
        gist = sample["personas"][-1]["persona"]
    if len(gist) > _GIST:
        gist = f"{gist[: gist.rfind('$', 0, _GIST) if gist.count('$', 0, _GIST) % 2 else _GIST]} …"
    if sample["outcome"] == "rejected":
        return {"label": str(sample["reason"]).partition(": ")[2], "series": "dropped", "gist": gist}
    return {"label": sample["stage"] or sample["outcome"], "series": "kept", "gist": gist}


def repeat(summary: Mapping[str, Any]) -> Section:
    """Returns the commands, stages and package versions of the run."""
    stages = [
        (stage["stage"], stage["module"], stage["version"], stage["fingerprint"][:12]) for stage in summary["stages"]
    ]
    versions = [(name, ", ".join(found)) for name, found in summary["versions"].items()]
    panels = (
        Panel("Stages", table=Table(("stage", "module", "version", "fingerprint"), stages), wide=True),
        Panel("Packages", table=Table(("package", "version"), versions)),
    )
    return Section("repeat", "Repeat", "Repeat this run", commands=summary["commands"], panels=panels)
