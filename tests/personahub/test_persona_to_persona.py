"""Persona-to-Persona: hops, budget, lineage, walking back, sharding and resuming."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from personahub.core.artifact import Artifact
from personahub.core.config import parse_config
from personahub.core.engines import Completion
from personahub.core.errors import Rejected, UserError
from personahub.persona_to_persona import Config, Pair, forecast, growth, parse_pairs, requests_per_hop, widths

ENGINE = '''
from typing import Annotated
from personahub.core.config import EXECUTION
from personahub.core.engines import Completion, Engine, EngineConfig, EngineUnavailable

class Config(EngineConfig):
    walk_back: bool = False
    fail_after: Annotated[int, EXECUTION] = 10**9
    log: Annotated[str, EXECUTION] = ""

def open_engine(config):
    return Toy(config)

class Toy(Engine):
    """Names two people in a seed's words. With `walk_back`, the second is always the first person of all."""
    def __init__(self, config):
        self.config, self.concurrency, self.calls = config, config.concurrency, 0
    async def complete(self, request):
        prompt = request.messages[-1]["content"]
        self.calls += 1
        if self.calls > self.config.fail_after:
            raise EngineUnavailable("the endpoint is gone")
        if self.config.log:
            with open(self.config.log, "a") as file:
                file.write("x")
        if "<text>" in prompt:
            lines = [f"Persona: A root of {request.seed}"]
        else:
            known = prompt.rpartition("<persona>")[2].partition("</persona>")[0].strip()
            root = known.rpartition(" via ")[2]
            second = f"The {root[2:].upper()}!" if self.config.walk_back else f"A baker {request.seed} via {root}"
            lines = ["Relation: colleague", f"Persona: A nurse {request.seed} via {root}"]
            lines += ["Relation: customer", f"Persona: {second}"]
        return Completion("\\n".join(lines), "stop", 10, 8, "toy-1")
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "toys_of_people").mkdir()
    (tmp_path / "toys_of_people/engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda **values: {"toy": {"kind": "toys_of_people.engine", "model": "toy", "concurrency": 3, **values}}


def stages(folder: Path, texts: int = 10, rows_per_shard: int = 4, **config: Any) -> dict[str, Any]:
    file = folder / f"texts{texts}.jsonl"
    file.write_text("".join(json.dumps({"text": f"text {i}", "licence": "CC0"}) + "\n" for i in range(texts)))
    source = {"path": str(file), "min_chars": 1, "rows_per_shard": rows_per_shard, "source": "made"}
    first = {"engine": "toy", "modes": ["read"], "personas_per_text": 1}
    return {
        "texts": {"run": "personahub.sources", "config": source},
        "first": {"run": "personahub.text_to_persona", "inputs": {"documents": "texts"}, "config": first},
        "related": {
            "run": "personahub.persona_to_persona",
            "inputs": {"personas": "first"},
            "config": {"engine": "toy", "breadth": 2, **config},
        },
    }


def by_hop(artifact: Artifact) -> dict[int, int]:
    return dict(sorted(Counter(row["hop"] for row in artifact.rows()).items()))


def reply(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, 1, 1, "toy")


PAIRS = "Relation: colleague\nPersona: A nurse\nRelation: a customer\nPersona: A baker"


@pytest.mark.parametrize(
    "text",
    [
        PAIRS,
        f"Sure! Two people:\n\n{PAIRS}\n",
        "1. **Relation:** colleague\n   **Persona:** A nurse\n2. **Relation:** a customer\n   **Persona:** A baker",
        PAIRS.replace("\n", "\n\n")
        .upper()
        .replace("A NURSE", "A nurse")
        .replace("A BAKER", "A baker")
        .replace("COLLEAGUE", "colleague")
        .replace("A CUSTOMER", "a customer"),
    ],
)
def test_replies_that_keep_the_contract(text: str) -> None:
    assert parse_pairs(reply(text), 2) == [Pair("colleague", "A nurse"), Pair("a customer", "A baker")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Persona: A nurse\nPersona: A baker", "unpaired_line"),
        ("Persona: A nurse\nRelation: colleague\nPersona: A baker\nRelation: customer", "unpaired_line"),
        ("Relation: colleague\nRelation: aunt\nPersona: A nurse\nPersona: A baker", "unpaired_line"),
        ("Relation: \nPersona: A nurse", "empty_line"),
        ("Relation: aunt\nPersona: ", "empty_line"),
        ("- A nurse who is a friend\n- A baker who is an aunt", "no_label"),
        ('["A nurse", "A baker"]', "no_label"),
        ("I cannot help with that.", "refusal"),
        ("colleague: a nurse", "no_label"),
    ],
)
def test_replies_that_break_it(text: str, expected: str) -> None:
    with pytest.raises(Rejected) as error:
        parse_pairs(reply(text), 2)
    assert error.value.reason == expected


