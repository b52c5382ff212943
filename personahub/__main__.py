"""Entry point of `personahub` and `python -m personahub`. Ctrl-C never prints a traceback, even at startup or exit."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the command line. Returns the exit code."""
    signal.signal(signal.SIGINT, _stop)
    from personahub.commands import cli

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return cli.main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done: Ctrl-C during Python's shutdown would fail


def _stop(*_: object) -> None:
    os.write(2, b"\nstopped before anything started\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
