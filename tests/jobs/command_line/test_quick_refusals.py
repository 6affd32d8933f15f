"""A command that is given a wrong path says so before it imports what takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "ray", "scipy")

CALL = f"""
import atexit, sys
atexit.register(lambda: print("loaded:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))
from jobs.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train builds=[nosuch] out=run", "nosuch"),
        ("serve policy=nosuch", "nosuch is neither a checkpoint nor a run"),
        ("evaluate policy=nosuch suite=libero_object simulator=python out=results", "nosuch is neither a checkpoint"),
        ("export checkpoint=nosuch cameras=[front] out=exported", "nosuch is neither a checkpoint nor a run"),
        ("plan source=lerobot source.root=nosuch out=build", "nosuch/meta/info.json: No such file"),
        ("inspect source=lerobot source.root=nosuch", "nosuch/meta/info.json: No such file"),
        ("audit build=nosuch", "nosuch: no such folder"),
        ("status build=nosuch", "nosuch holds no plan"),
        ("verify build=nosuch", "nosuch"),
        ("push nosuch out=hf://me/policy", "nosuch is neither a checkpoint nor a run"),
        ("view nosuch", "nosuch holds no build.json"),
    ],
    ids=lambda words: words.split()[0],
)
def test_a_wrong_path_is_refused_before_anything_heavy_is_imported(tmp_path: Path, words: str, said: str) -> None:
    command = [sys.executable, "-c", CALL, *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert done.stderr.splitlines()[-1] == "loaded:", done.stderr
