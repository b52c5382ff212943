"""The report contains everything in the artifacts, and never treats text as markup."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eval.report.page import render_page
from eval.report.prose import prose
from eval.report.summary import in_order, read_metrics, summarize
from personahub.core import records
from personahub.core.artifact import Artifact, Source

Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def report(experiment: dict[str, Artifact], run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the report on the small experiment."""
    return run(tmp_path_factory.mktemp("report") / "report", "eval.report", experiment).path


@pytest.fixture(scope="module")
def summary(report: Path) -> dict[str, Any]:
    return json.loads((report / "summary.json").read_text(encoding="utf-8"))


def by_stage(summary: dict[str, Any]) -> dict[str, Any]:
    return {stage["stage"]: stage for stage in summary["stages"]}


def test_every_stage_has_its_counts_usage_and_time(summary: dict[str, Any], experiment: dict[str, Artifact]) -> None:
    stages = by_stage(summary)
    assert set(stages) == set(experiment)
    for name, artifact in experiment.items():
        manifest = artifact.manifest
        expected = {**manifest.counts.model_dump(), **manifest.usage.model_dump(), "seconds": manifest.seconds}
        assert {key: stages[name][key] for key in expected} == expected
    assert stages["verified"]["rejected"] == {"no_majority": 15}
    assert summary["data"] == [{"stage": "data", "train": 69, "test": 35}]
    assert summary["totals"]["requests"] == sum(stage["requests"] for stage in summary["stages"])


def test_the_student_before_and_after(summary: dict[str, Any], experiment: dict[str, Artifact]) -> None:
    for role in ("before", "after"):
        result = experiment[role].manifest.summary["benchmarks"]["synthetic_test"]
        shown = summary["student"][role]
        assert {key: shown[key] for key in ("n", "correct", "accuracy", "low", "high")} == {
            key: result[key] for key in ("n", "correct", "accuracy", "low", "high")
        }
    assert summary["student"]["before"]["accuracy"] < summary["student"]["after"]["accuracy"]


def test_roles_follow_the_artifacts_and_not_the_names(
    build: Any, experiment: dict[str, Artifact], tmp_path: Path
) -> None:
    results = experiment["after"].manifest.summary
    renamed = build(tmp_path / "before", "eval.benchmark", inputs={"model": experiment["model"]}, summary=results)
    judge = build(
        tmp_path / "after", "eval.benchmark", identity={"engine": {"kind": "openai", "model": "big"}}, summary=results
    )
    artifacts = [experiment["model"], experiment["base_model"], experiment["data"], renamed, judge]
    roles = {entry["stage"]: (entry["role"], entry["model"]) for entry in summarize("x", artifacts)["benchmarks"]}
    assert roles == {"before": ("after", "model"), "after": ("other", "big")}


def test_what_is_graded_anew_keeps_its_role(summary: dict[str, Any]) -> None:
    roles = {entry["stage"]: (entry["role"], entry["model"]) for entry in summary["benchmarks"]}
    assert roles["strict"] == roles["after"] == ("after", "model")
    assert summary["student"]["after"]["stage"] == "after"


def test_a_base_model_by_name_is_the_one_before_training(build: Any, tmp_path: Path) -> None:
    identity = {"engine": {"kind": "vllm", "model": "Qwen/Qwen2-7B"}}
    base = build(tmp_path / "base", "eval.benchmark", identity=identity)
    model = build(tmp_path / "model", "train.sft", config={"model": {"name_or_path": "Qwen/Qwen2-7B"}})
    (benchmark,) = summarize("x", [base, model])["benchmarks"]
    assert (benchmark["role"], benchmark["model"]) == ("before", "Qwen/Qwen2-7B")


def test_comparisons_are_shown_with_their_p_value(summary: dict[str, Any], report: Path) -> None:
    (comparison,) = summary["comparisons"]
    (pair,) = comparison["benchmarks"]["synthetic_test"]
    assert (pair["a"], pair["b"]) == ("before", "after")
    text = _Page((report / "index.html").read_text(encoding="utf-8")).text
    assert "comparison: paired comparison of runs" in text
    assert f"{100 * pair['difference']:+.1f}" in text
    assert f"{pair['p_holm']:.2g}" in text


