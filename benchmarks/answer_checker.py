"""Compare the answer checker with other checkers: accuracy, false accepts and rejects, speed, hangs.

    python benchmarks/answer_checker.py --math MATH/test.jsonl

One run prints five tables:

1. every checker on the labeled pairs and the hostile inputs of tests/core/data. Each checker runs in a separate
   process, gets one pair at a time, and is killed after `--deadline` seconds (a hang)
2. pairs that were labeled before the checker saw them: its first verdicts, which the files keep, and today's
3. this checker by category
4. this checker on MATH: references against themselves, rewritten, against other problems' and against near misses
5. checks from 8 threads (`--checks`), some of them hostile: hangs, leftover processes, memory, throughput

The other checkers are installed into separate environments below `--folder` on first use.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import subprocess
import sys
import threading
import time
import venv
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from personahub.core.answers import CheckerPool, check

SCRIPT = Path(__file__).with_name("answer_checker_tools.py")
DATA = Path(__file__).parents[1] / "tests" / "core" / "data"
LATEX = ("sympy==1.14.0", "antlr4-python3-runtime==4.11.1")
SLIPS = [
    *[("<", ">"), ("\\le ", "\\ge "), ("\\ge ", "\\le "), ("+", "-"), ("-", "+"), ("\\sqrt", ""), ("\\pi", "")],
    *[("\\cup", "\\cap"), ("\\sin", "\\cos"), ("\\cos", "\\sin"), ("\\infty", "0"), ("\\pm", "")],
]
# Name: pip arguments of each install step. None means this environment.
PEERS: dict[str, tuple[tuple[str, ...], ...] | None] = {
    "personahub": None,
    "personahub, reader alone": None,
    "math-verify": None,
    "prm800k": (("mathruler==0.1.0", "pylatexenc==2.10", "tqdm", *LATEX),),
    "minerva": (("--no-deps", "lm-eval==0.4.13"), ("math-verify==0.9.0", *LATEX)),
    "hendrycks": (("--no-deps", "lm-eval==0.4.13"), ("math-verify==0.9.0", *LATEX)),
    "inspect": (("inspect-ai==0.3.285", "latex2sympy2-extended==1.11.0", *LATEX),),
}


@dataclass(frozen=True)
class Pair:
    """A reference, a prediction and whether they are the same answer; `text` marks whole completions."""

    gold: str
    pred: str
    equivalent: bool
    category: str
    text: bool = False


@dataclass
class Score:
    """The verdicts of one checker on the pairs."""

    wrong: list[Pair] = field(default_factory=list)
    cpu: float = 0.0
    hangs: int = 0
    crashes: int = 0

    def false(self, accepted: bool) -> int:
        return sum(pair.equivalent != accepted for pair in self.wrong)


def read_pairs(path: Path) -> list[Pair]:
    """Read labeled pairs: JSON lines with gold, pred, equivalent, category; `text` marks pred as a completion."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [row.get("text", row["category"] == "extraction") for row in rows]
    return [
        Pair(row["gold"], row["pred"], row["equivalent"], row["category"], text)
        for row, text in zip(rows, texts, strict=True)
    ]


def read_hostile(path: Path) -> list[Pair]:
    """Read hostile inputs, which are stored as (piece, repetitions)."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [{name: "".join(piece * times for piece, times in row[name]) for name in ("gold", "pred")} for row in rows]
    return [Pair(text["gold"], text["pred"], False, "hostile", text=True) for text in texts]


class Tool:
    """The process of a checker, which is restarted after a kill."""

    def __init__(self, name: str, python: Path, deadline: float) -> None:
        self.name, self.python, self.deadline = name, python, deadline
        self.process: subprocess.Popen[str] | None = None

    def ask(self, pair: Pair) -> tuple[bool | str, float]:
        """Return the verdict and the CPU seconds it took; a text verdict names a crash or a hang."""
        process = self._running()
        try:
            print(json.dumps([pair.gold, pair.pred, pair.text]), file=process.stdin, flush=True)
        except BrokenPipeError:
            return self._end("crash")
        line = self._line(process, self.deadline)
        if line is None:
            return self._end("hang")
        if not line:
            return self._end("crash")
        verdict, cpu = json.loads(line)
        return verdict, cpu

    def close(self) -> None:
        if self.process is not None:
            self._end("closed")

    def _running(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                [self.python, SCRIPT, self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
            if not self._line(self.process, 120):
                raise SystemExit(f"{self.name} did not start: try {self.python} {SCRIPT} {self.name}")
        return self.process

    @staticmethod
    def _line(process: subprocess.Popen[str], seconds: float) -> str | None:
        """Return a reply, "" at the end of output, or None at the deadline. Only one question is open at a time."""
        if process.stdout is None or not select.select([process.stdout], [], [], seconds)[0]:
            return None
        return process.stdout.readline()

    def _end(self, what: str) -> tuple[str, float]:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None
        return what, self.deadline


def interpreter(name: str, folder: Path) -> Path:
    """Return the Python of the tool's environment, which is made on first use."""
    steps = PEERS[name]
    if steps is None:
        return Path(sys.executable)
    home = folder / ("minerva" if name == "hendrycks" else name)
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        for step in steps:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *step], check=True)
    return python


