"""Where Ray runs, and what each kind of task takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClusterSettings:
    """Where Ray runs and what each kind of task takes.

    address          null: a Ray of its own on this machine; "auto" or "HOST:PORT": a running cluster
    num_cpus         processors of the Ray of its own; null: all
    object_store_mb  its shared memory
    encoders         encoder actors; encoder_gpus and encoder_cpus: what one of them reserves
    task_cpus        processors that a decoding or an inputs task reserves
    task_resources, encoder_resources  Ray resources of your own that one reserves besides, as {decoder: 1}
    chunks_ahead     chunks decoded ahead for one shard
    ahead_mb         MiB that one encoder may hold decoded and not yet encoded, over its two shards; a chunk of long
                     episodes that is larger is decoded alone
    episode_limit_s  seconds after which an episode's reader counts as hanging: the episode is left out
    patience_s       seconds without any encoder, because nodes died, after which the run gives up
    """

    address: str | None = None
    num_cpus: int | None = None
    object_store_mb: int = 1024
    encoders: int = 1
    encoder_gpus: float = 0.0
    encoder_cpus: float = 1.0
    task_cpus: float = 1.0
    task_resources: dict[str, float] | None = None
    encoder_resources: dict[str, float] | None = None
    chunks_ahead: int = 2
    ahead_mb: int = 512
    episode_limit_s: float = 900.0
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("encoders", "chunks_ahead", "ahead_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_cpus is not None and self.num_cpus < 1:
            raise ValueError(f"num_cpus must be null or at least 1, got {self.num_cpus}")
        for name in ("episode_limit_s", "patience_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {getattr(self, name)}")
        if self.object_store_mb < 100:
            raise ValueError(f"object_store_mb must be at least 100, got {self.object_store_mb}")

    @property
    def encoder_device(self) -> str:
        """Kind of device the encoders run on."""
        return "cuda" if self.encoder_gpus > 0 else "cpu"
