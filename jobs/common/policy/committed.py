"""What a robot is already about to do when the next chunk is asked for (real-time chunking)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Committed:
    """The rest of the chunk that is being carried out, from the present step on.

    actions  float32 [N, A] in the build's units, 1 to T of them
    delay    how many of them will be carried out before the new chunk is there, 1..N: the new one begins with these
    """

    actions: NDArray[np.float32]
    delay: int

    def require_fitting(self, chunk: int, action: int) -> None:
        """Raise ValueError unless it can be the beginning of a chunk float32 [chunk, action]."""
        shape = self.actions.shape
        if self.actions.ndim != 2 or shape[1] != action or not 1 <= shape[0] <= chunk:
            raise ValueError(f"committed actions must be [1..{chunk}, {action}], got {list(shape)}")
        if not np.isfinite(self.actions).all():
            raise ValueError("committed actions must be finite")
        if not 1 <= self.delay <= shape[0]:
            raise ValueError(f"delay must be 1..{shape[0]}, the committed actions, got {self.delay}")
