"""A LIBERO environment with one thing changed along one of LIBERO-Plus's axes, see `axes` for the sizes.

What is changed follows from axis, level, seed and the start state alone, so that equal ones give equal episodes.
Camera, light and background change the model that is drawn, never physics; robot and layout change the start state
before things come to rest; noise changes the third-person camera's images; language changes the instruction.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..libero import CAMERAS, LiberoEnvironment
from .axes import ASKEW, FURTHER, JOINTS, LENS, RAISE, TURN
from .image_noise import KINDS, spoiled
from .layout import move_things
from .paraphrase import paraphrase
from .surfaces import Surfaces

Rng = np.random.Generator

PERSON, WRIST = CAMERAS

CAMERA_KINDS = ("around", "distance", "orientation", "lens")

LIMIT_MARGIN = 0.05
"""Joints stay this far, rad, from their limits."""

LIGHT_COLOUR, LIGHT_DARKER, LIGHT_BRIGHTER = 0.12, 0.13, 0.25
"""Largest change of a channel of the lights' colour, and of their strength either way, for each level."""

LIGHT_TURN, LIGHT_GLOSS = 12.0, 0.14
"""Degrees that their direction turns, and what is added to their highlights, for each level."""

LIGHT_SHADOWS = 3
"""From this level on things cast shadows, where the view draws shadows; LIBERO's lights cast none."""

_FIELDS = {
    "camera": ("cam_pos", "cam_quat", "cam_fovy"),
    "light": ("light_diffuse", "light_specular", "light_dir", "light_castshadow"),
    "background": ("mat_rgba",),
}
"""Of the model, what an axis changes and what is put back before the next start."""


class PerturbedEnvironment(LiberoEnvironment):
    """An environment changed along one of `axes.AXES` at a level of 1 to 5; the one that it is made from must not be
    used any more."""

    def __init__(self, environment: LiberoEnvironment, axis: str, level: int, seed: int) -> None:
        vars(self).update(vars(environment))
        self._axis, self._level, self._key = axis, level, seed
        self._model: Any = None
        self._before: dict[str, np.ndarray] = {}
        self._surfaces: Surfaces | None = None
        self._start = 0
        if axis == "language":
            self.task = replace(self.task, instruction=paraphrase(self.task.instruction, level, seed))

    def reset(self, start: np.ndarray | None) -> None:
        """As `LiberoEnvironment.reset`, with something changed."""
        self._start = self.seed if start is None else zlib.crc32(np.ascontiguousarray(start, np.float64).tobytes())
        super().reset(start)

    def images(self) -> dict[str, np.ndarray]:
        """As `LiberoEnvironment.images`; noise is the same for the same step."""
        drawn = super().images()
        if self._axis == "noise" and PERSON in drawn:
            first = self._rng()
            kind = KINDS[int(first.integers(len(KINDS)))]
            strength = 2 * self._level - int(first.integers(2))
            drawn[PERSON] = spoiled(drawn[PERSON], kind, strength, self._rng(self.steps))
        return drawn

    def _apply_view(self) -> None:
        """Called by `reset` between the start state and the steps in which things come to rest."""
        self._put_back()
        super()._apply_view()
        change: Callable[[], None] | None = {
            "camera": lambda: move_camera(self.sim.model, self._pivot(), self._level, self._rng()),
            "robot": lambda: self._move_robot(),
            "light": lambda: change_light(self.sim.model, self.shadows, self._level, self._rng()),
            "background": lambda: self._change_surfaces(),
            "layout": lambda: move_things(self.wrapped.env, self.task.instruction, self._level, self._rng()),
        }.get(self._axis)
        if change is not None:
            change()

    def _rng(self, *more: int) -> Rng:
        return np.random.default_rng([zlib.crc32(self._axis.encode()), self._level, self._key, self._start, *more])

    def _put_back(self) -> None:
        """The model as it was made: without a rebuilt scene, changes outlive a reset."""
        model = self.sim.model
        if model is not self._model:
            self._model = model
            self._before = {name: np.copy(getattr(model, name)) for name in _FIELDS.get(self._axis, ())}
            self._surfaces = None
        for name, values in self._before.items():
            getattr(model, name)[:] = values

    def _pivot(self) -> np.ndarray:
        """The middle of the table's or the floor's top, metres."""
        return np.asarray(getattr(self.wrapped.env, "workspace_offset", (0.0, 0.0, 0.8)), np.float64)

    def _move_robot(self) -> None:
        robot = self.wrapped.robots[0]
        places, model = robot._ref_joint_pos_indexes, self.sim.model
        limits = np.asarray(model.jnt_range)[robot._ref_joint_indexes]
        moved = displaced(np.asarray(self.sim.data.qpos)[places], limits, self._level, self._rng())
        self.sim.data.qpos[places] = moved
        self.sim.forward()
        # The controller holds the orientation of its last goal and pulls the elbow to its first joint positions.
        robot.controller.update_initial_joints(moved)
        robot.controller.reset_goal()

    def _change_surfaces(self) -> None:
        if self._surfaces is None:
            own = [*self.wrapped.env.objects_dict, *self.wrapped.env.fixtures_dict, "robot", "gripper", "mount"]
            self._surfaces = Surfaces(self.sim, own)
        self._surfaces.change(self._level, self._rng())


