"""What each axis changes, and that it changes nothing else; also in the simulator that VLAJEPA_SIMULATOR names."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs.closed_loop.process import Simulator
from jobs.simulator.libero import LiberoEnvironment, Task
from jobs.simulator.perturb.axes import AXES, JOINTS, LEVELS
from jobs.simulator.perturb.image_noise import KINDS, spoiled
from jobs.simulator.perturb.layout import MARGIN, arranged, movable
from jobs.simulator.perturb.perturb import PerturbedEnvironment, displaced, move_camera
from jobs.simulator.perturb.surfaces import parts_of_the_room, pattern


class FakeSim:
    """A room with two lights, a table and an arm of seven joints."""

    def __init__(self):
        self.model = SimpleNamespace(
            camera_name2id=("agentview", "robot0_eye_in_hand").index,
            cam_pos=np.array([[0.66, 0.0, 1.61], [0.05, 0.0, 0.0]]),
            cam_quat=np.array([[0.638, 0.305, 0.305, 0.638], [0.0, 0.7071, 0.7071, 0.0]]),
            cam_fovy=np.array([45.0, 75.0]),
            light_diffuse=np.full((2, 3), 0.8),
            light_specular=np.full((2, 3), 0.3),
            light_dir=np.tile([0.0, -0.148, -0.989], (2, 1)),
            light_castshadow=np.zeros(2, bool),
            mat_reflectance=np.zeros(1),
            jnt_range=np.tile([-2.9, 2.9], (7, 1)),
        )
        self.data = SimpleNamespace(qpos=np.zeros(9))
        self.forward = lambda: None
        rng = np.random.default_rng(0)
        self.drawn = {name: rng.integers(0, 256, (64, 64, 3), np.uint8) for name in ("agentview", "robot0_eye_in_hand")}

    def render(self, width, height, camera_name):
        return self.drawn[camera_name]


class FakeWrapped:
    """LIBERO's environment as far as a start needs it."""

    def __init__(self):
        self.sim = FakeSim()
        self.env = SimpleNamespace(workspace_offset=(0, 0, 0.9))
        controller = SimpleNamespace(update_initial_joints=lambda _: None, reset_goal=lambda: None)
        indices = {"_ref_joint_pos_indexes": list(range(7)), "_ref_joint_indexes": list(range(7))}
        gripper = SimpleNamespace(current_action=np.zeros(1))
        self.robots = [SimpleNamespace(controller=controller, gripper=gripper, **indices)]
        self.seed = self.step = lambda _: None
        self.reset = lambda: None

    def get_sim_state(self):
        return self.sim.data.qpos.copy()

    def set_init_state(self, start):
        self.sim.data.qpos[:] = start


class FakeEnvironment(LiberoEnvironment):
    """An environment without a simulator."""

    def __init__(self, instruction="put the bowl on the stove"):
        starts = np.arange(18, dtype=np.float64).reshape(2, 9) / 100
        self.task = Task("libero_goal", 0, "a task", instruction, "goal.bddl", starts, 300)
        self.pixels, self.shadows, self.seed, self.wrapped, self.steps = 64, True, 0, FakeWrapped(), 0


def fake(axis, level=3, seed=0):
    return PerturbedEnvironment(FakeEnvironment(), axis, level, seed)


def snapshot(environment):
    """Everything that an axis may change, as bytes by name."""
    model = environment.sim.model
    arrays = {k: v for k, v in vars(model).items() if isinstance(v, np.ndarray)}
    arrays |= {"qpos": environment.sim.data.qpos} | environment.images()
    return {name: values.tobytes() for name, values in arrays.items()} | {"instruction": environment.task.instruction}


def started(axis, level=3, seed=0, start=0):
    environment = fake(axis, level, seed)
    environment.reset(environment.task.starts[start])
    return snapshot(environment)


def unchanged():
    environment = FakeEnvironment()
    environment.reset(environment.task.starts[0])
    return snapshot(environment)


