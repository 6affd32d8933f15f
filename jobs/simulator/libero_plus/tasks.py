"""The 10,030 tasks of LIBERO-Plus, and for each what is missing here to play it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..libero import step_limit
from . import package
from .goals import Goal, GoalReader, Here, contents_of
from .names import SUITES, Change, parse
from .package import PlusPackage, Scene
from .starts import read_starts

WORDINGS = ("list", "libero", "goal")
"""Where an instruction is from; those of the category language are always in the goal file.

list    LIBERO-Plus's own list of tasks: the name of the task, with the numbers of its change behind it
libero  the name of LIBERO's task, which is what policies are trained with
goal    the goal file, whose words differ from LIBERO's names in many tasks
"""

_SCENE_NUMBER = re.compile(r"^[A-Z].*?SCENE\d+_")


@dataclass(frozen=True)
class PlusTask:
    """A task.

    suite        of LIBERO;  index  in the list that was asked for;  name  LIBERO-Plus's
    change       what is changed;  difficulty  LIBERO-Plus's, 1 to 5, or None
    instruction  that the policy gets
    goal_file    its path;  start_file  likewise
    scene        None: not known here
    missing      what is not here, each as "kind: name"; nothing if it can be played
    limit        steps
    """

    suite: str
    index: int
    name: str
    change: Change
    difficulty: int | None
    instruction: str
    goal_file: str
    start_file: str
    scene: Scene | None
    missing: tuple[str, ...]
    limit: int | None

    @property
    def starts(self) -> np.ndarray:
        """Start states float64 [N, Q]; LIBERO-Plus plays the first."""
        return read_starts(Path(self.start_file))

    @property
    def key(self) -> str:
        """Of what makes scene and start. Tasks of one key differ in camera, joints, noise or words alone. Raises
        OSError if the goal file is missing."""
        parts = self.start_file, self.scene, contents_of(Path(self.goal_file).read_text())
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def list_tasks(suite: str, wording: str = WORDINGS[0], classification: str | None = None) -> list[PlusTask]:
    """The tasks of one of `names.SUITES`. Raises ValueError if LIBERO-Plus is not installed, or where one of its files
    is not what it should be."""
    from libero.libero import get_libero_path
    from libero.libero.envs.bddl_base_domain import TASK_MAPPING
    from libero.libero.envs.objects import OBJECTS_DICT

    here = Here(frozenset(OBJECTS_DICT), frozenset(TASK_MAPPING), Path(get_libero_path("assets")))
    return tasks_of(package.installed(), SUITES[suite], here, wording, classification)


def tasks_of(
    plus: PlusPackage, suites: Collection[str], here: Here, wording: str, classification: str | None
) -> list[PlusTask]:
    """The tasks of suites of LIBERO, one after the other; see `list_tasks`."""
    known = plus.difficulties(None if classification is None else Path(classification))
    named = [(suite, name) for suite in suites for name in plus.tasks[suite]]
    absent = [name for suite, name in named if known and (suite, name) not in known]
    if absent:
        raise ValueError(f"{classification}: has nothing on {absent[0]}; it is of another version than the tasks")
    goals = GoalReader(plus, here)
    tasks = []
    for index, (suite, name) in enumerate(named):
        change = parse(name)
        start, path = plus.start(suite, change.start_file, change.own_start), plus.goal(suite, change.goal_file)
        goal = goals.read(path)
        absent = [] if os.path.exists(start) else [f"start file: {os.path.basename(start)}"]
        about = known.get((suite, name)), _instruction(name, change, goal, wording), path, start, goal.scene
        tasks.append(PlusTask(suite, index, name, change, *about, (*absent, *goal.missing), step_limit(suite)))
    return tasks


def _instruction(name: str, change: Change, goal: Goal, wording: str) -> str:
    if wording == "goal" or change.category == "language":
        return goal.instruction
    return in_name(name if wording == "list" else change.base)


def in_name(name: str) -> str:
    """The instruction that LIBERO's and LIBERO-Plus's lists make of a name: all of it behind the scene's number."""
    return _SCENE_NUMBER.sub("", name).replace("_", " ")
