"""Hostile inputs and load: bounded time, no false accept, no process left, flat memory."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from personahub.core.answers import CheckerPool, check

DATA = Path(__file__).parent / "data"
HOSTILE = [json.loads(line) for line in (DATA / "hostile_answers.jsonl").read_text(encoding="utf-8").splitlines()]


def text(pieces: list) -> str:
    return "".join(piece * times for piece, times in pieces)


def test_there_are_ninety():
    assert len({row["why"] for row in HOSTILE}) == len(HOSTILE) >= 90


@pytest.mark.parametrize("row", HOSTILE, ids=[row["why"] for row in HOSTILE])
def test_hostile_input_is_refused_or_judged_quickly_in_process(row):
    started = time.process_time()
    verdict = check(text(row["gold"]), text(row["pred"]))
    assert time.process_time() - started < 3
    assert verdict.label in ("wrong", "no_answer")


@pytest.mark.parametrize("row", HOSTILE[:30:3], ids=[row["why"] for row in HOSTILE[:30:3]])
def test_a_hostile_reference_equals_itself_or_is_refused(row):
    assert check(text(row["pred"]), text(row["pred"])).label in ("correct", "wrong", "no_answer", "error")


def test_a_pool_survives_them_all():
    pairs = [(text(row["gold"]), text(row["pred"])) for row in HOSTILE]
    with CheckerPool(2, deadline_s=20) as pool:
        labels = [verdict.label for verdict in pool.check_many(pairs)]
        assert pool.check("1/2", "0.5").correct
    assert set(labels) <= {"wrong", "no_answer"}
    assert not Path("/tmp/answer-checker-was-here").exists()


@pytest.mark.slow
def test_ten_thousand_checks_from_eight_threads():
    rows = [json.loads(line) for line in (DATA / "answer_pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    draw = random.Random(0)
    work = draw.choices([(row["gold"], row["pred"], row["equivalent"]) for row in rows], k=9_800)
    work += draw.choices([(text(row["gold"]), text(row["pred"]), False) for row in HOSTILE], k=200)
    draw.shuffle(work)
    with CheckerPool(2, deadline_s=20) as pool, ThreadPoolExecutor(8) as threads:
        resident = []
        for start in range(0, len(work), 2_500):
            part = work[start : start + 2_500]
            verdicts = list(threads.map(lambda item: pool.check(item[0], item[1]), part))
            assert [verdict.correct for verdict in verdicts] == [equivalent for *_, equivalent in part]
            assert {verdict.label for verdict in verdicts} <= {"correct", "wrong", "no_answer"}
            workers = psutil.Process().children(recursive=True)
            resident.append(sum(process.memory_info().rss for process in [psutil.Process(), *workers]) / 2**20)
    assert resident[-1] < resident[0] * 1.2
    assert not [p for p in psutil.Process().children(recursive=True) if p.status() == psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    "pred", ["\\\ufffdild\x16\ufffd8 stu arch", "so \\boxed{\ufffd 8 apples}", "it is \x01 8 apples"]
)
def test_a_number_in_garbage_is_no_answer(pred):
    assert not check("8", pred).correct
