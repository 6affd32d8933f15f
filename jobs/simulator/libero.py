"""One LIBERO task as an environment: its start states, images, state and steps.

LIBERO's own observations render two images at each of 20 steps per second. Here images are rendered only on request.
Physics, controller, start states and the success test are LIBERO's.

Images are uint8 RGB [H, W, 3], top row first, as a camera would show them. LIBERO's own observations have the bottom
row first; the copies that OpenVLA made of its data are turned by 180 degrees instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONTROL_HZ = 20
"""Steps per second, LIBERO `libero/envs/env_wrapper.py`."""

SETTLE_STEPS = 10
"""Steps without motion after a start, until objects are at rest (as in the evaluations of OpenVLA and LeRobot)."""

STILL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""The action without motion, with an open gripper."""

CAMERAS = ("agentview", "robot0_eye_in_hand")

STATE = 8
"""Width of the robot's state, see `LiberoEnvironment.state`."""

CHANNELS = {
    "state": (
        {"names": ["x", "y", "z"], "units": "metres", "meaning": "end effector in the world frame"},
        {"names": ["ax", "ay", "az"], "units": "radians", "meaning": "rotation vector"},
        {"names": ["finger_left", "finger_right"], "units": "metres", "meaning": "joint positions of the fingers"},
    ),
    "action": (
        {"names": ["dx", "dy", "dz"], "units": "metres a step", "meaning": "in the base frame"},
        {"names": ["rx", "ry", "rz"], "units": "radians a step", "meaning": "rotation vector in the base frame"},
        {"names": ["gripper"], "units": "0 to 1", "meaning": "1 is open"},
    ),
}
"""What the numbers of the robot's state are, and those of an action as `LiberoEnvironment.command` takes it."""

METRES, RADIANS = 0.05, 0.5
"""Motion of one step at an action of 1 (robosuite `controllers/config/osc_pose.json`)."""

STEP_LIMITS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""Steps after which an episode counts as failed (OpenVLA `experiments/robot/libero/run_libero_eval.py`)."""


def osc_pose(action: Any) -> np.ndarray:
    """An action in metres, radians and gripper (1 open, 0 closed) -> the controller's, float64 [7] in -1..1 with the
    gripper at 1 closed."""
    values = np.asarray(action, np.float64)
    motion = np.concatenate([values[:3] / METRES, values[3:6] / RADIANS])
    return np.array([*np.clip(motion, -1.0, 1.0), -1.0 if values[6] > 0.5 else 1.0])


@dataclass(frozen=True)
class Task:
    """A task of a suite: its name, instruction, goal file, start states float64 [N, Q] and step limit if known."""

    suite: str
    index: int
    name: str
    instruction: str
    goal_file: str
    starts: np.ndarray
    limit: int | None


def list_tasks(suite: str) -> list[Task]:
    """The tasks of a suite in LIBERO's order. Raises ValueError for an unknown suite, with the known ones."""
    from libero.libero import benchmark, get_libero_path

    known = benchmark.get_benchmark_dict()
    if suite.lower() not in known:
        raise ValueError(f"there is no suite {suite!r}; there are {', '.join(sorted(known))}")
    made = known[suite.lower()]()
    folder = get_libero_path("bddl_files")
    tasks = []
    for index, task in enumerate(made.tasks):
        path = os.path.join(folder, task.problem_folder, task.bddl_file)
        starts = np.asarray(made.get_task_init_states(index), np.float64)
        # Data and evaluations of others use the language from the file names of the four suites. In a changed suite
        # only the goal file has the right text.
        text = task.language if suite in STEP_LIMITS else _instruction(path) or task.language
        tasks.append(Task(suite, index, task.name, text, path, starts, step_limit(suite)))
    return tasks


def step_limit(suite: str) -> int | None:
    """Step limit of a suite, or of the suite that a changed one (`libero_goal_swap`, …) is made from."""
    return next((limit for name, limit in STEP_LIMITS.items() if f"{suite}_".startswith(f"{name}_")), None)


def goal_of(task: Task) -> list[list[str]]:
    """The goal as predicates: each a name and its objects and places."""
    import libero.libero.envs.bddl_utils as goals

    return [list(predicate) for predicate in goals.robosuite_parse_problem(task.goal_file)["goal_state"]]


def _instruction(goal_file: str) -> str:
    """The instruction in a goal file."""
    import libero.libero.envs.bddl_utils as goals

    text = goals.get_problem_info(goal_file)["language_instruction"]
    return str(text if isinstance(text, str) else " ".join(text)).strip()


