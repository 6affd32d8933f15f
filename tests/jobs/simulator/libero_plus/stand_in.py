"""A package of LIBERO-Plus with a handful of tasks, and a LIBERO that has a table, a bowl and two textures."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jobs.simulator.libero_plus.goals import Here
from jobs.simulator.libero_plus.names import LIBERO_SUITES
from jobs.simulator.libero_plus.package import PlusPackage

BASE = "turn_on_the_stove"

VIEW = "view_0_0_100_0_0_initstate"

NAMES = {
    f"{BASE}_table_1": ("Background Textures", "Table_Marble"),
    f"{BASE}_tb_2": ("Background Textures", "Table_Floorgray_Wallcream"),
    f"{BASE}_view_30_15_100_0_0_initstate_0": ("Camera Viewpoints", None),
    f"{BASE}_{VIEW}_2": ("Robot Initial States", None),
    f"{BASE}_{VIEW}_0_noise_7": ("Sensor Noise", None),
    f"{BASE}_language_3_{VIEW}_0": ("Language Instructions", None),
    f"{BASE}_light_4": ("Light Conditions", "Table_light_5"),
    f"{BASE}_add_1": ("Objects Layout", "Table"),
    f"{BASE}_moved_level3_sample2": ("Objects Layout", "Table"),
}
"""Task of libero_goal -> category, and the problem of a goal file of its own."""

GOAL = """(define (problem {problem})
  (:domain robosuite)
  (:language {words})
  (:regions (place (:target main_table) (:ranges ((0 0 1 1)))))
  (:fixtures
    main_table - table
  )
  (:objects
    bowl_1 - bowl{added}
  )
  (:goal (And (On bowl_1 place)))
)
"""

PROBLEMS = """
@register_problem
class Table(BDDLBaseDomain):
    def __init__(self, *args, **kwargs):
        if "scene_xml" not in kwargs:
            kwargs.update({"scene_xml": "scenes/table.xml"})
        kwargs.update({"scene_properties": {"floor_style": "gray", "wall_style": "cream"}})


@register_problem
class Table_light_5(Table):
    def __init__(self, *args, **kwargs):
        # "scene_xml": "scenes/old.xml"
        kwargs.update({"scene_xml": "scenes/lights/table_5.xml"})


@register_problem
class Table_Marble(Table):
    def __init__(self, *args, **kwargs):
        kwargs.update({"scene_properties": {"floor_style": "marble"}})


@register_problem
class Table_Floorgray_Wallcream(Table):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
"""

ROBOTS = """
# class MountedPanda1(ManipulatorModel):
class MountedPanda1(MountedPanda):
    @property
    def init_qpos(self):
        return np.array([ 0.1, -0.2, 0.,
  -2.5, 0.3, 2.2, 0.8])


class MountedPanda2(MountedPanda):
    @property
    def init_qpos(self):
        return np.array([-0.1, -0.2, 0.0, -2.5, 0.3, 2.2, 0.8])
"""

STYLES = 'FLOOR_STYLE = {"gray": "gray.png", "marble": "marble.png"}\nWALL_STYLE = {"cream": "cream.png"}\nOTHER = 1\n'


def plus_package(folder: Path) -> PlusPackage:
    """Written into a folder."""
    files = {
        "benchmark/libero_suite_task_map.py": f"libero_task_map = {_tasks()!r}",
        "envs/problems/libero_table.py": PROBLEMS,
        "envs/robots/mounted_panda.py": ROBOTS,
        "envs/arenas/style.py": STYLES,
        f"bddl_files/libero_goal/{BASE}.bddl": goal(),
        f"bddl_files/libero_goal/{BASE}_language_3.bddl": goal(words="Heat  the Stove"),
    }
    for name, (_, problem) in NAMES.items():
        if problem is not None:
            added = "\n    soap_1 - soap" if "_add_" in name else ""
            files[f"bddl_files/libero_goal/{name}.bddl"] = goal(problem, added=added)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    start_file(folder / "init_files" / "libero_goal" / f"{BASE}.pruned_init", np.arange(12.0).reshape(3, 4))
    for name in (f"{BASE}_add_1", f"{BASE}_moved_level3_sample2"):
        start_file(folder / "init_files" / "libero_newobj" / "libero_goal" / f"{name}.pruned_init", np.arange(4.0))
    return PlusPackage(folder)


def goal(problem: str = "Table", words: str = "Turn on the stove", added: str = "") -> str:
    """The text of a goal file."""
    return GOAL.format(problem=problem, words=words, added=added)


def libero(folder: Path) -> Here:
    """What this LIBERO has."""
    for name in ("scenes/table.xml", "textures/gray.png", "textures/cream.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return Here({"bowl"}, {"table"}, folder)


def start_file(path: Path, content: Any, protocol: int = 2) -> None:
    """As `torch.save` writes one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol))
        archive.writestr("archive/version", "3\n")


def classification(path: Path, difficulty: int = 2) -> Path:
    """A task_classification.json with all tasks."""
    rows = {suite: [] for suite in LIBERO_SUITES} | {
        "libero_goal": [
            {"id": index, "name": name, "category": category, "difficulty_level": difficulty}
            for index, (name, (category, _)) in enumerate(NAMES.items(), 1)
        ]
    }
    path.write_text(json.dumps(rows))
    return path


def _tasks() -> dict[str, list[str]]:
    return {suite: [] for suite in (*LIBERO_SUITES, "libero_90")} | {"libero_goal": list(NAMES)}
