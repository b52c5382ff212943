"""Benchmarks are asked, graded and summed up; runs go on where they stopped; mistakes are one clear line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.benchmark import Config, forecast
from eval.grading.problem_sets import ProblemSetConfig, load_problems
from eval.stats.measures import wilson_interval
from personahub.core import records
from personahub.core.answers import CheckerPool, check
from personahub.core.artifact import Artifact
from personahub.core.config import identity_of, parse_config
from personahub.core.errors import UserError
from personahub.core.identity import content_id

Run = Callable[..., Artifact]


def reference(problem: str, answer: str, benchmark: str = "exam", **fields: Any) -> records.Row:
    row = {"id": content_id("reference", benchmark, problem), "benchmark": benchmark, "item": problem[:8]}
    return row | {"problem": problem, "answer": answer, "subject": None, "level": None} | fields


@pytest.fixture
def exam(build: Any, tmp_path: Path) -> Callable[..., Artifact]:
    """An eval.datasets artifact of the given rows."""

    def make(rows: list[records.Row], name: str = "exam", **summary: Any) -> Artifact:
        summary = {"benchmark": name, "problems": len(rows), **summary}
        return build(tmp_path / name, "eval.datasets", rows, records.REFERENCE, summary=summary)

    return make


@pytest.fixture
def evaluate(run: Run, engine: str, tmp_path: Path) -> Run:
    """Runs eval.benchmark with the arithmetic engine."""

    def one(inputs: dict[str, Artifact], name: str = "benchmark", model: str = "none", **config: Any) -> Artifact:
        engines = {"student": {"kind": engine, "model": model, "concurrency": 4}}
        return run(
            tmp_path / name, "eval.benchmark", inputs, {"engine": "student", "check_workers": 1, **config}, engines
        )

    return one


def test_accuracy_is_what_the_records_say(experiment: dict[str, Artifact]) -> None:
    summary = experiment["after"].manifest.summary
    rows = list(experiment["after"].rows())
    assert set(summary["benchmarks"]) == {"synthetic_test", "math"}
    for name, result in summary["benchmarks"].items():
        here = [row for row in rows if row["benchmark"] == name]
        verdicts = Counter(row["verdict"] for row in here)
        assert result["n"] == len(here) == sum(result["verdicts"].values())
        assert {label: count for label, count in result["verdicts"].items() if count} == dict(verdicts)
        assert result["correct"] == sum(check(row["reference"], row["completion"]).correct for row in here)
        assert result["truncated"] == sum(row["finish_reason"] == "length" for row in here) > 0
        interval = wilson_interval(result["correct"], result["n"])
        assert (result["low"], result["high"]) == pytest.approx((interval.low, interval.high), abs=1e-4)
    assert summary["benchmarks"]["math"]["verdicts"]["no_answer"] > 0


def test_every_problem_is_in_one_subject_and_one_level(experiment: dict[str, Artifact]) -> None:
    result = experiment["after"].manifest.summary["benchmarks"]["math"]
    for table in (result["by_subject"], result["by_level"]):
        assert sum(group["n"] for group in table.values()) == result["n"]
        assert sum(group["correct"] for group in table.values()) == result["correct"]
    cells = [cell for by_level in result["by_subject_and_level"].values() for cell in by_level.values()]
    assert sum(cell["n"] for cell in cells) == result["n"]


def test_the_model_input_is_what_is_evaluated(experiment: dict[str, Artifact]) -> None:
    before, after = (experiment[name].manifest.summary["benchmarks"]["synthetic_test"] for name in ("before", "after"))
    assert before["correct"] == 0
    assert after["accuracy"] > 0.3


def test_the_test_split_is_asked_as_it_was_trained(experiment: dict[str, Artifact]) -> None:
    test = {row["id"] for row in experiment["data"].rows() if row["split"] == "test"}
    asked = {row["id"] for row in experiment["after"].rows() if row["benchmark"] == "synthetic_test"}
    assert asked == test
    assert experiment["after"].manifest.summary["asked_as_trained"] is True


def test_another_prompt_is_said_to_be_another(experiment: dict[str, Artifact], evaluate: Run) -> None:
    found = evaluate({"data": experiment["data"]}, system_prompt="Answer in French.", limit=5)
    assert found.manifest.summary["asked_as_trained"] is False
    assert found.manifest.summary["benchmarks"]["synthetic_test"]["n"] == 5


def test_a_benchmark_that_could_not_be_had_is_skipped_aloud(experiment: dict[str, Artifact]) -> None:
    assert "no network" in experiment["after"].manifest.summary["skipped"]["gsm8k"]


def test_a_refused_problem_counts_as_an_error(exam: Any, evaluate: Run) -> None:
    rows = [reference("REFUSE 2 times 3 plus 4", "10"), reference("2 times 3 plus 4", "10")]
    artifact = evaluate({"exam": exam(rows)})
    result = artifact.manifest.summary["benchmarks"]["exam"]
    assert (result["n"], result["verdicts"]["correct"], result["verdicts"]["error"]) == (2, 1, 1)
    assert {row["rule"] for row in artifact.rows() if row["verdict"] == "error"} == {
        "engine: too_long: the prompt does not fit"
    }


def test_an_engine_that_refuses_everything_is_no_measurement(exam: Any, evaluate: Run) -> None:
    rows = [reference(f"REFUSE {i} times 3 plus 4", "10") for i in range(3)]
    with pytest.raises(UserError, match=r"'student' refused all 3 requests, the first with too_long"):
        evaluate({"exam": exam(rows)})


def test_references_are_checked_against_themselves(exam: Any, evaluate: Run) -> None:
    rows = [reference("1 2 3", r"\frac{1}{2}"), reference("4 5 6", " ")]
    checked = evaluate({"exam": exam(rows)}).manifest.summary["reference_self_check"]["exam"]
    assert (checked["checked"], checked["correct"]) == (2, 1)
    assert checked["failed"][0]["answer"] == " "


def test_a_limit_takes_the_same_problems_however_they_are_ordered(
    exam: Any, build: Any, evaluate: Run, tmp_path: Path
) -> None:
    rows = [reference(f"{i} times 3 plus 4", str(3 * i + 4)) for i in range(40)]
    first = evaluate({"exam": exam(rows)}, name="first", limit=10)
    shuffled = build(
        tmp_path / "shuffled", "eval.datasets", rows[::-1], records.REFERENCE, summary={"benchmark": "exam"}
    )
    second = evaluate({"exam": shuffled}, name="second", limit=10)
    assert [row["id"] for row in first.rows()] == [row["id"] for row in second.rows()]
    assert first.num_rows == 10


def test_a_killed_run_asks_nothing_twice(exam: Any, evaluate: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "skill.json").write_text(json.dumps({"skill": 0.5}))
    inputs = {"exam": exam([reference(f"{i} times 3 plus 4", str(3 * i + 4)) for i in range(25)])}
    whole = evaluate(inputs, model=str(model), rows_per_shard=10)
    expected = list(whole.rows())
    for name in ("manifest.json", "00001.parquet"):  # as after a kill: this shard has its journal only
        (whole.path / name).unlink()
    again = evaluate(inputs, model=str(model), rows_per_shard=10)
    asked = Counter((tmp_path / "model.asked.log").read_text().splitlines())
    assert list(again.rows()) == expected
    assert again.manifest.summary == whole.manifest.summary
    assert again.manifest.usage == whole.manifest.usage
    assert len(asked) == 25
    assert set(asked.values()) == {1}


def test_nothing_to_evaluate_is_one_clear_line(evaluate: Run, exam: Any, experiment: dict[str, Artifact]) -> None:
    with pytest.raises(UserError, match=r"name a benchmark, such as \{data: sft_data, math: math\}"):
        evaluate({}, name="none")
    with pytest.raises(UserError, match=r"inputs.personas: .* is not a benchmark of eval.datasets"):
        evaluate({"personas": experiment["personas"]}, name="personas")
    rows = [reference("2 times 3 plus 4", "10")]
    with pytest.raises(UserError, match="is already the benchmark 'exam'"):
        evaluate({"exam": exam(rows), "again": exam(rows)}, name="twice")


def test_data_without_a_test_split_is_skipped_aloud(
    build: Any, evaluate: Run, experiment: dict[str, Artifact], tmp_path: Path
) -> None:
    rows = [row for row in experiment["data"].rows() if row["split"] == "train"]
    data = build(tmp_path / "train_only", "synth.sft_data", rows, records.SFT)
    summary = evaluate({"data": data}).manifest.summary
    assert summary["benchmarks"] == {}
    assert "has no problems" in summary["skipped"]["synthetic_test"]


def test_the_forecast_counts_problems_not_models() -> None:
    config = Config.model_validate({"engine": "student", "limit": 200})
    found = forecast(config, {"data": 1_000_000, "math": 5000, "gsm8k": 50, "model": 7})
    assert found.rows_out == found.requests["student"].count == 450


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [("math", "math/test.jsonl", 5000), ("math500", "math/math500.jsonl", 500), ("gsm8k", "gsm8k/test.jsonl", 1319)],
)
def test_references_are_correct_against_themselves(test_data: Path, name: str, file: str, count: int) -> None:
    """All of them, as the stage checks them."""
    problems = load_problems(ProblemSetConfig.model_validate({"name": name, "path": str(test_data / file)}))
    with CheckerPool(2) as pool:
        labels = Counter(verdict.label for verdict in pool.check_many((p.answer, p.answer) for p in problems))
    assert labels == {"correct": count}


SAMPLING = {"temperature": 1.0, "max_tokens": 64}


@pytest.fixture
def half_right(tmp_path: Path) -> str:
    """A model that is right about half of the time."""
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "skill.json").write_text(json.dumps({"skill": 0.5}))
    return str(folder)


def test_several_samples_give_pass_and_majority_at_k(exam: Any, evaluate: Run, half_right: str) -> None:
    rows = [reference(f"{i} times 3 plus 4", str(3 * i + 4), level=str(i % 2), subject="Sums") for i in range(30)]
    artifact = evaluate({"exam": exam(rows)}, model=half_right, samples=4, sampling=SAMPLING)
    result = artifact.manifest.summary["benchmarks"]["exam"]
    samples = list(artifact.rows())
    assert Counter(row["sample"] for row in samples) == dict.fromkeys(range(4), 30)
    assert (result["n"], result["samples_per_problem"], sum(result["verdicts"].values())) == (30, 4, 120)
    by_problem = {id_: [row for row in samples if row["id"] == id_] for id_ in {row["id"] for row in samples}}
    solved = [sum(row["verdict"] == "correct" for row in problem) for problem in by_problem.values()]
    assert result["accuracy"] == result["pass_at_k"]["1"]["value"] == pytest.approx(sum(solved) / 120, abs=1e-4)
    assert result["correct"] == pytest.approx(sum(solved) / 4, abs=0.051)
    assert result["pass_at_k"]["4"]["value"] == pytest.approx(sum(c > 0 for c in solved) / 30, abs=1e-4)
    assert list(result["pass_at_k"]) == list(result["maj_at_k"]) == ["1", "2", "4"]
    for estimate in (*result["pass_at_k"].values(), *result["maj_at_k"].values(), *result["by_level"].values()):
        assert estimate["low"] <= estimate.get("value", estimate.get("accuracy")) <= estimate["high"]
    assert sum(part["n"] for part in result["by_level"].values()) == 30


def test_votes_are_clustered_by_equivalence_and_no_answer_has_none(exam: Any, evaluate: Run, half_right: str) -> None:
    rows = [reference(f"{i} times 3 plus 4", str(3 * i + 4)) for i in range(1, 30)]
    samples = list(evaluate({"exam": exam(rows)}, model=half_right, samples=6, sampling=SAMPLING).rows())
    seen = set()
    for row in rows:
        here = [sample for sample in samples if sample["id"] == row["id"]]
        for sample in here:
            assert (sample["cluster"] == -1) == (sample["predicted"] is None)
            same = {other["predicted"] for other in here if other["cluster"] == sample["cluster"]}
            assert len(same) == 1  # this engine writes equal numbers equally
            seen.add(sample["verdict"])
    assert seen == {"correct", "wrong", "no_answer"}


def test_greedy_samples_are_refused() -> None:
    with pytest.raises(UserError, match="4 greedy completions of a problem are all the same"):
        parse_config(Config, {"engine": "student", "samples": 4}, "stages.after.config")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"template": "few_shot"}, "add few_shot"),
        ({"few_shot": {"count": 2}}, "template solve shows no examples"),
        ({"template": "fewshot"}, "no such template. Use one of base, few_shot"),
    ],
)
def test_prompts_that_do_not_fit_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(Config, {"engine": "student", **values}, "stages.after.config")


def test_examples_and_templates_are_identity(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"problem": "1 + 1?", "solution": "\\boxed{2}"}) + "\n")

    def identity(**values: Any) -> dict[str, Any]:
        config = parse_config(Config, {"engine": "student", **values}, "stages.after.config")
        assert parse_config(Config, config.model_dump(mode="json"), "again") == config  # as a worker reads it back
        return identity_of(config, {"student": {}})

    shown = [{"count": 1}, {"count": 2}, {"count": 1, "path": str(mine)}]
    found = [identity(), *(identity(template="few_shot", few_shot=few_shot) for few_shot in shown)]
    assert len({json.dumps(one, sort_keys=True) for one in found}) == 4
    before = identity(template="few_shot", few_shot=shown[2])
    mine.write_text(json.dumps({"problem": "1 + 2?", "solution": "\\boxed{3}"}) + "\n")
    assert identity(template="few_shot", few_shot=shown[2]) != before


def test_the_template_stops_what_the_sampling_does_not() -> None:
    config = Config.model_validate(
        {"engine": "student", "template": "base", "sampling": {"temperature": 0, "stop": ["END"]}}
    )
    assert config.sampling_with_stop().stop == ("END", "\nProblem:")


SCRIPTED = """
import json
from personahub.core.engines import Completion, Engine, EngineConfig

