"""Where nothing can be printed, a command's result still decides its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.format.file_names import VERDICT
from pipeline.format.json.strict_json import parse
from tests.pipeline.audit.tiny_build import ROBOT, write_build

CLEAN, LEAK = 0, 1


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean one, and one whose bytes were changed."""
    folder = tmp_path_factory.mktemp("builds")
    for name in ("clean", "changed"):
        write_build(folder / name, ROBOT)
    victim = sorted((folder / "changed").rglob("*.arrow"))[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    return folder


def audit(build: Path, **streams: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "audit", str(build)]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams)


@pytest.mark.parametrize(("name", "code"), [("clean", CLEAN), ("changed", LEAK)])
def test_a_reader_that_ends_changes_no_exit_code(builds: Path, name: str, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    done = audit(builds / name, stdout=write)
    os.close(write)
    _, said = done.communicate()
    assert (done.returncode, b"Traceback" in said, b"Errno" in said) == (code, False, False)
    assert parse((builds / name / VERDICT).read_bytes())["status"] == ("leak" if code else "clean")


@pytest.mark.parametrize(("name", "code"), [("clean", CLEAN), ("changed", LEAK)])
def test_no_place_for_a_progress_bar_changes_none_either(builds: Path, name: str, code: int) -> None:
    with open("/dev/full", "wb") as full:
        done = audit(builds / name, stderr=full)
        said, _ = done.communicate()
    assert done.returncode == code
    assert b"samples, level shards" in said


@pytest.mark.parametrize(("name", "code"), [("clean", 2), ("changed", LEAK)])
def test_an_output_that_is_lost_is_said_but_hides_no_leak(builds: Path, name: str, code: int) -> None:
    with open("/dev/full", "wb") as full:
        done = audit(builds / name, stdout=full)
        _, said = done.communicate()
    assert done.returncode == code
    assert (b"what it says could not be printed: No space left on device" in said) == (name == "clean")


def test_letters_that_the_terminal_does_not_have_are_escaped(tmp_path: Path) -> None:
    missing = tmp_path / "данные"
    streams = {"env": {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0", "LC_ALL": "C"}}
    done = audit(missing, **streams)
    _, said = done.communicate()
    assert done.returncode == 2
    assert b"no such folder" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-", "<&-"])
@pytest.mark.parametrize(("name", "code"), [("clean", CLEAN), ("changed", LEAK)])
def test_closed_streams_change_no_exit_code(builds: Path, name: str, code: int, closed: str) -> None:
    command = f'"{sys.executable}" -c "from jobs.cli import main; main()" audit "{builds / name}" {closed}'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    assert parse((builds / name / VERDICT).read_bytes())["status"] == ("leak" if code else "clean")
