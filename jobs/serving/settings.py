"""Settings of `vlajepa serve`."""

from __future__ import annotations

import math
from pathlib import Path

from pipeline.format.enums import Device
from pipeline.format.settings import checked, setting


@checked
class ServerSettings:
    """A policy server, whatever its policy is."""

    host: str = setting("address where it listens; 0.0.0.0: every machine that reaches this one", default="127.0.0.1")
    port: int = setting(
        "port where it listens; 0: any free one, which is printed", default=8000, at_least=0, at_most=65535
    )
    seed: int = setting("of the noise of queries without a seed", default=0, at_least=0)
    max_batch: int = setting("most observations in one call of the policy", default=16, at_least=1)
    keys: dict[str, str] | None = setting(
        'a message\'s own keys for views, "state" or "prompt", as in {front: cam_high, state: observation/joints}',
        default=None,
    )
    api_key: str | None = setting(
        "what clients send as `Authorization: Api-Key …`; null: anybody who reaches the port is served",
        default=None,
        repr=False,
    )
    execute: int | None = setting(
        "actions of a chunk that clients of vla-eval get one by one before the policy is asked again; null: all",
        default=None,
        at_least=1,
    )
    turned: bool = setting(
        "the build's images are turned by 180 degrees (OpenVLA's copies of LIBERO), as vla-eval's LIBERO sends them",
        default=False,
    )
    connections: int = setting("most clients at a time", default=64, at_least=1)
    idle_s: float = setting(
        "when there are so many, a client that has sent no message for so long gives its place to a new one",
        default=60.0,
        unit="seconds",
        at_least=0,
    )
    message_mb: int = setting("largest message", default=64, unit="MiB", at_least=1)
    held_mb: int = setting(
        "all messages together that are being received or answered; beyond it the client with the most is cut off",
        default=512,
        unit="MiB",
        at_least=1,
    )
    instruction_characters: int = setting("longest instruction", default=1000, at_least=1)
    state_margin: float = setting(
        "how far a state, and committed actions, may lie beyond the range of training, in sizes of that range (each of "
        "at least 1 unit)",
        default=10.0,
        at_least=0,
        below=math.inf,
    )
    health_s: float = setting(
        "time in which the policy must answer the question that /healthz asks it",
        default=8.0,
        unit="seconds",
        above=0,
        below=math.inf,
    )
    ping_s: float = setting(
        "time between the pings that show whether a client still lives",
        default=20.0,
        unit="seconds",
        above=0,
        below=math.inf,
    )
    silent_s: float = setting(
        "a client that answers no ping for so long is disconnected; a simulator that loads may be silent for a while",
        default=60.0,
        unit="seconds",
        above=0,
        below=math.inf,
    )
    grace_s: float = setting(
        "time for the running queries after SIGTERM", default=30.0, unit="seconds", at_least=0, below=math.inf
    )
    report_s: float = setting(
        "time between lines about rate and latency", default=10.0, unit="seconds", above=0, below=math.inf
    )
    metrics_port: int | None = setting(
        "port at which Prometheus reads rates, latencies and refusals, 0: a free one; null: none",
        default=None,
        at_least=0,
        at_most=65535,
    )
    metrics_host: str = setting("address that `metrics_port` is opened on", default="127.0.0.1")

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise ValueError("host must be an address or a name, such as 127.0.0.1, got none")
        if self.held_mb < self.message_mb:
            raise ValueError(f"held_mb must be at least message_mb={self.message_mb}, got {self.held_mb}")
        if self.api_key is not None and (
            not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable()
        ):
            raise ValueError("api_key must be null or printable ASCII text (it travels in an HTTP header)")


@checked
class ServeConfig(ServerSettings):
    """`vlajepa serve`."""

    policy: Path = setting("a run's folder (its newest checkpoint) or a checkpoint's")
    device: Device = setting("where the policy computes", default=Device.AUTO)
    cuda_graphs: bool = setting(
        "on CUDA, record the model's call once for each number of clients and length of prompts, and repeat it",
        default=False,
    )
