"""What the audit needs of an episode of the raw data: split, instructions, state, actions and frames.

R frames of an episode, S and A channels of state and action.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame, brief
from pipeline.audit.raw.place import Place

_DAMAGE = (
    *(pa.ArrowException, csv.Error, OSError, MemoryError, RuntimeError),
    *(ArithmeticError, ValueError, LookupError, TypeError, AttributeError),
)

_LONGEST = 1_000_000
"""Frames that the metadata of an episode may claim."""


class RawError(Exception):
    """The raw data of an episode cannot be read, or does not hold it."""


@dataclass(frozen=True)
class Numbers:
    """A field of numbers of the raw data, one row a frame. action: it is one by its name or the settings.

    values  float64 [R, W]
    """

    name: str
    action: bool
    values: NDArray[np.float64]


@dataclass(frozen=True)
class RawEpisode:
    """One episode of the raw data.

    split           "train", "val" or "test", by the raw data's own rule
    frame_readers   one for each camera, by its name as a view; a build may leave some out
    instructions    the text at every frame, or one text for all frames; () when there is none, "" at a frame without
    state, actions  float32 [R, S] and [R, A], one row a frame; None for human video
    state_ties, actions_ties  the same, but with the other neighbour where a computed rotation lies so near the middle
                              of two numbers that another way to compute it may round to it; None: the same
    wanted          the settings ask for such episodes
    others          fields of numbers that are no part of the state, those of the actions as they are stored
    """

    id: str
    split: str
    frame_readers: Mapping[str, FrameReader]
    instructions: tuple[str, ...]
    state: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None
    state_ties: NDArray[np.float32] | None = None
    actions_ties: NDArray[np.float32] | None = None
    others: tuple[Numbers, ...] = ()
    wanted: bool = True

    def instruction(self, frame: int) -> str | None:
        """The text at a frame; None when there is none."""
        if len(self.instructions) == 1:
            return self.instructions[0] or None
        return (self.instructions[frame] or None) if 0 <= frame < len(self.instructions) else None

    def frames(self, view: str) -> Iterator[TimedFrame]:
        """Every frame from the first to the last: seconds after the first one, RGB uint8 [H, W, 3].

        Raises:
            RawError: there is no such view, or a frame cannot be decoded.
        """
        if view not in self.frame_readers:
            raise RawError(f"{self.id} has no view {view}; the raw data has {', '.join(self.frame_readers)}")
        try:
            yield from self.frame_readers[view]()
        except ValueError as error:
            raise RawError(f"{self.id}, {view}: {error}") from error


class RawSource:
    """The raw data of one build below `root`. A reader of one format lists all episodes when it is made.

    Args:
        settings: `settings.source` of build.json.

    Raises:
        RawError: the metadata cannot be read.
    """

    def __init__(self, settings: Mapping[str, Any], root: Place) -> None:
        self.settings, self.root = settings, root
        self._listed: dict[str, tuple[str | None, Any]] = {}
        self._frames: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._repeated: set[str] = set()
        self.list_episodes()

    @property
    def rate(self) -> float | None:
        """Nominal frames a second of all episodes; None where each file has its own."""
        return None

    def list_episodes(self) -> None:
        """Call `add` for every episode of the metadata."""
        raise NotImplementedError

    def read(self, episode: str, split: str, place: Any) -> RawEpisode:
        """An episode at the place that was added for it. Raises RawError when it cannot be read."""
        raise NotImplementedError

    def add(
        self, episode: str, split: str | None, place: Any, frames: int | None = None, problem: str | None = None
    ) -> None:
        """List an episode; an id that is listed twice cannot be opened.

        Args:
            split: None where it is unknown.
            frames: by the metadata, where it has them.
            problem: what is wrong with its entry.
        """
        if episode in self._listed:
            self._repeated.add(episode)
        self._listed[episode] = split, place
        if frames is not None:
            self._frames[episode] = frames
            if not 0 <= frames <= _LONGEST:
                problem = problem or f"{frames} frames are not 0 to {_LONGEST}"
        if problem is not None:
            self._problems[episode] = problem

    def listed(self) -> Iterator[tuple[str, str | None]]:
        """Every episode of the metadata and its split."""
        yield from ((episode, split) for episode, (split, _) in self._listed.items())

    def length_of(self, episode: str) -> int | None:
        """Frames of an episode by the metadata; None where it does not say."""
        return self._frames.get(episode)

    def problem_of(self, episode: str) -> str | None:
        """What is wrong with the entry of an episode; None where it seems in order."""
        return self._problems.get(episode)

    def is_repeated(self, episode: str) -> bool:
        """Whether the metadata lists an episode more than once."""
        return episode in self._repeated

    def meant_by(self, entry: str) -> list[str]:
        """The listed episodes that an id of the ledger stands for: itself, or those of a file that it names."""
        return [entry] if entry in self._listed else []

    def count_frames(self, episode: str, view: str) -> int | None:
        """Frames of a view of an episode; None where it cannot be read to its end."""
        try:
            return sum(1 for _ in self.open(episode).frames(view))
        except RawError:
            return None

    def readable_frames(self, episode: str, view: str) -> Iterator[NDArray[np.uint8]]:
        """The frames of a view, RGB uint8 [H, W, 3], as far as they can be read."""
        with suppress(RawError):
            for _, frame in self.open(episode).frames(view):
                yield frame

    def split_of(self, episode: str) -> str | None:
        """Split of an episode by the metadata; None when the raw data does not list it."""
        return self._listed.get(episode, (None, None))[0]

    def episodes(self, split: str) -> list[str]:
        """Ids of the episodes that the metadata has in a split, in its order."""
        return [episode for episode, (own, _) in self._listed.items() if own == split]

    def open(self, episode: str) -> RawEpisode:
        """Raises RawError when it is not there or cannot be read."""
        split, place = self._listed.get(episode, (None, None))
        if split is None:
            raise RawError(f"the metadata lists no {episode!r}, or in no known split")
        if episode in self._repeated:
            raise RawError(f"the metadata lists {episode!r} more than once")
        return self.read(episode, split, place)


def usable_text(value: object) -> str:
    """The text of an instruction without blanks around it; "" for what is no text, blank, or no valid Unicode."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return ""
    return value.strip()


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Whatever a library raises on damaged data becomes a RawError that names the file or record."""
    try:
        yield
    except _DAMAGE as error:
        raise RawError(f"{where}: {brief(error)}") from error
