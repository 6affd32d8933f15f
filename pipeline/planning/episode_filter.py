"""Episodes that somebody left out on purpose: `source.leave_out=FILE`, written by `vlajepa inspect` or by hand.

One JSON object a line: {"episode", "split", "reason", "detail"}. A build records the count and the SHA-256 of the lines
of each split, and each line is one of its ledger (stage "filter"). So the audit can tell that exactly these episodes
are left out, and the verdict says so. A filter may know how an episode ends: it chooses episodes, never what an input
shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, SettingsError
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import printable
from pipeline.sources.base import LedgerEntry, SourceIndex
from pipeline.sources.canonical_json import CANONICAL

STAGE = "filter"
"""Of the ledger."""

SPLITS = ("train", "val")
LONGEST = 400
"""Characters of a reason or detail."""

SHOWN = 5


@dataclass(frozen=True)
class EpisodeFilter:
    """The episodes of a file, sorted by split and id. where: the file, for messages."""

    entries: tuple[LedgerEntry, ...]
    where: str

    def content(self) -> dict[str, dict[str, Any]] | None:
        """What a build records: for each split with lines their count and SHA-256; None without lines."""
        found = {}
        for split in SPLITS:
            lines = [_line(entry) for entry in self.entries if entry.split == split]
            if lines:
                found[split] = {"episodes": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
        return found or None

    def apply(self, index: SourceIndex) -> SourceIndex:
        """The index without these episodes, which are in `left_out` instead.

        Raises:
            RunError: the source has no such episode that can be used, or has it in another split.
        """
        known = {ref.id: ref.split for ref in index.refs}
        wrong = [entry for entry in self.entries if known.get(entry.episode) != entry.split]
        if wrong:
            names = ", ".join(f"{entry.episode} ({entry.split})" for entry in wrong[:SHOWN])
            raise RunError(
                f"{self.where}: {len(wrong)} of {len(self.entries)} episodes are not in the source, in another split, "
                f"or left out by the reader already: {names}; inspect the source again with the same source.* "
                "settings, or remove these lines"
            )
        gone = {entry.episode for entry in self.entries}
        refs = tuple(ref for ref in index.refs if ref.id not in gone)
        return replace(index, refs=refs, left_out=(*index.left_out, *self.entries))


def read_filter(path: Path) -> EpisodeFilter:
    """Read a file of episodes to leave out.

    Raises:
        SettingsError: it cannot be read, a line is no such object, or an episode is named twice.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"source.leave_out={path} cannot be read: {error.strerror}") from error
    entries: dict[str, LedgerEntry] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _entry(line, f"{path}, line {number}")
        if entry.episode in entries:
            raise SettingsError(f"{path}, line {number}: {entry.episode} is named twice; keep one line")
        entries[entry.episode] = entry
    return EpisodeFilter(tuple(sorted(entries.values(), key=lambda e: (e.split, e.episode))), str(path))


def filter_bytes(entries: Iterable[LedgerEntry]) -> bytes:
    """The content of a file that leaves these episodes out, sorted by split and id."""
    return b"".join(map(_line, sorted(entries, key=lambda e: (e.split, e.episode))))


def filter_entry(episode: str, split: str, reason: str, detail: str) -> LedgerEntry:
    """An episode to leave out; what is not plainly visible in its texts is escaped, and they are cut to LONGEST."""
    return LedgerEntry(episode, split, STAGE, printable(reason)[:LONGEST], printable(detail)[:LONGEST])


def _entry(line: bytes, where: str) -> LedgerEntry:
    form = 'must be {"episode": ID, "split": "train" or "val", "reason": TEXT, "detail": TEXT}'
    form += f" with texts of up to {LONGEST} characters"
    try:
        value = parse(line)
    except ValueError as error:
        raise SettingsError(f"{where} is no JSON ({printable(error)}); it {form}") from error
    texts = ("episode", "split", "reason", "detail")
    right = isinstance(value, dict) and sorted(value) == sorted(texts) and all(isinstance(value[n], str) for n in texts)
    if right:
        entry = filter_entry(*(value[name] for name in texts))
        right = bool(entry.episode and entry.reason.strip()) and entry.split in SPLITS
    if not right or (entry.reason, entry.detail) != (value["reason"], value["detail"]):
        raise SettingsError(f"{where} {form} that are plainly visible; found {printable(line.decode())[:120]!r}")
    return entry


def _line(entry: LedgerEntry) -> bytes:
    names = ("episode", "split", "reason", "detail")
    return CANONICAL.encode({name: getattr(entry, name) for name in names}).encode() + b"\n"
