"""Frame arithmetic against the specification (rules L2 and L8), over all small cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.format.build_settings import WindowPolicy
from pipeline.format.enums import WindowEnd
from pipeline.samples.windows import count_windows, enumerate_windows

policies = st.builds(
    WindowPolicy,
    steps=st.integers(1, 4),
    interval=st.integers(1, 5),
    chunk=st.integers(1, 8),
    every=st.integers(1, 4),
    end=st.sampled_from(WindowEnd),
)


@given(st.integers(0, 60), policies, st.booleans())
def test_windows_follow_the_specification(num_frames: int, policy: WindowPolicy, has_actions: bool) -> None:
    s = policy.interval
    windows = list(enumerate_windows(num_frames, policy, has_actions))
    assert len(windows) == count_windows(num_frames, policy, has_actions)
    for window in windows:
        n = window.now
        for k, support in enumerate(window.supports()):
            inside = n + 2 * k * s <= num_frames - 1
            assert support == ((max(0, n + (2 * k - 1) * s), n + 2 * k * s) if inside else ())
        assert window.supports()[0][-1] == n
        assert any(window.supports()[1:])
        assert window.action_count == (min(policy.chunk, num_frames - n) if has_actions else 0)
        if policy.end == "drop":
            assert all(window.supports())
            assert not has_actions or window.action_count == policy.chunk


@given(st.integers(0, 60), policies, st.booleans())
def test_no_window_that_fits_is_missed(num_frames: int, policy: WindowPolicy, has_actions: bool) -> None:
    reach = 2 * policy.interval * (policy.steps if policy.end == "drop" else 1)
    fits = [
        n
        for n in range(num_frames)
        if n + reach < num_frames and (policy.end == "pad" or not has_actions or n + policy.chunk <= num_frames)
    ]
    assert [w.now for w in enumerate_windows(num_frames, policy, has_actions)] == fits[:: policy.every]


@given(st.integers(0, 80), st.integers(1, 9))
def test_per_episode_spreads_distinct_windows(num_frames: int, count: int) -> None:
    policy = WindowPolicy(steps=2, every=0, per_episode=count)
    nows = [w.now for w in enumerate_windows(num_frames, policy, has_actions=False)]
    fitting = max(0, num_frames - 4)
    assert len(nows) == len(set(nows)) == min(count, fitting)
    assert nows == sorted(nows)
    assert all(0 <= n < fitting for n in nows)


def test_one_window_stands_in_the_middle() -> None:
    (window,) = enumerate_windows(21, WindowPolicy(every=0, per_episode=1, steps=2), has_actions=False)
    assert window.now == 8  # frames 0..16 fit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"interval": 0}, "interval must be at least 1, got 0"),
        ({"every": 1, "per_episode": 2}, "exactly one of every and per_episode"),
        ({"every": 0}, "exactly one of every and per_episode"),
        ({"end": "repeat"}, "end must be one of drop, pad, got 'repeat'"),
    ],
)
def test_bad_policies_say_what_is_wrong(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowPolicy(**settings)  # type: ignore[arg-type]


def test_keys_sort_by_time_and_hold_no_dot() -> None:
    windows = list(enumerate_windows(1200, WindowPolicy(), has_actions=False))
    keys = [w.key("clip") for w in windows]
    assert keys == sorted(keys)
    assert "." not in "".join(keys)
