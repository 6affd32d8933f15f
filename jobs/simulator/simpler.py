"""SimplerEnv (Google Robot, WidowX) as an environment: its starts, images, state and steps.

Scenes, starts and limits are those of SimplerEnv's own evaluation scripts (simpler-env/SimplerEnv@4ab7178,
`scripts/octo_*.sh`): every start of a task is one episode of the published protocol. Physics, controllers and success
tests are SimplerEnv's; its evaluator judges the last step of an episode of full length (`View.judged`).

Images are uint8 RGB [H, W, 3], top row first, as SimplerEnv gives them. Rendering needs a Vulkan device; visual
matching lays the simulated robot and objects over a photograph of the real scene.

This file has not been run with SimplerEnv itself. It follows SimplerEnv's source and is tested against a recorded
interface (`tests/jobs/simulator/test_simpler.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .simpler_tasks import GOOGLE, WIDOWX, Robot, Stand, Task

STICKY_STEPS = 15
"""Steps for which the Google Robot's gripper repeats a command (SimplerEnv's Octo; VLA-JEPA's client takes 10)."""

TOP_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Orientation of a WidowX gripper that points down, to which BridgeData's angles are relative (rail-berkeley/
bridge_data_robot `widowx_controller.py`; allenzren/open-pi-zero `src/agent/env_adapter/simpler.py`)."""


@dataclass(frozen=True)
class View:
    """How the scene is rendered, and two choices of the protocol.

    pixels       side of the images, resized to a square; None: as the camera gives them (640 x 512 or 640 x 480)
    cameras      names in the simulator; empty: the robot's own
    ray_tracing  render drawers as SimplerEnv does; without it any Vulkan device works, but images differ
    sticky       steps for which the Google Robot's gripper repeats a command
    judged       "last": an episode runs to its limit and its last step decides, as in SimplerEnv's evaluator;
                 "first": it ends with the first success, which can only raise the rate
    """

    pixels: int | None = None
    cameras: tuple[str, ...] = ()
    ray_tracing: bool = True
    sticky: int = STICKY_STEPS
    judged: str = "last"

    def __post_init__(self) -> None:
        if self.judged not in ("last", "first"):
            raise ValueError(f"judged must be last or first, got {self.judged!r}")
        if self.sticky < 1:
            raise ValueError(f"sticky must be at least 1 step, got {self.sticky}")


class Gripper:
    """From a policy's gripper (1 open, 0 closed) to the robot's.

    The WidowX takes the wanted opening, 1 open, -1 closed. The Google Robot takes a change, 1 closes, -1 opens, and
    needs it for several steps. A change requested in the meantime is carried out afterwards, as in VLA-JEPA's client.
    In SimplerEnv's Octo it is dropped. The first request of an episode is taken as the present state of the gripper.
    """

    def __init__(self, robot: Robot, sticky: int) -> None:
        self.robot, self.sticky = robot, sticky
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._wish: bool | None = None
        self._change, self._left = 0.0, 0

    def command(self, opening: float) -> float:
        """One step: -1, 0 or 1."""
        wish = opening > 0.5
        if self.robot is WIDOWX:
            return 1.0 if wish else -1.0
        if self._wish is None:
            self._wish = wish
        if wish != self._wish and not self._left:
            self._change, self._left, self._wish = (-1.0 if wish else 1.0), self.sticky, wish
        if not self._left:
            return 0.0
        self._left -= 1
        return self._change


class SimplerEnvironment:
    """A task, ready to be started.

    Args:
        task: from `list_tasks`.
        view: how it is drawn and judged.
        seed: of the scene's random choices; the starts have none.
    """

    def __init__(self, task: Task, view: View | None = None, seed: int = 0) -> None:
        asked = View() if view is None else view
        self.task, self.seed, self.limit = task, seed, task.limit
        self.view = replace(asked, cameras=asked.cameras or (task.kind.camera,))
        self.gripper = Gripper(task.kind, asked.sticky)
        self.steps = 0
        self._wrapped: Any = None
        self._made: tuple[str, dict[str, Any]] | None = None
        self._seen: Mapping[str, Any] = {}
        self._done = False

    @property
    def instruction(self) -> str:
        """The present instruction, which depends on the start and on the stage of the task."""
        return self.task.instruction if self._wrapped is None else str(self._base.get_language_instruction())

    def begin(self, start: int, limit: int) -> None:
        """Begin an episode of `limit` steps instead of the task's; see `reset`."""
        self.limit = limit
        self.reset(start)

    def reset(self, start: int) -> None:
        """Begin an episode. Starts of another variant or photograph build the scene anew, which takes seconds.

        Raises:
            ValueError: the task has no such start.
        """
        variant, stand, objects = self.task.start(start)
        self._build(variant, stand)
        half = stand.yaw / 2
        # a turn by yaw, applied to the robot's own half turn (0, 0, 0, 1); w first
        turn = np.array([-math.sin(half), 0.0, 0.0, math.cos(half)])
        options = {
            "robot_init_options": {"init_xy": np.array([stand.x, stand.y]), "init_rot_quat": turn},
            "obj_init_options": {k: np.array(v) if k == "init_xy" else v for k, v in objects.items()},
        }
        self._seen, _ = self._wrapped.reset(seed=self.seed, options=options)
        self.gripper.reset()
        self.steps, self._done = 0, False

    def step(self, action: Sequence[float]) -> bool:
        """Carry out one action of the controller (see `command`); whether the episode has succeeded (see `View`)."""
        self._seen, _, done, _, _ = self._wrapped.step(np.asarray(action, np.float64))
        self.steps += 1
        self._done = bool(done)
        return self.succeeded()

    def succeeded(self) -> bool:
        """SimplerEnv's own success test; when the last step decides, never before `limit` steps."""
        return self._done and (self.view.judged == "first" or self.steps >= self.limit)

    def command(self, action: Sequence[float]) -> np.ndarray:
        """An action in metres, rotation vector and gripper (1 open, 0 closed) -> the controller's, float64 [7].

        Motion is passed on as it is: both controllers take metres and a rotation vector in the base frame. To be called
        once for every action that is carried out, as the Google Robot's gripper goes by the actions before.
        """
        values = np.asarray(action, np.float64)
        return np.array([*values[:6], self.gripper.command(float(values[6]))])

    def images(self) -> dict[str, np.ndarray]:
        """uint8 RGB [H, W, 3] by camera, of the last step."""
        drawn = {name: np.asarray(self._seen["image"][name]["rgb"], np.uint8) for name in self.view.cameras}
        return {name: self._sized(image) for name, image in drawn.items()}

    def state(self) -> np.ndarray:
        """The tool in the robot's base frame, and the gripper, as in the robot's dataset.

        Google Robot, float32 [8]: x, y, z (m), quaternion x, y, z, w, gripper 1 closed (fractal's
        `base_pose_tool_reached`, `gripper_closed`). WidowX, float32 [7]: x, y, z (m), angles about the fixed axes
        x, y, z from a gripper that points down (rad), gripper 1 open (bridge's `state`). The sign of the quaternion and
        the exact point of the real tool are not known to match.
        """
        place, turn = _seen_from(self._base.agent.robot.pose, self._base.tcp.pose)
        closed = float(np.clip(self._base.agent.get_gripper_closedness(), 0.0, 1.0))
        if self.task.kind is GOOGLE:
            return np.array([*place, *np.roll(turn, -1), closed], np.float32)
        return np.array([*place, *_fixed_angles(_matrix(turn) @ TOP_DOWN.T), 1.0 - closed], np.float32)

    def close(self) -> None:
        """Free the renderer."""
        if self._wrapped is not None:
            self._wrapped.close()
        self._wrapped, self._made = None, None

    @property
    def _base(self) -> Any:
        return self._wrapped.unwrapped

    def _build(self, variant: Mapping[str, Any], stand: Stand) -> None:
        import gymnasium
        import mani_skill2_real2sim.envs  # noqa: F401  registers the environments
        from mani_skill2_real2sim import ASSET_DIR

        arguments = self._arguments(variant, stand, str(ASSET_DIR))
        name = arguments.pop("environment")
        if (name, arguments) != self._made:
            self.close()
            # a copy, as SimplerEnv adds to what it is given
            self._wrapped = gymnasium.make(name, **{**arguments, "camera_cfgs": {"add_segmentation": True}})
            self._made = (name, arguments)

    def _arguments(self, variant: Mapping[str, Any], stand: Stand, assets: str) -> dict[str, Any]:
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
        if not self.view.ray_tracing:
            arguments.pop("shader_dir", None)
        if stand.photograph is not None:
            arguments["rgb_overlay_path"] = f"{assets}/real_inpainting/{stand.photograph}"
            arguments["rgb_overlay_cameras"] = [robot.camera]
        return arguments

    def _sized(self, image: np.ndarray) -> np.ndarray:
        if self.view.pixels is None:
            return np.ascontiguousarray(image)
        import cv2

        size = (self.view.pixels, self.view.pixels)
        return np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _matrix(turn: np.ndarray) -> np.ndarray:
    """A quaternion, w first -> [3, 3]."""
    w, x, y, z = np.asarray(turn, np.float64) / np.linalg.norm(turn)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.array(rows)


def _seen_from(base: Any, tool: Any) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] and quaternion [4], w first, of one pose (`p`, `q`) in the frame of another."""
    place = _matrix(base.q).T @ (np.asarray(tool.p, np.float64) - np.asarray(base.p, np.float64))
    w, x, y, z = np.asarray(base.q, np.float64) / np.linalg.norm(base.q)
    undone = np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])
    return place, undone @ np.asarray(tool.q, np.float64)


def _fixed_angles(matrix: np.ndarray) -> np.ndarray:
    """[3, 3] -> angles [3] about the fixed axes x, y, z, in this order."""
    level = math.hypot(matrix[0, 0], matrix[1, 0])
    roll, yaw = math.atan2(matrix[2, 1], matrix[2, 2]), math.atan2(matrix[1, 0], matrix[0, 0])
    return np.array([roll, math.atan2(-matrix[2, 0], level), yaw])


def state_width(robot: Robot) -> int:
    """Width of `SimplerEnvironment.state`."""
    return 8 if robot is GOOGLE else 7
