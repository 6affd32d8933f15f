"""SimplerEnv (Google Robot, WidowX) as an environment: its starts, images, state and steps.

Scenes, starts and limits are those of SimplerEnv's own evaluation scripts (simpler-env/SimplerEnv@4ab7178,
`scripts/octo_*.sh`): every start of a task is one episode of the published protocol. Physics, controllers and success
tests are SimplerEnv's; as in its evaluator, an episode runs to its limit and its last step decides.

Images are uint8 RGB [H, W, 3], top row first, as SimplerEnv gives them. Rendering needs a Vulkan device; visual
matching lays the simulated robot and objects over a photograph of the real scene.

Tested against a recorded interface (`tests/jobs/simulator/test_simpler.py`) and, where it is installed, beside
SimplerEnv's own evaluator (`tests/jobs/simulator/simpler_rig`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .simpler_tasks import GOOGLE, WIDOWX, Robot, RobotPose, Task

STICKY_STEPS = 15
"""Steps for which the Google Robot's gripper repeats a command (SimplerEnv's Octo; VLA-JEPA's client takes 10)."""

SEED = int(np.random.RandomState(2022).randint(2**32, dtype=np.int64))
"""Of every episode: SimplerEnv's evaluator makes a new environment for each, and takes its first random numbers. The
distractors' places beside a can depend on it."""

TOP_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Orientation of a WidowX gripper that points down, to which BridgeData's angles are relative (rail-berkeley/
bridge_data_robot `widowx_controller.py`; allenzren/open-pi-zero `src/agent/env_adapter/simpler.py`)."""


class Gripper:
    """From a policy's gripper (1 open, 0 closed) to the robot's.

    The WidowX takes the wanted opening, 1 open, -1 closed. The Google Robot takes a change, 1 closes, -1 opens, and
    needs it for several steps. A change requested in the meantime is carried out afterwards, as in VLA-JEPA's client.
    In SimplerEnv's Octo it is dropped. The first request of an episode is taken as the present state of the gripper.
    """

    def __init__(self, robot: Robot, sticky: int = STICKY_STEPS) -> None:
        self.robot, self.sticky = robot, sticky
        self._requested: bool | None = None
        self._change, self._left = 0.0, 0

    def command(self, opening: float) -> float:
        """One step: -1, 0 or 1."""
        is_open = opening > 0.5
        if self.robot is WIDOWX:
            return 1.0 if is_open else -1.0
        if self._requested is None:
            self._requested = is_open
        if is_open != self._requested and not self._left:
            self._change, self._left, self._requested = (-1.0 if is_open else 1.0), self.sticky, is_open
        if not self._left:
            return 0.0
        self._left -= 1
        return self._change


def reset_options(pose: RobotPose, objects: Mapping[str, Any]) -> dict[str, Any]:
    """SimplerEnv's options of a reset, for a start of `Task.start`."""
    half = pose.yaw / 2
    # a turn by yaw, applied to the robot's own half turn (0, 0, 0, 1); w first
    turn = np.array([-math.sin(half), 0.0, 0.0, math.cos(half)])
    return {
        "robot_init_options": {"init_xy": np.array([pose.x, pose.y]), "init_rot_quat": turn},
        "obj_init_options": {k: np.array(v) if k == "init_xy" else v for k, v in objects.items()},
    }


