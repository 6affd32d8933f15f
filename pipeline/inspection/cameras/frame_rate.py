"""The rate of the frames: drifting within an episode, with gaps, or not that of the other episodes.

N frames of an episode, E episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.flag import Flag

DRIFT = 0.1
"""Relative difference of the rate at the beginning and at the end of an episode, or of an episode and the set."""

GAP, GAP_SECONDS = 3.0, 0.25
"""A gap is a step so many times the median one, and so long."""

MIN_STEPS = 12


def within(view: str, seconds: NDArray[np.float64]) -> Iterator[Flag]:
    """Drift and gaps of one episode; seconds: float64 [N], when its frames are shown."""
    steps = np.diff(seconds)
    if len(steps) < MIN_STEPS:
        return
    third, middle = len(steps) // 3, float(np.median(steps))
    first, last = float(steps[:third].mean()), float(steps[-third:].mean())
    drift = abs(first / last - 1) if last > 0 else np.inf
    if drift > DRIFT:
        detail = (
            f"{view}: {1 / max(first, 1e-9):.4g} frames/s in the first third, {1 / max(last, 1e-9):.4g} in the last"
        )
        yield Flag("rate-drift", detail, drift / DRIFT, view)
    worst, longest = int(steps.argmax()), float(steps.max())
    if longest > max(GAP * middle, GAP_SECONDS):
        detail = f"{view}: {longest:.3g} s pass between frames {worst} and {worst + 1}, usual are {middle:.3g} s"
        yield Flag("frame-gap", detail, longest / max(GAP * middle, GAP_SECONDS), view, frame=worst)


def between(view: str, rates: Mapping[str, float]) -> Iterator[Flag]:
    """Episodes whose mean rate is not that of the set's median, where 9 of 10 agree; rates: frames/s by episode."""
    if len(rates) < 3:
        return
    middle = float(np.median(list(rates.values())))
    apart = {episode: abs(rate / middle - 1) for episode, rate in rates.items()}
    if sum(value > DRIFT for value in apart.values()) > 0.1 * len(apart) + 1:
        return  # each film has its own
    for episode, value in apart.items():
        if value > DRIFT:
            detail = f"{view}: {rates[episode]:.4g} frames/s, the set has {middle:.4g}"
            yield Flag("frame-rate", detail, value / DRIFT, view, episode)
