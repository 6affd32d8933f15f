"""SimplerEnv (Google Robot, WidowX) as an environment: its tasks, its starts, its pictures, its state, its steps.

Scenes, starts and limits are those of SimplerEnv's own evaluation scripts (simpler-env/SimplerEnv@4ab7178,
`scripts/octo_*.sh`): every start of a task is one episode of the published protocol. Physics, controllers and success
tests are SimplerEnv's; its evaluator judges the last step of an episode of full length (`View.judged`).

Pictures are uint8 RGB [H, W, 3], top row first, as SimplerEnv gives them. Rendering needs a Vulkan device; visual
matching lays the simulated robot and objects over a photograph of the real scene.

SimplerEnv itself has not been run with this file: it was written by SimplerEnv's source and tested against a recorded
interface (`tests/jobs/simulator/test_simpler.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SUITES = ("google_robot_visual_matching", "google_robot_variant_aggregation", "widowx_visual_matching")

STICKY_STEPS = 15
"""Steps for which the Google Robot's gripper repeats a command (SimplerEnv's Octo; VLA-JEPA's client takes 10)."""

TOP_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Orientation of a WidowX gripper that points down, to which BridgeData's angles are relative (rail-berkeley/
bridge_data_robot `widowx_controller.py`; allenzren/open-pi-zero `src/agent/env_adapter/simpler.py`)."""


@dataclass(frozen=True)
class Robot:
    """A robot's camera, its rates (Hz) and its controller in SimplerEnv (`utils/env/env_builder.py`)."""

    camera: str
    control_hz: int
    sim_hz: int
    controller: str


GOOGLE = Robot(
    "overhead_camera",
    3,
    513,
    "arm_pd_ee_delta_pose_align_interpolate_by_planner_gripper_pd_joint_target_delta_pos_interpolate_by_planner",
)
WIDOWX = Robot("3rd_view_camera", 5, 500, "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos")


@dataclass(frozen=True)
class View:
    """How the scene is drawn, and two choices of the protocol.

    pixels       a side of the pictures, squeezed to a square; None: as the camera gives them (640 x 512 or 640 x 480)
    cameras      names in the simulator; empty: the robot's own
    ray_tracing  draw drawers as SimplerEnv does; without it, any Vulkan device will do but pictures differ
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


@dataclass(frozen=True)
class Stand:
    """Where the robot stands: metres, its turn about the vertical in radians, and the photograph behind the scene."""

    x: float
    y: float
    yaw: float = 0.0
    photograph: str | None = None


@dataclass(frozen=True)
class Task:
    """A task of a suite.

    A start is a number: of the variant, then of the stand, then of the objects' places, the last running fastest.

    instruction  what the robot is told; empty where the start decides it (`SimplerEnvironment.instruction` tells it)
    limit        steps of an episode;  scene  what surrounds robot and objects
    robot        SimplerEnv's name of the robot's model;  sim_hz  of this task's script
    variants     arguments of the environment, one set a variant; `environment` in a set replaces the task's
    objects      `obj_init_options` of a reset
    """

    suite: str
    index: int
    name: str
    instruction: str
    environment: str
    limit: int
    scene: str
    variants: tuple[Mapping[str, Any], ...]
    stands: tuple[Stand, ...]
    objects: tuple[Mapping[str, Any], ...]
    robot: str = "google_robot_static"
    sim_hz: int = GOOGLE.sim_hz

    @property
    def starts(self) -> range:
        """The numbers of the starts."""
        return range(len(self.variants) * len(self.stands) * len(self.objects))

    @property
    def kind(self) -> Robot:
        """Which of the two robots."""
        return WIDOWX if self.robot.startswith("widowx") else GOOGLE

    def start(self, number: int) -> tuple[Mapping[str, Any], Stand, Mapping[str, Any]]:
        """Variant, stand and objects' places of a start.

        Raises:
            ValueError: there is no such start.
        """
        if number not in self.starts:
            raise ValueError(f"{self.name} has starts 0 to {len(self.starts) - 1}, got {number}")
        rest, place = divmod(number, len(self.objects))
        variant, stand = divmod(rest, len(self.stands))
        return self.variants[variant], self.stands[stand], self.objects[place]


def list_tasks(suite: str) -> list[Task]:
    """The tasks of a suite; needs none of the simulator's packages.

    Raises:
        ValueError: there is no such suite; the message lists them.
    """
    makers = {SUITES[0]: _google_matching, SUITES[1]: _google_variants, SUITES[2]: _widowx}
    if suite not in makers:
        raise ValueError(f"there is no suite {suite!r}; there are {', '.join(SUITES)}")
    return [replace(task, suite=suite, index=index) for index, task in enumerate(makers[suite]())]


def _grid(xs: tuple[float, float, int], ys: tuple[float, float, int]) -> tuple[Mapping[str, Any], ...]:
    return tuple({"init_xy": (float(x), float(y))} for x in np.linspace(*xs) for y in np.linspace(*ys))


def _episodes(count: int) -> tuple[Mapping[str, Any], ...]:
    return tuple({"episode_id": number} for number in range(count))


CANS = {"horizontal": "lr_switch", "vertical": "laid_vertically", "standing": "upright"}
CAN, NEAR = "GraspSingleOpenedCokeCan{}InScene-v0", "MoveNear{}InScene-v0"
TABLE = "google_pick_coke_can_1_v4"
CAN_PLACES = _grid((-0.35, -0.12, 5), (-0.02, 0.42, 5))
ORIGIN = _grid((0, 0, 1), (0, 0, 1))
APPLE_PLACES = _grid((-0.08, -0.02, 3), (-0.02, 0.08, 3))

RECOLOURED = tuple(
    {"urdf_version": name and f"recolor_{name}"}
    for name in ("", "tabletop_visual_matching_1", "tabletop_visual_matching_2", "cabinet_visual_matching_1")
)
"""The four colourings of the Google Robot's arm in visual matching."""

