"""Persona-to-Persona: who is in a close relationship with a persona? Asked hop by hop. (paper, section 2.1)

    related_personas:
      run: personahub.persona_to_persona
      inputs: {personas: first_personas}
      config: {engine: teacher, hops: 6, breadth: 2, max_new: 100_000}

Each request names `breadth` related personas; they are asked in turn, `hops` times. The output holds
the input personas and all new ones, each with its parent, relation and hop. With `form: structured`
the replies are JSON, and each new persona has a profile (occupation, expertise, interests) as well.

The summary tells, for each hop, how many personas there are, by what factor they grew, and what
share of them says something new: no near-duplicate, by surface form, of a persona of an earlier hop
or of its own.

Unlimited, one persona grows to breadth + breadth^2 + ... + breadth^hops. `max_new` bounds what is
added without cutting off the far hops: every input persona is the root of a tree that is expanded at
a fixed number of places per hop, and where the budget allows no place for some, their roots stay
alone. A budget of fewer requests than hops makes as many hops as it has requests. Places go to the
smallest hashes of ids, so the same personas are asked under any sharding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from personahub.core.config import TemplateFolder
from personahub.core.duplicates import surface
from personahub.core.engines import Completion, Request
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Work
from personahub.core.generation.llm_stage import PERSONA_TOKENS, estimate_tokens, forecast_requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import content_id, derive_seed, digest
from personahub.core.records import PERSONA, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from personahub.core.texts.replies import escape_tags
from personahub.personas.labelled_replies import labelled_lines, normalise, require_distinct
from personahub.personas.profiles import Form, PersonaReplies, Profile, parse_profiles, reply_schema
from personahub.prompts import PROMPTS

VERSION = "3"
INPUTS = ("personas",)
WORK = Work(cpu_seconds=0.00017, memory_bytes=1400, measured_by="benchmarks.million")

_PAIR_TOKENS: dict[Form, int] = {"plain": 45, "structured": 115}  # a relation and a persona with what is around
_ROOTS_AT_ONCE = 4096  # of a shard; bounds what a wide tree holds in memory


class Config(PersonaReplies):
    """How far and how wide to expand. The paper makes six iterations: six degrees of separation."""

    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(
        default="persona_to_persona", description="By default that of the form."
    )
    hops: int = Field(default=6, ge=1, le=6)
    breadth: int = Field(default=2, gt=0, description="Related personas that one request asks for.")
    max_new: int | None = Field(default=None, ge=0, description="At most so many personas are added, over all hops.")
    new_threshold: float | None = Field(
        default=0.9,
        gt=0,
        le=1,
        description="A persona whose words have this Jaccard similarity with another's is nothing new; null: not counted "
        "(counting takes some 1.4 kB of memory a persona).",
    )

    @model_validator(mode="after")
    def _budget_allows_a_request(self) -> Config:
        if self.max_new and self.max_new < self.breadth:
            raise ValueError(
                f"max_new {self.max_new}: one request already adds breadth = {self.breadth} personas (0 adds none)"
            )
        return self

    @property
    def hops_reached(self) -> int:
        """Fewer than `hops` where the budget has no request for each."""
        return self.hops if self.max_new is None else min(self.hops, self.max_new // self.breadth)


@dataclass(frozen=True)
class Pair:
    """One other person: what they are to the one asked about, who that is, and a profile as JSON if one was asked for."""

    relation: str
    persona: str
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class _Node:
    """A persona in the tree of `root`. `path` holds the normalised personas from the root to itself."""

    row: Row
    root: str
    path: tuple[str, ...]


Width = Callable[[str], int | None]


def run(stage: Stage[Config]) -> None:
    """Expand `personas` by their relations; report how many there are of each hop."""
    personas = stage.input("personas")
    width = widths(stage.config, (row["id"] for row in personas.rows(["id"])))

    async def process(stage: Stage[Config], shard: CompletionShard) -> None:
        for roots in _chunks(shard.rows(), _ROOTS_AT_ONCE):
            await _expand(stage.config, shard, roots, width)

    map_completions(stage, process, personas, PERSONA)
    hops = growth(stage.path, stage.config.new_threshold)
    stage.log({f"personas/hop_{hop['hop']}": hop["personas"] for hop in hops})
    stage.report(personas_by_hop={str(hop["hop"]): hop["personas"] for hop in hops}, growth=hops)


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


async def _expand(config: Config, shard: CompletionShard, roots: Sequence[Row], width: Width) -> None:
    """Write the roots and, hop by hop, what grows out of them."""
    for row in roots:
        shard.write(row)
    asking = prompts(config, load_template(config.template, PROMPTS))
    grown = [_Node(row, row["id"], (normalise(row["persona"]),)) for row in roots]
    for _ in range(config.hops_reached):
        asked = select(config, grown, width)
        grown = []
        parents = iter(asked)
        replies = shard.generate((node.row for node in asked), asking, parse(config), config.attempts)
        async for row, (result,) in replies:
            parent = next(parents)
            if isinstance(result, Failure):
                shard.reject(row, result.error, result.raw)
            else:
                grown += _children(shard, parent, *result)


def _children(shard: CompletionShard, parent: _Node, pairs: Sequence[Pair], model: str) -> list[_Node]:
    children = []
    for pair in pairs:
        row = _record(parent.row, pair, model)
        key = normalise(pair.persona)
        if key in parent.path:
            shard.reject(
                row, Rejected("walks_back", f"already {len(parent.path) - parent.path.index(key)} hops before")
            )
            continue
        shard.write(row)
        children.append(_Node(row, parent.root, (*parent.path, key)))
    return children


def widths(config: Config, root_ids: Iterable[str]) -> Width:
    """How many personas of each root's tree are asked per hop, so that all trees keep within `max_new`.

    The budget allows `n` requests per hop in all; n // roots of them go to every root and the rest to
    the roots of the smallest hashes. Costs 8 bytes per root. Returns a function of the root's id; its
    value is None where there is no limit.
    """
    if config.max_new is None:
        return lambda _: None
    ranks = np.fromiter((_rank(config, root_id) for root_id in root_ids), dtype=np.uint64)
    base, rest = _shares(config, len(ranks))
    last = int(np.partition(ranks, rest - 1)[rest - 1]) if rest else -1
    return lambda root_id: base + (_rank(config, root_id) <= last)


def _shares(config: Config, roots: int) -> tuple[int, int]:
    """Requests per hop that every root gets, and how many roots get one more."""
    if not config.max_new or roots == 0:
        return 0, 0
    return divmod(config.max_new // (config.breadth * config.hops_reached), roots)


def _rank(config: Config, persona_id: str) -> int:
    return int(digest("expand", config.seed, persona_id, size=8), 16)


def select(config: Config, grown: Sequence[_Node], width: Width) -> list[_Node]:
    """The personas to ask next: of each tree those of the smallest hashes, in the order they came."""
    by_root: dict[str, list[_Node]] = {}
    for node in grown:
        by_root.setdefault(node.root, []).append(node)
    selected = []
    for root, nodes in by_root.items():
        limit = width(root)
        if limit is not None and limit < len(nodes):
            chosen = {node.row["id"] for node in sorted(nodes, key=lambda n: _rank(config, n.row["id"]))[:limit]}
            nodes = [node for node in nodes if node.row["id"] in chosen]
        selected += nodes
    return selected


def prompts(config: Config, template: Template) -> Callable[[Row], list[Request]]:
    """The one request about a persona."""
    schema = None
    if config.form == "structured" and config.constrain:
        schema = reply_schema("related", config.breadth, relation=True, max_chars=config.max_chars)

    def of_persona(row: Row) -> list[Request]:
        messages = template.render(persona=escape_tags(row["persona"], "persona"), count=config.breadth)
        seed = derive_seed(config.seed, row["id"])
        return [Request(messages, config.sampling, seed, json_schema=schema, engine=config.engine)]

    return of_persona


def parse(config: Config) -> Callable[[Request, Completion], tuple[list[Pair], str]]:
    """Parser of a reply into (pairs, model); see `parse_pairs` and `parse_profiles` for the reasons to reject."""

    def reply(_: Request, completion: Completion) -> tuple[list[Pair], str]:
        if config.form == "structured":
            profiles = parse_profiles(completion, "related", config.breadth, relation=True)
            return [_pair(profile) for profile in profiles], completion.model
        return parse_pairs(completion, config.breadth), completion.model

    return reply


def _pair(profile: Profile) -> Pair:
    return Pair(profile.relation, profile.persona, profile.to_json())


def parse_pairs(completion: Completion, count: int) -> list[Pair]:
    """The pairs of a reply of `count` times two lines, `Relation: ...` and `Persona: ...`.

    Raises:
        Rejected: `truncated`, `refusal`, `no_label`, `unlabelled_line`, `empty_line`, `unpaired_line`,
            `wrong_count` or `repeated_persona`.
    """
    lines = labelled_lines(completion)
    for index, line in enumerate(lines):
        if line.label != ("relation", "persona")[index % 2]:
            raise Rejected("unpaired_line", f"labelled line {index + 1} is a {line.label}")
    if len(lines) % 2:
        raise Rejected("unpaired_line", "the last relation has no persona")
    pairs = [Pair(relation.text, persona.text) for relation, persona in zip(lines[::2], lines[1::2], strict=True)]
    require_distinct([pair.persona for pair in pairs], count)
    return pairs


def _record(parent: Row, pair: Pair, model: str) -> Row:
    return {
        "id": content_id("persona", pair.persona, parent["id"], pair.relation),
        "persona": pair.persona,
        "document_id": parent["document_id"],
        "parent_id": parent["id"],
        "relation": pair.relation,
        "hop": parent["hop"] + 1,
        "mode": parent["mode"],
        "granularity": None,
        "profile": pair.profile,
        "source": parent["source"],
        "licence": parent["licence"],
        "model": model,
        "machine_generated": True,
    }


def growth(folder: Path, threshold: float | None) -> list[dict[str, Any]]:
    """What each hop brought, over all finished shards, so that a resumed run reports the whole.

    Args:
        folder: the stage's; its shards have the columns `id`, `persona` and `hop`.
        threshold: Jaccard similarity of the words at which a persona is nothing new; None: not counted.

    Returns:
        one entry per hop with `hop`, `personas`, `factor` (to the hop before; None at the first), `new` (of them,
        without near-duplicate in an earlier hop or among its own with a smaller id) and `new_share`.
    """
    columns = ["hop"] if threshold is None else ["hop", "id", "persona"]
    files = sorted(folder.glob("[0-9]*.parquet"))
    table = pa.concat_tables([pq.read_table(file, columns=columns) for file in files]) if files else None
    if table is None or not len(table):
        return []
    if threshold is not None:
        table = table.set_column(2, "persona", table["persona"].cast(pa.large_string()))  # sorting joins its chunks
        table = table.sort_by([("hop", "ascending"), ("id", "ascending")])
    numbers = table["hop"].to_numpy()
    hops, counts = np.unique(numbers, return_counts=True)
    entries: list[dict[str, Any]] = []
    for hop, count in zip(hops.tolist(), counts.tolist(), strict=True):
        factor = count / entries[-1]["personas"] if entries else None
        entries.append({"hop": hop, "personas": count, "factor": factor})
    if threshold is not None:
        kept = numbers[surface.deduplicate(table["persona"], threshold).kept]
        for entry in entries:
            entry["new"] = int((kept == entry["hop"]).sum())
            entry["new_share"] = entry["new"] / entry["personas"]
    return entries


def requests_per_hop(config: Config, width: int | None) -> list[int]:
    """Requests of each hop in one root's tree, if every reply qualifies."""
    asked, grown = [], 1
    for _ in range(config.hops_reached):
        asked.append(grown if width is None else min(width, grown))
        grown = asked[-1] * config.breadth
    return asked


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per persona asked; replies that have to be asked for again are not foreseen."""
    roots = rows_in["personas"]
    if config.max_new is None:
        count = roots * sum(requests_per_hop(config, None))
    else:
        base, rest = _shares(config, roots)
        count = rest * sum(requests_per_hop(config, base + 1)) + (roots - rest) * sum(requests_per_hop(config, base))
    messages = load_template(config.template, PROMPTS).render(persona="", count=config.breadth)
    prompt, answer = estimate_tokens(messages) + PERSONA_TOKENS, config.breadth * _PAIR_TOKENS[config.form]
    new = count * config.breadth
    return Forecast(
        rows_out=roots + new,
        requests=forecast_requests((config.engine, count, prompt, answer)),
        disk_bytes=(roots + new) * 350,
        notes=(f"assumes {prompt} tokens in and {answer} out per persona asked",),
    )
