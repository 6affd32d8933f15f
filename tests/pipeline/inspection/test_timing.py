"""Which action moves the state, and how far a camera is behind it: put in, and found."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.inspection.cameras.look import CameraLook, Values
from pipeline.inspection.timing.action_lag import ActionLagSums, slipped
from pipeline.inspection.timing.camera_lag import CameraLags, apart
from tests.pipeline.inspection.films import RATE, film, look

NAMES = ["x", "y"]


def _robot(seed: int, frames: int = 200) -> tuple[Values, Values]:
    """Actions that change at random, and the state that they move: s[n+1] = s[n] + a[n]."""
    random = np.random.default_rng(seed)
    actions = np.repeat(random.normal(0, 1, (frames // 4, 2)), 4, axis=0)[:frames]
    return np.concatenate([np.zeros((1, 2)), np.cumsum(actions, axis=0)[:-1]]), actions


def _sums(shift: int, target: bool) -> ActionLagSums:
    """shift: rows by which the action comes early (below 0: late). target: positions are commanded."""
    sums = ActionLagSums()
    for seed in range(4):
        state, actions = _robot(seed)
        given = state + actions if target else actions
        given = np.roll(given, -shift, axis=0)
        sums.add(state[10:-10], given[10:-10] + np.random.default_rng(seed).normal(0, 0.01, (180, 2)))
    return sums


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 3])
def test_the_action_that_moves_the_state(shift: int, target: bool) -> None:
    found = _sums(shift, target).result()
    assert found is not None
    assert found.lag == -shift
    assert found.action == found.state
    flag = slipped(found, NAMES, NAMES)
    assert (flag is not None) == (shift < 0)
    if flag is not None:
        assert f"of frame n+{-shift} moves state" in flag.detail


def test_actions_that_move_nothing() -> None:
    sums = ActionLagSums()
    for seed in range(4):
        sums.add(_robot(seed)[0], _robot(seed + 100)[1])
    assert sums.result() is None


def _moving_film(speed: Values, seed: int) -> CameraLook:
    """A square that moves as fast as the state does."""
    cells = film(len(speed), seed, speed=0.0)
    place = 8 + (np.cumsum(speed) * 3).astype(int) % 40
    for number, x in enumerate(place):
        cells[number, 40:56, x : x + 12] = 240
    return look(cells)


@pytest.mark.parametrize("lag", [-5, 0, 1, 6])
def test_a_camera_behind_or_ahead_of_the_state(lag: int) -> None:
    lags = CameraLags("front")
    for seed in range(4):
        random = np.random.default_rng(seed)
        speed = np.repeat(random.uniform(0, 1, 24) ** 3, 10)
        state = np.cumsum(speed)[:, None]
        lags.add(_moving_film(np.roll(speed, lag), seed), state)
    found = lags.result()
    assert found is not None
    assert abs(found.lag - lag) <= 1
    assert (apart(found, RATE) is not None) == (abs(lag) >= 3)
