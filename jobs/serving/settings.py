"""What `vlajepa serve` can be told: dataclasses that check their values where they enter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

_AT_LEAST_ONE = ("max_batch", "connections", "message_mb")
_ABOVE_ZERO = ("ping_s", "silent_s", "report_s")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """A policy server, whatever its policy is.

    host, port   where it listens; port 0: any free one, which is said
    seed         of the noise of queries that bring no seed of their own
    max_batch    most observations in one call of the policy
    keys         null, or a message's own keys for views, "state" or "prompt" (see jobs/serving/keys.py)
    api_key      what clients have to send as `Authorization: Api-Key …`; null: anybody who reaches the port is served
    connections  most clients at a time
    message_mb   largest message, MiB
    ping_s       seconds between the pings that tell whether a client still lives
    silent_s     a client that answers none for so long is let go; a simulator that loads may be silent for a while
    grace_s      after SIGTERM, seconds for the queries under way
    report_s     seconds between lines about rate and latency
    """

    host: str = "127.0.0.1"
    port: int = 8000
    seed: int = 0
    max_batch: int = 16
    keys: dict[str, str] | None = None
    api_key: str | None = field(default=None, repr=False)
    connections: int = 64
    message_mb: int = 64
    ping_s: float = 20.0
    silent_s: float = 60.0
    grace_s: float = 30.0
    report_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise ValueError("host must be an address or a name, such as 127.0.0.1, got none")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0..65535 (0: any free one), got {self.port}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in _ABOVE_ZERO:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.grace_s < math.inf:
            raise ValueError(f"grace_s must be at least 0 and finite, got {self.grace_s}")
        if self.api_key is not None and (
            not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable()
        ):
            raise ValueError("api_key must be null or printable ASCII text (it travels in an HTTP header)")


@dataclass(frozen=True, kw_only=True)
class ServeConfig(ServerSettings):
    """`vlajepa serve`.

    policy  a run's folder (its newest checkpoint) or a checkpoint's
    device  "auto", "cpu" or "cuda"
    """

    policy: Path
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be one of auto, cpu, cuda, got {self.device!r}")
