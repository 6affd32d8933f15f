"""Which message belongs to a frame. An input is the last message at or before the frame's time, never a later one
(rules L1 and L8); an action is the first at or after it, as what is commanded from the frame on.

Times are nanoseconds; N frames, M messages of a series.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.metadata import LONGEST

Times = NDArray[np.int64]
SECOND = 10**9


@dataclass(frozen=True)
class Clock:
    """Times of the frames, whole nanoseconds; a frame of a fixed rate may lie between two of them.

    before  int64 [N], the last nanosecond at or before each frame;  after  the first at or after it
    """

    before: Times
    after: Times

    def cut(self, start: int, stop: int) -> Clock:
        """Without the frames outside start..stop-1."""
        return Clock(self.before[start:stop], self.after[start:stop])


def frame_clock(times: Times, fps: float | None, where: str) -> Clock:
    """The frames of an episode: those of the first camera, or as many as fit between its first and last at a rate.

    Raises:
        EpisodeError: "bad-clock": more than `LONGEST` frames.
    """
    if fps is None:
        return Clock(times, times)
    step = SECOND / Fraction(fps)
    first, last = int(times[0]), int(times[-1])
    count = int((last - first) / step) + 1
    if count > LONGEST:
        seconds = (last - first) / SECOND
        detail = f"{where}: {seconds:,.0f} s at {fps:g} Hz are {count:,} frames, read are at most {LONGEST:,}: cut it"
        raise EpisodeError("bad-clock", detail)
    offsets = [index * step for index in range(count)]
    before = np.array([first + offset.numerator // offset.denominator for offset in offsets], np.int64)
    after = np.array([first - (-offset.numerator // offset.denominator) for offset in offsets], np.int64)
    return Clock(before, after)


def last_before(times: Times, clock: Clock) -> NDArray[np.int64]:
    """Number of the last message at or before each frame, int64 [N]; -1 where there is none."""
    return np.searchsorted(times, clock.before, side="right").astype(np.int64) - 1


def first_after(times: Times, clock: Clock) -> NDArray[np.int64]:
    """Number of the first message at or after each frame, int64 [N]; M where there is none."""
    return np.searchsorted(times, clock.after, side="left").astype(np.int64)


def usable_frames(clock: Clock, inputs: Mapping[str, Times], targets: Mapping[str, Times], where: str) -> range:
    """The frames from the first that has all inputs to the last that has all actions.

    Raises:
        EpisodeError: "too-short": there are none; the message says which series ends or begins where.
    """
    begins = {name: int((last_before(times, clock) < 0).sum()) for name, times in inputs.items()}
    ends = {name: int((first_after(times, clock) < len(times)).sum()) for name, times in targets.items()}
    count = len(clock.before)
    frames = range(max(begins.values(), default=0), min(ends.values(), default=count))
    if not frames:
        late = ", ".join(f"{name} begins with frame {frame}" for name, frame in begins.items() if frame)
        early = ", ".join(f"{name} ends with frame {frame - 1}" for name, frame in ends.items() if frame < count)
        detail = (
            f"{where}: none of {count} frames has all inputs and actions ({'; '.join(filter(None, (late, early)))})"
        )
        raise EpisodeError("too-short", detail)
    return frames


def require_near(gaps: Times, limit_s: float, name: str, where: str) -> None:
    """Raise EpisodeError("bad-clock") if a frame's message is farther away than the limit.

    Args:
        gaps: nanoseconds between each frame and its message, int64 [N].
    """
    if (gaps > int(Fraction(limit_s) * SECOND)).any():
        frame = int(gaps.argmax())
        found = f"frame {frame} and its message of {name} are {gaps[frame] / SECOND:.3f} s apart"
        detail = f"{where}: {found}, allowed is source.max_age_s={limit_s:g}; cut the episode, or raise the limit"
        raise EpisodeError("bad-clock", detail)
