"""What every reader of raw data offers: a cheap index, and episodes opened one at a time.

The index is made once by `plan` from metadata alone and frozen into the shard tasks, so an `EpisodeRef` carries all
that a worker on another machine needs besides the files themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.format.episode import Episode


@dataclass(frozen=True, slots=True)
class EpisodeRef:
    """One episode as the plan sees it.

    id          unique within the source, without dots: it becomes part of keys and file names
    split       "train", "val" or "test"
    files       (path relative to the source's root, size in bytes) of every file the episode is read from
    num_frames  length by the metadata; None where only opening the file can tell
    data        what the reader needs besides (JSON values), such as the instruction
    sha256      of each of the files, if the plan was asked to hash them (`hash_raw`)
    """

    id: str
    split: str
    files: tuple[tuple[str, int], ...]
    num_frames: int | None
    data: Mapping[str, Any] = field(default_factory=dict)
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class LedgerEntry:
    """An episode left out, and why. One line of `ledger.jsonl`.

    stage is "index", "inputs" or "targets": where it was found out; "drop": taken out of a finished build. windows
    counts the samples lost, None if unknown.
    """

    episode: str
    split: str
    stage: str
    reason: str
    detail: str
    windows: int | None = None


@dataclass(frozen=True)
class SourceIndex:
    """Everything `plan` learns from metadata. Refs are sorted by (split, id); ids are unique.

    views        camera names in order, without dots
    state_dim    S, 0 for human video;  action_dim  A, 0 for human video
    fps          nominal frames a second; None where it differs by file
    description  JSON-able facts for build.json (type, version, licence if known, counts)
    """

    name: str
    views: tuple[str, ...]
    state_dim: int
    action_dim: int
    fps: float | None
    refs: tuple[EpisodeRef, ...]
    left_out: tuple[LedgerEntry, ...]
    description: Mapping[str, Any]


class Source(Protocol):
    """A reader of one type of dataset. Cheap to construct and to pickle: it holds settings, never open files."""

    @property
    def root(self) -> str:
        """Folder that the paths of an episode's files are relative to."""
        ...

    def index(self) -> SourceIndex:
        """Read the metadata.

        Raises:
            RunError: the folder is no dataset of this type, or its metadata cannot be read at all.
        """
        ...

    def open(self, ref: EpisodeRef) -> Episode:
        """Open one episode.

        Raises:
            EpisodeError: a file is missing, changed its size since the plan, or does not fit its metadata.
        """
        ...
