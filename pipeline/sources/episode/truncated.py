"""An episode truncated at the current frame, the only input of the inputs job."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.format.episode import Episode


class TruncatedEpisode:
    """An episode truncated at `now`, the only input of the inputs job (rule L1).

    A request for a later frame raises ValueError, because it is a bug in the job and not a property of the data.
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

    def states(self, before: int) -> NDArray[np.float32] | None:
        """States of the frames now-before..now, float32 [before+1, S]; None for human video."""
        frames = range(self.now - before, self.now + 1)
        self._check(frames)
        found = [self._episode.state(frame) for frame in frames]
        return None if any(state is None for state in found) else np.stack([s for s in found if s is not None])

    def instruction(self) -> str:
        """The episode's own text at `now`."""
        return self._episode.instruction(self.now)

    def _check(self, indices: Sequence[int]) -> None:
        late = [i for i in indices if not 0 <= i <= self.now]
        if late:
            raise ValueError(
                f"episode {self._episode.id} was truncated at frame {self.now}; frames {late} were requested"
            )
