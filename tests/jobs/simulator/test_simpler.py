"""The SimplerEnv adapter against a recorded interface: a stand-in answers as SimplerEnv does (see `simpler_rig`).

Recorded from simpler-env/SimplerEnv@4ab7178 and simpler-env/ManiSkill2_real2sim@ef7a4d4:
    reset(seed, options) -> observation, info; step -> observation, reward, done, truncated, info
                                                      mani_skill2_real2sim/envs/sapien_env.py
    observation["image"][camera]["rgb"] uint8 [H, W, 3]   utils/wrappers/observation.py
    agent.robot.pose, tcp.pose with p and q (w first)     envs/custom_scenes/base_env.py
    agent.get_gripper_closedness(): 0 open, 1 closed      agents/robots/googlerobot.py, widowx.py
    sizes 640 x 512 and 640 x 480                         agents/configs/*/defaults.py
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs.simulator import simpler, simpler_tasks
from jobs.simulator.worker import Worker

MATCHING, VARIANTS, BRIDGE = simpler_tasks.SUITES
SIZES = {"overhead_camera": (512, 640), "3rd_view_camera": (480, 640)}


class FakeEnvironment:
    """Answers as SimplerEnv's environments do; its images count its steps."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        self.name, self.arguments = name, arguments
        self.resets: list[dict[str, Any]] = []
        self.actions: list[np.ndarray] = []
        self.succeeds_at: set[int] = set()
        self.changes_at = 1000
        self.scene_name = arguments["scene_name"]
        self.meshes = {"arena": 1, "apple": 1}
        self.closed = False
        self.unwrapped = self
        self.tcp = SimpleNamespace(pose=SimpleNamespace(p=np.zeros(3), q=np.array([1.0, 0, 0, 0])))
        robot = SimpleNamespace(pose=SimpleNamespace(p=np.zeros(3), q=np.array([1.0, 0, 0, 0])))
        self.agent = SimpleNamespace(robot=robot, get_gripper_closedness=lambda: 0.25)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        self.resets.append({"seed": seed, **(options or {})})
        self.actions = []
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict]:
        self.actions.append(action)
        return self._observation(), 0.0, len(self.actions) in self.succeeds_at, False, {}

    def get_language_instruction(self) -> str:
        return "move apple near orange" if len(self.actions) < self.changes_at else "move orange near apple"

    def get_actors(self) -> list[SimpleNamespace]:
        def bodies(count: int) -> list[SimpleNamespace]:
            return [SimpleNamespace(get_render_shapes=lambda: [None] * count)]

        return [SimpleNamespace(name=n, get_visual_bodies=lambda c=c: bodies(c)) for n, c in self.meshes.items()]

    def close(self) -> None:
        self.closed = True

    def _observation(self) -> dict[str, Any]:
        camera = "3rd_view_camera" if self.arguments["robot"].startswith("widowx") else "overhead_camera"
        return {"image": {camera: {"rgb": np.full((*SIZES[camera], 3), len(self.actions), np.uint8)}}}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeEnvironment]:
    """Environments in the order they were made."""
    found: list[FakeEnvironment] = []

    def make(name: str, **arguments: Any) -> FakeEnvironment:
        found.append(FakeEnvironment(name, arguments))
        return found[-1]

    assets = ModuleType("mani_skill2_real2sim")
    assets.ASSET_DIR = "data"  # type: ignore[attr-defined]
    gymnasium = ModuleType("gymnasium")
    gymnasium.make = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gymnasium", gymnasium)
    monkeypatch.setitem(sys.modules, "mani_skill2_real2sim", assets)
    monkeypatch.setitem(sys.modules, "mani_skill2_real2sim.envs", ModuleType("mani_skill2_real2sim.envs"))
    return found


def task(suite: str, name: str) -> simpler_tasks.Task:
    return next(found for found in simpler_tasks.list_tasks(suite) if found.name.endswith(name))


@pytest.mark.parametrize(
    ("suite", "words", "episodes"),
    [
        (MATCHING, "coke_can", 300),
        (MATCHING, "move_near", 240),
        (MATCHING, "pen", 108),
        (MATCHING, "_drawer", 324),
        (MATCHING, "place_apple", 108),
        (VARIANTS, "coke_can", 825),
        (VARIANTS, "move_near", 600),
        (VARIANTS, "_drawer", 567),
        (VARIANTS, "place_apple", 189),
        (BRIDGE, "widowx", 96),
    ],
)
def test_the_starts_are_the_episodes_of_the_published_protocol(suite: str, words: str, episodes: int) -> None:
    """3 poses x 25 places x 4 colours of the arm; 60 x 4; 216 drawers and 108 placings; 24 a task of the WidowX."""
    assert sum(len(found.starts) for found in simpler_tasks.list_tasks(suite) if words in found.name) == episodes


@pytest.mark.parametrize("suite", simpler_tasks.SUITES)
def test_tasks_are_numbered_and_their_starts_all_differ(suite: str) -> None:
    tasks = simpler_tasks.list_tasks(suite)
    assert [found.index for found in tasks] == list(range(len(tasks)))
    for found in tasks:
        assert found.suite == suite
        assert len({repr(found.start(number)) for number in found.starts}) == len(found.starts)


