"""State channels from which a frame tells how long its episode will be (rule L8): progress, time to go, a return.

Such a channel, or its logarithm, is a ramp: the same step from frame to frame. A ramp that rises by the same in every
episode, however long it is, or whose first value follows the length, is a finding. A count of frames, a clock and a
robot that moves at one speed have steps and first values that the length does not decide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

EPISODES, LENGTHS = 8, 4
"""Episodes, and different lengths, that are needed to tell."""

MOST = 4096
"""Episodes that are remembered."""

STRAIGHT = 1e-4
"""Largest distance from a line, as a share of the rise."""

SAME = 1e-4
"""Standard deviation over the episodes of what must be equal, as a share of its mean and of what lengths explain."""

_SPREAD = 0.05
"""Standard deviation of the lengths, as a share of their mean, below which they say nothing."""

_KINDS = ("", "the logarithm of ")


class EpisodeLengths:
    """Collects ramps: first value, step and number of frames of each channel of each episode."""

    def __init__(self) -> None:
        self._ramps: dict[tuple[int, str], list[tuple[float, float, int]]] = {}
        self._episodes = 0

    def add(self, state: NDArray[np.float32]) -> None:
        """Add an episode: its state [N, S]."""
        if self._episodes >= MOST or len(state) < EPISODES:
            return
        self._episodes += 1
        values = state.astype(np.float64)
        with np.errstate(divide="ignore"):
            forms = dict(zip(_KINDS, (values, np.log(np.abs(values))), strict=True))
        at = np.arange(len(values)) - (len(values) - 1) / 2
        for kind, form in forms.items():
            with np.errstate(invalid="ignore"):
                steps = at @ form / (at @ at)
                middle = form.mean(axis=0)
                off = np.abs(form - middle - at[:, None] * steps).max(axis=0)
            rise = np.abs(steps) * (len(values) - 1)
            for channel in np.flatnonzero(np.isfinite(rise) & (rise > 0) & (off <= STRAIGHT * rise)).tolist():
                ramp = float(middle[channel] + at[0] * steps[channel]), float(steps[channel]), len(values)
                self._ramps.setdefault((channel, kind), []).append(ramp)

    def merge(self, other: EpisodeLengths) -> None:
        """Add the episodes of another part of the build."""
        if self._episodes >= MOST:
            return
        self._episodes += other._episodes
        for place, ramps in other._ramps.items():
            self._ramps.setdefault(place, []).extend(ramps)

    def findings(self) -> Iterator[str]:
        """One line for each channel that tells the length."""
        for (channel, kind), ramps in sorted(self._ramps.items()):
            first, step, frames = np.array(ramps, np.float64).T
            different = len(set(frames.tolist())) >= LENGTHS and frames.std() >= _SPREAD * frames.mean()
            if len(ramps) < max(EPISODES, self._episodes // 2) or not different:
                continue
            if any(_constant(step * count) for count in (frames, frames - 1)) or _follows(first, frames):
                where = f"{kind}state channel {channel}"
                yield f"{where} tells how many frames its episode has ({len(ramps)} episodes of different length)"


def _constant(values: NDArray[np.float64]) -> bool:
    return bool(values.std() <= SAME * abs(values.mean()))


def _follows(values: NDArray[np.float64], lengths: NDArray[np.float64]) -> bool:
    """Whether the lengths decide the values, by a line."""
    spread = values.std()
    if spread <= 1e-9 * (1 + abs(values.mean())):
        return False
    return bool(1 - np.corrcoef(values, lengths)[0, 1] ** 2 <= SAME**2)
