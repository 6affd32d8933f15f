"""What every reader of raw data offers: a cheap index, and episodes opened one at a time.

The index is made once by `plan` from metadata alone and frozen into the shard tasks, so an `EpisodeRef` carries all
that a worker on another machine needs besides the files themselves.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError


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
class Fault:
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
    faults: tuple[Fault, ...]
    description: Mapping[str, Any]


class Episode(Protocol):
    """One opened episode. Frame indices run over 0..num_frames-1, the same for every view."""

    @property
    def id(self) -> str: ...

    @property
    def num_frames(self) -> int: ...

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3], in the order asked for, H and W as stored.

        Raises:
            EpisodeError: the frames cannot be decoded or an index is out of range.
        """
        ...

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Presentation times of frames of the first view, seconds, float64 [len(indices)]."""
        ...

    def instruction(self, index: int) -> str:
        """The episode's own text at a frame. Raises EpisodeError("no-instruction") when there is none (rule L9)."""
        ...

    def state(self, index: int) -> NDArray[np.float32] | None:
        """Robot state at a frame, float32 [S]; None for human video."""
        ...

    def actions(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """Actions of frames start..stop-1, float32 [stop-start, A]; None for human video."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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


class Past:
    """An episode truncated at `now`: the only thing the inputs job is handed (rule L1).

    Asking for a later frame raises ValueError: that is a bug in the job, never a property of the data.
    """

    def __init__(self, episode: Episode, now: int) -> None:
        if not 0 <= now < episode.num_frames:
            raise ValueError(f"now={now} is outside 0..{episode.num_frames - 1} of episode {episode.id}")
        self._episode = episode
        self.now = now

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Like `Episode.frames`, for indices up to `now`."""
        self._check(indices)
        return self._episode.frames(view, indices)

    def state(self) -> NDArray[np.float32] | None:
        """Robot state at `now`, float32 [S]; None for human video (rule L8)."""
        return self._episode.state(self.now)

    def instruction(self) -> str:
        """The episode's own text at `now`."""
        return self._episode.instruction(self.now)

    def _check(self, indices: Sequence[int]) -> None:
        late = [i for i in indices if not 0 <= i <= self.now]
        if late:
            raise ValueError(
                f"episode {self._episode.id} was truncated at frame {self.now}; frames {late} were asked for"
            )


def clean_name(text: str) -> str:
    """A name that is safe in keys and tar members: letters, digits, `_` and `-`; no dot, no slash."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")


def short_name(text: str) -> str:
    """A clean name of at most 40 characters for a file: the name itself, or its beginning and a hash of all of it.

    Keys become names of tar members, which hold 100 characters.
    """
    clean = clean_name(text)
    if clean == text and len(text) <= 40:
        return text
    return f"{clean[:31].strip('_-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def hashed_split(episode_id: str, val_share: float) -> str:
    """Split of an episode in a source without official splits.

    A pure function of the id, so a dataset that grows never moves an episode: SHA-256 of the id, first 8 bytes as an
    integer over 2**64, is below `val_share` for "val".
    """
    value = int.from_bytes(hashlib.sha256(episode_id.encode()).digest()[:8], "big") / 2**64
    return "val" if value < val_share else "train"


def own_text(ref: EpisodeRef) -> str:
    """The text that the index found for a whole episode.

    Raises:
        EpisodeError: "no-instruction" when there is none, as for a test clip.
    """
    text = ref.data.get("instruction")
    if not isinstance(text, str):
        raise EpisodeError("no-instruction", f"{ref.id} of split {ref.split} has no label")
    return text


def check_files(root: str, ref: EpisodeRef) -> None:
    """Raise EpisodeError when a file of the episode is gone or is not the one the plan recorded: size, and hash if any.

    A file that several episodes share is hashed once a process, as long as its size and times stay.
    """
    for i, (path, size) in enumerate(ref.files):
        full = os.path.join(root, path)
        try:
            found = os.stat(full)
            digest = _sha256(full, _identity(found)) if ref.sha256 else ""
        except OSError as error:
            raise EpisodeError("missing-file", f"{full}: {error.strerror}") from error
        if found.st_size != size:
            raise EpisodeError("changed-file", f"{full} has {found.st_size} bytes, the plan recorded {size}")
        if ref.sha256 and digest != ref.sha256[i]:
            raise EpisodeError("changed-file", f"{full} has SHA-256 {digest}, the plan recorded {ref.sha256[i]}")


def file_identities(root: str, ref: EpisodeRef) -> tuple[tuple[int, ...], ...]:
    """What changes when one of the episode's files is written or replaced; empty for one that is gone."""
    found = []
    for path, _ in ref.files:
        try:
            found.append(_identity(os.stat(os.path.join(root, path))))
        except OSError:
            found.append(())
    return tuple(found)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: str, identity: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
