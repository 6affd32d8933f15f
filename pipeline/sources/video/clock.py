"""Times of frames: whole microseconds, as float64 seconds.

A container counts time in ticks of a fraction of a second; stored images have a rate. Both are exact fractions, which
are rounded once, so that a time is the same on every machine and has no digits without meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

MICROSECONDS = 10**6


def clock_times(ticks: Iterable[int], unit: Fraction) -> NDArray[np.float64]:
    """Ticks of `unit` seconds as seconds: the nearest microsecond (halves up), as the nearest float64; [ticks]."""
    top, bottom = (unit * MICROSECONDS).as_integer_ratio()
    return np.array([(2 * tick * top + bottom) // (2 * bottom) / MICROSECONDS for tick in ticks], np.float64)