def score(tool: Tool, pairs: list[Pair]) -> Score:
    """Ask one checker everything. Anything that is not a verdict counts as a rejection."""
    result = Score()
    for pair in pairs:
        verdict, cpu = tool.ask(pair)
        result.cpu += cpu
        result.hangs += verdict == "hang"
        result.crashes += isinstance(verdict, str) and verdict != "hang"
        if (verdict is True) != pair.equivalent:
            result.wrong.append(pair)
    return result


def compare_checkers(names: list[str], pairs: list[Pair], hostile: list[Pair], options: argparse.Namespace) -> Score:
    """Print table 1 and return our own score."""
    positives = sum(pair.equivalent for pair in pairs)
    print(f"\n{len(pairs)} pairs, {positives} of them equivalent; {len(hostile)} hostile inputs\n")
    print("| checker | accuracy | false accepts | false rejects | checks per CPU-s | crashes | hangs of hostile |")
    print("|---|---|---|---|---|---|---|")
    ours = Score()
    for name in names:
        tool = Tool(name, interpreter(name, options.folder), options.deadline)
        result, attacked = score(tool, pairs), score(tool, hostile)
        tool.close()
        accuracy = 1 - len(result.wrong) / len(pairs)
        print(
            f"| {name} | {accuracy:.1%} | {result.false(True)} of {len(pairs) - positives} "
            f"| {result.false(False)} of {positives} | {len(pairs) / result.cpu:,.0f} "
            f"| {result.crashes} | {attacked.hangs} |",
            flush=True,
        )
        ours = result if name == "personahub" else ours
    return ours


def compare_unseen(paths: list[Path], names: list[str], options: argparse.Namespace) -> None:
    """Print table 2. The first verdict on a pair was recorded before the pair led to any change."""
    print("\n| labeled pairs | checker | accuracy | false accepts | false rejects |\n|---|---|---|---|---|")
    for path in paths:
        pairs = read_pairs(path)
        accepted = [json.loads(line)["first_accepted"] for line in path.read_text(encoding="utf-8").splitlines()]
        first = Score([pair for pair, verdict in zip(pairs, accepted, strict=True) if verdict != pair.equivalent])
        print(_unseen_row(path, "personahub, first seen", pairs, first))
        for name in names:
            tool = Tool(name, interpreter(name, options.folder), options.deadline)
            print(_unseen_row(path, name, pairs, score(tool, pairs)), flush=True)
            tool.close()


def _unseen_row(path: Path, name: str, pairs: list[Pair], result: Score) -> str:
    positives = sum(pair.equivalent for pair in pairs)
    return (
        f"| {path.stem}, {len(pairs)} | {name} | {1 - len(result.wrong) / len(pairs):.1%} "
        f"| {result.false(True)} of {len(pairs) - positives} | {result.false(False)} of {positives} |"
    )


def by_category(pairs: list[Pair], ours: Score) -> None:
    """Table 3."""
    total, wrong = Counter(pair.category for pair in pairs), Counter(pair.category for pair in ours.wrong)
    print("\n| category | pairs | wrong |\n|---|---|---|")
    for category in sorted(total):
        print(f"| {category} | {total[category]} | {wrong[category]} |")