def test_math_speaks_in_a_sentence(build: Any, experiment: dict[str, Artifact], tmp_path: Path) -> None:
    def statement(name: str, benchmarks: Any, skipped: Any) -> dict[str, Any]:
        summary = {"benchmarks": benchmarks, "skipped": skipped, "reference_self_check": {}}
        return summarize("x", [build(tmp_path / name, "eval.benchmark", summary=summary)])["math"]

    zero = {"kind": "benchmark", "n": 5000, "correct": 3, "accuracy": 0.0006, "low": 0.0002, "high": 0.0018}
    measured = statement("a", {"math": zero}, {})
    assert measured["status"] == "measured"
    assert "3 of 5,000 correct" in measured["statement"]
    assert "near zero" in measured["statement"]
    skipped = statement("b", {}, {"math": "no network"})
    assert (skipped["status"], skipped["statement"]) == ("skipped", "MATH was skipped: no network")
    assert statement("c", {}, {})["status"] == "not_asked_for"


def test_the_papers_quartiles_stand_beside_ours(summary: dict[str, Any]) -> None:
    levels = {level["level"]: level for level in summary["similarity"][0]["levels"]}
    assert levels[0.2]["paper"] == []
    assert levels[0.4]["paper"][0] == {"prompt": "no focus", "q1": 0.21, "median": 0.28, "q3": 0.34}
    assert {row["prompt"] for row in levels[0.9]["paper"]} == {"gpt-4o", "gpt-3.5-turbo"}


@pytest.mark.parametrize(
    ("medians", "expected"),
    [([0.2, 0.4, 0.6], "0.4, 0.6, 0.8yesyes"), ([0.2, 0.7, 0.6], "0.4, 0.6, 0.8nonot at 0.6")],
)
def test_the_papers_claims_are_tested(
    build: Any, run: Run, experiment: dict[str, Artifact], tmp_path: Path, medians: list[float], expected: str
) -> None:
    known = experiment["similarity"].manifest.summary
    levels = [
        {"level": level, "pairs": 50, "low": 0.0, "q1": 0.1, "median": median, "q3": 0.9, "high": 1.0}
        | {"mean": median, "mean_interval": [0.0, 1.0]}
        for level, median in zip((0.4, 0.6, 0.8), medians, strict=True)
    ]
    few = levels[0] | {"level": 0.9, "pairs": 2, "median": 0.0}
    found = [{"level": level["level"], "found": level["pairs"]} for level in (*levels, few)]
    summary = known | {
        "series": [known["series"][0] | {"levels": [*levels, few]}],
        "search": known["search"] | {"levels": found},
    }
    artifact = build(tmp_path / "similarity", "eval.similarity", summary=summary)
    page = _Page((run(tmp_path / "r", "eval.report", {"s": artifact}).path / "index.html").read_text(encoding="utf-8"))
    assert expected in page.text
    assert "Fewer than 100 pairs" in page.text


def test_errors_in_checking_are_pointed_out(build: Any, run: Run, tmp_path: Path) -> None:
    verdicts = {"correct": 1, "wrong": 0, "no_answer": 0, "timeout": 2, "error": 3}
    result = {"kind": "benchmark", "n": 6, "correct": 1, "accuracy": 0.1667, "low": 0.03, "high": 0.56}
    result |= {"verdicts": verdicts, "truncated": 0, "by_subject": {}, "by_level": {}}
    checked = {"exam": {"checked": 6, "correct": 4, "failed": []}}
    summary = {
        "benchmarks": {"exam": result},
        "skipped": {},
        "reference_self_check": checked,
        "asked_as_trained": False,
    }
    artifact = build(tmp_path / "bench", "eval.benchmark", summary=summary)
    page = _Page((run(tmp_path / "r", "eval.report", {"b": artifact}).path / "index.html").read_text(encoding="utf-8"))
    assert "3 could not be answered or checked and 2 timed out" in page.text
    assert "2 of 6 reference answers of Exam are not graded as correct when compared with themselves" in page.text
    assert "uses a different prompt than the training data" in page.text


