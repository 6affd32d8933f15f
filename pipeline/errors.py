"""The two kinds of failure: skip one episode and record it, or stop the run.

`EpisodeError` is caught by the job that works on the episode; the episode is then listed in `ledger.jsonl` with the
reason. Everything else stops the run: `RunError` and its children carry the exit code of the command.
"""

from __future__ import annotations


class EpisodeError(Exception):
    """One episode cannot be used. The run goes on without it.

    Args:
        reason: a short constant such as ``"undecodable"``, used to group the ledger.
        detail: what was found and where (file, frame, expected and actual value).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class RunError(Exception):
    """The whole run must stop. The message names the file, the limit and the fix."""

    exit_code = 2


class SettingsError(RunError):
    """A setting has a wrong name or value."""


class TooManyBadEpisodesError(RunError):
    """More than the allowed share of episodes had to be left out."""


class BuildError(RunError):
    """A build folder is missing something, does not match its manifest, or belongs to another plan."""


class CorruptError(BuildError):
    """A file of a build is missing, damaged or changed: it does not hold what the audited manifest lists."""


class AuditRefusedError(RunError):
    """Training was asked to use a build without a clean verdict."""
