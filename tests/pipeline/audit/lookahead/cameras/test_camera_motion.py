"""Cameras ahead of the robot, backwards or frozen are found, also without another camera; honest ones are not."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.audit.lookahead.cameras.camera_motion import CameraMotion, motion_sums
from tests.pipeline.audit.lookahead.cameras.films import Change, Episode, Film, Values, ahead, behind, episodes

RATE = 10.0
MADE = list(episodes())


def found(change: Change, robot: Callable[[Values], Values] = lambda state: state, parts: int = 1) -> list[str]:
    """Findings; `robot` changes the state. The episodes in some parts that are merged last first."""
    whole = CameraMotion()
    for part in reversed(range(parts)):
        search = CameraMotion()
        for episode in MADE[part::parts]:
            sums = motion_sums(episode.id, {"front": change(episode.film)}, robot(episode.state), episode.actions)
            search.add(sums)
        whole.merge(pickle.loads(pickle.dumps(search)))
    return list(whole.findings(RATE))


@pytest.mark.parametrize("frames", [3, 6, 10])
def test_a_camera_that_is_ahead_is_found(frames: int) -> None:
    (line,) = found(ahead(frames))
    assert line == found(ahead(frames), parts=3)[0]
    said = int(line.split()[4])
    assert line == f"camera front is about {said} frames ahead of the robot ({len(MADE)} episodes)"
    assert abs(said - frames) <= 1


def test_a_camera_that_is_ahead_of_a_late_state_is_found() -> None:
    def late(state: Values) -> Values:
        return np.concatenate([np.repeat(state[:1], 4, axis=0), state[:-4]])

    assert found(lambda film: film, late) == []
    (line,) = found(ahead(6), late)
    assert "frames ahead of the robot" in line


def test_a_film_that_is_played_backwards_is_found() -> None:
    (line,) = found(lambda film: film[::-1])
    assert line == f"camera front is played backwards: turned round, it tells the state ({len(MADE)} episodes)"


def test_a_camera_that_shows_one_picture_is_found() -> None:
    (line,) = found(lambda film: np.repeat(film[-1:], len(film), axis=0))
    assert line.startswith(f"camera front shows one picture while the robot moves, in {len(MADE)} of {len(MADE)}")


HONEST: dict[str, Change] = {
    "on time": lambda film: film,
    "late by the camera's own delay": behind(2),
    "very late": behind(8),
    "one frame early, as a state that is measured late": ahead(1),
    "covered": np.zeros_like,
    "noise": lambda film: np.random.default_rng(0).integers(0, 255, film.shape).astype(np.uint8),
    "cut short": lambda film: film[:-5],
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_cameras_have_no_finding(name: str) -> None:
    assert found(HONEST[name]) == []


def test_pictures_of_other_episodes_say_nothing() -> None:
    search = CameraMotion()
    for episode, other in zip(MADE, [*MADE[1:], MADE[0]], strict=True):
        search.add(motion_sums(episode.id, {"front": other.film}, episode.state, episode.actions))
    assert list(search.findings(RATE)) == []


def test_few_episodes_say_nothing() -> None:
    search = CameraMotion()
    for episode in MADE[:7]:
        search.add(motion_sums(episode.id, {"front": ahead(6)(episode.film)}, episode.state, None))
    assert list(search.findings(RATE)) == []


def test_a_robot_at_rest_makes_no_frozen_camera() -> None:
    search = CameraMotion()
    still: Film = np.repeat(MADE[0].film[:1], 70, axis=0)
    for episode in MADE:
        search.add(motion_sums(episode.id, {"front": still}, np.zeros_like(episode.state), None))
    assert list(search.findings(RATE)) == []


def test_the_lead_that_counts_depends_on_the_rate() -> None:
    search = CameraMotion()
    for episode in MADE:
        search.add(motion_sums(episode.id, {"front": ahead(3)(episode.film)}, episode.state, episode.actions))
    assert list(search.findings(RATE))
    assert list(search.findings(50.0)) == []  # 60 ms


def test_the_made_up_hand_moves_by_its_actions() -> None:
    episode: Episode = MADE[0]
    assert np.allclose(episode.state[:-1] + episode.actions[:-1], episode.state[1:])