def test_a_simulated_teacher_is_announced(summary: dict[str, Any], report: Path, build: Any, tmp_path: Path) -> None:
    assert summary["simulated_teacher"]["used"] is True
    assert "solutions" in summary["simulated_teacher"]["stages"]
    assert "say nothing about real language models" in (report / "index.html").read_text(encoding="utf-8")
    assert "say nothing about real language models" in (report / "report.md").read_text(encoding="utf-8")
    real = build(tmp_path / "real", "synth.problems", identity={"engine": {"kind": "openai", "model": "m"}})
    assert summarize("x", [real])["simulated_teacher"] == {"used": False, "stages": []}
    assert summarize("x", [real])["notice"] is None
    served = {"engine": {"kind": "openai", "model": "simulated-teacher"}}
    assert summarize("x", [build(tmp_path / "served", "synth.problems", identity=served)])["simulated_teacher"]["used"]


def test_votes_are_counted(summary: dict[str, Any]) -> None:
    (votes,) = summary["verification"]
    assert (votes["problems"], votes["accepted"]) == (120, 105)
    assert sum(level["problems"] for level in votes["agreement"]) == votes["accepted"]
    assert [level["vote_share"] for level in votes["agreement"]] == [1.0, 0.6667]
    assert votes["statuses"] == {"cot": {"answered": 210}, "pot": {"answered": 105}}


def test_solutions_kept_without_a_vote_are_called_that(
    build: Any, run: Run, experiment: dict[str, Artifact], tmp_path: Path
) -> None:
    rows = [
        row | {"vote_share": None, "policy": "none", "votes": [vote | {"cluster": None} for vote in row["votes"]]}
        for row in experiment["verified"].rows()
    ]
    verified = build(tmp_path / "verified", "synth.verify", rows, records.VERIFIED)
    path = run(tmp_path / "r", "eval.report", {"verified": verified}).path
    (votes,) = json.loads((path / "summary.json").read_text())["verification"]
    assert votes["agreement"] == [{"vote_share": None, "problems": 105}]
    assert "accepted without a vote" in _Page((path / "index.html").read_text(encoding="utf-8")).text


def test_stages_come_in_pipeline_order(experiment: dict[str, Artifact]) -> None:
    names = [artifact.name for artifact in in_order(list(reversed(list(experiment.values()))))]
    for earlier, later in (("documents", "personas"), ("solutions", "verified"), ("data", "model"), ("model", "after")):
        assert names.index(earlier) < names.index(later)


def test_metrics_of_a_resumed_run_are_read_once(build: Any, tmp_path: Path) -> None:
    artifact = build(tmp_path / "model", "train.sft")
    lines = [
        {"step": 5, "train/loss": 3.0},
        {"step": 10, "train/loss": 2.0},
        {"step": 10, "train/loss": 2.5},
        {"note": 1},
    ]
    cut_short = '{"step": 15, "train/lo'  # by a kill
    (artifact.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + cut_short)
    assert [(entry["step"], entry["train/loss"]) for entry in read_metrics(artifact)] == [(5, 3.0), (10, 2.5)]


