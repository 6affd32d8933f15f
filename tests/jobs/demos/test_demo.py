"""The demonstration from end to end, at a small size, in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demonstration_reports_what_it_wrote(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    sizes = ["clips=24", "episodes=20", "twins=3", "steps=50"]
    command = [sys.executable, "-m", "jobs.cli", "demo", f"out={out}", *sizes]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    report = (out / "report.md").read_text()
    assert report in shown
    for name, numbers in json.loads((out / "run" / "held_out.json").read_text()).items():
        assert json.loads((out / "builds" / name / "audit" / "verdict.json").read_text())["status"] == "clean"
        assert f"| {name} | {numbers['model']:.4f} | {numbers['nothing_changes']:.4f} |" in report
        assert numbers["two_alternative"]["pairs"] == 6
        assert numbers["latent_action_reliance"]["same_scene"]["all"]["groups"] == 3
        assert f"{numbers['latent_action_reliance']['other_episode']['all']['value']:.3f} (" in report
        assert (
            f"% | {100 * numbers['two_alternative']['value']:.1f} (fewer than 5: no interval) | 6 | 3 scenes |"
            in report
        )
    page = (out / "run" / "report.html").read_text()
    assert page.count("told by the model</th>") == 2 * 2  # builds, instructions
    more = [sys.executable, "-m", "jobs.cli", "demo-steering", f"out={out}", "steps=50"]
    shown = subprocess.run(more, capture_output=True, text=True, check=True).stdout
    table = (out / "steering.md").read_text()
    assert table in shown
    for kind in ("true_motion", "constant", "words"):
        found = json.loads((out / f"run-{kind}" / "held_out.json").read_text())["robot"]["latent_action_reliance"]
        assert f"{found['other_episode']['all']['value']:.3f} (" in table
    assert json.loads((out / "run-constant" / "held_out.json").read_text())["robot"]["shuffled"] == pytest.approx(
        json.loads((out / "run-constant" / "held_out.json").read_text())["robot"]["model"]
    )
    assert "named_x" in table
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