def test_limits_are_those_of_the_scripts() -> None:
    limits = {found.name: found.limit for suite in simpler_tasks.SUITES for found in simpler_tasks.list_tasks(suite)}
    assert limits["google_robot_pick_standing_coke_can"] == limits["google_robot_move_near"] == 80
    assert limits["google_robot_close_top_drawer"] == 113
    assert limits["google_robot_place_apple_in_closed_top_drawer"] == 200
    assert limits["widowx_stack_cube"] == 60
    assert limits["widowx_put_eggplant_in_basket"] == 120


def test_the_worker_plays_an_episode(made: list[FakeEnvironment]) -> None:
    """To its limit, as the last step decides; the instruction of the moment comes with every observation."""
    worker = Worker()
    number = next(i for i, row in enumerate(worker.tasks(BRIDGE)["tasks"]) if "stack_cube" in row["name"])
    worker.open(BRIDGE, number, pixels=256, shadows=True, hold=1)
    seen = worker.reset(start=3, limit=6)
    assert seen["images"]["3rd_view_camera"].shape == (480, 640, 3)
    assert (seen["state"].shape, seen["instruction"]) == ((7,), "move apple near orange")
    made[0].succeeds_at = {2, 6}
    opened = np.array([[0.01, 0, 0, 0, 0, 0, 1]] * 4, np.float32)
    half = worker.act(opened, record_video=True)
    assert (half["steps"], half["success"], half["over"], len(half["video"])) == (4, False, False, 4)
    end = worker.act(opened, record_video=False)
    assert (end["steps"], end["success"], end["over"]) == (6, True, True)
    assert "images" not in end
    assert len(made[0].actions) == 6
    np.testing.assert_allclose(made[0].actions[0], [0.01, 0, 0, 0, 0, 0, 1], rtol=1e-6)


def test_an_unknown_suite_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no suite 'bridge'.*widowx_visual_matching"):
        simpler_tasks.list_tasks("bridge")


def test_a_start_beyond_the_last_is_refused(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(BRIDGE, "stack_cube"))
    with pytest.raises(ValueError, match=r"starts 0 to 23, got 24"):
        environment.reset(24)
    assert not made


def test_an_environment_is_made_as_the_scripts_make_it(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(MATCHING, "open_top_drawer"))
    environment.reset(2)
    assert made[0].name == "OpenTopDrawerCustomInScene-v0"
    asked = made[0].arguments
    assert asked["rgb_overlay_path"] == "data/real_inpainting/open_drawer_a2.png"
    assert asked["shader_dir"] == "rt"
    assert (asked["control_freq"], asked["sim_freq"], asked["max_episode_steps"]) == (3, 513, 113)
    assert asked["camera_cfgs"] == {"add_segmentation": True}
    reset = made[0].resets[0]
    assert reset["seed"] == 40194941  # the first number of the environment's own generator, which begins with 2022
    np.testing.assert_array_equal(reset["robot_init_options"]["init_xy"], [0.889, -0.203])
    turned = Rotation.from_quat(np.roll(reset["robot_init_options"]["init_rot_quat"], -1))
    expected = Rotation.from_euler("z", -0.06) * Rotation.from_euler("z", np.pi)
    np.testing.assert_allclose((turned.inv() * expected).magnitude(), 0, atol=1e-9)


def test_without_ray_tracing_any_device_will_do(made: list[FakeEnvironment]) -> None:
    simpler.SimplerEnvironment(task(MATCHING, "open_top_drawer"), ray_tracing=False).reset(0)
    assert "shader_dir" not in made[0].arguments


def test_a_variant_may_be_another_environment(made: list[FakeEnvironment]) -> None:
    found = task(VARIANTS, "standing_coke_can")
    simpler.SimplerEnvironment(found).reset(found.starts[-1])
    assert made[0].name == "GraspSingleOpenedCokeCanAltGoogleCamera2InScene-v0"
    assert made[0].arguments["upright"] is True
    assert "rgb_overlay_path" not in made[0].arguments


def test_a_scene_is_kept_until_a_start_needs_another(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(MATCHING, "move_near"))
    for start in (0, 59, 60):
        environment.reset(start)
    assert [len(each.resets) for each in made] == [2, 1]
    assert [each.closed for each in made] == [True, False]
    assert [each["obj_init_options"]["episode_id"] for each in made[0].resets] == [0, 59]
    assert environment.instruction == "move apple near orange"


@pytest.mark.parametrize(("successes", "expected"), [({3}, False), ({3, 60}, True)])
def test_the_last_step_decides(made: list[FakeEnvironment], successes: set[int], expected: bool) -> None:
    environment = simpler.SimplerEnvironment(task(BRIDGE, "stack_cube"))
    environment.reset(0)
    made[0].succeeds_at = successes
    over = False
    while not over and environment.steps < environment.limit:
        over = environment.step(environment.command(np.zeros(7)))
    assert over is expected
    assert environment.succeeded() is expected
    assert environment.steps == 60