class _Page(HTMLParser):
    """Tags, links and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.events: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [str(value) for key, value in attrs if key in ("src", "href", "action", "srcset", "data")]
        self.events += [key for key, _ in attrs if key.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_one_file_without_a_request(report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    page = _Page(html)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not re.search(r"url\((?!['\"]?data:)|@import", html)
    assert len(html.encode()) < 5_000_000
    assert page.tags.count("script") == 1
    assert page.tags.count("h1") == 1


def test_text_of_models_and_pages_stays_text(report: Path) -> None:
    page = _Page((report / "index.html").read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert page.events == []
    assert '<img src=x onerror="alert(1)"><b>bold</b> {{ 7 * 7 }}' in page.text


def test_samples_follow_a_problem_from_its_text_to_its_verdict(report: Path, experiment: dict[str, Artifact]) -> None:
    text = _Page((report / "index.html").read_text(encoding="utf-8")).text
    assert "Tide tables for the northern harbour" in text
    assert "hop 1 · colleague" in text
    assert "math item 17 (ngram, 13)" in text  # the contaminated one
    assert "rejected by verified: no_majority" in re.sub(r"\s+", " ", text)
    assert "I'm sorry, I cannot help with that." in text  # among the rejected examples


@pytest.mark.parametrize(
    ("losses", "drawn", "said"),
    [
        ([3.0, 2.0, math.nan, math.inf], 2, "model: the loss was not finite from step 15 on"),
        ([math.nan, math.nan, math.nan, math.nan], 0, "model: the loss was not finite from step 5 on"),
        ([3.0, math.inf, 2.0, 1.0], 3, "model: the loss was not finite at 1 of 4 logged steps"),
        ([3.0, 2.0, 1.5, 1.0], 4, ""),
    ],
)
def test_a_loss_that_is_not_finite_is_left_out_and_said(
    build: Any, run: Run, tmp_path: Path, losses: list[float], drawn: int, said: str
) -> None:
    summary = {"steps": 20, "examples": 9, "first_loss": losses[0], "final_loss": losses[-1]}
    model = build(tmp_path / "model", "train.sft", summary=summary)
    lines = [{"step": 5 * i, "train/loss": loss} for i, loss in enumerate(losses, start=1)]
    (model.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = run(tmp_path / "r", "eval.report", {"model": model}).path
    html = (path / "index.html").read_text(encoding="utf-8")
    assert html.count("<title>training loss, step") == drawn
    assert said in _Page(html).text
    assert ("not finite" in html) == bool(said)
    json.loads((path / "summary.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON


def test_a_gradient_that_is_not_finite_is_said(build: Any, run: Run, tmp_path: Path) -> None:
    """The trainer logs a loss of 0 where it was not finite; the gradient's norm tells."""
    model = build(tmp_path / "model", "train.sft", summary={"steps": 3, "first_loss": 3.0, "final_loss": 0.0})
    norms = (1.5, math.nan, math.nan)
    lines = [{"step": step, "train/loss": 0.0, "train/grad_norm": norm} for step, norm in enumerate(norms, start=1)]
    (model.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = (run(tmp_path / "r", "eval.report", {"model": model}).path / "index.html").read_text(encoding="utf-8")
    assert "model: the gradient was not finite from step 2 on" in html


def test_huge_texts_are_cut_and_say_so(build: Any, run: Run, experiment: dict[str, Artifact], tmp_path: Path) -> None:
    rows = [
        row | {"samples": [{**each, "text": "x" * 200_000} for each in row["samples"]]}
        for row in experiment["solutions"].rows()
    ]
    solutions = build(
        tmp_path / "solutions", "synth.solutions", rows, records.SOLUTIONS, inputs={"problems": experiment["problems"]}
    )
    path = run(tmp_path / "huge", "eval.report", experiment | {"solutions": solutions}, {"samples": 60}).path
    html = (path / "index.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 5_000_000
    assert "(197,000 more characters)" in html


def test_a_report_on_little_shows_little(experiment: dict[str, Artifact], run: Run, tmp_path: Path) -> None:
    path = run(tmp_path / "little", "eval.report", {"documents": experiment["documents"]}).path
    html = (path / "index.html").read_text(encoding="utf-8")
    assert 'id="funnel"' in html
    assert 'id="similarity"' not in html
    assert json.loads((path / "summary.json").read_text())["student"] is None
    assert run(tmp_path / "nothing", "eval.report", {}).num_rows == 0


def test_the_same_artifacts_give_the_same_report(
    report: Path, experiment: dict[str, Artifact], run: Run, tmp_path: Path
) -> None:
    again = run(tmp_path / "again", "eval.report", experiment).path
    for name in ("summary.json", "index.html", "report.md"):
        assert (again / name).read_bytes() == (report / name).read_bytes()


def test_code_and_formulas_are_set_apart() -> None:
    html = str(prose("Take $x<1$.\n```python\nprint('<b>')\n```\nSo \\boxed{2} & done"))
    assert 'alttext="x&lt;1"' in html
    assert "<pre><code>print(&#39;&lt;b&gt;&#39;)</code></pre>" in html
    assert "</math> &amp; done" in html


def test_several_samples_and_a_judge_are_shown(build: Any, run: Run, tmp_path: Path) -> None:
    value = {"value": 0.5, "low": 0.25, "high": 0.75}
    judge = {"model": "judge-7b", "asked": 321, "judge_accepts": 17, "judge_rejects": 4, "accuracy": 0.4321}
    result = {"kind": "benchmark", "n": 6, "correct": 1, "accuracy": 0.1667, "low": 0.03, "high": 0.56}
    result |= {"verdicts": dict.fromkeys(("correct", "wrong", "no_answer", "timeout", "error"), 0), "truncated": 0}
    result |= {"by_subject": {}, "by_level": {}, "judge": judge, "pass_at_k": {"8": value}, "maj_at_k": {"8": value}}
    summary = {"benchmarks": {"exam": result}, "skipped": {}, "reference_self_check": {}, "asked_as_trained": None}
    artifact = build(tmp_path / "bench", "eval.benchmark", summary=summary)
    text = _Page((run(tmp_path / "r", "eval.report", {"b": artifact}).path / "index.html").read_text()).text
    assert "50.0% (25.0–75.0)" in text
    assert all(shown in text for shown in ("judge-7b", "321", "17", "43.2%"))


def test_personas_are_shown_hop_by_hop(build: Any, run: Run, tmp_path: Path) -> None:
    growth = [
        {"hop": 0, "personas": 1234, "factor": None, "new": 1111, "new_share": 0.9003},
        {"hop": 1, "personas": 2345, "factor": 1.9003, "new": 1876, "new_share": 0.8},
    ]
    related = build(tmp_path / "kin", "personahub.persona_to_persona", summary={"growth": growth})
    path = run(tmp_path / "r", "eval.report", {"kin": related}).path
    text = _Page((path / "index.html").read_text(encoding="utf-8")).text
    assert "kin: personas by hop" in text
    assert all(shown in text for shown in ("1,234", "90.0%", "1.90", "1,876", "80.0%"))
    assert "| 1 | 2345 | 0.800 |" in (path / "report.md").read_text(encoding="utf-8")
    uncounted = build(
        tmp_path / "few",
        "personahub.persona_to_persona",
        summary={"growth": [{"hop": 0, "personas": 7, "factor": None}]},
    )
    assert 'id="personas"' in (run(tmp_path / "r2", "eval.report", {"few": uncounted}).path / "index.html").read_text()


def test_the_footer_names_the_commits_of_the_harness(build: Any, run: Any, tmp_path: Path) -> None:
    sources = [Source(commit="a" * 40, dirty=False), Source(commit="b" * 40, dirty=True), None]
    made = {f"s{i}": build(tmp_path / f"s{i}", "synth.problems", source=source) for i, source in enumerate(sources)}
    text = _Page(render_page(summarize("x", list(made.values())), [], {}, {}, {})).text
    assert f"Git commits of the harness: {'a' * 40}, {'b' * 40} with uncommitted changes." in text
    text = _Page(render_page(summarize("x", [made["s0"]], sources[0]), [], {}, {}, {})).text
    assert f"Git commit of the harness: {'a' * 40}." in text
    text = _Page(render_page(summarize("x", [made["s2"]]), [], {}, {}, {})).text
    assert "The git commit of the harness was not recorded" in text