def rewritten(answer: str) -> Iterator[str]:
    """Yield the same answer in forms that models write."""
    yield answer.replace("\\frac", "\\dfrac")
    yield f"$ {answer} $"
    yield f"\\({answer}\\)"
    yield f"Therefore, the answer is $\\boxed{{{answer}}}$."
    yield f"So we find:\n\\[\n\\boxed{{ {answer} }}\n\\]\nand we are done."
    yield f"The answer is ${answer}$."
    yield f"**Final Answer:** ${answer}$"
    if "\\left" not in answer:
        yield answer.replace("(", "\\left(").replace(")", "\\right)")
    if answer.lstrip("-").isdigit():
        yield f"{int(answer):,}"
        yield f"{answer}\\text{{ units}}"
        yield f"{answer} \\text{{cm}}"
        yield f"{answer}.0"
        yield f"x = {answer}"


def near_misses(answer: str) -> Iterator[str]:
    """Yield answers that differ from `answer` by one typical error of a model."""
    if not re.search(r"[A-Z]|\\text|approx|^0$", answer):  # a letter for a choice, a name, an estimate
        yield f"({answer})+1"
    yield f"{answer}, 17"
    for right, wrong in SLIPS:
        if right in answer:
            yield answer.replace(right, wrong, 1)


def check_math(path: Path) -> None:
    """Table 4."""
    answers = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    started = time.process_time()
    rejected = [answer for answer in answers if not check(answer, answer).correct]
    forms = [(answer, form) for answer in answers for form in rewritten(answer)]
    lost = [(answer, form) for answer, form in forms if not check(answer, form).correct]
    draw = random.Random(0)
    crossed = list(_different(answers, draw, 5_000))
    accepted = [(a, b, rule) for a, b in crossed if (rule := _accepting_rule(a, b))]
    mistaken = len(accepted)
    missed = [(answer, near) for answer in answers for near in near_misses(answer)]
    accepted += [(answer, near, rule) for answer, near in missed if (rule := _accepting_rule(answer, near))]
    cpu = time.process_time() - started
    checks = len(answers) + len(forms) + len(crossed) + len(missed)
    print(f"\nMATH: {len(answers):,} references, {checks:,} checks in {cpu:.1f} CPU-s ({1000 * cpu / checks:.2f} ms)\n")
    print("| what | checks | wrong |\n|---|---|---|")
    print(f"| reference against itself | {len(answers):,} | {len(rejected)} |")
    print(f"| rewritten forms | {len(forms):,} | {len(lost)} ({1 - len(lost) / len(forms):.3%} right) |")
    print(f"| references of two problems, different | {len(crossed):,} | {mistaken} |")
    print(f"| near misses of references | {len(missed):,} | {len(accepted) - mistaken} |")
    for answer, form in lost[:10]:
        print(f"    rejected: {answer!r} as {form!r}")
    for a, b, rule in accepted[:10]:
        print(f"    accepted: {a!r} as {b!r} ({rule})")


def _different(answers: list[str], draw: random.Random, count: int) -> Iterator[tuple[str, str]]:
    """Draw random pairs of references. Pairs that differ only in layout, unit or name are the same answer."""
    while count:
        a, b = draw.choice(answers), draw.choice(answers)
        if _essence(a) != _essence(b):
            count -= 1
            yield a, b


def _essence(answer: str) -> str:
    """Return an answer without units, names and layout: digits, letters, operators."""
    for layout in ("\\left", "\\right", "\\text", "\\mbox", "\\!", "\\,", "\\$", "^\\circ", "^{\\circ}", "\\%", " "):
        answer = answer.replace(layout, "")
    answer = answer.replace("dfrac", "frac").replace("tfrac", "frac").split("=")[-1]
    return "".join(c for c in answer if c not in "{}() ").rstrip("abcdefghijklmnopqrstuvwxyz.2")


def _accepting_rule(gold: str, pred: str) -> str | None:
    verdict = check(gold, pred)
    return verdict.rule if verdict.correct else None


