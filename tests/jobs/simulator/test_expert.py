"""The script on a hand without a robot: it gets there from anywhere, and is pushed back to its way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.simulator.expert import CARRY, DEPTH, DESCENT, OPEN, OVER, REACH, RIM, Scene, decide, grasp_of

STEP = 0.026
"""Metres that LIBERO's controller comes along in a recorded step at an action of 1, about."""

GOAL = np.array([0.0, 0.27, 0.07])
FLOOR = 0.04
"""Height of the thing's middle on the floor."""


def scene_at(
    hand: tuple[float, float, float], thing: tuple[float, float], tall: float = 0.0, beside: float = 0.0
) -> Scene:
    middle = np.array([*thing, FLOOR])
    return Scene(np.array(hand), middle, middle + np.array([0.0, beside, tall]), GOAL, held=False)


def moved(scene: Scene, action: np.ndarray, push: np.ndarray) -> Scene:
    """A step later: a closed hand at the grasp holds the thing, an open one drops it to the floor."""
    hand = scene.hand + STEP * np.clip(action[:3] + push, -1.0, 1.0)
    reaches = np.linalg.norm(scene.hand - scene.grasp) < 0.02
    held = bool(action[6] != OPEN and (scene.held or reaches))
    travelled = hand - scene.hand if held and scene.held else np.zeros(3)
    fallen = np.array([0.0, 0.0, 0.0 if held else FLOOR - scene.thing[2]])
    return replace(
        scene, hand=hand, thing=scene.thing + travelled + fallen, grasp=scene.grasp + travelled + fallen, held=held
    )


def steps_to_the_goal(scene: Scene, seed: int, noise: float) -> int | None:
    """Until the thing has been let go over the goal; None: not within a LIBERO episode."""
    rng = np.random.default_rng(seed)
    for step in range(140):
        action = decide(scene)
        speed = np.abs(action[:3]).max()
        scene = moved(scene, action, rng.normal(0.0, noise, 3) * np.clip(speed, 0.2, 1.0))
        if not scene.held and np.linalg.norm(scene.thing[:2] - GOAL[:2]) < 0.04:
            return step
    return None


places = st.tuples(st.floats(-0.2, 0.1), st.floats(-0.3, 0.15))
hands = st.tuples(st.floats(-0.25, 0.15), st.floats(-0.35, 0.4), st.floats(0.05, 0.35))


@given(
    hand=hands,
    thing=places,
    grasp=st.sampled_from([(0.0, 0.0), (0.03, 0.0), (0.02, 0.047)]),  # above the middle and beside it
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_it_gets_there_from_anywhere(
    noise: float,
    hand: tuple[float, float, float],
    thing: tuple[float, float],
    grasp: tuple[float, float],
    seed: int,
) -> None:
    assert steps_to_the_goal(scene_at(hand, thing, *grasp), seed, noise) is not None


@given(
    past=st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15)),
    height=st.floats(0.1, 0.3),
    offset=st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)),
)
def test_a_thing_that_was_carried_past_the_goal_comes_back(
    past: tuple[float, float], height: float, offset: tuple[float, float]
) -> None:
    hand = GOAL + np.array([*past, height])
    thing = hand - np.array([*offset, 0.0])
    scene = Scene(hand, thing, thing, GOAL, held=True)
    away = np.linalg.norm(thing[:2] - GOAL[:2])
    assert steps_to_the_goal(scene, 0, 0.0) is not None
    sideways = decide(scene)[:2] @ (GOAL[:2] - thing[:2])
    assert sideways >= 0
    if away > OVER and height > CARRY:
        assert sideways > 0


@given(
    thing=st.tuples(st.floats(-0.14, 0.14), st.floats(-0.14, 0.14)),
    change=st.tuples(st.floats(-0.002, 0.002), st.floats(-0.002, 0.002), st.floats(-0.002, 0.002)),
)
def test_carrying_has_no_cliffs(thing: tuple[float, float], change: tuple[float, float, float]) -> None:
    """What a policy cannot tell apart (2 mm) wants about the same motion, or it could not be learnt."""
    hand = GOAL + np.array([*thing, 0.2])
    here, there = (Scene(h, h, h, GOAL, held=True) for h in (hand, hand + np.array(change)))
    difference = np.abs(decide(here)[:3] - decide(there)[:3]).max()
    assert difference <= 0.002 * 3**0.5 * (1 + DESCENT) / 0.05 + 1e-9


def test_tall_things_are_grasped_where_the_fingers_reach() -> None:
    above = scene_at((0.0, -0.2, FLOOR + 0.03), (0.0, -0.2), tall=0.03)
    assert decide(above)[6] != OPEN
    low = replace(above, grasp=above.thing)
    assert decide(low)[6] == OPEN


def test_a_thing_is_grasped_in_the_middle_a_tall_one_below_its_top_and_a_wide_one_at_its_rim() -> None:
    thing = np.array([0.1, 0.2, 0.9])
    for half, top, expected in (
        (0.03, 0.02, [0.1, 0.2, 0.9]),
        (0.03, 0.10, [0.1, 0.2, 0.9 + 0.10 - REACH]),
        (0.05, 0.05, [0.1, 0.2 + 0.05 - RIM, 0.9 + 0.05 - DEPTH]),
    ):
        corner = np.array([half, half, top])
        np.testing.assert_allclose(grasp_of(thing, thing - corner, thing + corner), expected)
