"""Cases of the sample world: a scene and an instruction, and whether what a robot did there is a success.

A policy sees the camera's picture and the gripper's state, and its actions move the simulated world.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.robot_interface import Policy, RobotObservation
from pipeline.sample_world.camera import front_camera
from pipeline.sample_world.lerobot import robot_film, sentence
from pipeline.sample_world.render import render
from pipeline.sample_world.scene import Scene
from pipeline.sample_world.script import CARRY_WAYS
from pipeline.sample_world.variety import Variety
from pipeline.sample_world.world import GRIP_BELOW, World, step

BATCH = 50
Actions = NDArray[np.float32]
"""float32 [T, 7], an action a frame."""


def held_out_cases(seed: int, variety: Variety, scenes: int) -> list[Scene]:
    """The validation episodes of `sample-data`: two of each scene, one after the other."""
    film = robot_film(seed, variety)
    return [scene for number in range(scenes) for scene in film.twins(number)]


def run_policy(policy: Policy, cases: Sequence[Scene], pixels: int, variety: Variety) -> list[bool]:
    """Successes in some cases; a policy is asked again when its chunk is over, until the demonstration's length."""
    found: list[bool] = []
    for begin in range(0, len(cases), BATCH):
        part = cases[begin : begin + BATCH]
        traces = [[case.first] for case in part]
        frames, done, queries = len(part[0].rollout.worlds), 0, 0
        while done < frames:
            observations = [_observation(case, trace[-1], pixels) for case, trace in zip(part, traces, strict=True)]
            chunks = policy.act(observations, [queries * len(cases) + begin + i for i in range(len(part))])
            chunks = chunks[:, : frames - done]
            for trace, chunk in zip(traces, chunks, strict=True):
                trace += play_actions(trace[-1], chunk, variety.stride)
            done, queries = done + chunks.shape[1], queries + 1
        found += [is_success(case, trace) for case, trace in zip(part, traces, strict=True)]
    return found


def run_script(case: Scene, variety: Variety) -> bool:
    """Success of a case carried out by the actions that its demonstration would hold."""
    return is_success(case, [case.first, *play_actions(case.first, case.rollout.actions, variety.stride)])


def play_actions(world: World, actions: Actions, stride: int) -> list[World]:
    """The worlds after each of their steps; an action is kept for `stride` steps, a frame."""
    found = []
    for action in actions.repeat(stride, axis=0):
        world = step(world, action)
        found.append(world)
    return found


def is_success(case: Scene, trace: Sequence[World]) -> bool:
    """Whether the named thing is the one nearest to the gripper when it closes (if it never does, when it is lowest),
    and the gripper then moves more in the direction that was asked for than in the two others.

    The gripper is judged, not where the thing ends: actions are means over the steps of a frame, by which the script
    itself would miss the grasp in half of the cases. Who goes to any thing, and then the right way, has a third.

    Args:
        trace: states of the world, the first included.
    """
    task, there = case.rollout.task, trace[_closing(trace)]
    nearest = int(np.argmin(np.linalg.norm(there.places - there.state[:3], axis=1)))
    moved = trace[-1].state[:3].astype(np.float64) - there.state[:3]
    along = {name: float(moved @ np.array(way)) for name, way in CARRY_WAYS.items()}
    best = max(along, key=lambda name: along[name])
    return nearest == task.thing and best == task.direction and along[best] > 0


def _closing(trace: Sequence[World]) -> int:
    """The first state in which the fingers are closed, else the one in which the gripper is lowest."""
    closed = [i for i, world in enumerate(trace) if world.state[6] < GRIP_BELOW]
    return closed[0] if closed else int(np.argmin([world.state[2] for world in trace]))


def _observation(case: Scene, world: World, pixels: int) -> RobotObservation:
    picture = render(world, case.look, front_camera(), pixels, case.rng)
    return RobotObservation({"front": picture}, sentence(case.rollout.task, case.first), world.state)
