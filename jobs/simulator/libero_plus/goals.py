"""What a goal file of LIBERO-Plus says, and what of it LIBERO has not here."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .package import PlusPackage, Scene

PROBLEM = re.compile(r"\(problem\s+([^\s()]+)\s*\)")
"""The name of a scene in a goal file."""

_LANGUAGE = re.compile(r"\(:language\s+([^()]*)\)")
_SECTION = re.compile(r"\(:(?:fixtures|objects)\b([^()]*)\)")
_KIND = re.compile(r"-\s+(\S+)")

PLACES = ("table", "floor", "kitchen_table", "living_room_table", "study_table", "coffee_table")
"""Kinds in goal files that are part of the room."""


@dataclass(frozen=True)
class Here:
    """What LIBERO has here: kinds of things, the names of its problems, and the folder of its assets."""

    kinds: Collection[str]
    problems: Collection[str]
    assets: Path


@dataclass(frozen=True)
class Goal:
    """A goal file: its instruction, its scene (None: not known here) and what is not here, each as "kind: name"."""

    instruction: str
    scene: Scene | None
    missing: tuple[str, ...]


class GoalReader:
    """Reads goal files of LIBERO-Plus, each once."""

    def __init__(self, plus: PlusPackage, here: Here) -> None:
        self._plus, self._here = plus, here
        self.read = cache(self._read)
        self._exists = cache(os.path.exists)

    def _read(self, path: str) -> Goal:
        if not os.path.exists(path):
            return Goal("", None, (f"goal file: {os.path.basename(path)}",))
        text = Path(path).read_text()
        named = PROBLEM.search(text)
        problem = named[1] if named else "none"
        scene = self._plus.scenes.get(problem.lower())
        kinds = {kind for section in _SECTION.findall(text) for kind in _KIND.findall(section)} - {*PLACES}
        missing = [f"thing: {kind}" for kind in sorted(kinds) if kind not in self._here.kinds]
        if scene is None or scene.problem not in self._here.problems:
            missing.append(f"problem: {problem}")
        else:
            missing += self._missing_files(scene)
        return Goal(instruction_of(text), scene, tuple(missing))

    def _missing_files(self, scene: Scene) -> list[str]:
        if scene.file and not self._exists(f"{self._here.assets}/{scene.file}"):
            return [f"scene: {scene.file}"]
        textures = sorted({name for name in (scene.floor, scene.wall) if name})
        return [f"texture: {name}" for name in textures if not self._exists(f"{self._here.assets}/textures/{name}")]


def instruction_of(goal: str) -> str:
    """The instruction in the text of a goal file, as LIBERO's reader has it: small letters, single spaces."""
    found = _LANGUAGE.search(goal)
    return " ".join(found[1].lower().split()) if found else ""


def contents_of(goal: str) -> str:
    """The text of a goal file without its instruction."""
    return _LANGUAGE.sub("", goal)
