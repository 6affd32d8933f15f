"""What the audit needs of raw data: the split, the text, the numbers and the videos of an episode named by its id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.video import read_video


class RawError(Exception):
    """The raw data of an episode cannot be read, or does not hold it."""


@dataclass(frozen=True)
class RawEpisode:
    """One episode of the raw data.

    split         "train", "val" or "test", by the raw data's own rule
    videos        view -> file
    instructions  the text at every frame, or one text for all of them; () when there is none
    state         float32 [R, S], actions float32 [R, A], one row a frame; None for human video
    """

    id: str
    split: str
    videos: Mapping[str, Path]
    instructions: tuple[str, ...]
    state: NDArray[np.float32] | None = None
    actions: NDArray[np.float32] | None = None

    def instruction(self, frame: int) -> str | None:
        """The text at a frame; None when there is none."""
        if len(self.instructions) == 1:
            return self.instructions[0]
        return self.instructions[frame] if 0 <= frame < len(self.instructions) else None

    def frames(self, view: str) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Every frame from the first to the last: seconds after the first one, RGB uint8 [H, W, 3].

        Raises:
            RawError: the view has no file, or a frame does not decode.
        """
        if view not in self.videos:
            raise RawError(f"{self.id} has no view {view}; the raw data has {', '.join(self.videos)}")
        try:
            yield from read_video(self.videos[view])
        except ValueError as error:
            raise RawError(f"{self.videos[view]}: {error}") from error


class RawSource(Protocol):
    """The raw data of one build."""

    def split_of(self, episode: str) -> str | None:
        """Split of an episode by the metadata alone; None when the raw data does not list it."""
        ...

    def open(self, episode: str) -> RawEpisode:
        """Raises RawError when it is not there or cannot be read."""
        ...


def text_of(settings: Mapping[str, Any], key: str) -> str:
    """A setting of the source that must be text. Raises RawError otherwise."""
    value = settings.get(key)
    if not isinstance(value, str):
        raise RawError(f"settings.source.{key} must be text, found {value!r:.80}")
    return value
