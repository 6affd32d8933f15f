"""The lowest versions that pyproject.toml allows can be had together: a bound that nothing can use is a wrong one."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_each_lower_bound_is_what_the_lowest_resolution_takes(tmp_path: Path) -> None:
    """`make lowest` tests these versions; here they are only resolved, which needs the package index."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed beside Python; make install does it")
    found = tmp_path / "lowest.txt"
    words = [str(uv), "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--python-version", "3.11"]
    subprocess.run([*words, str(ROOT / "pyproject.toml"), "-o", str(found)], check=True, timeout=300)
    taken = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", found.read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = dict(re.match(r"([a-z0-9-]+)[^>]*>=([0-9.]+)", line).groups() for line in project["dependencies"])  # type: ignore[union-attr]
    wrong = {name: (low, taken[name]) for name, low in bounds.items() if not f"{taken[name]}.".startswith(f"{low}.")}
    assert wrong == {}
