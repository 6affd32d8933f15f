"""Which message belongs to a frame: never a later one as an input; both readers agree at any times and rates."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.mcap.series import Series, frame_times, kept_frames
from pipeline.errors import EpisodeError
from pipeline.sources.mcap.matching import Times, first_after, frame_clock, last_before, require_near, usable_frames

RISING = st.sets(st.integers(0, 3 * 10**9), min_size=1, max_size=12).map(sorted)
RATES = st.none() | st.sampled_from([1.0, 3.0, 7.5, 30.0, 29.97])


def times(values: list[int]) -> Times:
    return np.array(values, np.int64)


def series(values: list[int]) -> Series:
    return Series("s", values, [None] * len(values))


@given(camera=RISING, state=RISING, command=RISING, fps=RATES)
def test_both_readers_choose_the_same_messages(
    camera: list[int], state: list[int], command: list[int], fps: float | None
) -> None:
    clock, theirs = frame_clock(times(camera), fps, "file"), frame_times(camera, fps, 10**6)
    assert [int(before) for before in clock.before] == [int(now // 1) for now in theirs]
    inputs, actions = {"camera": times(camera), "state": times(state)}, {"command": times(command)}
    late, last = max(camera[0], state[0]), command[-1]
    if not any(late <= now <= last for now in theirs):
        with pytest.raises(EpisodeError, match="too-short"):
            usable_frames(clock, inputs, actions, "file")
        with pytest.raises(RawError, match="none of"):
            kept_frames(theirs, [series(camera), series(state)], [series(command)])
        return
    kept = usable_frames(clock, inputs, actions, "file")
    now = kept_frames(theirs, [series(camera), series(state)], [series(command)])
    assert now == theirs[kept.start : kept.stop]
    cut = clock.cut(kept.start, kept.stop)
    before, after = last_before(times(state), cut), first_after(times(command), cut)
    assert before.tolist() == [series(state).last(moment) for moment in now]
    assert after.tolist() == [series(command).coming(moment) for moment in now]
    for moment, earlier, later in zip(now, before, after, strict=True):
        assert state[earlier] <= moment <= command[later]
        assert [at for at in state if state[earlier] < at <= moment] == []
        assert [at for at in command if moment <= at < command[later]] == []


def test_frames_of_a_rate_lie_on_exact_places() -> None:
    """At 3 Hz the second frame lies between two nanoseconds: a message a third of one later is not yet there."""
    clock = frame_clock(times([0, 10**9]), 3.0, "file")
    assert clock.before.tolist() == [0, 333_333_333, 666_666_666, 10**9]
    assert clock.after.tolist() == [0, 333_333_334, 666_666_667, 10**9]
    assert frame_times([0, 10**9], 3.0, 9) == [Fraction(10**9 * i, 3) for i in range(4)]


def test_a_span_that_no_recording_has_makes_no_million_frames() -> None:
    with pytest.raises(EpisodeError, match=r"read are at most 1,000,000: cut it"):
        frame_clock(times([0, 2**62]), 30.0, "file")
    with pytest.raises(RawError, match="more than 1000000"):
        frame_times([0, 2**62], 30.0, 10**6)


def test_a_message_at_the_limit_is_near_enough() -> None:
    require_near(times([0, 200_000_000]), 0.2, "state", "file")
    with pytest.raises(EpisodeError, match=r"frame 1 and its message of state are 0\.200 s apart.*max_age_s=0\.2"):
        require_near(times([0, 200_000_001]), 0.2, "state", "file")