def test_images_are_the_cameras_own(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(BRIDGE, "stack_cube"))
    environment.reset(0)
    environment.step(environment.command(np.zeros(7)))
    image = environment.images()["3rd_view_camera"]
    assert (image.shape, image.dtype, image.min(), image.max()) == ((480, 640, 3), np.uint8, 1, 1)


def placed(made: list[FakeEnvironment], base: Rotation, tool: Rotation) -> np.ndarray:
    """Put the newest environment's tool at [0.3, 0.1, 0.2] and turned by `tool`, both in the frame of the base."""
    origin, place = np.array([0.5, 0.2, 0.9]), np.array([0.3, 0.1, 0.2])
    made[-1].agent.robot.pose = SimpleNamespace(p=origin, q=np.roll(base.as_quat(), 1))
    made[-1].tcp.pose = SimpleNamespace(p=origin + base.apply(place), q=np.roll((base * tool).as_quat(), 1))
    return place


def test_the_google_robots_state_is_that_of_fractal(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(MATCHING, "move_near"))
    environment.reset(0)
    tool = Rotation.from_euler("xyz", [0.3, -0.4, 0.5])
    place = placed(made, Rotation.from_euler("z", 2.5), tool)
    state = environment.state()
    assert (state.dtype, state.shape) == (np.float32, (8,))
    np.testing.assert_allclose(state[:3], place, atol=1e-6)
    assert (Rotation.from_quat(state[3:7]).inv() * tool).magnitude() < 1e-6
    assert state[7] == 0.25


def test_the_widowxs_state_is_that_of_bridge(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(BRIDGE, "stack_cube"))
    environment.reset(0)
    angles = [0.1, -0.2, 0.3]
    tool = Rotation.from_euler("xyz", angles) * Rotation.from_matrix(simpler.TOP_DOWN)
    place = placed(made, Rotation.from_euler("z", np.pi), tool)
    state = environment.state()
    assert (state.dtype, state.shape) == (np.float32, (7,))
    np.testing.assert_allclose(state, [*place, *angles, 0.75], atol=1e-6)


def test_motion_is_passed_on_and_the_widowxs_gripper_is_absolute() -> None:
    environment = simpler.SimplerEnvironment(task(BRIDGE, "stack_cube"))
    motion = [0.01, -0.02, 0.03, 0.1, -0.2, 0.3]
    np.testing.assert_array_equal(environment.command([*motion, 0.51]), [*motion, 1.0])
    np.testing.assert_array_equal(environment.command([*motion, 0.49]), [*motion, -1.0])


def run(requests: list[float], sticky: int) -> list[float]:
    gripper = simpler.Gripper(simpler.GOOGLE, sticky)
    return [gripper.command(request) for request in requests]


def test_the_google_robots_gripper_repeats_a_change() -> None:
    assert run([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3) == [0, 0, 1, 1, 1, 0, -1, -1, -1]


def test_a_change_requested_meanwhile_is_not_forgotten() -> None:
    assert run([1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 3) == [0, 1, 1, 1, -1, -1, -1, 0]


def test_the_first_request_moves_nothing_and_a_reset_forgets_all(made: list[FakeEnvironment]) -> None:
    environment = simpler.SimplerEnvironment(task(MATCHING, "move_near"))
    environment.reset(0)
    commands = [environment.command([0, 0, 0, 0, 0, 0, wish])[6] for wish in (1.0, 0.0)]
    assert commands == [0.0, 1.0]
    environment.reset(1)
    assert environment.command([0, 0, 0, 0, 0, 0, 0.0])[6] == 0.0


@pytest.mark.parametrize(("name", "said"), [("arena", "stage bridge_table_1_v1"), ("apple", "model apple")])
def test_a_thing_without_a_mesh_is_named(
    made: list[FakeEnvironment], monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    environment = simpler.SimplerEnvironment(task(BRIDGE, "stack_cube"))
    environment.reset(0)
    made[0].meshes[name] = 0
    with pytest.raises(FileNotFoundError, match=rf"the mesh of {said} is not in data: .*MS2_REAL2SIM_ASSET_DIR"):
        environment.reset(1)


def test_a_chunk_ends_where_the_instruction_changes(made: list[FakeEnvironment]) -> None:
    """As SimplerEnv's policies do, the gripper begins anew there: what is wished first moves nothing."""
    worker = Worker()
    number = task(MATCHING, "place_apple_in_closed_top_drawer").index
    worker.open(MATCHING, number, pixels=256, shadows=False, hold=1)
    worker.reset(start=0, limit=60)
    made[0].changes_at = 4
    seen = worker.act(np.array([[0, 0, 0, 0, 0, 0, 1]] * 2 + [[0] * 7] * 6, np.float32), record_video=True)
    assert (seen["steps"], len(seen["video"]), seen["instruction"]) == (4, 4, "move orange near apple")
    worker.act(np.array([[0, 0, 0, 0, 0, 0, 1]] * 2 + [[0] * 7], np.float32), record_video=False)
    assert [action[6] for action in made[0].actions] == [0, 0, 1, 1, 0, 0, 1]