class LiberoEnvironment:
    """A task, ready to be started.

    Args:
        task: from `list_tasks`.
        pixels: side of the images.
        shadows: render shadows and reflections; without them rendering takes about half the time.
        drawn: images can be drawn.
        goal_file: in place of the task's.
        room: arguments of LIBERO for another scene, or none.

    Attributes:
        seed: of the objects' places in a free start (`reset` without a state); may be changed between resets.
    """

    cameras = CAMERAS

    def __init__(
        self,
        task: Any,
        pixels: int,
        shadows: bool,
        drawn: bool = True,
        goal_file: str | None = None,
        room: Mapping[str, Any] | None = None,
    ) -> None:
        from libero.libero.envs.env_wrapper import ControlEnv

        self.task, self.pixels, self.shadows, self.seed = task, pixels, shadows, 0
        self.wrapped = ControlEnv(
            bddl_file_name=goal_file or task.goal_file,
            use_camera_obs=False,
            has_offscreen_renderer=drawn,
            ignore_done=True,
            hard_reset=False,
            **(room or {}),
        )
        _disable_unused_observables(self.wrapped.env)
        self.steps, self.limit = 0, 0

    @property
    def instruction(self) -> str:
        """The robot's instruction."""
        return self.task.instruction

    def begin(self, start: int, limit: int) -> None:
        """Begin an episode of at most `limit` steps from a start state of the benchmark."""
        self.limit = limit
        self.reset(self.task.starts[start])

    def command(self, action: Sequence[float]) -> np.ndarray:
        """See `osc_pose`."""
        return osc_pose(action)

    @property
    def sim(self) -> Any:
        """robosuite's simulation; a new one after every `reset`."""
        return self.wrapped.sim

    def reset(self, start: np.ndarray | None) -> None:
        """Begin an episode from a flattened simulator state float64 [Q]; None: objects are placed at random. Raises
        ValueError if the state is of another task."""
        self.wrapped.seed(self.seed)
        self.wrapped.reset()
        # A reset without a rebuilt scene leaves only this unchanged; rebuilding takes seconds.
        gripper = self.wrapped.robots[0].gripper
        gripper.current_action = np.zeros_like(gripper.current_action)
        if start is not None:
            expected = len(self.wrapped.get_sim_state())
            if len(start) != expected:
                raise ValueError(f"{self.task.name}: a start has {expected} numbers, got {len(start)}")
            self.wrapped.set_init_state(start)
        self._apply_view()
        for _ in range(SETTLE_STEPS):
            self.wrapped.step(list(STILL))
        self.steps = 0

    def step(self, action: Sequence[float]) -> bool:
        """Carry out one action of the controller OSC_POSE, 7 numbers in -1..1; whether the goal is reached."""
        self.wrapped.step(list(action))
        self.steps += 1
        return self.succeeded()

    def succeeded(self) -> bool:
        """LIBERO's own success test."""
        return bool(self.wrapped.check_success())

    def holds(self, goal: Sequence[Sequence[str]]) -> bool | None:
        """Whether the goal of another task is reached; None if the scene lacks one of its objects."""
        env = self.wrapped.env
        if any(name not in env.object_states_dict for _, *names in goal for name in names):
            return None
        return all(env._eval_predicate(list(predicate)) for predicate in goal)

    def images(self) -> dict[str, np.ndarray]:
        """uint8 RGB [H, W, 3] by camera."""
        drawn = {name: self.sim.render(self.pixels, self.pixels, camera_name=name) for name in CAMERAS}
        return {name: np.ascontiguousarray(image[::-1]) for name, image in drawn.items()}

    def state(self) -> np.ndarray:
        """float32 [8]: end effector x, y, z (m), its rotation vector (rad), the two fingers' joints (m).

        As LIBERO's `ee_states` and `gripper_states`; the rotation vector may be longer than pi.
        """
        import robosuite.utils.transform_utils as transforms

        robot, data = self.wrapped.env.robots[0], self.sim.data
        place = data.site_xpos[robot.eef_site_id]
        turn = transforms.convert_quat(data.get_body_xquat(robot.robot_model.eef_name), to="xyzw")
        fingers = [data.qpos[joint] for joint in robot._ref_gripper_joint_pos_indexes]
        return np.concatenate([place, transforms.quat2axisangle(turn), fingers]).astype(np.float32)

    def close(self) -> None:
        """Free the renderer."""
        self.wrapped.close()

    def _apply_view(self) -> None:
        model = self.sim.model
        if not self.shadows:
            model.light_castshadow[:] = 0
            model.mat_reflectance[:] = 0


def _disable_unused_observables(env: Any) -> None:
    """Halves the time of a step without a change of its physics.

    robosuite updates tens of observables and computes the number of action dimensions at each of the 25 physics steps
    of one controller step.
    """
    env._observables.clear()
    for robot in env.robots:
        robot.__class__ = type("Robot", (robot.__class__,), {"action_dim": int(robot.action_dim)})
