"""Numbers that hold the future and are equal to no later frame: filtered ones, and ones that tell how an episode ends.

Beside them honest ones that look alike: velocities of a simulator, forces, filters of the past, counts and clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.leakage.robot_sets import (
    RobotEpisode,
    RobotSet,
    Values,
    ahead,
    episodes,
    paths,
    position_control,
)
from tests.leakage.test_lookahead import audited

Channel = Callable[[RobotEpisode], Values]


def _with(channel: Channel) -> RobotSet:
    """A channel more in each state."""
    return [
        replace(e, state=np.concatenate([e.state, channel(e).reshape(len(e.state), -1)], axis=1))
        for e in position_control()
    ]


def _number(episode: RobotEpisode) -> Values:
    return np.arange(len(episode.state), dtype=float)


def _smooth(values: Values, weights: Values) -> Values:
    reach = len(weights) // 2
    return np.convolve(np.pad(values, reach, mode="edge"), weights[::-1], "valid")


_BINOMIAL = np.array([1.0, 4, 6, 4, 1]) / 16
_CUBIC = np.array([-2.0, 3, 6, 7, 6, 3, -2]) / 21

FILTERS: dict[str, tuple[str, Channel]] = {
    "gradient of a command": ("differentiated", lambda e: np.gradient(e.actions[:, 0])),
    "gradient of a joint": ("differentiated", lambda e: np.gradient(e.state[:, 2]) * 30),
    "slope of seven frames": ("differentiated", lambda e: _smooth(e.state[:, 0], np.arange(-3.0, 4) / 28)),
    "binomial": ("averaged over the frames n-2 to n+2", lambda e: _smooth(e.actions[:, 1], _BINOMIAL)),
    "Savitzky-Golay": ("smoothed", lambda e: _smooth(e.actions[:, 1], _CUBIC)),
    "a frame and a half later": (
        "averaged over the frames n+1 to n+2",
        lambda e: (ahead(e.actions[:, 3], 1) + ahead(e.actions[:, 3], 2)) / 2,
    ),
    "a third of a frame later": (
        "averaged over the frames n+0 to n+1",
        lambda e: (2 * e.state[:, 3] + ahead(e.state[:, 3], 1)) / 3,
    ),
}

ENDINGS: dict[str, tuple[str, Channel]] = {
    "progress": ("tells how many frames", lambda e: _number(e) / len(e.state)),
    "progress to 100": ("tells how many frames", lambda e: 100 * _number(e) / (len(e.state) - 1)),
    "return, discounted": ("tells how many frames", lambda e: 0.9 ** (len(e.state) - 1 - _number(e))),
    "mean of the episode": ("on average", lambda e: np.full(len(e.state), e.state[:, 4].mean())),
    "scaled by its own episode": (
        "scaled by its own episode",
        lambda e: (e.state[:, 0] - e.state[:, 0].mean()) / e.state[:, 0].std(),
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_what_was_filtered_with_later_frames_is_found(name: str) -> None:
    message, channel = FILTERS[name]
    found = audited(_with(channel))
    assert any(rule == "L8" and "state channel 7" in detail and message in detail for rule, detail in found), found


@pytest.mark.parametrize("name", ENDINGS)
def test_what_tells_of_the_whole_episode_is_found(name: str) -> None:
    message, channel = ENDINGS[name]
    found = audited(_with(channel))
    assert any(rule == "L8" and "state channel 7" in detail and message in detail for rule, detail in found), found


def test_one_filtered_episode_among_honest_ones_is_found() -> None:
    made = _with(lambda e: np.gradient(e.actions[:, 0]))
    honest = _with(lambda e: np.diff(e.actions[:, 0], prepend=0) + 1e-3 * np.sin(e.state[:, 1] * 1e4))
    long = [episode for episode in made if len(episode.state) >= 104][:1]
    found = audited([*long, *honest[2:]])
    assert any("differentiated" in detail and "in episode 0" in detail for _, detail in found), found


def _integrated(implicit: bool) -> RobotSet:
    """Positions and velocities of a simulator without noise."""
    made = []
    for rng, frames in episodes(51):
        speed = 0.1 * paths(rng, frames, 4)
        used = speed if implicit else np.concatenate([speed[:1], speed[:-1]])
        state = np.concatenate([np.cumsum(0.1 * used, axis=0), speed], axis=1)
        made.append(RobotEpisode(state, np.concatenate([speed[1:], speed[-1:]])))
    return made


def _masses(damping: float) -> RobotSet:
    """A mass on a spring and the force that drives it, which follows from its place one frame later to the bit."""
    made = []
    for rng, frames in episodes(52):
        force = paths(rng, frames, 3)
        place = np.zeros_like(force)
        for n in range(1, frames - 1):
            place[n + 1] = (1.95 - damping) * place[n] - (1 - damping) * place[n - 1] + 0.05 * force[n]
        made.append(RobotEpisode(np.concatenate([place, force], axis=1), np.concatenate([force[1:], force[-1:]])))
    return made


HONEST: dict[str, Callable[[], RobotSet]] = {
    "velocity added to the place": lambda: _integrated(False),
    "velocity of the way just made": lambda: _integrated(True),
    "force on a damped mass": lambda: _masses(0.15),
    "force on a mass": lambda: _masses(0.0),
    "difference from the frame before": lambda: _with(
        lambda e: np.diff(e.state[:, :3], axis=0, prepend=e.state[:1, :3])
    ),
    "mean of the last five": lambda: _with(lambda e: np.convolve(e.state[:, 0], np.ones(5) / 5)[: len(e.state)]),
    "count of frames": lambda: _with(_number),
    "time of day": lambda: _with(lambda e: 1e4 + 37 * len(e.state) % 1000 + _number(e) / 30),
    "half precision": lambda: [replace(e, state=e.state.astype(np.float16).astype(float)) for e in position_control()],
    "a rail at one speed": lambda: _with(lambda e: np.sin(len(e.state)) + 0.01 * _number(e)),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_numbers_have_no_finding(name: str) -> None:
    assert audited(HONEST[name]()) == []
