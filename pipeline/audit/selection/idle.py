"""Which windows `settings.window.skip_idle` takes out of an episode, by its states up to each of them.

N frames, S channels of state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.errors import BuildError

_ROUNDING = 2.0**-22
"""How far two ways to compute a rotation may lie apart; a change as near to the limit may fall on either side."""


@dataclass(frozen=True)
class IdleRule:
    """frames: that must have passed without a change, 0: no window is left out;  change: that counts as none."""

    frames: int
    change: float

    @classmethod
    def of(cls, build: ClaimedBuild) -> Self:
        """Raises BuildError when the settings name no such rule."""
        stored: Any = build.settings["window"]
        frames, change = stored.get("skip_idle"), stored.get("idle_change")
        numbers = type(frames) is int and type(change) in (int, float)
        if not numbers or frames < 0 or not math.isfinite(change) or change < 0:
            where = f"{build.root}/build.json: settings.window"
            found = f"{frames!r} and {change!r}"
            raise BuildError(f"{where}: skip_idle and idle_change must be numbers from 0 up, found {found}")
        return cls(frames, float(change))

    def idle(self, state: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of each frame of float32 [N, S]: whether it is idle, and whether that depends on how rotations are rounded;
        bool [N] each."""
        count, frames = len(state), self.frames
        if frames == 0 or count <= frames or not state.shape[1]:
            return np.zeros(count, bool), np.zeros(count, bool)
        past = np.lib.stride_tricks.sliding_window_view(state.astype(np.float64), frames + 1, axis=0)
        extent = np.concatenate([np.full(frames, np.inf), np.ptp(past, axis=2).max(axis=1)])
        return extent <= self.change, np.abs(extent - self.change) <= _ROUNDING

    def difference(self, nows: list[int], found: list[int], state: NDArray[np.float32] | None, computed: bool) -> str:
        """What is wrong with the windows of an episode; "" where they are those that the rule leaves.

        Args:
            nows: of all its windows;  found: of those that the build has.
            computed: the state holds computed rotations, which another way to compute them may round differently.
        """
        if state is None or (nows and nows[-1] >= len(state)):
            return "the raw data has no state for them"
        idle, near = self.idle(state)
        open_nows = {now for now in nows if computed and near[now]}
        wanted = [now for now in nows if not idle[now] and now not in open_nows]
        extra = sorted(set(found) - set(wanted) - open_nows)
        missing = sorted(set(wanted) - set(found))
        if extra:
            return f"{len(extra)} windows are idle and yet there, the first at now={extra[0]}"
        return f"{len(missing)} windows are not idle and not there, the first at now={missing[0]}" if missing else ""
