"""A leaky pipeline: a change to code, data or encoder, and the finding that its build must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.leakage.world import World


@dataclass(frozen=True)
class LeakyPipeline:
    """`apply` prepares the world; the build is made afterwards. `kind` is "video", "robot", "int8" or
    "tubelet": see `World`."""

    apply: Callable[[World], object]
    kind: str
    rule: str
    level: str
    message: str

    @property
    def name(self) -> str:
        return self.apply.__name__