CABINETS = tuple(
    Stand(x, y, yaw, f"open_drawer_{name}.png")
    for name, x, y, yaw in (
        ("a0", 0.644, -0.179, -0.03), ("a1", 0.765, -0.182, -0.02), ("a2", 0.889, -0.203, -0.06),
        ("b0", 0.652, 0.009, 0.0), ("b1", 0.752, 0.009, 0.0), ("b2", 0.851, 0.035, 0.0),
        ("c0", 0.665, 0.224, 0.0), ("c1", 0.765, 0.222, -0.025), ("c2", 0.865, 0.222, -0.025),
    )
)  # fmt: skip
"""Where the robot stood before the real drawers."""

SCENES = tuple(
    {"scene_name": name}
    for name in (
        "Baked_sc1_staging_objaverse_cabinet1_h870",
        "Baked_sc1_staging_objaverse_cabinet2_h870",
        f"{TABLE}_alt_background",
        f"{TABLE}_alt_background_2",
    )
)
LIGHTS: tuple[Mapping[str, Any], ...] = ({"slightly_darker_lighting": True}, {"slightly_brighter_lighting": True})
ROOMS: tuple[Mapping[str, Any], ...] = (
    {},
    *({"scene_name": name} for name in ("modern_bedroom_no_roof", "modern_office_no_roof")),
    *({"light_mode": name} for name in ("brighter", "darker")),
    *({"station_name": name} for name in ("mk_station2", "mk_station3")),
)
"""Variants of the drawers."""


def _cans(variants: Sequence[Mapping[str, Any]], stand: Stand, sim_hz: int) -> list[Task]:
    return [
        Task("", 0, f"google_robot_pick_{name}_coke_can", "pick coke can", CAN.format(""), 80, TABLE,
             tuple({flag: True, **variant} for variant in variants), (stand,), CAN_PLACES, sim_hz=sim_hz)
        for name, flag in CANS.items()
    ]  # fmt: skip


def _near(environment: str, variants: tuple[Mapping[str, Any], ...], photograph: str | None) -> Task:
    stands, name = (Stand(0.35, 0.21, -0.09, photograph),), "google_robot_move_near"
    return Task("", 0, name, "", NEAR.format(environment), 80, TABLE, variants, stands, _episodes(60))


def _drawers(scene: str, variants: Sequence[Mapping[str, Any]], stands: tuple[Stand, ...]) -> list[Task]:
    traced = tuple({"shader_dir": "rt", **variant} for variant in variants)
    return [
        Task("", 0, f"google_robot_{what}_{which}_drawer", f"{what} {which} drawer",
             f"{what.title()}{which.title()}DrawerCustomInScene-v0", 113, scene, traced, stands, ORIGIN)
        for what in ("open", "close")
        for which in ("top", "middle", "bottom")
    ]  # fmt: skip


def _apple(scene: str, variants: Sequence[Mapping[str, Any]], stands: tuple[Stand, ...], model: str) -> Task:
    """Told to open the drawer; SimplerEnv changes it to the placing after 100 steps."""
    made = tuple({"shader_dir": "rt", **variant, "model_ids": model} for variant in variants)
    name, known = "google_robot_place_apple_in_closed_top_drawer", "PlaceIntoClosedTopDrawerCustomInScene-v0"
    return Task("", 0, name, "open top drawer", known, 200, scene, made, stands, APPLE_PLACES)


