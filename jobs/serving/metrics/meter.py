"""Rate, latency and refusals of a server: lines for its log, numbers for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from jobs.serving.metrics.prometheus import Refusal, ServingMetrics


class Meter:
    """Counts answers since the last line. Not for use from several threads.

    Args:
        metrics: gets the same numbers.
        clock: seconds.
    """

    def __init__(self, metrics: ServingMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._clock = metrics, clock
        self.total = 0
        self.errors = 0
        self._begin()

    def answered(self, latency_s: float, batches: Sequence[int]) -> None:
        """A message was answered, `latency_s` after it arrived; `batches`: for each of its queries, how many were in
        its call."""
        self._latencies.append(latency_s)
        self._queries += len(batches)
        self.total += len(batches)
        self._calls += sum(1 / batch for batch in batches)
        self._metrics.answered(latency_s, len(batches))

    def refused(self, kind: Refusal) -> None:
        """Something was not done that a client wanted."""
        self.errors += kind in (Refusal.MESSAGE, Refusal.POLICY)
        self._metrics.refused(kind)

    def line(self, clients: int) -> str | None:
        """Rate and latency since the last line, for people; None if nothing was answered."""
        if not self._latencies:
            self._begin()
            return None
        seconds = max(self._clock() - self._since, 1e-9)
        middle, high = (1e3 * float(value) for value in np.percentile(self._latencies, (50, 99)))
        text = (
            f"{self._queries / seconds:.1f} queries/s, batch {self._queries / self._calls:.1f}, "
            f"latency p50 {middle:.1f} ms, p99 {high:.1f} ms, {clients} clients, {self.total:,} queries, "
            f"{self.errors:,} errors"
        )
        self._begin()
        return text

    def _begin(self) -> None:
        self._since = self._clock()
        self._latencies: list[float] = []
        self._queries = 0
        self._calls = 0.0
