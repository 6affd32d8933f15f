"""What levels "source" and "perturb" need in addition to the build, handed to the audit by its caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.audit.raw.place import Place
from pipeline.audit.rederive.reencode import Reencoder
from pipeline.format.episode import Episode


class Rebuilder(Protocol):
    """The two jobs of a shard, for one sample in memory; handed to the audit by its caller."""

    @property
    def exact(self) -> bool:
        """Whether the installed libraries are those of the build, so that its bytes must be reproduced."""
        ...

    def open(self, episode: str) -> AbstractContextManager[Episode]:
        """Raises EpisodeError when the episode cannot be read."""
        ...

    def inputs(self, episode: Episode, now: int) -> Sequence[bytes]:
        """Payloads of the sample's members, in order."""
        ...

    def latents(self, episode: Episode, now: int) -> NDArray[np.float16]:
        """Context and future, float16 [K+1, V, N, D]; zeros where a step is masked."""
        ...


@dataclass(frozen=True)
class Trial:
    """One experiment on the model. `passed` is False when something depended on what it may not (or, in a control,
    did not depend on what it must)."""

    rule: str
    what: str
    passed: bool


StudentTrial = Callable[[], Sequence[Trial]]
"""Runs the model's experiments on a batch of the build."""


@dataclass(frozen=True)
class Tools:
    """What encodes and builds again. encoder: the frozen one that the build names."""

    encoder: Reencoder
    rebuilder: Rebuilder


@dataclass(frozen=True)
class DeepOptions:
    """Options of levels "source" and "perturb".

    root     folder of the raw data, here or elsewhere
    tools    loads the encoder; called once by each process that encodes
    student  runs where the audit was started
    nonce    gives the random share, see `share_seed`
    share, least  samples encoded again and perturbed: this share, and at least this number
    workers  threads that decode in each process
    channels  names of state and action, for messages
    inexact  where this machine is not the one that made the build, bounds and statistics do
    """

    root: Place
    tools: Callable[[], Tools]
    student: StudentTrial
    nonce: str
    share: float = 0.02
    least: int = 16
    workers: int = 2
    inexact: bool = False
    channels: ChannelNames = field(default_factory=ChannelNames)
