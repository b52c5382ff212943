"""The git commit of the checkout that the harness runs from, for manifests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from personahub.core.artifact import Source

_ROOT = Path(__file__).resolve().parents[3]
_TIMEOUT_S = 30


def checkout_source() -> Source | None:
    """Return the commit of the harness's own checkout. None without git or a git checkout."""
    if not (_ROOT / ".git").exists():  # installed from a wheel or an archive, possibly inside another checkout
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    commit, _, mark = result.stdout.strip().partition("-")
    return Source(commit=commit, dirty=mark == "dirty") if commit else None
