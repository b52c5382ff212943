"""Errors that the user can fix, as opposed to bugs.

The command line prints a `UserError` as one line and exits with code 2. Any other exception is a bug
in this package and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """An error that the user can fix. The message names the file, row or key and says what to do."""


class StaleArtifactError(UserError):
    """An artifact of this name has a different config, code version or input."""


class Rejected(Exception):
    """A record or completion does not qualify.

    It is kept in `rejected/` with the reason. `reason` is a short, stable slug by which rejections are counted, such
    as `no_boxed_answer`. `detail` is free text about this record.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