def move_camera(model: Any, pivot: np.ndarray, level: int, rng: Rng) -> None:
    """Move the third-person camera around the scene or away from it, rotate it, or change its field of view.

    Args:
        model: with `camera_name2id`, `cam_pos` [N, 3] in metres, `cam_quat` [N, 4] (w first), `cam_fovy` [N] in
            degrees.
        pivot: the scene's centre float64 [3].
        level: 1 to 5; each of the four is larger than that of the level below.
        rng: which of the four, its direction and its size.
    """
    camera = model.camera_name2id(PERSON)
    kind = CAMERA_KINDS[int(rng.integers(len(CAMERA_KINDS)))]
    size, sign = level - 0.5 * rng.uniform(), (-1.0, 1.0)[int(rng.integers(2))]
    away = np.array(model.cam_pos[camera], np.float64) - pivot
    turn = Rotation.from_quat(np.roll(model.cam_quat[camera], -1))
    if kind == "around":
        about = _turn((0, 0, 1), sign * TURN * size)
        both = about * _turn(np.cross((0, 0, 1), away), -RAISE * size * int(rng.integers(2)))
        away, turn = both.apply(away), both * turn
    elif kind == "distance":
        away = (1 + FURTHER * size) * away
    elif kind == "orientation":
        for axis in ((1, 0, 0), (0, 1, 0)):
            turn = turn * _turn(axis, sign * ASKEW * size)
            sign = (-1.0, 1.0)[int(rng.integers(2))]
    else:
        model.cam_fovy[camera] += sign * LENS * size
    model.cam_pos[camera], model.cam_quat[camera] = pivot + away, np.roll(turn.as_quat(), 1)


def displaced(joints: np.ndarray, limits: np.ndarray, level: int, rng: Rng) -> np.ndarray:
    """Joint positions float64 [J], moved in a random direction but not beyond limits [J, 2], all in rad."""
    way = rng.standard_normal(len(joints))
    moved = joints + JOINTS * level * way / np.linalg.norm(way)
    return np.clip(moved, limits[:, 0] + LIMIT_MARGIN, limits[:, 1] - LIMIT_MARGIN)


def change_light(model: Any, shadows: bool, level: int, rng: Rng) -> None:
    """Another colour, strength, direction and gloss of all lights, and shadows from `LIGHT_SHADOWS` on.

    Args:
        model: with `light_diffuse`, `light_specular`, `light_dir` [N, 3] and `light_castshadow` [N]; the light of the
            camera is left alone, so that nothing is ever black.
        shadows: they may be drawn.
    """
    strength = 1 + (LIGHT_BRIGHTER if rng.integers(2) else -LIGHT_DARKER) * (level - 0.5 * rng.uniform())
    colour = strength * (1 + LIGHT_COLOUR * level * rng.uniform(-1, 1, 3))
    model.light_diffuse[:] = np.clip(np.asarray(model.light_diffuse) * colour, 0, 2)
    model.light_specular[:] = np.clip(np.asarray(model.light_specular) + LIGHT_GLOSS * level, 0, 1)
    way = rng.uniform(0, 2 * np.pi)
    tilt = _turn((np.cos(way), np.sin(way), 0), LIGHT_TURN * (level - 0.5 * rng.uniform()))
    model.light_dir[:] = tilt.apply(model.light_dir)
    if shadows and level >= LIGHT_SHADOWS:
        model.light_castshadow[:] = 1


def _turn(axis: Sequence[float] | np.ndarray, degrees: float) -> Rotation:
    return Rotation.from_rotvec(np.radians(degrees) * np.asarray(axis, np.float64) / np.linalg.norm(axis))
