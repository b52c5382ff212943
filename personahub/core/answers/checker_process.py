"""The process of an answer checker.

Run as `checker_process DEADLINE_S MEMORY_MB`. Reads batches of pairs from stdin and writes one verdict at a time to
stdout, as frames (`personahub.core.executors.killable`). The process limits its own memory (RLIMIT_AS) and the CPU
time of each check (RLIMIT_CPU); the parent enforces the wall-clock deadline. The process ends when its input ends, so
it never outlives its parent.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from typing import Any, BinaryIO

from personahub.core.executors.killable import frame, read_frame

IMPORT_S = 120.0  # for the imports of a process on a busy machine


def main() -> None:
    """Serve until the end of input."""
    deadline_s, memory_mb = float(sys.argv[1]), int(sys.argv[2])
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # nothing that a library prints may reach the protocol
        os.dup2(null, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))
    _serve(requests, replies, deadline_s)


def _serve(requests: BinaryIO, replies: BinaryIO, deadline_s: float) -> None:
    from personahub.core.answers.comparing import symbolic
    from personahub.core.answers.policy import Policy

    def announce(event: str) -> None:
        replies.write(frame(event))
        replies.flush()
        _limit_cpu(deadline_s if event != "importing" else IMPORT_S)

    symbolic.announce_import = lambda importing: announce("importing" if importing else "imported")
    announce("ready")
    policies: dict[str, Policy] = {}
    while (batch := read_frame(requests)) is not None:
        policy_json, pairs = batch
        policy = policies.setdefault(policy_json, Policy.model_validate_json(policy_json))
        for gold, pred in pairs:
            _limit_cpu(deadline_s)
            replies.write(frame(_verdict(gold, pred, policy)))
            replies.flush()


def _limit_cpu(deadline_s: float) -> None:
    """Let the kernel end this process when one check exceeds its CPU limit. The limit is the deadline plus a second."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + deadline_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _verdict(gold: str, pred: str, policy: Any) -> list[Any]:
    from personahub.core.answers.checking import check

    try:
        verdict = check(gold, pred, policy=policy)
    except MemoryError:
        return ["error", None, "none", "out of memory", 0.0]
    except RecursionError:
        return ["error", None, "none", "nested too deeply", 0.0]
    except Exception as error:  # noqa: BLE001 - a defect on one pair must not cost the batch; it is counted
        return ["error", None, "none", f"defect: {type(error).__name__}: {error}"[:300], 0.0]
    return [verdict.label, verdict.extracted, verdict.extraction, verdict.rule, verdict.ms]


if __name__ == "__main__":
    main()
