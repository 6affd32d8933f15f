"""Where Ray runs, and what each kind of task takes."""

from __future__ import annotations

from pipeline.format.settings import checked, setting


@checked
class ClusterSettings:
    """The Ray cluster of `vlajepa preprocess`: section `cluster`."""

    address: str | None = setting(
        '"auto" or "HOST:PORT": a running cluster; null: Ray is started on this machine', default=None, decides=False
    )
    num_cpus: int | None = setting(
        "processors of a Ray that is started here; null: all", default=None, decides=False, at_least=1
    )
    object_store_mb: int = setting(
        "shared memory of a Ray that is started here", default=1024, decides=False, unit="MiB", at_least=100
    )
    encoders: int = setting("encoder actors; the most, where nodes come and go", default=1, decides=False, at_least=1)
    min_encoders: int | None = setting(
        "encoders that the cluster must have room for at the start; all others join as an autoscaler brings nodes; "
        "null: all of cluster.encoders",
        default=None,
        decides=False,
        at_least=0,
    )
    encoder_gpus: float = setting(
        "GPUs that one encoder reserves; above 0 it runs on CUDA, which bytes depend on",
        default=0.0,
        decides=False,
        at_least=0,
    )
    encoder_cpus: float = setting("processors that one encoder reserves", default=1.0, decides=False, at_least=0)
    task_cpus: float = setting(
        "processors that a decoding or an inputs task reserves", default=1.0, decides=False, at_least=0
    )
    task_resources: dict[str, float] | None = setting(
        "custom Ray resources that a task reserves besides, as {decoder: 1}", default=None, decides=False
    )
    encoder_resources: dict[str, float] | None = setting(
        "custom Ray resources that an encoder reserves besides", default=None, decides=False
    )
    mixed_devices: bool = setting(
        "let encoders run on GPUs or processors of several models: latents then depend in their last bits on which of "
        "them made a shard, and an audit to the bit needs each of them",
        default=False,
        decides=False,
    )
    groups_ahead: int = setting("episode groups decoded ahead for one shard", default=2, decides=False, at_least=1)
    ahead_mb: int = setting(
        "memory that one encoder may hold decoded and not yet encoded, over its two shards; a larger group is decoded "
        "alone",
        default=512,
        decides=False,
        unit="MiB",
        at_least=1,
    )
    episode_limit_s: float = setting(
        "time after which an episode's reader counts as hanging and the episode is left out",
        default=900.0,
        decides=False,
        unit="seconds",
        above=0,
    )
    patience_s: float = setting(
        "time without any encoder, because nodes died, after which the run gives up",
        default=600.0,
        decides=False,
        unit="seconds",
        above=0,
    )

    def __post_init__(self) -> None:
        if self.min_encoders is not None and self.min_encoders > self.encoders:
            raise ValueError(f"min_encoders={self.min_encoders} is more than encoders={self.encoders}")

    @property
    def first_encoders(self) -> int:
        """Encoders that the cluster must have room for at the start."""
        return self.encoders if self.min_encoders is None else self.min_encoders

    @property
    def encoder_device(self) -> str:
        """Kind of device the encoders run on."""
        return "cuda" if self.encoder_gpus > 0 else "cpu"
