"""Writes the dataset card of an artifact: contents, origin, licenses and cost.

    text = dataset_card(open_artifact("runs/paper_math_7b/problems"))      # Markdown after a YAML head, for the Hub

Everything is read from the artifact, its records and the manifests of the stages it was made from. The card names
those stages whose artifacts no longer exist.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import pyarrow.parquet as pq
import yaml

from personahub.core.artifact import Artifact, Usage, open_artifact, read_manifest
from personahub.core.records import DOCUMENT

_TEMPLATE = Path(__file__).with_suffix(".md")
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
    licenses = _counted(artifact, "licence") or sum((_counted(one, "licence") for one in made), Counter())
    engines = {model: kind for one in made for kind, model in _engines(one.manifest.identity)}
    prompts = dict.fromkeys(prompt for one in made for prompt in _prompts(one.manifest.config, one.manifest.identity))
    authors = _authors(artifact, engines)
    names = set(_schema(artifact).names)
    # The last stage that has sources or hops is the nearest one.
    sources, hops = (
        next(filter(None, (_counted(one, name) for one in reversed(made))), {}) for name in ("source", "hop")
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701 - Markdown
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return (
        template.render(
            artifact=artifact,
            authors=authors,
            engines=engines,
            generated=authors in ("models", "in part"),
            gone=[stage for stage in before if stage.artifact is None],
            head=_head(artifact, licenses, authors),
            hops=sorted(hops.items(), key=lambda item: int(item[0])),
            last=artifact.manifest,
            licenses=licenses,
            lineage={name: meaning for name, meaning in _LINEAGE.items() if name in names},
            made=made,
            most_common=_most_common,
            most_listed=_MAX_LISTED,
            noncommercial="nc" in hub_license(licenses).split("-"),
            noncommercial_source=any("nc" in name.lower().replace("-", " ").split() for name in licenses),
            origin=_origin(made),
            prompts=[(Path(name).name, fingerprint) for name, fingerprint in prompts],
            schema=_schema(artifact),
            sources=sources,
            title=repository or f"{artifact.manifest.experiment}/{artifact.manifest.stage}",
            usage=functools.reduce(Usage.plus, (one.manifest.usage for one in made), Usage()),
        )
        + "\n"
    )


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
    return yaml.safe_dump(head, sort_keys=False).strip()


def hub_license(licenses: Mapping[str, int]) -> str:
    """Return the Hub's identifier of the license of the whole dataset.

    One record under a share-alike and non-commercial license binds the whole dataset. Any other mixture, or a license
    that is not stated, gives `other`; the card lists the details.
    """
    known = {_HUB_LICENSES.get(name.lower().strip(), "other") for name in licenses}
    if "cc-by-nc-sa-4.0" in known:
        return "cc-by-nc-sa-4.0"
    return known.pop() if len(known) == 1 else "other"


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


def _schema(artifact: Artifact) -> Any:
    return pq.read_schema(artifact.path / f"{artifact.shard_names[0]}.parquet")


def _counted(artifact: Artifact, column: str) -> Counter[str]:
    """Count the values of a column; empty if there is no such column."""
    if not artifact.shard_names or column not in _schema(artifact).names:
        return Counter()
    return Counter("not stated" if row[column] is None else str(row[column]) for row in artifact.rows([column]))


def _most_common(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MAX_LISTED]