class Config(EngineConfig):
    replies: dict[str, tuple[str, str]]

def open_engine(config):
    return Scripted(config)

class Scripted(Engine):
    def __init__(self, config):
        self.concurrency, self.replies = 1, config.replies

    async def complete(self, request):
        problem = request.messages[-1]["content"].splitlines()[0]
        text, finish_reason = self.replies[problem]
        return Completion(text, finish_reason, 1, 1, "scripted")
"""


def test_thoughts_and_cut_off_texts_do_not_score_by_their_draft(
    run: Run, exam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted/replies.py").write_text(SCRIPTED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    replies = {
        "a": ("<think>maybe \\boxed{4}. No: 17.</think>\n17", "stop", "17", "correct"),
        "b": ("<think>maybe \\boxed{4}", "length", "4", "no_answer"),
        "c": ("So she has 12 eggs and 17", "length", "17", "no_answer"),
        "d": ("So \\boxed{17}. To be sure, we", "length", "17", "correct"),
        "e": ("So she has 17 eggs left in the end of it all.", "stop", "17", "correct"),
        "f": ("I cannot solve it. There are 42 students.", "stop", "42", "no_answer"),
    }
    engine = {
        "kind": "scripted.replies",
        "model": "m",
        "replies": {key: (text, finish) for key, (text, finish, *_) in replies.items()},
    }
    rows = [reference(key, gold) for key, (_, _, gold, _) in replies.items()]
    config = {"engine": "student", "check_workers": 1}
    graded = run(tmp_path / "graded", "eval.benchmark", {"exam": exam(rows)}, config, {"student": engine})
    assert {row["problem"]: row["verdict"] for row in graded.rows()} == {
        key: reply[3] for key, reply in replies.items()
    }
    result = graded.manifest.summary["benchmarks"]["exam"]
    assert (result["correct"], result["as_stated"]["correct"]) == (3, 2)
    assert (result["accuracy"], result["as_stated"]["accuracy"]) == (0.5, 0.3333)
