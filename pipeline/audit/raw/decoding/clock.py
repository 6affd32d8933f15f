"""The clock of raw data, read a second time from docs/formats.md: whole microseconds as float64 seconds."""

from __future__ import annotations

import math
from fractions import Fraction


def seconds(exact: Fraction) -> float:
    """An exact time in seconds as a build holds it: the nearest microsecond, halves up."""
    return math.floor(exact * 1_000_000 + Fraction(1, 2)) / 1_000_000


def frame_second(index: int, rate: float) -> float:
    """The time of a frame of images recorded at a rate (frames a second)."""
    return seconds(index / Fraction(rate))
