"""SimplerEnv's tasks and starts, from its evaluation scripts (simpler-env/SimplerEnv@4ab7178, `scripts/octo_*.sh`).

Every start of a task is one episode of the published protocol. Needs none of the simulator's packages.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SUITES = ("google_robot_visual_matching", "google_robot_variant_aggregation", "widowx_visual_matching")


@dataclass(frozen=True)
class Robot:
    """A robot's camera, its rates (Hz), the width of its state (`SimplerEnvironment.state`), its controller in
    SimplerEnv (`utils/env/env_builder.py`), and what the numbers of the state are, as in a manifest."""

    camera: str
    control_hz: int
    sim_hz: int
    state: int
    controller: str
    channels: tuple[Mapping[str, Any], ...]


_PLACE = {"names": ["x", "y", "z"], "units": "metres", "meaning": "tool in the base frame"}

GOOGLE = Robot(
    "overhead_camera",
    3,
    513,
    8,
    "arm_pd_ee_delta_pose_align_interpolate_by_planner_gripper_pd_joint_target_delta_pos_interpolate_by_planner",
    (
        _PLACE,
        {"names": ["qx", "qy", "qz", "qw"], "units": "quaternion", "meaning": "orientation of the tool"},
        {"names": ["gripper"], "units": "0 to 1", "meaning": "1 is closed"},
    ),
)
WIDOWX = Robot(
    "3rd_view_camera",
    5,
    500,
    7,
    "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos",
    (
        _PLACE,
        {"names": ["roll", "pitch", "yaw"], "units": "radians", "meaning": "about the fixed axes x, y, z"},
        {"names": ["gripper"], "units": "0 to 1", "meaning": "1 is open"},
    ),
)


@dataclass(frozen=True)
class RobotPose:
    """The robot's place: metres, rotation about the vertical in radians, and the photograph behind the scene."""

    x: float
    y: float
    yaw: float = 0.0
    photograph: str | None = None


@dataclass(frozen=True)
class Task:
    """A task of a suite.

    The number of a start counts variants, robot poses and objects' places, with the last index fastest.

    instruction  text; empty if it depends on the start (see `SimplerEnvironment.instruction`)
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
    poses: tuple[RobotPose, ...]
    objects: tuple[Mapping[str, Any], ...]
    robot: str = "google_robot_static"
    sim_hz: int = GOOGLE.sim_hz

    @property
    def starts(self) -> range:
        """The numbers of the starts."""
        return range(len(self.variants) * len(self.poses) * len(self.objects))

    @property
    def kind(self) -> Robot:
        """Which of the two robots."""
        return WIDOWX if self.robot.startswith("widowx") else GOOGLE

    def start(self, number: int) -> tuple[Mapping[str, Any], RobotPose, Mapping[str, Any]]:
        """Variant, robot pose and objects' places of a start. Raises ValueError if there is no such start."""
        if number not in self.starts:
            raise ValueError(f"{self.name} has starts 0 to {len(self.starts) - 1}, got {number}")
        rest, place = divmod(number, len(self.objects))
        variant, pose = divmod(rest, len(self.poses))
        return self.variants[variant], self.poses[pose], self.objects[place]


def list_tasks(suite: str) -> list[Task]:
    """The tasks of a suite; needs none of the simulator's packages. Raises ValueError for an unknown suite, with the
    known ones."""
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
    RobotPose(x, y, yaw, f"open_drawer_{name}.png")
    for name, x, y, yaw in zip(
        ("a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"),
        (0.644, 0.765, 0.889, 0.652, 0.752, 0.851, 0.665, 0.765, 0.865),
        (-0.179, -0.182, -0.203, 0.009, 0.009, 0.035, 0.224, 0.222, 0.222),
        (-0.03, -0.02, -0.06, 0.0, 0.0, 0.0, 0.0, -0.025, -0.025),
        strict=True,
    )
)
"""Places of the robot in front of the real drawers."""

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


