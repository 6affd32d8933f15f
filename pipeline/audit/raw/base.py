"""What the audit needs of raw data: the split, the text, the numbers and the films of an episode named by its id.

R frames of an episode, S and A channels of state and action.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FrameReader = Callable[[], Iterator[tuple[float, NDArray[np.uint8]]]]
"""Shows every frame in order: seconds after the first one, RGB uint8 [H, W, 3]. Raises ValueError on what cannot be
read."""


class RawError(Exception):
    """The raw data of an episode cannot be read, or does not hold it."""


@dataclass(frozen=True)
class RawEpisode:
    """One episode of the raw data.

    split          "train", "val" or "test", by the raw data's own rule
    films          view -> film
    instructions   the text at every frame, or one text for all of them; () when there is none, "" at a frame without
    state          float32 [R, S], actions float32 [R, A], one row a frame; None for human video
    exact_state, exact_actions  the numbers stand in the raw data as they are: nothing was computed that may round
        otherwise
    """

    id: str
    split: str
    films: Mapping[str, FrameReader]
    instructions: tuple[str, ...]
    state: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None
    exact_state: bool = True
    exact_actions: bool = True

    def instruction(self, frame: int) -> str | None:
        """The text at a frame; None when there is none."""
        if len(self.instructions) == 1:
            return self.instructions[0] or None
        return (self.instructions[frame] or None) if 0 <= frame < len(self.instructions) else None

    def frames(self, view: str) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Every frame from the first to the last: seconds after the first one, RGB uint8 [H, W, 3].

        Raises:
            RawError: the view has no film, or a frame does not decode.
        """
        if view not in self.films:
            raise RawError(f"{self.id} has no view {view}; the raw data has {', '.join(self.films)}")
        try:
            yield from self.films[view]()
        except ValueError as error:
            raise RawError(f"{self.id}, {view}: {error}") from error


class RawSource(Protocol):
    """The raw data of one build."""

    def split_of(self, episode: str) -> str | None:
        """Split of an episode by the metadata alone; None when the raw data does not list it."""
        ...

    def open(self, episode: str) -> RawEpisode:
        """Raises RawError when it is not there or cannot be read."""
        ...


def without_last(film: FrameReader, count: int) -> FrameReader:
    """A film without its last `count` frames."""

    def shown() -> Iterator[tuple[float, NDArray[np.uint8]]]:
        held: deque[tuple[float, NDArray[np.uint8]]] = deque()
        for frame in film():
            held.append(frame)
            if len(held) > count:
                yield held.popleft()

    return shown if count else film


def usable_text(value: object) -> str:
    """The text of an instruction without blanks around it; "" for what is no text, blank, or no valid Unicode."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return ""
    return value.strip()


def read_bytes(path: Path) -> bytes:
    """Raises RawError when the file is not there or cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RawError(f"{path}: {error.strerror}") from error
