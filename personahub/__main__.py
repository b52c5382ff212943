"""Entry point of `personahub` and `python -m personahub`.

An interrupt during startup or shutdown exits without a traceback.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the command line. Return the exit code."""
    signal.signal(signal.SIGINT, _stop)
    from personahub.commands import cli

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return cli.main()
    finally:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # an interrupt during Python's own shutdown would print a traceback


def _stop(*_: object) -> None:
    os.write(2, b"\nstopped before anything began\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