def threads(pairs: list[Pair], hostile: list[Pair], options: argparse.Namespace) -> None:
    """Table 5."""
    draw = random.Random(1)
    bare = [pair for pair in pairs if not pair.text]
    work = draw.choices(bare, k=options.checks - 2 * len(hostile)) + hostile * 2
    draw.shuffle(work)
    before = set(psutil.Process().children(recursive=True))
    memory: list[float] = []
    with CheckerPool(options.workers, deadline_s=options.deadline) as pool:
        pool.check("1", "1")
        done = threading.Event()
        sampler = threading.Thread(target=_sample_memory, args=(memory, done))
        sampler.start()
        started = time.perf_counter()
        with ThreadPoolExecutor(8) as callers:
            verdicts = list(callers.map(lambda pair: pool.check(pair.gold, pair.pred), work))
        wall = time.perf_counter() - started
        done.set()
        sampler.join()
    left = [p for p in psutil.Process().children(recursive=True) if p not in before]
    labels = Counter(verdict.label for verdict in verdicts)
    quarter = max(1, len(memory) // 4)
    print(f"\n{options.checks:,} checks from 8 threads on {options.workers} workers, {2 * len(hostile)} hostile\n")
    print("| what | result |\n|---|---|")
    print(f"| verdicts | {dict(labels)} |")
    print(f"| longest check | {max(verdict.ms for verdict in verdicts):,.0f} ms |")
    print(f"| processes left behind | {len(left)} ({sum(p.status() == psutil.STATUS_ZOMBIE for p in left)} zombies) |")
    print(f"| resident MB, first and last quarter | {_peak(memory[:quarter]):.0f}, {_peak(memory[-quarter:]):.0f} |")
    print(f"| checks per second | {options.checks / wall:,.0f} |")
    print(_cost(bare, options))


def _sample_memory(samples: list[float], done: threading.Event) -> None:
    while not done.wait(0.2):
        workers = psutil.Process().children(recursive=True)
        samples.append(sum(_resident(process) for process in [psutil.Process(), *workers]))


def _resident(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _peak(samples: Iterable[float]) -> float:
    return max(samples, default=0.0)


def _cost(pairs: list[Pair], options: argparse.Namespace) -> str:
    """Return the CPU of a check through the pool, with this process and the pipes, and in math-verify's own process."""
    with CheckerPool(1, deadline_s=options.deadline) as pool:
        pool.check("\\int_0^1 x dx", "\\int_0^2 x dx")  # triggers late imports
        (worker,) = (p for p in psutil.Process().children() if "personahub.core.answers.checker_process" in p.cmdline())
        before = time.process_time() + sum(worker.cpu_times()[:2])
        for _ in pool.check_many((pair.gold, pair.pred) for pair in pairs):
            pass
        ours = time.process_time() + sum(worker.cpu_times()[:2]) - before
    tool = Tool("math-verify", Path(sys.executable), options.deadline)
    theirs = score(tool, pairs).cpu
    tool.close()
    each = 1000 / len(pairs)
    return (
        f"| CPU ms per check, {len(pairs)} different pairs through the pool | {each * ours:.2f} |\n"
        f"| CPU ms per check, the same pairs by math-verify in process | {each * theirs:.2f} |\n"
        f"| two workers started and ready | {_cold_start():.2f} s |"
    )


def _cold_start() -> float:
    started = time.perf_counter()
    with CheckerPool(2) as pool, ThreadPoolExecutor(2) as callers:
        list(callers.map(lambda _: pool.check("1/2", "0.5"), range(2)))
        return time.perf_counter() - started


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, default=DATA / "answer_pairs.jsonl")
    parser.add_argument("--hostile", type=Path, default=DATA / "hostile_answers.jsonl")
    parser.add_argument("--math", type=Path, help="MATH's test.jsonl with a field `answer`; without it, no table 4")
    parser.add_argument("--checkers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--checks", type=int, default=10_000, help="of table 5")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds for one check")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/answers"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pairs, hostile = read_pairs(options.pairs), read_hostile(options.hostile)
    ours = compare_checkers(options.checkers, pairs, hostile, options)
    compare_unseen(sorted(DATA.glob("answer_pairs_unseen_*.jsonl")), options.checkers, options)
    by_category(pairs, ours)
    for pair in ours.wrong:
        print(f"    wrong: {pair}")
    if options.math:
        check_math(options.math)
    threads(pairs, hostile, options)


if __name__ == "__main__":
    main()
