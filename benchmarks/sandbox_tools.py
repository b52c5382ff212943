"""Run commands as an ordinary user if this is root: the sandbox must hold, and work, for both."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

NOBODY = 65534

# The interpreter's folder may be in a home that nobody else can enter. So, in a separate mount namespace, it is
# mounted below an empty home; then the user changes for good.
_SCRIPT = """
set -e
home=$1; python=$2; shift 2
kept=$(mktemp -d); mount --bind "$python" "$kept"
mount -t tmpfs -o mode=755 none "$home"
mkdir -p "$python"; mount --move "$kept" "$python"
exec "$@"
"""


def as_ordinary_user(command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` as the user `nobody`; for root only.

    Raises:
        RuntimeError: this is not root, or util-linux is not installed.
    """
    if os.geteuid() != 0:
        raise RuntimeError("only root can run as another user")
    if not shutil.which("setpriv") or not shutil.which("unshare"):
        raise RuntimeError("setpriv and unshare of util-linux are not installed")
    changed = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
    home, python = Path.home().resolve(), Path(sys.base_prefix).resolve()
    if not python.is_relative_to(home):
        return changed
    return ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", str(home), str(python), *changed]
