"""The adapter beside SimplerEnv itself: VLAJEPA_SIMPLER names the python that `make.sh` made (docs/closed-loop.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs.closed_loop.evaluate.evaluate import evaluate
from jobs.closed_loop.evaluate.settings import EvaluateConfig
from jobs.closed_loop.process import Simulator
from jobs.simulator import simpler, simpler_tasks
from pipeline.errors import RunError
from pipeline.format.build_settings import WindowPolicy
from tests.conftest import SampleData
from tests.jobs.closed_loop.checkpoints import untrained
from tests.jobs.runs import audited, build_config, robot_source
from tests.jobs.serving.fakes import running
from tests.jobs.simulator.simpler_rig.plain import plain
from tests.jobs.simulator.simpler_rig.script import STACK, Script

pytestmark = pytest.mark.slow

MATCHING, VARIANTS, BRIDGE = simpler_tasks.SUITES
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def python() -> Path:
    found = os.environ.get("VLAJEPA_SIMPLER")
    if not found:
        pytest.skip("VLAJEPA_SIMPLER is not set; docs/closed-loop.md says how to set SimplerEnv up without a GPU")
    return Path(found)


@pytest.fixture
def simulator(python: Path, tmp_path: Path) -> Iterator[Simulator]:
    with Simulator(python, tmp_path / "log.txt") as running:
        yield running


def ask_oracle(python: Path, *arguments: str) -> None:
    done = subprocess.run([str(python), str(FOLDER / "oracle.py"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


SCRIPTS = {
    MATCHING: ("drawer", "move_near", "pick_coke_can", "put_in_drawer"),
    VARIANTS: ("drawer", "move_near", "pick_coke_can", "put_in_drawer"),
}


def theirs(episode: dict[str, Any]) -> str:
    """An episode of SimplerEnv's scripts, for comparison."""
    kept = {key: value for key, value in plain(episode).items() if value not in (None, "None", "")}
    if "rgb_overlay_path" in kept:
        kept["rgb_overlay_path"] = Path(kept["rgb_overlay_path"]).name
    return json.dumps(kept)


def ours(task: simpler_tasks.Task, number: int) -> str:
    """A start of ours, likewise."""
    variant, pose, objects = task.start(number)
    made = simpler.SimplerEnvironment(task)._arguments(variant, pose, "")
    options = simpler.reset_options(pose, objects)
    kept = made | options["robot_init_options"]
    kept |= {"name": kept.pop("environment"), "objects": options["obj_init_options"]}
    return theirs({**kept, "camera_cfgs": {"add_segmentation": True}})


def test_the_starts_are_the_episodes_of_simplerenvs_scripts(python: Path, tmp_path: Path) -> None:
    """Every argument that an environment is made and reset with; 2952 episodes."""
    ask_oracle(python, "protocol", str(tmp_path / "protocol.json"))
    protocol = json.loads((tmp_path / "protocol.json").read_bytes())
    endings = {MATCHING: "visual_matching", VARIANTS: "variant_agg"}
    listed = 0
    for suite in simpler_tasks.SUITES:
        names = [f"octo_{name}_{endings[suite]}" for name in SCRIPTS.get(suite, ())] or ["octo_bridge"]
        wanted = {theirs(episode) for name in names for episode in protocol.pop(name)}
        found = {ours(task, number) for task in simpler_tasks.list_tasks(suite) for number in task.starts}
        assert found == wanted
        listed += len(found)
    assert not protocol
    assert listed == 96 + 864 + 1992


def task_of(suite: str, name: str) -> simpler_tasks.Task:
    return next(task for task in simpler_tasks.list_tasks(suite) if task.name.endswith(name))


def opened(simulator: Simulator, task: simpler_tasks.Task) -> None:
    simulator.ask("open", suite=task.suite, task=task.index, pixels=256, shadows=False, hold=1)


ACTIONS = np.array(
    [
        [0.02, 0.0, -0.02, 0.0, 0.0, 0.1, 1],
        [0.02, -0.01, -0.02, 0.1, 0.0, 0.1, 0],
        [0.0, -0.01, 0.0, 0.1, 0.0, 0.0, 0],
        [0.0, 0.01, 0.01, 0.0, -0.1, 0.0, 0],
    ],
    np.float32,
)
"""Metres, radians, gripper 1 open."""


