"""Persona-to-Persona: who is in a close relationship with a persona?

Asked hop by hop. (paper, section 2.1)

    related_personas:
      run: personahub.persona_to_persona
      inputs: {personas: first_personas}
      config: {engine: teacher, hops: 6, breadth: 2, max_new: 100_000}

Each request asks for `breadth` related personas. The new personas are expanded in the same way, up to `hops`
times. The output contains the input personas and all new ones, each with its parent, relation and hop. With
`form: structured` the replies are JSON, and each new persona also has a profile (occupation, expertise, interests).

The first `breadth` distinct personas of a reply are kept. The summary counts those beyond that number
(`surplus_personas`) and those that replies lack (`missing_personas`).

The summary reports for each hop the number of personas, the growth factor, and the share of new ones. A persona
is new if it is not a near-duplicate, by surface form, of a persona of an earlier hop or the same hop.

Without a limit, one persona grows to breadth + breadth^2 + ... + breadth^hops. `max_new` limits the number of new
personas without cutting off the later hops. Every input persona is the root of a tree, and in each hop a fixed
number of its personas is expanded. If the budget is too small for all roots, some are not expanded. If it allows
fewer requests than hops, it makes one hop per request. The personas with the smallest hashes of ids are expanded,
so the choice does not depend on sharding.
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
from personahub.personas.plain_replies import normalise, read_people
from personahub.personas.profiles import (
    Form,
    PersonaReplies,
    Profile,
    Selection,
    count_difference,
    parse_profiles,
    reply_schema,
    report_differences,
    select_people,
)
from personahub.prompts import PROMPTS

VERSION = "4"
INPUTS = ("personas",)
WORK = Work(cpu_seconds=0.00017, memory_bytes=1400, measured_by="benchmarks.million")

_PAIR_TOKENS: dict[Form, int] = {"plain": 45, "structured": 115}  # a relation and a persona, with their labels or JSON
_ROOTS_AT_ONCE = 4096  # of a shard; limits the memory for wide trees


class Config(PersonaReplies):
    """How far and how wide to expand. The paper makes six iterations, for six degrees of separation."""

    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(
        default="persona_to_persona", description="Default: the template of the form."
    )
    hops: int = Field(default=6, ge=1, le=6)
    breadth: int = Field(default=2, gt=0, description="Related personas per request.")
    max_new: int | None = Field(default=None, ge=0, description="Maximum number of new personas over all hops.")
    new_threshold: float | None = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Jaccard similarity of words from which a persona is not new. Null: new personas are not counted "
        "(counting takes about 1.4 kB of memory per persona).",
    )

    @model_validator(mode="after")
    def _budget_allows_a_request(self) -> Config:
        if self.max_new and self.max_new < self.breadth:
            raise ValueError(
                f"max_new {self.max_new}: one request already adds breadth = {self.breadth} personas (use 0 to add none)"
            )
        return self

    @property
    def hops_reached(self) -> int:
        """Return the number of hops made. It is below `hops` if the budget does not allow a request for each."""
        return self.hops if self.max_new is None else min(self.hops, self.max_new // self.breadth)


@dataclass(frozen=True)
class Pair:
    """A related persona: the relation and the persona."""

    relation: str
    persona: str


@dataclass(frozen=True, slots=True)
class _Node:
    """A persona in the tree of `root`. `path` has the normalized personas from the root to this one."""

    row: Row
    root: str
    path: tuple[str, ...]


Width = Callable[[str], int | None]


def run(stage: Stage[Config]) -> None:
    """Expand `personas` by their relations, and report the number of personas per hop."""
    personas = stage.input("personas")
    width = widths(stage.config, (row["id"] for row in personas.rows(["id"])))

    async def process(stage: Stage[Config], shard: CompletionShard) -> None:
        for roots in _chunks(shard.rows(), _ROOTS_AT_ONCE):
            await _expand(stage.config, shard, roots, width)

    map_completions(stage, process, personas, PERSONA)
    report_differences(stage)
    hops = growth(stage.path, stage.config.new_threshold)
    stage.log({f"personas/hop_{hop['hop']}": hop["personas"] for hop in hops})
    stage.report(personas_by_hop={str(hop["hop"]): hop["personas"] for hop in hops}, growth=hops)


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


async def _expand(config: Config, shard: CompletionShard, roots: Sequence[Row], width: Width) -> None:
    """Write the roots and, hop by hop, their related personas."""
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
                count_difference(shard, result, config.breadth)
                grown += _children(config, shard, parent, result)


def _children(config: Config, shard: CompletionShard, parent: _Node, selection: Selection) -> list[_Node]:
    children = []
    for person in selection.people:
        row = _record(config, parent.row, person, selection.model)
        key = normalise(person.persona)
        if key in parent.path:
            shard.reject(
                row, Rejected("walks_back", f"already {len(parent.path) - parent.path.index(key)} hops before")
            )
            continue
        shard.write(row)
        children.append(_Node(row, parent.root, (*parent.path, key)))
    return children


def widths(config: Config, root_ids: Iterable[str]) -> Width:
    """Return how many personas of each tree to expand per hop, within `max_new`.

    The budget allows `n` requests per hop. Every root gets n // roots of them, and the roots with the smallest
    hashes get the rest. Takes 8 bytes per root. The result is a function of the root's id, and its value is None
    if there is no limit.
    """
    if config.max_new is None:
        return lambda _: None
    ranks = np.fromiter((_rank(config, root_id) for root_id in root_ids), dtype=np.uint64)
    base, rest = _shares(config, len(ranks))
    last = int(np.partition(ranks, rest - 1)[rest - 1]) if rest else -1
    return lambda root_id: base + (_rank(config, root_id) <= last)


def _shares(config: Config, roots: int) -> tuple[int, int]:
    """Return the requests per hop of every root, and how many roots get one more."""
    if not config.max_new or roots == 0:
        return 0, 0
    return divmod(config.max_new // (config.breadth * config.hops_reached), roots)


def _rank(config: Config, persona_id: str) -> int:
    return int(digest("expand", config.seed, persona_id, size=8), 16)


def select(config: Config, grown: Sequence[_Node], width: Width) -> list[_Node]:
    """Return the personas to expand next. They have the smallest hashes in each tree and keep their order."""
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
    """Return a function that makes the one request for a persona."""
    schema = None
    if config.form == "structured" and config.constrain:
        schema = reply_schema("related", config.breadth, relation=True, max_chars=config.max_chars)

    def of_persona(row: Row) -> list[Request]:
        messages = template.render(persona=escape_tags(row["persona"], "persona"), count=config.breadth)
        seed = derive_seed(config.seed, row["id"])
        return [Request(messages, config.sampling, seed, json_schema=schema, engine=config.engine)]

    return of_persona


def parse(config: Config) -> Callable[[Request, Completion], Selection]:
    """Return a parser of replies.

    See `parse_pairs`, `parse_profiles` and `select_people` for the reasons to reject a reply.
    """

    def reply(_: Request, completion: Completion) -> Selection:
        if config.form == "structured":
            people = parse_profiles(completion, "related", relation=True)
        else:
            people = [Profile(pair.persona, pair.relation) for pair in parse_pairs(completion)]
        return select_people(people, config.breadth, config.min_words, completion.model)

    return reply


def parse_pairs(completion: Completion, count: int | None = None) -> list[Pair]:
    """Return the distinct people of a plain reply with their relations, at most `count`.

    Raises:
        Rejected: see `read_people`.
    """
    return [Pair(person.relation, person.persona) for person in read_people(completion, relations=True)][:count]


def _record(config: Config, parent: Row, person: Profile, model: str) -> Row:
    return {
        "id": content_id("persona", person.persona, parent["id"], person.relation),
        "persona": person.persona,
        "document_id": parent["document_id"],
        "parent_id": parent["id"],
        "relation": person.relation,
        "hop": parent["hop"] + 1,
        "mode": parent["mode"],
        "granularity": None,
        "profile": person.to_json() if config.form == "structured" else None,
        "source": parent["source"],
        "licence": parent["licence"],
        "model": model,
        "machine_generated": True,
    }


def growth(folder: Path, threshold: float | None) -> list[dict[str, Any]]:
    """Count each hop's personas over all finished shards.

    A resumed run thus reports everything.

    Args:
        folder: the stage's folder, whose shards have the columns `id`, `persona` and `hop`.
        threshold: Jaccard similarity of words from which a persona is not new; None to skip the count.

    Returns:
        One entry per hop with `hop`, `personas`, `factor` (relative to the hop before; None for the first), `new`
        (personas without a near-duplicate in an earlier hop, or in the same hop with a smaller id) and `new_share`.
    """
    columns = ["hop"] if threshold is None else ["hop", "id", "persona"]
    files = sorted(folder.glob("[0-9]*.parquet"))
    table = pa.concat_tables([pq.read_table(file, columns=columns) for file in files]) if files else None
    if table is None or not len(table):
        return []
    if threshold is not None:
        table = table.set_column(
            2, "persona", table["persona"].cast(pa.large_string())
        )  # sorting concatenates its chunks
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
    """Return the requests of each hop in one root's tree, if every reply is usable."""
    asked, grown = [], 1
    for _ in range(config.hops_reached):
        asked.append(grown if width is None else min(width, grown))
        grown = asked[-1] * config.breadth
    return asked


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast one request per expanded persona. Repeated requests are not included."""
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
        notes=(f"assumes {prompt} tokens in and {answer} out per expanded persona",),
    )
