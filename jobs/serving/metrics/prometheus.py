"""What Prometheus reads of a policy server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

from jobs.common.metrics_port import MetricsPort

PREFIX = "vlajepa_serve"
GAUGES: Mapping[str, str] = {
    "clients": "Clients that are connected",
    "connections": "Those, and connections that have not said yet what they want",
    "waiting": "Observations that no call of the policy has taken yet",
    "held_bytes": "Messages that are being received or answered",
}
"""Names after the prefix, and what they are."""
_LATENCIES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds: a chunk at 10 Hz is due long before the last ones."""
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Refusal(StrEnum):
    """Why a client did not get what it asked for. Labels are of these alone, whatever clients send.

    MESSAGE  it was wrong, or beyond a limit
    POLICY   the policy failed on it
    KEY      the client sent no or another api_key
    FULL     `connections` clients are there
    IDLE     its place was given to another client
    MEMORY   it held most of `held_mb`, which was full
    PINGS    it sent too many in a second
    SILENT   it had not said what it wanted, and too many connections were open
    """

    MESSAGE = "message"
    POLICY = "policy"
    KEY = "key"
    FULL = "full"
    IDLE = "idle"
    MEMORY = "memory"
    PINGS = "pings"
    SILENT = "silent"


class ServingMetrics:
    """Counters, gauges and histograms `vlajepa_serve_…` in a registry of their own. For use from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._queries = Counter(f"{PREFIX}_queries", "Observations that were answered", registry=self._registry)
        self._latency = Histogram(
            f"{PREFIX}_latency_seconds",
            "From a message's arrival to its answer",
            buckets=_LATENCIES,
            registry=self._registry,
        )
        self._batch = Histogram(
            f"{PREFIX}_batch",
            "Observations in a call of the policy, health checks included",
            buckets=_BATCHES,
            registry=self._registry,
        )
        refusals = Counter(f"{PREFIX}_refusals", "What was refused, and why", ["kind"], registry=self._registry)
        self._refusals = {kind: refusals.labels(kind) for kind in Refusal}

    def collect(self) -> list[Metric]:
        """Those that are there whether a port is open or not."""
        return list(self._registry.collect())

    def answered(self, latency_s: float, queries: int) -> None:
        """A message with so many observations was answered."""
        self._queries.inc(queries)
        self._latency.observe(latency_s)

    def called(self, queries: int) -> None:
        """The policy has answered a call with so many observations."""
        self._batch.observe(queries)

    def refused(self, kind: Refusal) -> None:
        self._refusals[kind].inc()

    @contextmanager
    def offered(self, host: str, port: int | None, gauges: Mapping[str, Callable[[], float]]) -> Iterator[int | None]:
        """While open, Prometheus can read all at a port, which this yields; None: nothing is opened.

        Args:
            gauges: values by the names in `GAUGES`, asked for by another thread whenever somebody reads.

        Raises:
            SettingsError: the port cannot be opened.
        """
        if port is None:
            yield None
            return
        for name, about in GAUGES.items():
            Gauge(f"{PREFIX}_{name}", about, registry=self._registry).set_function(gauges[name])
        with contextlib.closing(MetricsPort(self._registry, host, port, "metrics_port")) as opened:
            yield opened.port