@pytest.mark.parametrize(
    ("suite", "name", "script", "environment"),
    [
        (BRIDGE, "stack_cube", "octo_bridge", "StackGreenCubeOnYellowCubeBakedTexInScene-v0"),
        (BRIDGE, "eggplant_in_basket", "octo_bridge", "PutEggplantInBasketScene-v0"),
        (MATCHING, "move_near", "octo_move_near_visual_matching", "MoveNearGoogleBakedTexInScene-v0"),
        (
            VARIANTS,
            "horizontal_coke_can",
            "octo_pick_coke_can_variant_agg",
            "GraspSingleOpenedCokeCanDistractorInScene-v0",
        ),
    ],
)
def test_an_episode_looks_as_in_simplerenvs_own_evaluator(
    suite: str, name: str, script: str, environment: str, python: Path, simulator: Simulator, tmp_path: Path
) -> None:
    """To the bit, from the reset to the last action: physics, controllers, gripper, photograph, distractors."""
    task = task_of(suite, name)
    start = next(
        number for number in task.starts if task.start(number)[0].get("environment", task.environment) == environment
    )
    gripper = simpler.Gripper(task.kind)
    raw = [[*action[:6], gripper.command(action[6])] for action in ACTIONS.tolist()]
    ask_oracle(python, "episode", str(tmp_path / "theirs.npz"), script, environment, json.dumps(raw))
    with np.load(tmp_path / "theirs.npz") as file:
        wanted, success = file["images"], file["success"].tolist()

    opened(simulator, task)
    first = simulator.ask("reset", start=start, limit=len(ACTIONS))
    rest = simulator.ask("act", actions=ACTIONS, record_video=True)
    np.testing.assert_array_equal(first["images"][task.kind.camera], wanted[0])
    np.testing.assert_array_equal(rest["video"], wanted[1:])
    assert [rest["success"]] == success
    assert rest["over"]
    assert len({image.tobytes() for image in wanted}) == len(wanted)


@pytest.mark.parametrize(("suite", "name"), [(BRIDGE, "carrot_on_plate"), (MATCHING, "standing_coke_can")])
def test_an_episode_does_not_depend_on_the_one_before(suite: str, name: str, simulator: Simulator) -> None:
    opened(simulator, task_of(suite, name))
    seen = []
    for start in (3, 1, 3):
        first = simulator.ask("reset", start=start, limit=50)
        rest = simulator.ask("act", actions=ACTIONS, record_video=True)
        images = [*first["images"].values(), *rest["video"]]
        seen.append((first["state"].tobytes(), rest["state"].tobytes(), np.stack(images).tobytes()))
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize(("suite", "name"), [(BRIDGE, "stack_cube"), (MATCHING, "move_near")])
def test_actions_move_the_state_as_they_say(suite: str, name: str, simulator: Simulator) -> None:
    """Metres and radians about the axes of the robot's base; a closed gripper is 0 for the WidowX, 1 for Google's."""
    opened(simulator, task_of(suite, name))

    def moved(action: list[float], steps: int = 4) -> tuple[np.ndarray, np.ndarray]:
        before = simulator.ask("reset", start=0, limit=50)["state"]
        after = simulator.ask("act", actions=np.array([action] * steps, np.float32), record_video=False)["state"]
        return before.astype(np.float64), after.astype(np.float64)

    for axis in range(3):
        motion = np.eye(3)[axis] * 0.02
        before, after = moved([*motion, 0, 0, 0, 1])
        way = after[:3] - before[:3]
        assert way @ motion > 0.95 * np.linalg.norm(way) * 0.02
        assert 0.01 < np.linalg.norm(way) < 0.1
        before, after = moved([0, 0, 0, *motion * 5, 1])
        turn = (orientation(after) * orientation(before).inv()).as_rotvec()
        assert turn @ motion > 0.9 * np.linalg.norm(turn) * 0.02
        assert 0.05 < np.linalg.norm(turn) < 0.5
    is_widowx = suite == BRIDGE
    simulator.ask("reset", start=0, limit=50)
    openings = []
    for wish in (1.0, 0.0, 1.0):
        seen = simulator.ask("act", actions=np.array([[0] * 6 + [wish]] * 15, np.float32), record_video=False)["state"]
        openings.append(seen[-1] if is_widowx else 1 - seen[-1])
    assert np.diff(openings).tolist() == pytest.approx([-1, 1], abs=0.35)


