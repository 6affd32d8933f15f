"""The numbers of a run as Ray metrics: for Ray's dashboard and its Prometheus endpoint."""

from __future__ import annotations

from ray.util.metrics import Gauge

from jobs.cluster.build_tasks.run_progress import Progress

_COUNTS = {
    "shards_done": "shards whose two files are finished",
    "samples_done": "samples whose targets are stored",
    "samples_expected": "samples by the plan",
    "samples_per_s": "samples a second of this run",
    "bytes_written": "bytes of finished shard files",
    "skipped": "episodes left out",
    "lost": "tasks lost to dying workers and nodes",
    "store_peak_bytes": "most that the object stores of all nodes held",
}
METRICS = (*_COUNTS, "left_seconds", "node_samples_per_s", "node_bytes_written")
"""Names of all metrics, without `vlajepa_`, which begins each; Ray puts `ray_` before it."""


class RunMetrics:
    """Gauges `vlajepa_…`, tagged with the build's name, and a few tagged with the node."""

    def __init__(self, build: str) -> None:
        self._tags = {"build": build}
        self._gauges = {name: Gauge(f"vlajepa_{name}", text, ("build",)) for name, text in _COUNTS.items()}
        tags = ("build", "node")
        self._left = Gauge("vlajepa_left_seconds", "seconds to the end at this rate", ("build",))
        self._node_samples = Gauge("vlajepa_node_samples_per_s", "samples a second of one node", tags)
        self._node_bytes = Gauge("vlajepa_node_bytes_written", "bytes of shard files of one node", tags)

    def update(self, progress: Progress) -> None:
        """Publish the counts."""
        for name, gauge in self._gauges.items():
            gauge.set(float(getattr(progress, name)), self._tags)
        if progress.left_s is not None:
            self._left.set(progress.left_s, self._tags)
        for name, node in progress.nodes.items():
            tags = {**self._tags, "node": name}
            self._node_samples.set(node.samples_per_s, tags)
            self._node_bytes.set(float(node.bytes), tags)