def _google_matching() -> list[Task]:
    cabinet = {"station_name": "mk_station_recolor", "light_mode": "simple", "disable_bad_material": True}
    variants = [{**cabinet, **colour} for colour in RECOLOURED]
    return [
        *_cans(RECOLOURED, Stand(0.35, 0.20, photograph="google_coke_can_real_eval_1.png"), 501),
        _near("GoogleBakedTex", RECOLOURED, "google_move_near_real_eval_1.png"),
        *_drawers("dummy_drawer", variants, CABINETS),
        _apple("dummy_drawer", variants, CABINETS[::3], "baked_apple_v2"),
    ]


def _google_variants() -> list[Task]:
    crowd = {"environment": CAN.format("Distractor")}
    cameras = ("AltGoogleCamera", "AltGoogleCamera2")
    cans, near = ([{"environment": known.format(name)} for name in cameras] for known in (CAN, NEAR))
    room, sides = "frl_apartment_stage_simple", (-0.2, 0.0, 0.2)
    return [
        *_cans([{}, *SCENES, crowd, {**crowd, "distractor_config": "more"}, *LIGHTS, *cans], Stand(0.35, 0.20), 513),
        _near("Google", ({}, {"no_distractor": True}, *SCENES, *LIGHTS, *near), None),
        *_drawers(room, ROOMS, tuple(Stand(x, y) for x in (0.65, 0.75, 0.85) for y in sides)),
        _apple(room, ROOMS, tuple(Stand(0.65, y) for y in sides), "apple"),
    ]


def _widowx() -> list[Task]:
    table, sink = Stand(0.147, 0.028, 0.0, "bridge_real_eval_1.png"), Stand(0.127, 0.06, 0.0, "bridge_sink.png")
    cube = "StackGreenCubeOnYellowCubeBakedTexInScene-v0"
    rows = (
        ("spoon_on_towel", "put the spoon on the towel", "PutSpoonOnTableClothInScene-v0"),
        ("carrot_on_plate", "put carrot on plate", "PutCarrotOnPlateInScene-v0"),
        ("stack_cube", "stack the green block on the yellow block", cube),
        ("put_eggplant_in_basket", "put eggplant into yellow basket", "PutEggplantInBasketScene-v0"),
    )
    common: dict[str, Any] = {"variants": ({},), "stands": (table,), "objects": _episodes(24), "robot": "widowx"}
    tasks = [
        Task("", 0, f"widowx_{name}", text, known, 60, "bridge_table_1_v1", **common, sim_hz=WIDOWX.sim_hz)
        for name, text, known in rows
    ]
    other: dict[str, Any] = {
        "limit": 120,
        "scene": "bridge_table_1_v2",
        "stands": (sink,),
        "robot": "widowx_sink_camera_setup",
    }
    return [*tasks[:3], replace(tasks[3], **other)]


class Gripper:
    """From a policy's gripper (1 open, 0 closed) to the robot's.

    The WidowX takes the wanted opening, 1 open, -1 closed. The Google Robot takes a change, 1 closes, -1 opens, and
    needs it for several steps. A change wished for meanwhile is carried out afterwards, as in VLA-JEPA's client and
    unlike in SimplerEnv's Octo, which forgets it. The first wish of an episode is where the gripper is taken to be.
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
        seed: of what the scene leaves to chance; the starts themselves leave nothing.
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
        """What the robot is told now: of the start, and of the part of the task it has come to."""
        return self.task.instruction if self._wrapped is None else str(self._base.get_language_instruction())

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

    def pictures(self) -> dict[str, np.ndarray]:
        """uint8 RGB [H, W, 3] by camera, of the last step."""
        drawn = {name: np.asarray(self._seen["image"][name]["rgb"], np.uint8) for name in self.view.cameras}
        return {name: self._sized(picture) for name, picture in drawn.items()}

    def state(self) -> np.ndarray:
        """The tool in the robot's base frame, and the gripper, as the robot's data set has them.

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

    def _sized(self, picture: np.ndarray) -> np.ndarray:
        if self.view.pixels is None:
            return np.ascontiguousarray(picture)
        import cv2

        size = (self.view.pixels, self.view.pixels)
        return np.ascontiguousarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


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


def versions() -> Mapping[str, str]:
    """Of what decides how the simulator behaves."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("simpler_env", "mani_skill2_real2sim", "sapien", "gymnasium", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