@pytest.mark.parametrize(
    "text",
    [
        "Relation: colleague Persona: A nurse\nRelation: a customer Persona: A baker",
        "Relation: colleague; Persona: A nurse; Relation: a customer; Persona: A baker",
        "1. Relation: colleague | Persona: A nurse\n2. Relation: a customer | Persona: A baker",
        "Relationship: colleague\nPersona: A nurse\nRelationship: a customer\nPersona: A baker",
        "Relation 1: colleague\nPersona 1: A nurse\n\nRelation 2: a customer\nPersona 2: A baker",
        "Pair 1:\nRelation: colleague\nPersona: A nurse\n\nPair 2:\nRelation: a customer\nPersona: A baker",
        "**Relation:** colleague\n**Persona:** A nurse\n\n---\n\n**Relation:** a customer\n**Persona:** A baker",
        "- colleague: A nurse\n- a customer: A baker",
        "1. **colleague** - A nurse\n2. **a customer** - A baker",
        "1. colleague – A nurse\n2. a customer – A baker\n\nI hope this helps!",
        '[{"relation": "colleague", "persona": "A nurse"}, {"relation": "a customer", "persona": "A baker"}]',
        '{"related": [{"Relationship": "colleague", "Persona": "A nurse"}, {"relation": "a customer", "persona": "A baker"}]}',
        '{"relation": "colleague", "persona": "A nurse"}\n{"relation": "a customer", "persona": "A baker"}',
        PAIRS + "\nRelation: aunt\nPersona: A clerk",
        PAIRS + "\nRelation: aunt",
        PAIRS + "\n\nBoth know her well.",
        PAIRS + "\nPersona: A clerk\nRelation: aunt\nPersona: A smith",
        "Relation: colleague\nPersona: A nurse\nRelation: friend\nPersona: a NURSE.\n" + PAIRS.partition("nurse\n")[2],
        "Relation: aunt\nPersona:\n" + PAIRS,
    ],
)
def test_layouts_that_leave_no_doubt(text: str) -> None:
    assert parse_pairs(reply(text), 2) == [Pair("colleague", "A nurse"), Pair("a customer", "A baker")]


def test_what_is_missing_does_not_lose_the_rest() -> None:
    assert parse_pairs(reply("Relation: colleague\nPersona: A nurse"), 2) == [Pair("colleague", "A nurse")]
    second = "Relation: \nPersona: A nurse\nRelation: a customer\nPersona: A baker"
    assert parse_pairs(reply(second), 2) == [Pair("a customer", "A baker")]
    assert parse_pairs(reply(PAIRS.replace("baker", "NURSE ")), 2) == [Pair("colleague", "A nurse")]
    assert parse_pairs(reply(PAIRS, "length"), 2) == [Pair("colleague", "A nurse")]


def test_every_hop_is_asked_and_every_persona_names_its_parent(tmp_path: Path, run: Any, toy: Any) -> None:
    artifact = run(stages(tmp_path, texts=3, hops=3), toy())["related"]
    rows = {row["id"]: row for row in artifact.rows()}
    assert by_hop(artifact) == {0: 3, 1: 6, 2: 12, 3: 24}
    assert len(rows) == 45
    for row in rows.values():
        assert (row["licence"], row["source"], row["mode"], row["machine_generated"]) == ("CC0", "made", "read", True)
        if row["hop"] == 0:
            assert (row["parent_id"], row["relation"]) == (None, None)
        else:
            parent = rows[row["parent_id"]]
            assert parent["hop"] == row["hop"] - 1
            assert parent["document_id"] == row["document_id"]
            assert row["relation"] in ("colleague", "customer")
            assert row["persona"].rpartition(" via ")[2] == parent["persona"].rpartition(" via ")[2]
    assert artifact.manifest.summary["personas_by_hop"] == {"0": 3, "1": 6, "2": 12, "3": 24}
    growth = artifact.manifest.summary["growth"]
    assert [(hop["hop"], hop["factor"], hop["new_share"]) for hop in growth] == [
        (0, None, 1),
        (1, 2, 1),
        (2, 2, 1),
        (3, 2, 1),
    ]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0, {0: 10}),
        (2, {0: 10, 1: 2}),
        (11, {0: 10, 1: 2, 2: 2, 3: 2, 4: 2, 5: 2}),
        (12, {0: 10, 1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2}),
        (7 * 12 + 3, {0: 10} | dict.fromkeys(range(1, 7), 14)),
        (10 * 12, {0: 10} | dict.fromkeys(range(1, 7), 20)),
        (13 * 12, {0: 10, 1: 20} | dict.fromkeys(range(2, 7), 26)),
        (10**6, {hop: 10 * 2**hop for hop in range(7)}),
    ],
)
def test_the_budget_is_kept_and_reaches_the_last_hop(
    tmp_path: Path, run: Any, toy: Any, budget: int, expected: dict[int, int]
) -> None:
    config = Config(engine="toy", breadth=2, max_new=budget)
    artifact = run(stages(tmp_path, hops=6, max_new=budget), toy())["related"]
    assert by_hop(artifact) == expected
    assert artifact.num_rows <= 10 + budget
    plan = forecast(config, {"personas": 10})
    assert plan.rows_out == artifact.num_rows
    assert plan.requests["toy"].count == artifact.manifest.usage.requests


