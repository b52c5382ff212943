"""Errors that are the user's to mend, as opposed to bugs.

The command line prints a `UserError` as one line and exits with code 2. Every other exception
is a defect of ours and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message names the file, row or key and says what to do."""


class StaleArtifactError(UserError):
    """An artifact exists under this name but was made by another config, code version or input."""


class Rejected(Exception):
    """One record or completion does not qualify. It is kept in `rejected/` with `reason`.

    `reason` is a short stable slug that is counted (`no_boxed_answer`); `detail` is free text
    for the one record.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
