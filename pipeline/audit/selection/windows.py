"""Which frames of an episode are `now`, by `settings.window`: the windows that there must be, no more and no fewer.

F frames of an episode. A window fits where its last future frame (with window.end=pad: the first step's) and, dropped
at the end, its last action exist. Of the fitting frames every m-th is taken, or a number of them, each in the middle of
an equal part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.errors import BuildError
from pipeline.format.enums import WindowEnd

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class WindowRule:
    """reach: frames that must follow `now`;  every, per_episode: one of them is above 0."""

    reach: int
    every: int
    per_episode: int

    @classmethod
    def of(cls, build: ClaimedBuild) -> Self:
        """Raises BuildError when the settings name no such rule."""
        stored = build.settings["window"]
        every, few = stored.get("every"), stored.get("per_episode")
        if type(every) is not int or type(few) is not int or min(every, few) < 0 or (every > 0) == (few > 0):
            where = f"{build.root}/build.json: settings.window"
            raise BuildError(f"{where}: one of every and per_episode must be above 0, found {every!r} and {few!r}")
        window, padded = build.window, build.window.end == WindowEnd.PAD
        reach = 2 * window.interval * (1 if padded else window.steps)
        if build.sizes.action and not padded:
            reach = max(reach, window.chunk - 1)
        return cls(reach, every, few)

    def fitting(self, frames: Counts) -> Counts:
        """Frames 0..result-1 of episodes with F = `frames` frames may be `now`."""
        return np.maximum(0, frames - self.reach)

    def counts(self, frames: Counts) -> Counts:
        """Windows of episodes with F = `frames` frames."""
        fitting = self.fitting(frames)
        return np.minimum(self.per_episode, fitting) if self.per_episode else -(-fitting // self.every)

    def now(self, frames: Counts, rank: Counts) -> Counts:
        """`now` of the window number `rank`, from 0, of each episode; only where there are so many."""
        if not self.per_episode:
            return rank * self.every
        return (2 * rank + 1) * self.fitting(frames) // (2 * np.maximum(1, self.counts(frames)))

    def rank_of(self, frames: Counts, now: Counts) -> Counts:
        """The number of the window at `now`, from 0; -1 where there is none."""
        if not self.per_episode:
            return np.where((now % self.every == 0) & (now < self.fitting(frames)) & (now >= 0), now // self.every, -1)
        counts, fitting = np.maximum(1, self.counts(frames)), np.maximum(1, self.fitting(frames))
        near = (2 * counts * now // fitting - 1) // 2
        found = np.full(len(now), -1, np.int64)
        for rank in (near, near + 1):
            there = (rank >= 0) & (rank < self.counts(frames)) & (self.now(frames, np.maximum(0, rank)) == now)
            found = np.where(there, rank, found)
        return found

    def count(self, frames: int) -> int:
        """Windows of one episode."""
        return int(self.counts(np.array([frames], np.int64))[0])

    def nows(self, frames: int) -> list[int]:
        """`now` of every window of one episode."""
        rank = np.arange(self.count(frames))
        return [int(now) for now in self.now(np.full(len(rank), frames), rank)]
