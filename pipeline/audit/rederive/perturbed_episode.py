"""A copy of an episode whose frames after one moment are replaced, to show that they do not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.format.episode import Episode

Replacement = Callable[[str, int, NDArray[np.uint8]], NDArray[np.uint8]]
"""(view, frame number, frame) -> its replacement; same shape."""


class PerturbedEpisode:
    """An `Episode` that differs from another one only after frame `last`: pixels, state, actions and text."""

    def __init__(self, episode: Episode, last: int, replace: Replacement) -> None:
        self._episode, self._last, self._replace = episode, last, replace

    @property
    def id(self) -> str:
        return self._episode.id

    @property
    def num_frames(self) -> int:
        return self._episode.num_frames

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        frames = self._episode.frames(view, indices).copy()
        for i, index in enumerate(indices):
            if index > self._last:
                frames[i] = self._replace(view, index, frames[i])
        return frames

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        return self._episode.timestamps(indices)

    def instruction(self, index: int) -> str:
        text = self._episode.instruction(index)
        return text if index <= self._last else f"{text} (changed)"

    def state(self, index: int) -> NDArray[np.float32] | None:
        state = self._episode.state(index)
        return state if state is None or index <= self._last else state + np.float32(1)

    def actions(self, start: int, stop: int) -> NDArray[np.float32] | None:
        actions = self._episode.actions(start, stop)
        if actions is None:
            return None
        late = np.arange(start, stop)[:, None] > self._last
        return np.where(late, actions + np.float32(1), actions).astype(np.float32)

    def close(self) -> None:
        """The episode beneath is closed by whoever opened it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def noise(view: str, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Uniform noise, another for every frame."""
    seed = hashlib.sha256(f"{view} {index}".encode()).digest()[:8]
    random = np.random.default_rng(int.from_bytes(seed, "big"))
    return random.integers(0, 256, frame.shape, np.uint8)


def black(view: str, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A black frame."""
    return np.zeros_like(frame)


def frames_of(other: Episode) -> Replacement:
    """Frames of another episode of the same source, cut or repeated to the shape at hand."""

    def replace(view: str, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        found = other.frames(view, [index % other.num_frames])[0]
        height, width = frame.shape[:2]
        rows, columns = np.arange(height) % found.shape[0], np.arange(width) % found.shape[1]
        return found[rows[:, None], columns[None, :]]

    return replace
