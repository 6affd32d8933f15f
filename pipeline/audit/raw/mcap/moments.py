"""The frames of a recording, and what belongs to each: pictures, values and texts of its series.

R frames, W channels of a field.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.mcap.series import NANO, Series, Time, frame_times, kept_frames
from pipeline.audit.raw.mcap.topics import Topics, Wanted

_LONGEST = 1_000_000
"""Frames of an episode."""


class Moments:
    """Args:
        measured: fields of what is known at a frame.
        rate: frames a second, or None for the pictures of the first camera.
        farthest: nanoseconds that a frame and its message may be apart.

    Raises:
        RawError: no frame has all inputs and actions, or there are too many.
    """

    def __init__(
        self, topics: Topics, wanted: Wanted, measured: Collection[str], rate: float | None, farthest: Fraction
    ) -> None:
        self._topics, self._measured, self._farthest = topics, measured, farthest
        inputs = [topics.cameras[topic] for topic in wanted.cameras]
        inputs += [topics.fields[name] for name in wanted.fields if name in measured]
        inputs += [topics.text] if wanted.text is not None else []
        actions = [topics.fields[name] for name in wanted.fields if name not in measured]
        times = frame_times(topics.cameras[wanted.cameras[0]].times, rate, _LONGEST)
        self.frames = kept_frames(times, inputs, actions)

    def pictures(self, topic: str) -> list[int]:
        """Number of the picture at each frame. Raises RawError where one is too old."""
        series = self._topics.cameras[topic]
        return [self._last(series, now) for now in self.frames]

    def measured(self, name: str) -> NDArray[np.float64]:
        """The values of a field that hold at the frames, [R, W]. Raises RawError where one is too old."""
        series = self._topics.fields[name]
        return np.array([series.values[self._last(series, now)] for now in self.frames], np.float64)

    def of_action(self, name: str) -> NDArray[np.float64]:
        """The values of a field that come from the frames on, or hold at them if it is measured, [R, W]."""
        if name in self._measured:
            return self.measured(name)
        series, found = self._topics.fields[name], []
        for now in self.frames:
            number = series.coming(now)
            self._near(series.times[number] - now, name)
            found.append(series.values[number])
        return np.array(found, np.float64)

    def texts(self) -> list[str]:
        """The text that holds at each frame."""
        series = self._topics.text
        return [series.values[series.last(now)] for now in self.frames]

    def _last(self, series: Series, now: Time) -> int:
        number = series.last(now)
        self._near(now - series.times[number], series.name)
        return number

    def _near(self, gap: Time, name: str) -> None:
        if gap > self._farthest:
            raise RawError(f"{name}: a frame and its message are {float(gap) / NANO:.3f} s apart")
