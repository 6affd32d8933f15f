"""The messages of one recording by time, and which of them belongs to a frame.

At a frame holds what was there last, at or before its time; its action is what comes first, at or after it. Times are
whole nanoseconds, times of frames exact fractions. M messages of a series, W channels.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pipeline.audit.raw.base import RawError

NANO = 1_000_000_000
Time = int | Fraction


@dataclass
class Series:
    """times: of its messages, rising; values: what was kept of each."""

    name: str
    times: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, time: int, value: Any) -> None:
        """Raises RawError unless the message is later than the last one."""
        if not 0 <= time < 1 << 63 or (self.times and time <= self.times[-1]):
            raise RawError(f"{self.name}: a message at {time} ns is no later than the one before it")
        self.times.append(time)
        self.values.append(value)

    def last(self, now: Time) -> int:
        """Number of the last message at or before a time; -1 if there is none."""
        return bisect_right(self.times, now) - 1

    def coming(self, now: Time) -> int:
        """Number of the first message at or after a time; M if there is none."""
        return bisect_left(self.times, now)


def frame_times(first: Sequence[int], rate: float | None, longest: int) -> list[Time]:
    """When the frames are. first: times of the first camera. Raises RawError for more than `longest`."""
    if rate is None:
        return list(first)
    steps = Fraction(first[-1] - first[0], NANO) * Fraction(rate)
    if steps >= longest:
        raise RawError(f"{int(steps) + 1} frames are more than {longest}")
    return [first[0] + NANO * index / Fraction(rate) for index in range(math.floor(steps) + 1)]


def kept_frames(times: Sequence[Time], inputs: Sequence[Series], actions: Sequence[Series]) -> list[Time]:
    """The frames that have each input and each action. Raises RawError if there is none."""
    kept = [
        now
        for now in times
        if all(series.last(now) >= 0 for series in inputs)
        and all(series.coming(now) < len(series.times) for series in actions)
    ]
    if not kept:
        raise RawError(f"none of {len(times)} frames has all inputs and actions")
    return kept


def stamp_of(message: Mapping[str, Any], log_time: int) -> int:
    """Nanoseconds of header.stamp; log_time of a message without one. Raises RawError for a stamp that is no time."""
    header = message.get("header")
    stamp = header.get("stamp") if isinstance(header, dict) else None
    if stamp is None:
        return log_time
    seconds, rest = _whole(stamp, "sec"), _whole(stamp, "nanosec")
    if seconds < 0 or not 0 <= rest < NANO or seconds + rest == 0:
        raise RawError(f"header.stamp is {seconds}.{rest}, no time")
    return seconds * NANO + rest


def _whole(stamp: object, name: str) -> int:
    """A number of a stamp; -1 where it has none."""
    value = stamp.get(name) if isinstance(stamp, dict) else None
    return value if type(value) is int else -1
