"""The interface of a source: an index that is cheap to make, and episodes opened one at a time.

`plan` makes the index once, from metadata alone, and freezes it into the shard tasks. An `EpisodeRef` therefore holds
everything that a worker on another machine needs besides the files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.errors import SettingsError
from pipeline.format.episode import Episode
from pipeline.sources.naming import clean_name
from pipeline.sources.vectors import parse_vectors


@dataclass(frozen=True, slots=True)
class EpisodeRef:
    """One episode as the plan sees it.

    id          unique within the source, without dots: it becomes part of keys and file names
    split       "train", "val" or "test"
    files       (path relative to the source's root, size in bytes) of every file the episode is read from
    num_frames  length by the metadata; None if only the opened file has it
    data        further JSON values for the reader, such as the instruction
    sha256      of each file, if the plan hashes files (`hash_raw`)
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

    stage    "index", "inputs" or "targets": the step that found the problem; "drop": removed from a finished build
    windows  samples lost; None if unknown
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
    fps          nominal frames per second; None if it differs by file
    left_out     episodes that cannot be used, by (split, id)
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


def check_settings(source: Any, names: Sequence[str] = ()) -> None:
    """Check the settings that source types share, and convert them to their final types.

    Args:
        source: a source under construction, with `root` and `name`, and maybe `val_share`, `fps`, `state`, `action`.
        names: settings that must be a list of at least one name.

    Raises:
        SettingsError: a value that cannot be used.
    """
    values: dict[str, Any] = {"root": os.fspath(source.root)}
    if not source.name or clean_name(source.name) != source.name:
        fix = clean_name(source.name) or "a name"
        raise SettingsError(f"name must consist of letters, digits, _ and -, got {source.name!r}; use {fix!r} instead")
    if not 0 <= getattr(source, "val_share", 0) < 1:
        raise SettingsError(f"val_share must be at least 0 and below 1, got {source.val_share}")
    if not getattr(source, "fps", 1) > 0:
        raise SettingsError(f"fps must be above 0, got {source.fps}")
    for name in names:
        values[name] = getattr(source, name)
        if isinstance(values[name], str) or not values[name]:
            raise SettingsError(f"{name} must be a list of at least one name, got {values[name]!r}")
        values[name] = tuple(values[name])
    if hasattr(source, "state"):
        values |= parse_vectors(source.state, source.action)
    for name, value in values.items():
        object.__setattr__(source, name, value)
