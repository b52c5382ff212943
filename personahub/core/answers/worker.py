"""A checker's worker process: `python -m personahub.core.answers.worker DEADLINE_S MEMORY_MB`.

Reads batches from stdin and writes one verdict at a time to stdout; frames are a 4-byte length and
JSON. It limits itself (RLIMIT_CPU afresh for every check, RLIMIT_AS once); the wall-clock deadline is
the parent's. End of input ends it, so that it never outlives its parent.
"""

from __future__ import annotations

import json
import math
import os
import resource
import struct
import sys
from typing import Any, BinaryIO

IMPORT_S = 120.0  # for the imports of a worker on a busy machine
HEADER = struct.Struct(">I")


def read_frame(stream: BinaryIO) -> Any | None:
    """The next frame's value, or None at the end of the stream."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    body = stream.read(size)
    return json.loads(body) if len(body) == size else None


def frame(value: Any) -> bytes:
    """`value` as one frame. ASCII JSON, because a model may write lone surrogates."""
    body = json.dumps(value).encode()
    return HEADER.pack(len(body)) + body


def main() -> None:
    """Serve until the end of input."""
    deadline_s, memory_mb = float(sys.argv[1]), int(sys.argv[2])
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # whatever a library prints must not reach the protocol
        os.dup2(silent, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))
    _serve(requests, replies, deadline_s)


def _serve(requests: BinaryIO, replies: BinaryIO, deadline_s: float) -> None:
    from personahub.core.answers.comparing import symbolic
    from personahub.core.answers.policy import Policy

    def tell(word: str) -> None:
        replies.write(frame(word))
        replies.flush()
        _limit_cpu(deadline_s if word != "importing" else IMPORT_S)

    symbolic.announce_import = lambda importing: tell("importing" if importing else "imported")
    tell("ready")
    policies: dict[str, Policy] = {}
    while (batch := read_frame(requests)) is not None:
        policy_json, pairs = batch
        policy = policies.setdefault(policy_json, Policy.model_validate_json(policy_json))
        for gold, pred in pairs:
            _limit_cpu(deadline_s)
            replies.write(frame(_verdict(gold, pred, policy)))
            replies.flush()


def _limit_cpu(deadline_s: float) -> None:
    """The kernel ends this process when one check uses more CPU than its deadline and a second of grace."""
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
    except Exception as error:  # noqa: BLE001 - a defect on one pair must not take the batch with it; it is counted
        return ["error", None, "none", f"defect: {type(error).__name__}: {error}"[:300], 0.0]
    return [verdict.label, verdict.extracted, verdict.extraction, verdict.rule, verdict.ms]


if __name__ == "__main__":
    main()
