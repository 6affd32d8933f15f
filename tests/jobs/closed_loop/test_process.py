from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.closed_loop.process import Simulator, SimulatorDied
from pipeline.errors import RunError, SettingsError


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    """The worker in this Python, which has no simulator."""
    with Simulator(Path(sys.executable), tmp_path / "log.txt") as running:
        yield running


def test_the_worker_starts_without_the_rest_of_the_project(simulator: Simulator) -> None:
    assert "numpy" in simulator.about["versions"]


def test_the_simulator_gets_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLAJEPA_API_KEY", "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "SHOWN"):
        monkeypatch.setenv(name, "geheim")
    with Simulator(Path(sys.executable), tmp_path / "log.txt") as running:
        given = Path(f"/proc/{running._process.pid}/environ").read_bytes().split(b"\0")
    assert [entry for entry in given if b"geheim" in entry] == [b"SHOWN=geheim"]


def test_an_error_in_the_simulator_is_answered_and_it_goes_on(simulator: Simulator) -> None:
    with pytest.raises(RunError, match=r"refuses 'tasks': ModuleNotFoundError: No module named 'libero'"):
        simulator.ask("tasks", suite="libero_goal")
    assert simulator.ask("hello") == simulator.about


def test_the_worker_knows_simplerenvs_tasks_without_its_packages(simulator: Simulator) -> None:
    answer = simulator.ask("tasks", suite="widowx_visual_matching")
    assert {name: answer[name] for name in ("benchmark", "control_hz", "cameras", "state")} == {
        "benchmark": "simpler_env",
        "control_hz": 5,
        "cameras": ["3rd_view_camera"],
        "state": 7,
    }
    assert {row["limit"] for row in answer["tasks"]} == {60, 120}
    simulator.ask("open", suite="widowx_visual_matching", task=0, pixels=256, shadows=True, hold=1)
    with pytest.raises(RunError, match=r"refuses 'reset': ModuleNotFoundError: No module named 'gymnasium'"):
        simulator.ask("reset", start=0, limit=60)


def test_a_killed_simulator_is_known_as_such(simulator: Simulator) -> None:
    os.kill(simulator._process.pid, signal.SIGKILL)
    with pytest.raises(SimulatorDied, match=r"ended with code -9 during 'hello'"):
        simulator.ask("hello")


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such file; simulator= must be the python"):
        Simulator(tmp_path / "python", tmp_path / "log.txt")


def test_a_program_that_is_no_simulator_is_quoted(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'libEGL is missing' >&2\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(SimulatorDied, match=r"ended with code 3 during 'hello': libEGL is missing"):
        Simulator(script, tmp_path / "log.txt")


def test_a_simulator_that_dies_silently_is_not_explained_by_an_earlier_one(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("Traceback: of yesterday\n")
    with pytest.raises(SimulatorDied, match=r"ended with code 1 during 'hello': it printed nothing"):
        Simulator(Path("/bin/false"), log)
