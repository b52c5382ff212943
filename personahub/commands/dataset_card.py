"""Writes the dataset card of an artifact: contents, origin, licenses and cost.

    text = dataset_card(open_artifact("runs/paper_math_7b/problems"))      # Markdown after a YAML head, for the Hub

Everything is read from the artifact, its records and the manifests of the stages it was made from. The card names
those stages whose artifacts no longer exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import yaml

from personahub.core.artifact import Artifact, Usage, open_artifact, read_manifest
from personahub.core.records import DOCUMENT

_MAX_LISTED = 12  # sources and licenses; longer lists of sources are only counted

# The license in a record -> its identifier on the Hub.
_HUB_LICENSES = {
    "cc by-nc-sa 4.0": "cc-by-nc-sa-4.0",
    "cc by-nc 4.0": "cc-by-nc-4.0",
    "cc by-sa 4.0": "cc-by-sa-4.0",
    "cc by-sa 3.0": "cc-by-sa-3.0",
    "cc by 4.0": "cc-by-4.0",
    "cc0": "cc0-1.0",
    "odc-by 1.0": "odc-by",
    "odc-by": "odc-by",
    "apache-2.0": "apache-2.0",
    "mit": "mit",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))

# Who wrote the texts: language models (all or some of the texts), people, the authors of web pages, or others, such as
# the authors of a benchmark.
Authors = Literal["models", "in part", "people", "web", "others"]

# Columns that lead from a record to the records it was made from.
_LINEAGE = {
    "interface_id": "the interface that the code was written for",
    "opening_id": "the instruction or persona that the conversation started with",
    "problem_id": "the problem that was solved",
    "persona_id": "the persona that the model was shown (in a no-persona arm: the persona it was not shown)",
    "partner_id": "the other persona of the conversation",
    "parent_id": "the persona that this one is related to",
    "hop": "0: inferred from a text; 1 to 6: number of relations to a persona that was inferred from a text",
    "document_id": "the web text at the root",
}


@dataclass(frozen=True)
class Upstream:
    """A stage that an artifact was made from. `artifact` is None if it no longer exists."""

    name: str
    fingerprint: str
    artifact: Artifact | None


def upstream(artifact: Artifact) -> list[Upstream]:
    """Return the stages that `artifact` was made from, in dependency order. `artifact` itself is not included."""
    found: dict[str, Upstream] = {}

    def visit(node: Artifact) -> None:
        for reference in node.manifest.inputs.values():
            if reference.fingerprint in found:
                continue
            source = _find(Path(reference.path), reference.fingerprint, node.path.parent)
            if source is not None:
                visit(source)
            name = source.manifest.stage if source else Path(reference.path).name
            found[reference.fingerprint] = Upstream(name, reference.fingerprint, source)

    visit(artifact)
    return list(found.values())


def _find(path: Path, fingerprint: str, experiment: Path) -> Artifact | None:
    """Find the artifact at its recorded path. Falls back to `experiment`, if the runs were moved."""
    for place in (path, experiment / path.name):
        manifest = read_manifest(place)
        if manifest is not None and manifest.fingerprint == fingerprint:
            return open_artifact(place)
    return None


def dataset_card(artifact: Artifact, repository: str | None = None) -> str:
    """Write the card as Markdown with a YAML head.

    Args:
        artifact: a complete artifact with records.
        repository: its name on the Hub, for the title.
    """
    before = upstream(artifact)
    made = [stage.artifact for stage in before if stage.artifact is not None] + [artifact]
    licenses = _counted(artifact, "licence")
    if not licenses:
        for one in made:
            licenses += _counted(one, "licence")
    engines = {model: kind for one in made for kind, model in _engines(one.manifest.identity)}
    authors = _authors(artifact, engines)
    title = repository or f"{artifact.manifest.experiment}/{artifact.manifest.stage}"
    parts = [
        _head(artifact, licenses, authors),
        f"# {title}",
        _notice(made, engines, authors),
        _contents(artifact, authors),
        _making(made, before),
        _models(made, engines),
        _lineage(artifact, made),
        _licenses(licenses, made, engines, authors),
        _cost(made),
        _use(licenses, authors),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _authors(artifact: Artifact, engines: Mapping[str, str]) -> Authors:
    names = _schema(artifact).names
    if "machine_generated" in names:
        by_models = _counted(artifact, "machine_generated")["True"]
        return "models" if by_models == artifact.num_rows else "in part" if by_models else "people"
    if names == DOCUMENT.names:
        return "web"
    return "in part" if engines else "others"


def _head(artifact: Artifact, licenses: Mapping[str, int], authors: Authors) -> str:
    rows = artifact.num_rows
    tags = ["synthetic", "machine-generated"] if authors in ("models", "in part") else []
    tags += ["personas"] if authors in ("models", "in part", "people") else []
    head = {
        "pretty_name": f"{artifact.manifest.experiment} {artifact.manifest.stage}",
        "license": hub_license(licenses),
        "tags": [*tags, "persona-hub-harness"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False).strip()}\n---"


def hub_license(licenses: Mapping[str, int]) -> str:
    """Return the Hub's identifier of the license of the whole dataset.

    One record under a share-alike and non-commercial license binds the whole dataset. Any other mixture, or a license
    that is not stated, gives `other`; the card lists the details.
    """
    known = {_HUB_LICENSES.get(name.lower().strip(), "other") for name in licenses}
    if "cc-by-nc-sa-4.0" in known:
        return "cc-by-nc-sa-4.0"
    return known.pop() if len(known) == 1 else "other"


def _notice(made: Sequence[Artifact], engines: Mapping[str, str], authors: Authors) -> str:
    unread = "not reviewed by people before publication. They can be wrong, biased or made up."
    text = {
        "models": "**Machine-generated.** The texts in this dataset were written by language models, prompted by a program,"
        f" and {unread}",
        "in part": "**Machine-generated in part.** Some of the texts in this dataset were written by language models,"
        f" prompted by a program (`machine_generated` marks them, where present). These were {unread}",
        "people": "**Written by people.** The texts in this dataset were declared as such (`machine_generated: false`) when"
        " they were imported.",
        "web": f"**Web texts.** The texts in this dataset were collected, not generated: a program took them from"
        f" {_origin(made)}, filtered them and truncated long ones. They belong to their authors, are under the licenses"
        " listed below, can be wrong or biased, and may be about real people.",
        "others": "**Collected.** The texts in this dataset are unchanged from their sources; none was generated for this"
        " dataset.",
    }[authors]
    text = f"> {text}"
    if "simulated" in engines.values():
        text += (
            "\n>\n> **Simulated.** At least one of the models is this project's simulated teacher, which fills in"
            " templates. Its texts are for testing pipelines and show nothing about any real model."
        )
    return text


def _origin(made: Sequence[Artifact]) -> str:
    """Return where the texts came from, without local folders. Reads the config of the stage that read the texts."""
    for config in (one.manifest.config for one in made):
        if hub := config.get("hub"):
            parts = ", ".join(part for part in (hub.get("config"), hub.get("files"), hub.get("revision")) if part)
            return f"the dataset {hub['name']} on the Hugging Face Hub ({parts})"
        if pajama := config.get("redpajama"):
            return "RedPajama v2 (" + ", ".join(f"{name} {value}" for name, value in pajama.items()) + ")"
        if urls := config.get("urls"):
            return f"{urls[0]}" + (f" and {len(urls) - 1:,} more URLs" if len(urls) > 1 else "")
        if path := config.get("path"):
            return f"`{Path(path).name}`"
    return "sources that were not available when this card was made"


def _contents(artifact: Artifact, authors: Authors) -> str:
    counts = artifact.manifest.counts
    lines = [f"## Contents\n\n{artifact.num_rows:,} records in {len(artifact.shard_names)} Parquet files."]
    rejected = sum(counts.rejected.values())
    if rejected:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in _most_common(counts.rejected))
        verb = "generated" if authors in ("models", "in part") else "read"
        lines.append(f"Another {rejected:,} were {verb} and rejected ({reasons}); they are not included.")
    schema = _schema(artifact)
    lines.append("| field | type |\n|---|---|\n" + "\n".join(f"| `{f.name}` | {_type_name(f.type)} |" for f in schema))
    return "\n\n".join(lines)


def _type_name(kind: Any) -> str:
    text = str(kind)
    return text if len(text) < 40 else f"{text.split('<')[0]} of records"


def _making(made: Sequence[Artifact], before: Sequence[Upstream]) -> str:
    lines = ["## How it was made", "", "| stage | code | in | out | rejected |", "|---|---|---|---|---|"]
    for one in made:
        manifest, counts = one.manifest, one.manifest.counts
        lines.append(
            f"| {manifest.stage} | {manifest.module} version {manifest.version} | {counts.rows_in:,}"
            f" | {one.num_rows:,} | {sum(counts.rejected.values()):,} |"
        )
    gone = [f"{stage.name} ({stage.fingerprint})" for stage in before if stage.artifact is None]
    if gone:
        lines += ["", f"Not available when this card was made: {', '.join(gone)}."]
    last = made[-1].manifest
    lines += ["", f"Experiment `{last.experiment}`, fingerprint `{last.fingerprint}`, {last.created[:10]}."]
    return "\n".join(lines)


def _models(made: Sequence[Artifact], engines: Mapping[str, str]) -> str:
    lines = [f"- {model} (`{kind}`)" for model, kind in engines.items()]
    prompts = dict.fromkeys(prompt for one in made for prompt in _prompts(one.manifest.config, one.manifest.identity))
    templates = [f"- `{Path(name).name}`, content {fingerprint[:12]}" for name, fingerprint in prompts]
    parts = []
    if lines:
        parts.append("## Models\n\n" + "\n".join(lines))
    if templates:
        parts.append("## Prompts\n\nTemplates, each with the hash of its text:\n\n" + "\n".join(templates))
    return "\n\n".join(parts)


def _engines(value: Any) -> Iterator[tuple[str, str]]:
    """(kind, model) of every engine within a stage's identity."""
    if isinstance(value, Mapping):
        if isinstance(value.get("kind"), str) and isinstance(value.get("model"), str):
            yield value["kind"], value["model"]
        for inner in value.values():
            yield from _engines(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _engines(inner)


def _prompts(config: Any, identity: Any) -> Iterator[tuple[str, str]]:
    """Return (name, hash) of every template. The config has the name, and the identity the hash."""
    if isinstance(config, Mapping) and isinstance(identity, Mapping):
        for key in config:
            name, fingerprint = config[key], identity.get(key)
            if key in ("template", "system") and isinstance(name, str) and isinstance(fingerprint, str):
                yield name, fingerprint
            else:
                yield from _prompts(name, fingerprint)
    elif isinstance(config, list | tuple) and isinstance(identity, list | tuple):
        for item, item_identity in zip(config, identity, strict=False):
            yield from _prompts(item, item_identity)


def _lineage(artifact: Artifact, made: Sequence[Artifact]) -> str:
    names = set(_schema(artifact).names)
    lines = [f"- `{name}`: {meaning}" for name, meaning in _LINEAGE.items() if name in names]
    if not lines:
        return ""
    text = "## Lineage\n\nThese columns lead from every record back to the text it came from:\n\n" + "\n".join(lines)
    with_hops = [one for one in made if "hop" in _schema(one).names]
    if with_hops:
        hops = sorted(_counted(with_hops[-1], "hop").items(), key=lambda item: int(item[0]))
        counts = ", ".join(f"hop {hop}: {number:,}" for hop, number in hops)
        text += f"\n\nPersonas by hop (Text-to-Persona is hop 0, each Persona-to-Persona step adds 1): {counts}."
    return text


def _licenses(
    licenses: Mapping[str, int], made: Sequence[Artifact], engines: Mapping[str, str], authors: Authors
) -> str:
    generated = authors in ("models", "in part")
    lines = [f"- {name}: {number:,} records" for name, number in _most_common(licenses)]
    scope = "Of the source that each record was made from:" if generated else "Of each record, as stated by its source:"
    text = f"## Licenses\n\n{scope}\n\n" + ("\n".join(lines) or "- not stated")
    sources: Counter[str] = Counter()
    for one in made:
        if "source" in _schema(one).names:
            sources = _counted(one, "source")  # the last stage that has sources is the nearest one
    if 0 < len(sources) <= _MAX_LISTED:
        text += "\n\nSources: " + ", ".join(f"{name} ({number:,})" for name, number in _most_common(sources)) + "."
    elif sources:
        text += f"\n\nSources: {len(sources):,}; each record names its own."
    if authors != "web" and any("nc" in name.lower().replace("-", " ").split() for name in licenses):
        text += (
            "\n\nPersonas under CC BY-NC-SA 4.0, such as those of the Persona Hub release: name them as the source, use"
            " data made from them for non-commercial purposes only, and share it under the same license."
        )
    if generated:
        text += f"\n\nThe terms of the models {'named above' if engines else 'that wrote the texts'} may restrict the use of their output."
    return text


def _cost(made: Sequence[Artifact]) -> str:
    total = Usage()
    for one in made:
        total = total.plus(one.manifest.usage)
    if not total.requests:
        return ""
    price = f"{total.cost_usd:,.2f} USD at the configured prices" if total.cost_usd else "no price was configured"
    return (
        f"## Cost\n\nAll stages together: {total.requests:,} requests, {total.prompt_tokens:,} prompt and"
        f" {total.completion_tokens:,} completion tokens; {price}."
    )


def _use(licenses: Mapping[str, int], authors: Authors) -> str:
    commercial = " for non-commercial purposes" if "nc" in hub_license(licenses).split("-") else ""
    people = (
        "whom web texts may name without their consent"
        if authors == "web"
        else "personas are invented, or inferred from public texts regardless of their authors, and reproduce the biases of"
        " texts and models"
    )
    return (
        f"## Intended use\n\nResearch on synthetic data and training of language models{commercial}. Not intended for"
        f" conclusions about real people{', ' if authors == 'web' else ': '}{people}. Not intended as a reference for facts."
        " Before you train a model on it and evaluate that model, check it against your benchmarks; the stages above show"
        " what it was already checked against."
    )


def _schema(artifact: Artifact) -> Any:
    return pq.read_schema(artifact.path / f"{artifact.shard_names[0]}.parquet")


def _counted(artifact: Artifact, column: str) -> Counter[str]:
    """Count the values of a column; empty if there is no such column."""
    if not artifact.shard_names or column not in _schema(artifact).names:
        return Counter()
    return Counter("not stated" if row[column] is None else str(row[column]) for row in artifact.rows([column]))


def _most_common(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MAX_LISTED]
