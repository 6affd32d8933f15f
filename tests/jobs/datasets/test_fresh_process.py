"""What a test of this process cannot see: libraries that are loaded in the command's own order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_sample_data_are_made_by_a_command_of_its_own(tmp_path: Path) -> None:
    words = ["sample-data", f"out={tmp_path / 'data'}", "clips=4", "episodes=4", "size=64"]
    command = [sys.executable, "-c", "from jobs.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "data/ssv2").rglob("*.webm"))
