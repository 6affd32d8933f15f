"""A LIBERO-Plus task in LIBERO: its scene, start, camera, joints and noise as LIBERO-Plus applies them."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..libero import CAMERAS, LiberoEnvironment
from .bad_images import spoiled
from .goals import PROBLEM
from .package import Scene, installed
from .tasks import PlusTask
from .viewpoint import viewpoint

PERSON = CAMERAS[0]

OWN = "libero_plus_"
"""Begins the names under which textures of LIBERO-Plus's scenes are entered among LIBERO's styles."""


class PlusEnvironment(LiberoEnvironment):
    """A task, ready to be started.

    The robot's other joint positions hold before the start state is set, which has LIBERO's own positions: what stays
    of them is the controller's goal, towards which the hand turns and the elbow moves (as in LIBERO-Plus's wrapper,
    whose start states are LIBERO's).

    Args:
        task: one that misses nothing.
        pixels: side of the images; 256 for tasks with noise.
        shadows: see `LiberoEnvironment`.
        drawn: images can be drawn.

    Raises:
        ValueError: something of the task is not here, or its noise is for other images.
    """

    def __init__(self, task: PlusTask, pixels: int, shadows: bool, drawn: bool = True) -> None:
        if task.missing or task.scene is None:
            raise ValueError(f"{task.name} cannot be played here, there is no {', no '.join(task.missing)}")
        if task.change.noise and pixels != 256:
            raise ValueError(f"{task.name}: LIBERO-Plus's noise is for images of 256 pixels, got pixels={pixels}")
        with tempfile.TemporaryDirectory() as folder:
            goal_file = Path(folder) / Path(task.goal_file).name
            text = Path(task.goal_file).read_text()
            goal_file.write_text(PROBLEM.sub(f"(problem {task.scene.problem})", text, count=1))
            super().__init__(task, pixels, shadows, drawn, str(goal_file), _room(task.scene))
        self._model: Any = None
        self._camera: tuple[np.ndarray, np.ndarray] = np.zeros(3), np.zeros(4)
        if task.change.joints:
            self.wrapped.robots[0].init_qpos = installed().joints[task.change.joints]

    def images(self) -> dict[str, np.ndarray]:
        """As `LiberoEnvironment.images`; noise is the same for the same step."""
        drawn = super().images()
        noise = self.task.change.noise
        if noise:
            rng = np.random.default_rng([zlib.crc32(self.task.name.encode()), self.steps])
            drawn[PERSON] = np.ascontiguousarray(spoiled(drawn[PERSON][::-1], noise, rng)[::-1])
        return drawn

    def _apply_view(self) -> None:
        super()._apply_view()
        model = self.sim.model
        camera = model.camera_name2id(PERSON)
        if model is not self._model:
            place, turned = viewpoint(model.cam_pos[camera], model.cam_quat[camera], self.task.change.view)
            self._model, self._camera = model, (place, turned / np.linalg.norm(turned))
        model.cam_pos[camera], model.cam_quat[camera] = self._camera


def _room(scene: Scene) -> dict[str, Any]:
    """LIBERO's arguments for a scene. Textures that its styles do not name are entered there."""
    from libero.libero.envs.arenas import style

    properties = {}
    for kind, known, name in (("floor", style.FLOOR_STYLE, scene.floor), ("wall", style.WALL_STYLE, scene.wall)):
        if name:
            known[OWN + name] = name
            properties[f"{kind}_style"] = OWN + name
    return {"scene_properties": properties or None, "scene_xml": scene.file or None}
