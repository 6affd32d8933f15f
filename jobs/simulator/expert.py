"""A scripted policy that picks up one object and places it at the goal.

Its action depends only on the present state of the simulator. A script with phases and timers gives different labels
for equal observations, which a policy without memory cannot learn.

Objects are grasped from above with the hand's first orientation, whose fingers open along y: in the middle, or as far
below the top as the fingers reach; one that is too wide, as a bowl, at its rim. Lengths in metres, the world's axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .libero import METRES, LiberoEnvironment

OPEN, CLOSED = -1.0, 1.0

HOVER = 0.10  # height over the thing at which the hand travels
NEAR = 0.005  # distance from the vertical over the thing within which the hand goes all the way down
REACH = 0.04  # how far below a thing's top the fingers can close before the palm touches it
WIDEST = 0.075  # what fits between the fingers
RIM, DEPTH = 0.006, 0.025  # where the rim of a wider thing is grasped: from its outermost edge, and below its top
SLOPE = 12.0  # how steeply the funnel over the thing rises from there: metres of height a metre of distance
AROUND, ABOVE = 0.015, 0.03  # distance and height over the grasp below which the hand goes all the way down
CARRY, RELEASE = 0.24, 0.14  # heights over the goal at which things are carried and released
OVER = 0.03  # distance from the vertical over the goal within which things are released
DESCENT = 3.0  # how steeply the funnel over the goal rises from there


@dataclass(frozen=True)
class Scene:
    """Input of the script: positions float64 [3], and whether the object is between the fingers.

    grasp  where the hand closes
    """

    hand: np.ndarray
    thing: np.ndarray
    grasp: np.ndarray
    goal: np.ndarray
    held: bool


class Expert:
    """The script for a task whose goal is one thing in or on another. Raises ValueError for another goal."""

    def __init__(self, environment: LiberoEnvironment) -> None:
        self.environment = environment
        goals = environment.wrapped.env.parsed_problem["goal_state"]
        if len(goals) != 1 or goals[0][0] not in ("in", "on"):
            raise ValueError(
                f"{environment.task.name}: the script can put one thing in or on another, the goal is {goals}"
            )
        self.thing, self.place = goals[0][1], goals[0][2]

    def action(self) -> np.ndarray:
        """The action for the present state, float64 [7] in -1..1."""
        return decide(self.scene())

    def scene(self) -> Scene:
        """Read the simulator."""
        env = self.environment.wrapped.env
        data = env.sim.data
        thing = np.array(data.body_xpos[env.obj_body_id[self.thing]])
        hand = np.array(data.site_xpos[env.robots[0].eef_site_id])
        # Whole fingers, not their pads alone: a bottle of ketchup is held above these
        geoms = env.robots[0].gripper.important_geoms
        fingers = [geoms["left_finger"], geoms["right_finger"]]
        held = bool(env._check_grasp(fingers, env.get_object(self.thing)))
        return Scene(hand, thing, grasp_of(thing, *self._box(env)), self._goal(env), held)

    def _box(self, env: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner of the object in its present pose, from the boxes around its shapes."""
        model, data = env.sim.model._model, env.sim.data._data
        owner = model.body_rootid[model.geom_bodyid]
        own = np.flatnonzero((owner == model.body_rootid[env.obj_body_id[self.thing]]) & (model.geom_contype != 0))
        turns = data.geom_xmat[own].reshape(-1, 3, 3)
        centre, half = model.geom_aabb[own, :3], model.geom_aabb[own, 3:]
        middles = data.geom_xpos[own] + (turns @ centre[..., None])[..., 0]
        reach = (np.abs(turns) @ half[..., None])[..., 0]
        return (middles - reach).min(axis=0), (middles + reach).max(axis=0)

    def _goal(self, env: Any) -> np.ndarray:
        if self.place in env.obj_body_id:
            return np.array(env.sim.data.body_xpos[env.obj_body_id[self.place]])
        return np.array(env.sim.data.get_site_xpos(self.place))


def grasp_of(thing: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where the hand closes, float64 [3], around a thing whose box has these corners."""
    if high[1] - low[1] > WIDEST:
        return np.array([thing[0], high[1] - RIM, high[2] - DEPTH])
    return np.array([thing[0], thing[1], max(thing[2], high[2] - REACH)])


def decide(scene: Scene) -> np.ndarray:
    """The script's action in a scene, float64 [7] in -1..1."""
    target, gripper = _carry(scene) if scene.held else _fetch(scene)
    way = np.clip((target - scene.hand) / METRES, -1.0, 1.0)
    return np.array([*way, 0.0, 0.0, 0.0, gripper])


def _fetch(scene: Scene) -> tuple[np.ndarray, float]:
    """Target of the hand and command of the fingers on the way to the object: down a funnel over it."""
    hand = scene.hand
    if _over_goal(scene) < 0.05:  # let go, or not to be touched again: up and away
        return np.array([hand[0], hand[1], scene.goal[2] + CARRY]), OPEN
    off = float(np.linalg.norm(hand[:2] - scene.grasp[:2]))
    above = float(hand[2] - scene.grasp[2])
    around = off < AROUND and above < ABOVE
    height = 0.0 if around else float(np.clip((off - NEAR) * SLOPE, 0.0, HOVER))
    wish = scene.grasp + np.array([0.0, 0.0, height])
    too_low = max(0.0, height - 0.02 - above)
    if too_low > 0:  # rise before going sideways, or the fingers would push the thing
        wish[:2] = hand[:2] + (scene.grasp[:2] - hand[:2]) * np.clip(1 - too_low / 0.03, 0.0, 1.0)
    arrived = off < 2 * NEAR and abs(above) < 0.01
    return wish, CLOSED if arrived else OPEN


def _carry(scene: Scene) -> tuple[np.ndarray, float]:
    """Sideways to the goal at any height that clears things, down a funnel over it."""
    hand, over_goal = scene.hand, _over_goal(scene)
    offset = hand - scene.thing
    height = np.clip(RELEASE + (over_goal - OVER) * DESCENT, RELEASE, CARRY)
    wish = scene.goal + np.array([offset[0], offset[1], float(height)])
    low = max(0.0, float(wish[2]) - 0.03 - hand[2])
    wish[:2] = hand[:2] + (wish[:2] - hand[:2]) * np.clip(1 - low / 0.10, 0.0, 1.0)
    released = over_goal < OVER and hand[2] < scene.goal[2] + RELEASE + 0.02
    return wish, OPEN if released else CLOSED


def _over_goal(scene: Scene) -> float:
    """Distance of the object from the vertical over the goal, metres."""
    return float(np.linalg.norm(scene.thing[:2] - scene.goal[:2]))
