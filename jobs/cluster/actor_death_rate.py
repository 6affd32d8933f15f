"""How often actors may die before a run gives up: a rate, so that a large cluster may lose nodes day and night."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 3600.0
EACH = 10
"""Deaths an hour for each actor: one that dies whenever it has started is not brought back for hours."""

LEAST = 20
"""Deaths an hour that the smallest cluster may have."""


class DeathRate:
    """Counts deaths of the last hour.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[float] = deque()

    def too_many(self, actors: int) -> str:
        """Count one more, of so many actors; the limit in words when it is exceeded, else ""."""
        now = self._clock()
        self._times.append(now)
        while now - self._times[0] > WINDOW_S:
            self._times.popleft()
        limit = max(LEAST, EACH * actors)
        return f"{len(self._times)} died within an hour, more than {limit}" if len(self._times) > limit else ""
