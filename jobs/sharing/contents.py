"""What is pushed: files with the size and SHA-256 that they must have, and the order in which they are sent.

Where it goes it is README.md, the card, beside one folder with the files under their own names. The folder holds
nothing else, so what is fetched again is audited, verified and loaded as it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

CARD = "README.md"


@dataclass(frozen=True)
class SentFile:
    """A file to be sent.

    name    its path at the place
    path    where it is read from, in a folder; None: it is `data`
    """

    name: str
    size: int
    sha256: str
    path: Path | None = None
    data: bytes = b""


def small_file(name: str, data: bytes) -> SentFile:
    """A file that is in memory."""
    return SentFile(name, len(data), hashlib.sha256(data).hexdigest(), None, data)


@dataclass(frozen=True)
class Contents:
    """What is pushed.

    kind      "dataset" or "model"
    what      the folder, for messages
    title     for the message of a commit
    large     files that are sent first, in any order
    last      small files, sent after all others in this order: the last of them makes the whole readable
    replaced  folder at the place whose files go when they are not among these, as verdicts do; "" without one
    """

    kind: str
    what: Path
    title: str
    large: tuple[SentFile, ...]
    last: tuple[SentFile, ...]
    replaced: str = ""

    @property
    def files(self) -> tuple[SentFile, ...]:
        """All files."""
        return (*self.large, *self.last)

    @property
    def identity(self) -> SentFile:
        """The file that lists the others with their hashes: where it is another one, something else lies there."""
        return self.last[-1]

    def outdated(self, there: set[str]) -> list[str]:
        """Files at the place that are to be removed."""
        own = {file.name for file in self.files}
        return sorted(name for name in there - own if self.replaced and name.startswith(f"{self.replaced}/"))

    def foreign(self, there: set[str], ignored: tuple[str, ...] = ()) -> list[str]:
        """Files at the place that do not belong to what is pushed."""
        own = {file.name for file in self.files} | set(ignored) | set(self.outdated(there))
        return sorted(there - own)


@dataclass(frozen=True)
class Pushed:
    """What was done. where: address of the place;  sent, kept: names of files that were sent, and that were there."""

    where: str
    sent: tuple[str, ...]
    kept: tuple[str, ...]