def orientation(state: np.ndarray) -> Rotation:
    """Of the tool, from a state of either robot."""
    return Rotation.from_quat(state[3:7]) if len(state) == 8 else Rotation.from_euler("xyz", state[3:6])


def test_a_mesh_that_is_not_there_is_named(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAPIEN writes a line to its log and goes on, and everything falls through the floor."""
    made = python.parent / "data"
    for name, missing in (("stage", "bridge_table_1_v1.glb"), ("model", "textured.glb")):
        data = tmp_path / name
        ignored = shutil.ignore_patterns(missing, "textured.obj", "textured.dae") if name == "model" else None
        shutil.copytree(made, data, symlinks=True, ignore=ignored or shutil.ignore_patterns(missing))
        monkeypatch.setenv("MS2_REAL2SIM_ASSET_DIR", str(data))
        with Simulator(python, tmp_path / "log.txt") as simulator:
            opened(simulator, task_of(BRIDGE, "spoon_on_towel"))
            with pytest.raises(RunError, match=rf"the mesh of {name} \w+ is not in {data}: .*clone it whole"):
                simulator.ask("reset", start=0, limit=60)


def test_the_place_instruction_comes_after_a_hundred_steps(simulator: Simulator) -> None:
    """A chunk ends where the instruction changes, and the gripper begins anew."""
    opened(simulator, task_of(MATCHING, "place_apple_in_closed_top_drawer"))
    assert simulator.ask("reset", start=0, limit=200)["instruction"] == "open top drawer"
    still = np.array([[0, 0, 0, 0, 0, 0, 1]] * 90, np.float32)
    assert simulator.ask("act", actions=still, record_video=False)["instruction"] == "open top drawer"
    changed = simulator.ask("act", actions=still, record_video=False)
    assert (changed["steps"], changed["instruction"]) == (101, "place apple into top drawer")


def evaluated(python: Path, out: Path, **settings: Any) -> list[dict[str, Any]]:
    """The episodes of `vlajepa evaluate`, to the benchmark's own limit."""
    common: dict[str, Any] = {"episodes": 1, "environments": 1, "shadows": False, "hold": 1, "device": "cpu"}
    evaluate(EvaluateConfig(simulator=python, out=out, **(common | settings)))
    written = json.loads((out / "results.json").read_bytes())
    assert written["versions"]["sapien"] == "2.2.2"
    return list(written["episodes"])


@pytest.mark.parametrize(
    ("suite", "name", "state", "limit"), [(BRIDGE, "spoon_on_towel", 7, 60), (MATCHING, "move_near", 8, 80)]
)
def test_an_untrained_policy_plays_a_whole_episode_and_the_same_again(
    suite: str, name: str, state: int, limit: int, python: Path, sample_data: SampleData, tmp_path: Path
) -> None:
    task = task_of(suite, name)
    fields = ({"field": "observation.state", "take": [0, state]},)
    source = robot_source(sample_data.lerobot, cameras=("front",), state=fields)
    build = audited(build_config(tmp_path / "build", source, window=WindowPolicy(interval=2, every=6)))
    policy = str(untrained(tmp_path / "step-00000000", build))
    first, second = (
        evaluated(python, tmp_path / folder, policy=policy, suite=suite, tasks=(task.index,)) for folder in "ab"
    )
    assert [(e["steps"], e["success"], e["crashes"]) for e in first] == [(limit, False, 0)]
    assert (tmp_path / "a" / "videos" / f"task-{task.index:02d}-start-000-failure.mp4").stat().st_size > 10_000
    assert [{**e, "seconds": 0} for e in first] == [{**e, "seconds": 0} for e in second]
    videos = [next((tmp_path / folder / "videos").iterdir()).read_bytes() for folder in "ab"]
    assert videos[0] == videos[1]


def test_a_script_that_stacks_the_cubes_is_judged_to_have_done_so(python: Path, tmp_path: Path) -> None:
    """Metres, gripper, state and success test are right together; half of the way is no success."""
    task = task_of(BRIDGE, "stack_cube")
    for way, success in ((STACK, True), (replace(STACK, points=STACK.points[:5]), False)):
        with running(Script(way, fps=5.0, state=7)) as server:
            played = evaluated(
                python, tmp_path / str(success), policy=server.address, suite=BRIDGE, tasks=(task.index,)
            )
        assert [(e["success"], e["steps"], e["queries"]) for e in played] == [(success, 60, 60)]
