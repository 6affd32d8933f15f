"""LIBERO-Plus beside its own code: VLAJEPA_LIBERO_PLUS names the python that `make.sh` made (docs/closed-loop.md)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.closed_loop.evaluate.evaluate import evaluate
from jobs.closed_loop.evaluate.settings import EvaluateConfig, PlusMode, PlusSettings
from jobs.closed_loop.process import Simulator
from jobs.simulator.libero_plus.bad_images import spoiled
from jobs.simulator.libero_plus.names import CATEGORIES, LIBERO_SUITES, parse
from jobs.simulator.libero_plus.package import PlusPackage
from jobs.simulator.libero_plus.starts import read_starts
from pipeline.format.build_settings import WindowPolicy
from tests.conftest import SampleData
from tests.jobs.closed_loop.checkpoints import untrained
from tests.jobs.runs import audited, build_config, robot_source

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent

PLAYABLE = {"camera": 1599, "robot": 1550, "language": 1537, "light": 0, "background": 62, "noise": 1601, "layout": 696}
"""Tasks of version 0.1.5 that need nothing but LIBERO."""


@pytest.fixture(scope="module")
def python() -> Path:
    found = os.environ.get("VLAJEPA_LIBERO_PLUS")
    if not found:
        pytest.skip("VLAJEPA_LIBERO_PLUS is not set; docs/closed-loop.md says how to install LIBERO-Plus's definitions")
    return Path(found)


@pytest.fixture(scope="module")
def simulator(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with Simulator(python, tmp_path_factory.mktemp("simulator") / "log.txt") as running:
        yield running


def ask_oracle(python: Path, *arguments: str) -> None:
    command = [str(python.parent / "oracle"), str(FOLDER / "oracle.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def rows(simulator: Simulator, suite: str = "libero_plus") -> list[dict[str, Any]]:
    return list(simulator.ask("tasks", suite=suite)["tasks"])


def test_names_order_and_instructions_are_those_of_its_benchmark(
    python: Path, simulator: Simulator, tmp_path: Path
) -> None:
    """All 10,030."""
    ask_oracle(python, "list", str(tmp_path / "list.json"))
    theirs = json.loads((tmp_path / "list.json").read_bytes())
    found = [[row["name"], row["instruction"]] for row in rows(simulator)]
    assert len(found) == 10_030
    assert found == [row for suite in LIBERO_SUITES for row in theirs[suite]]


def test_what_can_be_played_needs_nothing_but_libero(simulator: Simulator) -> None:
    found = dict.fromkeys(CATEGORIES, 0)
    for row in rows(simulator):
        found[row["category"]] += not row["missing"]
    assert found == PLAYABLE


def test_noise_is_that_of_its_functions(python: Path, tmp_path: Path) -> None:
    """All fifty, from the same chance; ImageMagick's motion blur rounds a little differently."""
    ask_oracle(python, "noise", str(tmp_path / "noise.npz"))
    theirs = np.load(tmp_path / "noise.npz")
    for noise in range(1, 51):
        mine = spoiled(theirs["image"], noise, np.random.default_rng(noise)).astype(int)
        assert np.abs(mine - theirs[f"noise-{noise}"]).max() <= (1 if noise <= 10 else 0), noise


def named(simulator: Simulator, suite: str, category: str, part: str) -> tuple[int, str]:
    """Index in its suite and name of the first task that can be played and has `part` in its name."""
    return next(
        (index, row["name"])
        for index, row in enumerate(rows(simulator, suite))
        if row["category"] == category and part in row["name"] and not row["missing"]
    )


@pytest.mark.parametrize(
    ("part", "category", "name"),
    [
        ("goal", "camera", "_15_100_0_0_initstate_0"),
        ("object", "camera", "_view_0_0_100_2_4_initstate_0"),
        ("10", "camera", "_view_0_0_150_0_0_initstate_0"),
        ("goal", "robot", "_initstate_417"),
        ("spatial", "layout", "_level3_sample2"),
        ("object", "background", "_tb_18"),
    ],
)
def test_a_scene_looks_as_its_own_environment_draws_it(
    part: str, category: str, name: str, python: Path, simulator: Simulator, tmp_path: Path
) -> None:
    """To the bit, after reset, start state and ten steps: camera, joints, textures, places."""
    index, full = named(simulator, f"libero_plus_{part}", category, name)
    change, suite = parse(full), f"libero_{part}"
    package = PlusPackage(python.parent / "own" / "liberoplus" / "liberoplus")
    start = read_starts(Path(package.start(suite, change.start_file, change.own_start)))[0]
    (tmp_path / "names.json").write_text(json.dumps([[suite, full, start.tolist()]]))
    ask_oracle(python, "scenes", str(tmp_path / "names.json"), str(tmp_path / "scene.npz"))
    simulator.ask("open", suite=f"libero_plus_{part}", task=index, pixels=256, shadows=True, hold=1)
    seen = simulator.ask("reset", start=0, limit=10)
    theirs = np.load(tmp_path / "scene.npz")
    np.testing.assert_array_equal(seen["images"]["agentview"], theirs["image-0"])
    np.testing.assert_allclose(seen["state"][-2:], theirs["state-0"][7:9], atol=1e-6)


def played(python: Path, out: Path, **settings: Any) -> list[dict[str, Any]]:
    """The episodes of `vlajepa evaluate`, to the benchmark's own limit."""
    common: dict[str, Any] = {"episodes": 1, "environments": 1, "shadows": False, "hold": 1, "device": "cpu"}
    evaluate(EvaluateConfig(simulator=python, out=out, **(common | settings)))
    return list(json.loads((out / "results.json").read_bytes())["episodes"])


def test_an_untrained_policy_plays_a_task_of_each_category_to_its_end(
    python: Path, sample_data: SampleData, tmp_path: Path
) -> None:
    fields = ({"field": "observation.state", "take": [0, 8]},)
    source = robot_source(sample_data.lerobot, cameras=("front",), state=fields)
    build = audited(build_config(tmp_path / "build", source, window=WindowPolicy(interval=2, every=6)))
    policy = str(untrained(tmp_path / "step-00000000", build))
    plus = PlusSettings(each=1)
    episodes = played(python, tmp_path / "out", policy=policy, suite="libero_plus_object", plus=plus)
    assert [(e["steps"], e["success"], e["crashes"]) for e in episodes] == [(280, False, 0)] * 6
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 6


def test_the_script_solves_a_task_with_other_joints(python: Path, simulator: Simulator, tmp_path: Path) -> None:
    index, _ = named(simulator, "libero_plus_object", "robot", "alphabet_soup")
    script: dict[str, Any] = {"policy": "script", "suite": "libero_plus_object", "tasks": (index,), "pixels": 64}
    assert [e["success"] for e in played(python, tmp_path, **script, videos=0)] == [True]


def test_scenes_are_made_without_playing(python: Path, tmp_path: Path) -> None:
    plus = PlusSettings(mode=PlusMode.MAKE, categories=("camera",))
    played(python, tmp_path, policy="script", suite="libero_plus_goal", plus=plus)
    made = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert [one["error"] for one in made] == [""] * 10