class SimplerEnvironment:
    """A task, ready to be started.

    Args:
        task: from `list_tasks`.
        ray_tracing: render drawers as SimplerEnv does; without it any Vulkan device works, but images differ.
    """

    def __init__(self, task: Task, ray_tracing: bool = True) -> None:
        self.task, self.ray_tracing, self.limit, self.steps = task, ray_tracing, task.limit, 0
        self.cameras = (task.kind.camera,)
        self.gripper = Gripper(task.kind)
        self._wrapped: Any = None
        self._made: tuple[str, dict[str, Any]] | None = None
        self._seen: Mapping[str, Any] = {}
        self._done = False
        self._assets = ""

    @property
    def instruction(self) -> str:
        """The present instruction, which depends on the start and on the stage of the task."""
        return self.task.instruction if self._wrapped is None else str(self._base.get_language_instruction())

    def begin(self, start: int, limit: int) -> None:
        """Begin an episode of `limit` steps instead of the task's; see `reset`."""
        self.limit = limit
        self.reset(start)

    def reset(self, start: int) -> None:
        """Begin an episode; another variant or photograph rebuilds the scene, which takes seconds. Raises ValueError
        for an unknown start."""
        variant, pose, objects = self.task.start(start)
        self._build(variant, pose)
        self._seen, _ = self._wrapped.reset(seed=SEED, options=reset_options(pose, objects))
        self._check_meshes()
        self.gripper = Gripper(self.task.kind)
        self.steps, self._done = 0, False

    def step(self, action: Sequence[float]) -> bool:
        """Carry out one action of the controller (see `command`); whether the episode has succeeded."""
        before = self.instruction
        self._seen, _, done, _, _ = self._wrapped.step(np.asarray(action, np.float64))
        self.steps += 1
        self._done = bool(done)
        if self.instruction != before:
            self.gripper = Gripper(self.task.kind)  # as SimplerEnv's policies begin anew
        return self.succeeded()

    def succeeded(self) -> bool:
        """SimplerEnv's own success test at the last step; never before `limit` steps."""
        return self._done and self.steps >= self.limit

    def command(self, action: Sequence[float]) -> np.ndarray:
        """An action in metres, rotation vector and gripper (1 open, 0 closed) -> the controller's, float64 [7].

        Motion is passed on as it is: both controllers take metres and a rotation vector in the base frame. To be called
        once for every action that is carried out, as the Google Robot's gripper goes by the actions before.
        """
        values = np.asarray(action, np.float64)
        return np.array([*values[:6], self.gripper.command(float(values[6]))])

    def images(self) -> dict[str, np.ndarray]:
        """uint8 RGB [H, W, 3] by camera, of the last step."""
        return {name: np.ascontiguousarray(self._seen["image"][name]["rgb"], np.uint8) for name in self.cameras}

    def state(self) -> np.ndarray:
        """The tool in the robot's base frame, and the gripper, as in the robot's dataset.

        Google Robot, float32 [8]: x, y, z (m), quaternion x, y, z, w, gripper 1 closed (fractal's
        `base_pose_tool_reached`, `gripper_closed`). WidowX, float32 [7]: x, y, z (m), angles about the fixed axes
        x, y, z from a gripper that points down (rad), gripper 1 open (bridge's `state`). The sign of the quaternion and
        the exact point of the real tool are not known to match.
        """
        from scipy.spatial.transform import Rotation

        base, tool = self._base.agent.robot.pose, self._base.tcp.pose
        undone = Rotation.from_quat(np.roll(base.q, -1)).inv()
        place, turn = undone.apply(np.asarray(tool.p) - base.p), undone * Rotation.from_quat(np.roll(tool.q, -1))
        closed = float(np.clip(self._base.agent.get_gripper_closedness(), 0.0, 1.0))
        if self.task.kind is GOOGLE:
            return np.array([*place, *turn.as_quat(), closed], np.float32)
        angles = (turn * Rotation.from_matrix(TOP_DOWN).inv()).as_euler("xyz")
        return np.array([*place, *angles, 1.0 - closed], np.float32)

    def close(self) -> None:
        """Free the renderer."""
        if self._wrapped is not None:
            self._wrapped.close()
        self._wrapped, self._made = None, None

    @property
    def _base(self) -> Any:
        return self._wrapped.unwrapped

    def _check_meshes(self) -> None:
        """Raise FileNotFoundError for a thing without a mesh, without which SAPIEN goes on, but for a line in its log:
        what stands on a missing table falls to no end."""
        for actor in self._base.get_actors():
            if not any(body.get_render_shapes() for body in actor.get_visual_bodies()):
                what = f"stage {self._base.scene_name}" if actor.name == "arena" else f"model {actor.name}"
                raise FileNotFoundError(
                    f"the mesh of {what} is not in {self._assets}: copies of ManiSkill2_real2sim often lack its large "
                    "files; clone it whole, or name a folder that has them in MS2_REAL2SIM_ASSET_DIR"
                )

    def _build(self, variant: Mapping[str, Any], pose: RobotPose) -> None:
        import gymnasium
        import mani_skill2_real2sim.envs  # noqa: F401  registers the environments
        from mani_skill2_real2sim import ASSET_DIR

        self._assets = str(ASSET_DIR)
        arguments = self._arguments(variant, pose, self._assets)
        name = arguments.pop("environment")
        if (name, arguments) != self._made:
            self.close()
            # a copy, as SimplerEnv adds to what it is given
            self._wrapped = gymnasium.make(name, **{**arguments, "camera_cfgs": {"add_segmentation": True}})
            self._made = (name, arguments)

    def _arguments(self, variant: Mapping[str, Any], pose: RobotPose, assets: str) -> dict[str, Any]:
        task, robot = self.task, self.task.kind
        arguments: dict[str, Any] = {
            "environment": task.environment,
            "obs_mode": "rgbd",
            "robot": task.robot,
            "scene_name": task.scene,
            "control_mode": robot.controller,
            "control_freq": robot.control_hz,
            "sim_freq": task.sim_hz,
            "max_episode_steps": task.limit,
            **variant,
        }
        if not self.ray_tracing:
            arguments.pop("shader_dir", None)
        if pose.photograph is not None:
            arguments["rgb_overlay_path"] = f"{assets}/real_inpainting/{pose.photograph}"
            arguments["rgb_overlay_cameras"] = [robot.camera]
        return arguments
