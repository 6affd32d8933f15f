"""Whatever ends a command ends the processes that it started, and those that these started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SampleData
from tests.jobs.runs import robot_words

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
QUICK = {("demo", signal.SIGTERM), ("demo-leak", signal.SIGKILL)}
COMMANDS_ENDED = [
    pytest.param(command, number, marks=[] if (command, number) in QUICK else pytest.mark.slow)
    for command in ("demo", "demo-leak")
    for number in ENDINGS
]
MARK = "VLAJEPA_TEST_FAMILY"
PATIENCE_S = 100.0


@pytest.fixture
def family() -> Iterator[str]:
    """A mark in the environment of a command, which its processes inherit. Those left over are killed at the end."""
    name = uuid.uuid4().hex
    yield name
    for pid in members(name):
        os.kill(pid, signal.SIGKILL)


def members(family: str) -> list[int]:
    """Processes with the mark that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={family}".encode() in (folder / "environ").read_bytes()
            dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if marked and not dead:
            found.append(int(folder.name))
    return found


def start(family: str, *words: str) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {MARK: family}
    heard = "import signal as s; s.signal(s.SIGHUP, s.SIG_DFL); s.signal(s.SIGINT, s.default_int_handler)"
    program = f"{heard}; from jobs.cli import main; main()"
    command = [sys.executable, "-c", program, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(true: object, seconds: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def end_and_look(process: subprocess.Popen[bytes], number: signal.Signals, family: str) -> None:
    process.send_signal(number)
    code = process.wait(timeout=PATIENCE_S)
    assert code in ((-9,) if number == signal.SIGKILL else (130, signal.SIGTERM))  # the latter is Ray's, at its start
    assert until(lambda: not members(family)), [Path(f"/proc/{pid}/cmdline").read_text() for pid in members(family)]


@pytest.mark.parametrize(("command", "number"), COMMANDS_ENDED)
def test_a_demonstration(family: str, tmp_path: Path, command: str, number: signal.Signals) -> None:
    process = start(family, command, f"out={tmp_path / 'out'}")
    assert until(lambda: len(members(family)) > 1)
    time.sleep(0.5)
    end_and_look(process, number, family)


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDINGS)
def test_a_preprocessing_on_ray(family: str, tmp_path: Path, sample_data: SampleData, number: signal.Signals) -> None:
    process = start(family, *robot_words(sample_data.lerobot, tmp_path / "build"))
    assert until(lambda: len(members(family)) > 6)  # Ray's own and workers
    time.sleep(2.0)
    end_and_look(process, number, family)


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDINGS)
def test_a_demonstration_while_its_command_runs_ray(family: str, tmp_path: Path, number: signal.Signals) -> None:
    process = start(family, "demo", f"out={tmp_path / 'out'}", "clips=8", "episodes=5")
    assert until(lambda: len(members(family)) > 7, 90.0)
    time.sleep(2.0)
    end_and_look(process, number, family)
