"""The leak experiment: its arithmetic on data whose answer is known, the two modes, the page, and the whole command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.demos.demo_leak import MODES, describe, render
from jobs.demos.leak_experiment import KINDS, Latents, common, context_shifts, read_latents
from jobs.latent_probes.ridge import explained
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from tests.browser import SCREENS, Scheme, opened, require_readable
from tests.conftest import SampleData
from tests.jobs.drawings import read_drawings
from tests.jobs.runs import build_config, make_here, robot_source


@pytest.fixture(scope="module")
def clip_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Build:
    config = build_config(tmp_path_factory.mktemp("clip") / "robot", robot_source(sample_data.lerobot))
    window = WindowPolicy(interval=2, every=6)
    return make_here(replace(config, window=window, encoder=replace(config.encoder, mode="clip")))


@pytest.mark.slow
def test_the_context_moves_with_the_future_in_one_mode_alone(
    robot_build: Build, clip_build: Build, sample_data: SampleData
) -> None:
    ours, theirs = (context_shifts(build.path, sample_data.lerobot, 3, seed=0) for build in (robot_build, clip_build))
    for kind in KINDS:
        assert ours[kind] == [0.0] * 3
        assert min(theirs[kind]) > 0.01


def test_a_linear_rule_is_explained_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    context, held = rng.standard_normal((80, 30)), rng.standard_normal((40, 30))
    rule = rng.standard_normal((30, 12))
    assert explained(context, context @ rule + 3, held, held @ rule + 3) > 0.99
    noise = explained(context, rng.standard_normal((80, 12)), held, rng.standard_normal((40, 12)))
    assert noise < 0.1


def test_a_future_mixed_into_the_context_is_explained_better() -> None:
    """The number that the experiment reports rises when the leak is there."""
    rng = np.random.default_rng(1)
    future, held_future = rng.standard_normal((120, 20)), rng.standard_normal((60, 20))
    own, held_own = rng.standard_normal((120, 20)), rng.standard_normal((60, 20))
    scores = [explained(own + leak * future, future, held_own + leak * held_future, held_future) for leak in (0.0, 1.0)]
    assert scores[1] > scores[0] + 0.2


@pytest.mark.slow
def test_only_whole_samples_are_compared_in_one_order(robot_build: Build, clip_build: Build) -> None:
    a, b = common(read_latents(robot_build, "train"), read_latents(clip_build, "train"))
    assert a.keys == b.keys
    assert len(a.keys) > 10
    assert a.future.shape == (robot_build.sizes.steps, len(a.keys), a.context.shape[1])
    x = Latents(("k1", "k2"), np.array([[1.0], [2.0]]), np.zeros((1, 2, 1)))
    y = Latents(("k2", "k1"), np.array([[2.0], [1.0]]), np.zeros((1, 2, 1)))
    np.testing.assert_array_equal(common(x, y)[1].context, [[1.0], [2.0]])


def _result() -> dict[str, Any]:
    shift = {"prefix": {kind: [0.0, 0.0] for kind in KINDS}, "clip": {kind: [0.25, 0.75] for kind in KINDS}}
    losses = {"model": 0.5, "shuffled": 0.51, "nothing_changes": 0.6}
    return {
        "settings": {"episodes": 8, "steps": 50, "seed": 0},
        "context_shift": shift,
        "explained": {"prefix": [0.1, -0.2], "clip": [0.3, 0.2], "prefix targets, clip context": [0.4, 0.1]},
        "world_model": {"prefix": losses, "clip": losses},
    }


def test_tables_and_plots_show_the_numbers() -> None:
    text, page = describe(_result()), render(_result())
    assert "| noise | 0, 0 | 0.5, 0.75 |" in text
    assert "0.5100 (+2.000%)" in text
    shifts, bars = read_drawings(page)
    assert [sum(len(row.points) for row in shifts.of("dots", mode)) for mode in MODES] == [2 * len(KINDS)] * 2
    assert all((row.points[:, 0] == 0).all() for row in shifts.of("dots", "prefix"))  # a change of exactly 0
    np.testing.assert_allclose([row.points[:, 0] for row in shifts.of("dots", "clip")], [[1 / 3, 1]] * 3, atol=1e-4)
    assert [text for *_, text in bars.texts if text.startswith("step 2")] == [
        f"step 2: {n}" for n in ("-0.200", "0.200", "0.100")
    ]
    assert not re.search(r"https?://|<script", page)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_page_can_be_read(chromium: str, tmp_path: Path, width: int, scheme: Scheme) -> None:
    path = tmp_path / "leak.html"
    path.write_text(render(_result()))
    with opened(chromium, path, width, scheme) as view:
        require_readable(view, width)


@pytest.mark.slow
def test_the_command_reports_what_it_wrote(tmp_path: Path) -> None:
    out = tmp_path / "leak"
    command = [sys.executable, "-m", "jobs.cli", "demo-leak", f"out={out}", "episodes=8", "steps=50", "samples=4"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads((out / "leak.json").read_text())
    assert describe(result) in shown
    assert all(max(values) == 0 for values in result["context_shift"]["prefix"].values())
    assert all(min(values) > 0 for values in result["context_shift"]["clip"].values())
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