@pytest.mark.parametrize(
    ("axis", "may"),
    [
        ("camera", {"cam_pos", "cam_quat", "cam_fovy"}),
        ("robot", {"qpos"}),
        ("language", {"instruction"}),
        ("light", {"light_diffuse", "light_specular", "light_dir", "light_castshadow"}),
        ("noise", {"agentview"}),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
def test_an_axis_changes_its_own_and_nothing_else(axis, may, level):
    before, after = unchanged(), started(axis, level)

    changed = {name for name in before if before[name] != after[name]}

    assert changed and changed <= may  # noqa: PT018


@pytest.mark.parametrize("axis", ["camera", "robot", "language", "light", "noise"])
def test_equal_seeds_give_equal_episodes(axis):
    assert started(axis, seed=5) == started(axis, seed=5)


@pytest.mark.parametrize("axis", ["camera", "robot", "light", "noise"])
def test_other_starts_are_changed_in_another_way(axis):
    ours = {name: value for name, value in started(axis, start=1).items() if name != "qpos" or axis == "robot"}

    assert {name for name, value in started(axis).items() if name in ours and ours[name] != value}


@pytest.mark.parametrize("axis", ["camera", "robot", "light"])
def test_a_second_start_forgets_the_first(axis):
    environment = fake(axis)
    environment.reset(environment.task.starts[1])
    environment.reset(environment.task.starts[0])

    assert snapshot(environment) == started(axis)


def test_noise_differs_between_steps():
    repeated = []
    for seed in range(8):  # blur and zoom have nothing random, the others have
        environment = fake("noise", seed=seed)
        environment.reset(environment.task.starts[0])
        first = environment.images()["agentview"]
        environment.steps = 1
        repeated.append((environment.images()["agentview"] == first).all())

    assert not all(repeated)


def test_shadows_stay_off_where_the_view_has_none():
    environment = FakeEnvironment()
    environment.shadows = False
    environment = PerturbedEnvironment(environment, "light", 5, 0)
    environment.reset(environment.task.starts[0])

    assert not environment.sim.model.light_castshadow.any()


@pytest.mark.parametrize("level", LEVELS)
def test_joints_move_as_far_as_the_level_says(level):
    limits = np.tile([-2.9, 2.9], (7, 1))

    moved = displaced(np.zeros(7), limits, level, np.random.default_rng(0))

    assert np.linalg.norm(moved) == pytest.approx(JOINTS * level)


def test_joints_stay_within_their_limits():
    limits = np.tile([-0.1, 0.1], (7, 1))

    assert np.abs(displaced(np.zeros(7), limits, 5, np.random.default_rng(0))).max() <= 0.05 + 1e-12


def test_camera_keeps_looking_at_what_it_goes_around():
    pivot, sim, looked = np.array([0.0, 0.0, 0.9]), FakeSim(), []
    for seed in range(12):
        model = FakeSim().model
        move_camera(model, pivot, 5, np.random.default_rng(seed))
        if np.allclose(model.cam_pos[0], sim.model.cam_pos[0]) or np.allclose(model.cam_quat, sim.model.cam_quat):
            continue
        for m in (model, sim.model):
            direction = Rotation.from_quat(np.roll(m.cam_quat[0], -1)).apply([0.0, 0.0, -1.0])
            looked.append(direction @ (pivot - m.cam_pos[0]) / np.linalg.norm(pivot - m.cam_pos[0]))

    assert looked[::2] == pytest.approx(looked[1::2], abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_grows_with_its_strength(kind):
    rows = np.linspace(0, 4, 128)
    scene = (127 + 100 * np.sin(rows[:, None] * 9) * np.cos(rows[None] * 7))[..., None].repeat(3, 2).astype(np.uint8)

    def lost(strength):
        return np.abs(spoiled(scene, kind, strength, np.random.default_rng(0)).astype(float) - scene).mean()

    assert 0 < lost(1) < lost(10)


@pytest.mark.parametrize("kind", ["motion", "blur", "zoom", "glass"])
def test_noise_leaves_an_even_image_alone(kind):
    even = np.full((64, 64, 3), 90, np.uint8)

    assert np.abs(spoiled(even, kind, 7, np.random.default_rng(0)).astype(int) - 90).max() <= 1


def test_things_move_without_overlaps():
    boxes = np.array([[x, y, x + 0.08, y + 0.08] for x in (0.0, 0.12, 0.24) for y in (0.0, 0.12)])
    still = np.array([[0.4, 0.0, 0.5, 0.3]])

    moved = boxes + np.tile(arranged(boxes, still, 0.1, False, np.random.default_rng(1)), 2)
    every = np.concatenate([moved, still])
    pairs = [(a, b) for i, a in enumerate(every) for b in every[:i]]
    gaps = [np.maximum(a[:2] - b[2:], b[:2] - a[2:]).max() for a, b in pairs]

    assert min(gaps) >= MARGIN - 1e-12
    assert not np.allclose(moved, boxes)


def test_things_move_together_where_their_places_matter():
    boxes = np.array([[x, 0.0, x + 0.08, 0.08] for x in (0.0, 0.2, 0.4)])

    shifts = arranged(boxes, np.zeros((0, 4)), 0.04, True, np.random.default_rng(1))

    assert 0.02 <= np.linalg.norm(shifts[0]) <= 0.04
    assert (shifts == shifts[0]).all()


def test_what_is_on_a_thing_goes_with_it_and_what_is_on_a_fixture_stays():
    state = [
        ["on", "bowl_1", "ramekin_1"],
        ["on", "ramekin_1", "main_table_ramekin_region"],
        ["on", "bowl_2", "cabinet_1_top_side"],
        ["on", "cabinet_1", "main_table_cabinet_region"],
        ["open", "cabinet_1_top_region"],
    ]

    assert movable(state, ["bowl_1", "bowl_2", "ramekin_1"], ["cabinet_1"]) == [["bowl_1", "ramekin_1"]]


def test_materials_of_the_room_are_distinguished_from_things():
    names = ["floorplane", "table_texture", "table_legs", "walls_mat", "wall_decoration", "wooden_table_1_top", ""]

    assert parts_of_the_room(names, ["wooden_table_1"]) == {"table": [1], "floor": [0], "wall": [3]}


def test_a_pattern_has_two_colours():
    drawn = pattern(96, 64, np.random.default_rng(2))

    assert drawn.shape == (96, 64, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2


def opened(simulator, perturbation=None):
    """Observation at the first start of a task, its bytes at a second one, and its instruction."""
    arguments = {"suite": "libero_spatial", "task": 0, "pixels": 64, "shadows": True, "hold": 1}
    instruction = simulator.ask("open", **arguments, perturbation=perturbation)["instruction"]
    first, second = (simulator.ask("reset", start=0, limit=100) for _ in range(2))
    assert as_bytes(first) == as_bytes(second)
    return {**first, "instruction": instruction}


def as_bytes(seen):
    return {name: image.tobytes() for name, image in seen["images"].items()} | {"state": seen["state"].tobytes()}


@pytest.mark.slow
@pytest.mark.skipif("VLAJEPA_SIMULATOR" not in os.environ, reason="VLAJEPA_SIMULATOR names no simulator's python")
def test_real_axes_change_what_they_should(tmp_path):
    both = {"agentview", "robot0_eye_in_hand"}
    changes = {
        "camera": {"agentview"},
        "robot": {*both, "state"},
        "language": {"instruction"},
        "light": both,
        "background": both,
        "noise": {"agentview"},
        "layout": both,
    }
    found = {}
    with Simulator(Path(os.environ["VLAJEPA_SIMULATOR"]), tmp_path / "log.txt") as simulator:
        plain = opened(simulator)
        for axis in AXES:
            seen = opened(simulator, {"axis": axis, "level": 5, "seed": 0})
            before, after = (as_bytes(each) | {"instruction": each["instruction"]} for each in (plain, seen))
            found[axis] = {name for name in before if before[name] != after[name]}
        again = opened(simulator, {"axis": "layout", "level": 5, "seed": 0})

    assert found == changes
    assert as_bytes(again) == as_bytes(seen)
