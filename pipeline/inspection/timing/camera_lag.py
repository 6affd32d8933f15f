"""How many frames a camera is behind the state, or ahead of it: when pictures change and when the robot moves.

F frames that are looked at, N frames of the episode, L lags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.inspection.cameras.look import CameraLook, Values
from pipeline.inspection.flag import Flag

LAGS = 12
"""Frames that are searched to each side."""

CLEAR, BETTER = 0.4, 1.15
"""Correlation of the found lag, and how many times less it must leave unexplained than lag 0."""

FRAMES, SECONDS = 2, 0.1
"""A lag that counts is at least so many frames, and so long."""

MIN_EPISODES, AGREE = 3, 0.6
"""Episodes that are needed, and the share of them whose own lag must be within a frame of the common one."""

MIN_FRAMES = 40


@dataclass(frozen=True)
class CameraLag:
    """Pictures change `lag` frames after the state does (before it, where negative)."""

    view: str
    lag: int
    correlation: float
    at_zero: float
    episodes: int
    agree: float


class CameraLags:
    """Collects the correlations of one camera, episode by episode."""

    def __init__(self, view: str) -> None:
        self._view = view
        self._rows: list[Values] = []
        self._weights: list[int] = []

    def add(self, look: CameraLook, state: Values) -> None:
        """Add an episode; state: float64 [N, S]."""
        found = lag_correlations(look, state)
        if found is not None:
            self._rows.append(found)
            self._weights.append(len(look.frames))

    def result(self) -> CameraLag | None:
        """None where too few episodes move."""
        if len(self._rows) < MIN_EPISODES:
            return None
        rows = np.stack(self._rows)
        mean = np.average(rows, axis=0, weights=self._weights)
        at = int(mean.argmax())
        agree = float((np.abs(rows.argmax(axis=1) - at) <= 1).mean())
        return CameraLag(self._view, at - LAGS, float(mean[at]), float(mean[LAGS]), len(rows), agree)


def lag_correlations(look: CameraLook, state: Values) -> Values | None:
    """Correlation of the pictures' change at n+lag with the state's at n, float64 [L]; None where nothing moves."""
    extent = np.ptp(state, axis=0)
    lively = extent > 1e-9
    if not lively.any() or len(look.frames) < MIN_FRAMES or len(state) < MIN_FRAMES:
        return None
    speed = np.zeros(len(state))
    speed[1:] = np.abs(np.diff(state[:, lively] / extent[lively], axis=0)).sum(axis=1)
    numbers, energy = look.frames[~np.isnan(look.energy)], look.energy[~np.isnan(look.energy)]
    found = np.zeros(2 * LAGS + 1)
    for at, lag in enumerate(range(-LAGS, LAGS + 1)):
        inside = (numbers - lag >= 1) & (numbers - lag < len(state))
        a, b = energy[inside], speed[numbers[inside] - lag]
        if len(a) >= MIN_FRAMES // 2 and a.std() > 1e-9 and b.std() > 1e-9:
            found[at] = np.corrcoef(a, b)[0, 1]
    return found


def apart(found: CameraLag | None, rate: float) -> Flag | None:
    """A camera that is not with the state; rate: frames a second."""
    if found is None:
        return None
    least = max(FRAMES, SECONDS * rate)
    left, best = 1 - found.at_zero**2, max(1 - found.correlation**2, 1e-6)
    clear = found.correlation >= CLEAR and left >= BETTER * best and found.agree >= AGREE
    if not clear or abs(found.lag) < least:
        return None
    word = "after" if found.lag > 0 else "before"
    detail = f"pictures of {found.view} change {abs(found.lag)} frames {word} the state does, in {found.agree:.0%} of "
    detail += f"{found.episodes} episodes (correlation {found.correlation:.2f}; without a lag {found.at_zero:.2f})"
    return Flag("camera-lag", detail, abs(found.lag) / least, found.view)
