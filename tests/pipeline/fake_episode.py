"""An episode in memory whose pixels spell view and frame index."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class FakeEpisode:
    """Frames of one colour each; from `noise_from` on they are noise."""

    def __init__(self, num_frames: int, noise_from: int | None = None, text: str = "räume den Würfel weg") -> None:
        self.id = "e"
        self.num_frames = num_frames
        self._noise_from = num_frames if noise_from is None else noise_from
        self._text = text

    @staticmethod
    def colour(view: str, index: int) -> NDArray[np.uint8]:
        return np.array([20 * index % 256, 200 - 15 * index, 250 if view == "front" else 10], np.uint8)

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        return np.stack([self._frame(view, index) for index in indices])

    def _frame(self, view: str, index: int) -> NDArray[np.uint8]:
        if index >= self._noise_from:
            return np.random.default_rng(index).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        return np.broadcast_to(self.colour(view, index), (40, 60, 3)).copy()

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        return np.asarray(indices, np.float64) / 10

    def instruction(self, index: int) -> str:
        return self._text

    def state(self, index: int) -> NDArray[np.float32]:
        if index >= self._noise_from:
            return np.array([-1, -1], np.float32)
        return np.array([index, 0.1], np.float32)

    def actions(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.arange(start, stop, dtype=np.float32)[:, None]

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
