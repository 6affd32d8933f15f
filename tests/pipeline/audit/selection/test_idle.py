"""The audit's rule about idle windows agrees with the pipeline's, and ranks of windows are the inverse of `now`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.selection.idle import IdleRule
from pipeline.audit.selection.windows import WindowRule
from pipeline.format.build_settings import WindowPolicy
from pipeline.samples.idle import is_idle
from pipeline.sources.episode.truncated import TruncatedEpisode
from tests.pipeline.fake_episode import FakeEpisode


def _episode(state: np.ndarray) -> FakeEpisode:  # type: ignore[type-arg]
    episode = FakeEpisode(num_frames=len(state))
    episode.state = lambda index: state[index]  # type: ignore[method-assign, assignment]
    return episode


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("change", [0.0, 0.3, 5.0])
def test_both_rules_say_the_same(frames: int, change: float) -> None:
    random = np.random.default_rng(frames)
    state = np.repeat(random.normal(0, 0.2, (12, 3)), 5, axis=0).astype(np.float32)
    policy = WindowPolicy(skip_idle=frames, idle_change=change)
    idle, _ = IdleRule(frames, change).idle(state)
    own = [is_idle(TruncatedEpisode(_episode(state), now), policy) for now in range(len(state))]
    assert idle.tolist() == own
    assert not any(own[:frames])


def test_a_difference_is_named() -> None:
    state = np.zeros((20, 2), np.float32)
    state[10:] = 1
    rule, nows = IdleRule(3, 0.5), list(range(15))
    kept = [0, 1, 2, 10, 11, 12]
    assert rule.difference(nows, kept, state, False) == ""
    assert "1 windows are idle and yet there, the first at now=7" in rule.difference(nows, [*kept, 7], state, False)
    assert "1 windows are not idle and not there, the first at now=11" in rule.difference(
        nows, [now for now in kept if now != 11], state, False
    )
    assert "no state" in rule.difference(nows, kept, None, False)


@given(st.integers(0, 300), st.integers(0, 20), st.integers(0, 9), st.integers(1, 40))
def test_the_rank_of_a_window(frames: int, reach: int, every: int, few: int) -> None:
    rule = WindowRule(reach, every, 0 if every else few)
    nows = rule.nows(frames)
    at = np.arange(-2, frames + 2)
    ranks = rule.rank_of(np.full(len(at), frames), at).tolist()
    assert ranks == [nows.index(now) if now in nows else -1 for now in at.tolist()]
