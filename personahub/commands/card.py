"""The dataset card of an artifact: what it holds, how it was made, from what, under which licences, at what cost.

    write = card(open_artifact("runs/paper_math_7b/problems"))      # Markdown behind a YAML head, as the hub reads it

Everything in it is read from the artifact, its records and the manifests upstream; nothing is asked of
the user. Stages upstream that are gone are named as such.
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

_MOST_LISTED = 12  # sources, licences: beyond that their number is said

# What records carry -> the hub's identifier.
_HUB_LICENCES = {
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

# Who wrote the texts: language models, all or a part of them; people; the authors of web texts; or others, such as
# those of a benchmark.
Authors = Literal["models", "in part", "people", "web", "others"]

# The columns that lead from a record to what it was made from.
_LINEAGE = {
    "interface_id": "the interface that the code was written for",
    "opening_id": "the instruction, or the persona, that a conversation began with",
    "problem_id": "the problem that was solved",
    "persona_id": "the persona that the model was shown, or in a no-persona arm was not",
    "partner_id": "the other persona of a conversation",
    "parent_id": "the persona that this one is related to",
    "hop": "0: inferred from a text; 1 to 6: so many relations away from one that was",
    "document_id": "the web text at the root",
}


@dataclass(frozen=True)
class Upstream:
    """A stage that an artifact rests on. `artifact` is None where it is gone."""

    name: str
    fingerprint: str
    artifact: Artifact | None


def upstream(artifact: Artifact) -> list[Upstream]:
    """All stages that `artifact` was made from, each after those it was made from itself, without `artifact`."""
    found: dict[str, Upstream] = {}

    def visit(of: Artifact) -> None:
        for reference in of.manifest.inputs.values():
            if reference.fingerprint in found:
                continue
            there = _find(Path(reference.path), reference.fingerprint, beside=of.path.parent)
            if there is not None:
                visit(there)
            name = there.manifest.stage if there else Path(reference.path).name
            found[reference.fingerprint] = Upstream(name, reference.fingerprint, there)

    visit(artifact)
    return list(found.values())


def _find(path: Path, fingerprint: str, beside: Path) -> Artifact | None:
    """The artifact where it was, or beside those made from it if the folder of runs has moved."""
    for place in (path, beside / path.name):
        manifest = read_manifest(place)
        if manifest is not None and manifest.fingerprint == fingerprint:
            return open_artifact(place)
    return None


def card(artifact: Artifact, repository: str | None = None) -> str:
    """The card as Markdown with a YAML head.

    Args:
        artifact: a complete one with records.
        repository: its name on the hub, for the title and the example.
    """
    before = upstream(artifact)
    made = [stage.artifact for stage in before if stage.artifact is not None] + [artifact]
    licences = _counted(artifact, "licence")
    if not licences:
        for one in made:
            licences += _counted(one, "licence")
    engines = {model: kind for one in made for kind, model in _engines(one.manifest.identity)}
    authors = _authors(artifact, engines)
    title = repository or f"{artifact.manifest.experiment}/{artifact.manifest.stage}"
    parts = [
        _head(artifact, licences, authors),
        f"# {title}",
        _notice(made, engines, authors),
        _contents(artifact, authors),
        _making(made, before),
        _models(made, engines),
        _lineage(artifact, made),
        _licences(licences, made, engines, authors),
        _cost(made),
        _use(licences, authors),
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


def _head(artifact: Artifact, licences: Mapping[str, int], authors: Authors) -> str:
    rows = artifact.num_rows
    tags = ["synthetic", "machine-generated"] if authors in ("models", "in part") else []
    tags += ["personas"] if authors in ("models", "in part", "people") else []
    head = {
        "pretty_name": f"{artifact.manifest.experiment} {artifact.manifest.stage}",
        "license": hub_licence(licences),
        "tags": [*tags, "persona-hub-harness"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False).strip()}\n---"


def hub_licence(licences: Mapping[str, int]) -> str:
    """The hub's identifier of the licence that binds the whole set.

    Records under a share-alike and non-commercial licence bind a set that holds them; any other mixture, and
    anything not stated, is `other`, which the card spells out.
    """
    known = {_HUB_LICENCES.get(licence.lower().strip(), "other") for licence in licences}
    if "cc-by-nc-sa-4.0" in known:
        return "cc-by-nc-sa-4.0"
    return known.pop() if len(known) == 1 else "other"


def _notice(made: Sequence[Artifact], engines: Mapping[str, str], authors: Authors) -> str:
    unread = "read by no one before they were published. They can be wrong, biased or made up."
    text = {
        "models": "**Machine-generated.** The texts in this data set were written by language models, at the request of a"
        f" program, and {unread}",
        "in part": "**Machine-generated in part.** Language models wrote some of the texts in this data set, at the"
        f" request of a program (where records have `machine_generated`, it says which). These were {unread}",
        "people": "**Written by people.** So the texts in this data set were declared (`machine_generated: false`) when"
        " they were read in.",
        "web": f"**Web texts.** The texts in this data set were collected, not generated: a program took them from"
        f" {_origin(made)}, left out what did not fit and shortened what was long. They belong to those who wrote"
        " them, stand under the licences listed below, and can be wrong or biased, or tell of real people.",
        "others": "**Collected.** The texts in this data set are as their sources have them; no model was asked for"
        " any of them when it was made.",
    }[authors]
    text = f"> {text}"
    if "simulated" in engines.values():
        text += (
            "\n>\n> **Simulated.** At least one of the models is this project's simulated teacher, which fills in"
            " templates. What it wrote is for testing pipelines and says nothing about any real model."
        )
    return text


def _origin(made: Sequence[Artifact]) -> str:
    """Where texts were read, by the config of the stage that read them, without folders of this machine."""
    for config in (one.manifest.config for one in made):
        if hub := config.get("hub"):
            parts = ", ".join(part for part in (hub.get("config"), hub.get("files"), hub.get("revision")) if part)
            return f"the hub's data set {hub['name']} ({parts})"
        if pajama := config.get("redpajama"):
            return "RedPajama v2 (" + ", ".join(f"{name} {value}" for name, value in pajama.items()) + ")"
        if urls := config.get("urls"):
            return f"{urls[0]}" + (f" and {len(urls) - 1:,} addresses more" if len(urls) > 1 else "")
        if path := config.get("path"):
            return f"`{Path(path).name}`"
    return "sources that were not at hand when this card was made"


def _contents(artifact: Artifact, authors: Authors) -> str:
    counts = artifact.manifest.counts
    lines = [f"## Contents\n\n{artifact.num_rows:,} records in {len(artifact.shard_names)} Parquet files."]
    rejected = sum(counts.rejected.values())
    if rejected:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in _most(counts.rejected))
        begun = "made" if authors in ("models", "in part") else "read"
        lines.append(f"{rejected:,} more were {begun} and dropped ({reasons}); they are not in here.")
    schema = _schema(artifact)
    lines.append("| field | type |\n|---|---|\n" + "\n".join(f"| `{f.name}` | {_type_name(f.type)} |" for f in schema))
    return "\n\n".join(lines)


def _type_name(kind: Any) -> str:
    text = str(kind)
    return text if len(text) < 40 else f"{text.split('<')[0]} of records"


def _making(made: Sequence[Artifact], before: Sequence[Upstream]) -> str:
    lines = ["## How it was made", "", "| stage | by | in | out | dropped |", "|---|---|---|---|---|"]
    for one in made:
        manifest, counts = one.manifest, one.manifest.counts
        lines.append(
            f"| {manifest.stage} | {manifest.module} version {manifest.version} | {counts.rows_in:,}"
            f" | {one.num_rows:,} | {sum(counts.rejected.values()):,} |"
        )
    gone = [f"{stage.name} ({stage.fingerprint})" for stage in before if stage.artifact is None]
    if gone:
        lines += ["", f"Not at hand when this card was made: {', '.join(gone)}."]
    last = made[-1].manifest
    lines += ["", f"Experiment `{last.experiment}`, fingerprint `{last.fingerprint}`, {last.created[:10]}."]
    return "\n".join(lines)


def _models(made: Sequence[Artifact], engines: Mapping[str, str]) -> str:
    lines = [f"- {model} (`{kind}`)" for model, kind in engines.items()]
    prompts = dict.fromkeys(prompt for one in made for prompt in _prompts(one.manifest.config, one.manifest.identity))
    told = [f"- `{Path(name).name}`, content {fingerprint[:12]}" for name, fingerprint in prompts]
    parts = []
    if lines:
        parts.append("## Models\n\n" + "\n".join(lines))
    if told:
        parts.append("## Prompts\n\nTemplates by name and hash of their text:\n\n" + "\n".join(told))
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
    """(name, hash) of every template: in the identity of a stage its hash stands where its config has the name."""
    if isinstance(config, Mapping) and isinstance(identity, Mapping):
        for key in config:
            name, fingerprint = config[key], identity.get(key)
            if key in ("template", "system") and isinstance(name, str) and isinstance(fingerprint, str):
                yield name, fingerprint
            else:
                yield from _prompts(name, fingerprint)
    elif isinstance(config, list | tuple) and isinstance(identity, list | tuple):
        for one, other in zip(config, identity, strict=False):
            yield from _prompts(one, other)


def _lineage(artifact: Artifact, made: Sequence[Artifact]) -> str:
    names = set(_schema(artifact).names)
    lines = [f"- `{name}`: {meaning}" for name, meaning in _LINEAGE.items() if name in names]
    if not lines:
        return ""
    text = "## Lineage\n\nEvery record can be followed back to the text it came from:\n\n" + "\n".join(lines)
    with_hops = [one for one in made if "hop" in _schema(one).names]
    if with_hops:
        hops = sorted(_counted(with_hops[-1], "hop").items(), key=lambda item: int(item[0]))
        told = ", ".join(f"hop {hop}: {number:,}" for hop, number in hops)
        text += f"\n\nPersonas by hop (text -> persona is hop 0, persona -> persona one more each): {told}."
    return text


def _licences(
    licences: Mapping[str, int], made: Sequence[Artifact], engines: Mapping[str, str], authors: Authors
) -> str:
    generated = authors in ("models", "in part")
    lines = [f"- {licence}: {number:,} records" for licence, number in _most(licences)]
    whose = "Of the source each record was made from:" if generated else "Of each record, as its source states it:"
    text = f"## Licences\n\n{whose}\n\n" + ("\n".join(lines) or "- not stated")
    sources: Counter[str] = Counter()
    for one in made:
        if "source" in _schema(one).names:
            sources = _counted(one, "source")  # the last stage that has them is the nearest
    if 0 < len(sources) <= _MOST_LISTED:
        text += "\n\nSources: " + ", ".join(f"{name} ({number:,})" for name, number in _most(sources)) + "."
    elif sources:
        text += f"\n\nSources: {len(sources):,} different ones, named in the records."
    if authors != "web" and any("nc" in licence.lower().replace("-", " ").split() for licence in licences):
        text += (
            "\n\nPersonas of the Persona Hub release and their like are CC BY-NC-SA 4.0: name them as the source, use what"
            " was made from them for non-commercial purposes only, and pass it on under the same licence."
        )
    if generated:
        text += f"\n\nTerms of the models {'named above' if engines else 'that wrote them'} may restrict what their output is used for."
    return text


def _cost(made: Sequence[Artifact]) -> str:
    total = Usage()
    for one in made:
        total = total.plus(one.manifest.usage)
    if not total.requests:
        return ""
    price = f"{total.cost_usd:,.2f} USD at the prices configured" if total.cost_usd else "no price was configured"
    return (
        f"## Cost\n\nAll stages together: {total.requests:,} requests, {total.prompt_tokens:,} prompt and"
        f" {total.completion_tokens:,} completion tokens; {price}."
    )


def _use(licences: Mapping[str, int], authors: Authors) -> str:
    commercial = " for non-commercial purposes" if "nc" in hub_licence(licences).split("-") else ""
    people = (
        "whom web texts may name without having asked them"
        if authors == "web"
        else "personas are invented, or inferred from public texts without regard to who wrote them, and reproduce the"
        " leanings of texts and models"
    )
    return (
        f"## Intended use\n\nResearch on synthetic data and training of language models{commercial}. Not for telling"
        f" anything about real people{', ' if authors == 'web' else ': '}{people}. Not as a reference for facts. Before"
        " you train on it and evaluate, check it against your benchmarks; what it was checked against stands among the"
        " stages above."
    )


def _schema(artifact: Artifact) -> Any:
    return pq.read_schema(artifact.path / f"{artifact.shard_names[0]}.parquet")


def _counted(artifact: Artifact, column: str) -> Counter[str]:
    """Values of a column with their numbers; empty where there is no such column."""
    if not artifact.shard_names or column not in _schema(artifact).names:
        return Counter()
    return Counter("not stated" if row[column] is None else str(row[column]) for row in artifact.rows([column]))


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_LISTED]
