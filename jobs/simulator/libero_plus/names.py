"""What the name of a LIBERO-Plus task says: every change is in the name, its sizes too.

    BASE_table_N, BASE_tb_N                                  other surfaces; a scene of its own
    BASE_light_N                                             other light; a scene of its own
    BASE_add_N                                               things added
    BASE_levelM_sampleN, BASE_moved_levelM_sampleN           things moved
    BASE[_language_N]_view_H_V_S_R_T_initstate_J[_noise_N]   the rest, see `View`

Checked with the classification file of sylvestf/LIBERO-plus: for all 10,030 tasks `category` gives its category.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LIBERO_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
"""Of LIBERO, in LIBERO-Plus's order; a fifth in its list, libero_90, is unchanged."""

SUITES = {"libero_plus": LIBERO_SUITES} | {
    suite.replace("libero_", "libero_plus_"): (suite,) for suite in LIBERO_SUITES
}
"""Names of LIBERO-Plus's suites for `vlajepa evaluate`, and the suites of LIBERO in them."""

CATEGORIES = {
    "camera": "Camera Viewpoints",
    "robot": "Robot Initial States",
    "language": "Language Instructions",
    "light": "Light Conditions",
    "background": "Background Textures",
    "noise": "Sensor Noise",
    "layout": "Objects Layout",
}
"""Our short names, which are those of `perturb.axes.AXES`, and LIBERO-Plus's, in the order of its table."""

_NAME = re.compile(
    r"(?P<base>.+?)"
    r"(?:(?P<surface>_(?:table|tb)_\d+)|(?P<light>_light_\d+)|(?P<added>_add_\d+)|(?P<moved>(?:_moved)?_level\d+_sample\d+)"
    r"|(?P<language>_language_\d+)?_view_(?P<view>\d+_\d+_\d+_\d+_\d+)_initstate_(?P<joints>\d+)(?:_noise_(?P<noise>\d+))?)"
)


@dataclass(frozen=True)
class View:
    """Of the third-person camera: degrees about the scene, degrees up, percent of the distance, and degrees that its
    own direction turns to the side and down."""

    around: int = 0
    up: int = 0
    distance: int = 100
    aside: int = 0
    down: int = 0


@dataclass(frozen=True)
class Change:
    """What differs from LIBERO.

    base         the task of LIBERO
    category     of `CATEGORIES`
    goal_file    name of its goal file, without ending
    start_file   name of its file of start states, without ending
    own_start    that file is among those of changed layouts
    view         of the camera
    joints       which of the robot's 500 other joint positions; 0: LIBERO's
    noise        0: none; 1 to 10 motion blur, to 20 blur, to 30 zoom blur, to 40 fog, to 50 glass
    """

    base: str
    category: str
    goal_file: str
    start_file: str
    own_start: bool = False
    view: View = View()
    joints: int = 0
    noise: int = 0


def parse(name: str) -> Change:
    """Raises ValueError for a name of another form."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name}: not the name of a LIBERO-Plus task")
    base, goal_file = found["base"], name
    if found["view"] is None:
        category = "background" if found["surface"] else "light" if found["light"] else "layout"
        own_start = category == "layout"
        return Change(base, category, goal_file, name if own_start else base, own_start)
    view = View(*map(int, found["view"].split("_")))
    joints, noise = int(found["joints"]), int(found["noise"] or 0)
    category = "noise" if noise else "language" if found["language"] else "robot" if joints else "camera"
    return Change(base, category, base + (found["language"] or ""), base, view=view, joints=joints, noise=noise)