def test_results_do_not_depend_on_sharding(tmp_path: Path, run: Any, toy: Any) -> None:
    results = []
    for rows_per_shard in (1, 3, 100):
        config = stages(tmp_path, rows_per_shard=rows_per_shard, hops=4, max_new=60)
        artifact = run(config, toy(), f"by{rows_per_shard}")["related"]
        results.append(sorted(json.dumps(row, sort_keys=True) for row in artifact.rows()))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 66


def test_another_seed_expands_other_roots() -> None:
    ids = [f"{number:032x}" for number in range(1000)]
    chosen = []
    for seed in (0, 1):
        width = widths(Config(engine="e", seed=seed, breadth=1, hops=1, max_new=300), ids)
        chosen.append({root for root in ids if width(root)})
        assert {width(root) for root in ids} == {0, 1}
    assert [len(roots) for roots in chosen] == [300, 300]
    assert 50 < len(chosen[0] & chosen[1]) < 150


def test_nobody_walks_back_to_an_ancestor(tmp_path: Path, run: Any, toy: Any) -> None:
    artifact = run(stages(tmp_path, texts=2, hops=4), toy(walk_back=True))["related"]
    assert by_hop(artifact) == dict.fromkeys(range(5), 2)
    assert artifact.manifest.counts.rejected == {"walks_back": 8}
    rejected = defaultdict(list)
    for row in artifact.rejected():
        record = json.loads(row["record"])
        rejected[record["hop"]].append(row["detail"])
        assert record["parent_id"]
    assert {hop: set(details) for hop, details in rejected.items()} == {
        hop: {f"already {hop} hops before"} for hop in (1, 2, 3, 4)
    }


def test_an_interrupted_run_goes_on_and_asks_for_nothing_twice(tmp_path: Path, run: Any, toy: Any) -> None:
    config = stages(tmp_path, hops=3, max_new=54)
    whole = run(config, toy(log=str(tmp_path / "whole")), "whole")["related"]
    for fail_after in (13, 11, 1):
        with pytest.raises(UserError, match="the endpoint is gone"):
            run(config, toy(fail_after=fail_after, log=str(tmp_path / "torn")), "torn")
    torn = run(config, toy(log=str(tmp_path / "torn")), "torn")["related"]
    assert list(torn.rows()) == list(whole.rows())
    assert torn.manifest.usage == whole.manifest.usage
    first_stage, related = 10, whole.manifest.usage.requests
    assert len((tmp_path / "whole").read_text()) == first_stage + related
    assert len((tmp_path / "torn").read_text()) == first_stage + related


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hops": 7}, r"c\.hops: .*less than or equal to 6"),
        ({"hops": 0}, r"c\.hops: "),
        ({"breadth": 0}, r"c\.breadth: "),
        ({"max_news": 5}, "Did you mean 'max_new'"),
        ({"max_new": 1}, "max_new 1: one request already adds breadth = 2 personas"),
    ],
)
def test_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(Config, {"engine": "e", **values}, "c")


def test_requests_per_hop() -> None:
    config = Config(engine="e", hops=4, breadth=3)
    assert requests_per_hop(config, None) == [1, 3, 9, 27]
    assert requests_per_hop(config, 1) == [1, 1, 1, 1]
    assert requests_per_hop(config, 5) == [1, 3, 5, 5]
    assert requests_per_hop(config, 0) == [0, 0, 0, 0]
    assert forecast(config, {"personas": 0}).rows_out == 0


def test_growth_counts_what_is_new(tmp_path: Path) -> None:
    rows = [(0, "A nurse in Oslo"), (0, "a NURSE in Oslo."), (1, "Oslo: a nurse in it"), (1, "A baker"), (2, "A baker")]
    for number, part in enumerate((rows[:3], rows[3:])):
        table = pa.table({"hop": [hop for hop, _ in part], "id": [f"{number}{i}" for i in range(len(part))]})
        pq.write_table(table.append_column("persona", [[text for _, text in part]]), tmp_path / f"0000{number}.parquet")
    entries = growth(tmp_path, 0.9)
    assert [(entry["personas"], entry["new"], entry["factor"]) for entry in entries] == [
        (2, 1, None),
        (2, 2, 1),
        (1, 0, 0.5),
    ]
    assert [entry["personas"] for entry in growth(tmp_path, None)] == [2, 2, 1]
    assert "new" not in growth(tmp_path, None)[0]
    assert growth(tmp_path / "nowhere", 0.9) == []
