"""The protocol of an opened episode: what sources give and everything else reads."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Episode(Protocol):
    """One opened episode. Frame indices run over 0..num_frames-1, the same for every view."""

    @property
    def id(self) -> str: ...

    @property
    def num_frames(self) -> int: ...

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3], in the given order, H and W as stored.

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