def _cans(variants: Sequence[Mapping[str, Any]], pose: RobotPose, sim_hz: int) -> list[Task]:
    tasks = []
    for posture, flag in CANS.items():
        name, known = f"google_robot_pick_{posture}_coke_can", CAN.format("")
        posed = tuple({flag: True, **variant} for variant in variants)
        task = Task("", 0, name, "pick coke can", known, 80, TABLE, posed, (pose,), CAN_PLACES)
        tasks.append(replace(task, sim_hz=sim_hz))
    return tasks


def _near(environment: str, variants: tuple[Mapping[str, Any], ...], photograph: str | None) -> Task:
    poses, name = (RobotPose(0.35, 0.21, -0.09, photograph),), "google_robot_move_near"
    return Task("", 0, name, "", NEAR.format(environment), 80, TABLE, variants, poses, _episodes(60))


def _drawers(scene: str, variants: Sequence[Mapping[str, Any]], poses: tuple[RobotPose, ...]) -> list[Task]:
    traced = tuple({"shader_dir": "rt", **variant} for variant in variants)
    tasks = []
    for what, which in itertools.product(("open", "close"), ("top", "middle", "bottom")):
        name, known = f"{what}_{which}_drawer", f"{what.title()}{which.title()}DrawerCustomInScene-v0"
        text = name.replace("_", " ")
        tasks.append(Task("", 0, f"google_robot_{name}", text, known, 113, scene, traced, poses, ORIGIN))
    return tasks


def _apple(scene: str, variants: Sequence[Mapping[str, Any]], poses: tuple[RobotPose, ...], model: str) -> Task:
    """The instruction is to open the drawer; after 100 steps SimplerEnv changes it to placing the apple."""
    made = tuple({"shader_dir": "rt", **variant, "model_ids": model} for variant in variants)
    name, known = "google_robot_place_apple_in_closed_top_drawer", "PlaceIntoClosedTopDrawerCustomInScene-v0"
    return Task("", 0, name, "open top drawer", known, 200, scene, made, poses, APPLE_PLACES)


def _google_matching() -> list[Task]:
    cabinet = {"station_name": "mk_station_recolor", "light_mode": "simple", "disable_bad_material": True}
    variants = [{**cabinet, **colour} for colour in RECOLOURED]
    return [
        *_cans(RECOLOURED, RobotPose(0.35, 0.20, photograph="google_coke_can_real_eval_1.png"), 501),
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
        *_cans(
            [{}, *SCENES, crowd, {**crowd, "distractor_config": "more"}, *LIGHTS, *cans], RobotPose(0.35, 0.20), 513
        ),
        _near("Google", ({}, {"no_distractor": True}, *SCENES, *LIGHTS, *near), None),
        *_drawers(room, ROOMS, tuple(RobotPose(x, y) for x in (0.65, 0.75, 0.85) for y in sides)),
        _apple(room, ROOMS, tuple(RobotPose(0.65, y) for y in sides), "apple"),
    ]


def _widowx() -> list[Task]:
    table, sink = RobotPose(0.147, 0.028, 0.0, "bridge_real_eval_1.png"), RobotPose(0.127, 0.06, 0.0, "bridge_sink.png")
    cube = "StackGreenCubeOnYellowCubeBakedTexInScene-v0"
    rows = (
        ("spoon_on_towel", "put the spoon on the towel", "PutSpoonOnTableClothInScene-v0"),
        ("carrot_on_plate", "put carrot on plate", "PutCarrotOnPlateInScene-v0"),
        ("stack_cube", "stack the green block on the yellow block", cube),
        ("put_eggplant_in_basket", "put eggplant into yellow basket", "PutEggplantInBasketScene-v0"),
    )
    common: dict[str, Any] = {"variants": ({},), "poses": (table,), "objects": _episodes(24), "robot": "widowx"}
    tasks = [
        Task("", 0, f"widowx_{name}", text, known, 60, "bridge_table_1_v1", **common, sim_hz=WIDOWX.sim_hz)
        for name, text, known in rows
    ]
    eggplant = replace(tasks[3], limit=120, scene="bridge_table_1_v2", poses=(sink,), robot="widowx_sink_camera_setup")
    return [*tasks[:3], eggplant]
