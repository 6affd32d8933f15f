"""The seven axes along which LIBERO-Plus changes LIBERO (arXiv 2510.13626), for both sides: standard library only.

What LIBERO-Plus's repository (sylvestf/LIBERO-plus, 10,030 tasks) says and what is ours:

camera      there: turned about the scene by up to 75 degrees, raised by 15, 1.15 to 2 times as far, or its own
            orientation off by up to 10 degrees, one of them at a time. Here the same ranges; a change of lens is ours.
robot       there: 0.1, 0.2, 0.3, 0.4 or 0.5 rad in a random direction of the seven joints. Here the same.
language    there: written by a language model. Here by a table of phrases.
light       there: other scene files, which are not in the repository. Here: colours, direction, highlights, shadows;
            the numbers are ours.
background  there: other textures, not in the repository. Here: tints and drawn patterns; ours.
noise       there: five kinds at ten strengths, on the third-person camera alone. Here the same kinds and strengths,
            two of them a level.
layout      there: things added, or the wanted thing moved at five levels. Here things are only moved, because adding
            one means building the scene anew; the distances are ours.

LIBERO-Plus's own difficulty of a task, 1 to 5, is not the size of its change: all five sizes of the robot's
displacement are in every level. Our levels are sizes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

AXES = ("camera", "robot", "language", "light", "background", "noise", "layout")

LEVELS = (1, 2, 3, 4, 5)

CATEGORIES = {
    "Camera Viewpoints": "camera",
    "Robot Initial States": "robot",
    "Language Instructions": "language",
    "Light Conditions": "light",
    "Background Textures": "background",
    "Sensor Noise": "noise",
    "Objects Layout": "layout",
}
"""LIBERO-Plus's name of each axis, in its `libero/libero/benchmark/task_classification.json`."""

TURN, RAISE, FURTHER, ASKEW, LENS = 15.0, 3.0, 0.2, 2.0, 3.0
"""Camera, largest change for each level: degrees about the scene, degrees up, distance, degrees, degrees of view."""

JOINTS = 0.1
"""Robot: length of the displacement of the joints for each level, rad."""

SHIFT = 0.02
"""Layout: largest distance that a thing is moved for each level, metres."""

_WHAT = {
    "camera": "the third-person camera is elsewhere (turned by up to {turn:g} degrees, {far:g} times as far)",
    "robot": "the arm starts {joints:g} rad from its usual joint positions",
    "language": "the instruction is put in other words",
    "light": "the lights have another colour, direction and gloss",
    "background": "table, floor or walls look different",
    "noise": "the third-person camera's images are blurred or foggy, strength {noise} of 10",
    "layout": "things lie up to {shift:g} cm away from where they usually do",
}

_VIEW = re.compile(r"_view_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_initstate_(\d+)(?:_noise_(\d+))?$")

_SUFFIXES = (
    (re.compile(r"_light_\d+$"), "light"),
    (re.compile(r"_(?:table|tb)_\d+$"), "background"),
    (re.compile(r"_add_\d+$|_level\d+(?:_sample\d+)?$"), "layout"),
)


def checked(perturbation: Mapping[str, Any]) -> tuple[str, int, int]:
    """A perturbation's axis, level and seed.

    Raises:
        ValueError: it is none; the message names the key and what it may be.
    """
    if set(perturbation) != {"axis", "level", "seed"}:
        raise ValueError(f"a perturbation has axis, level and seed; got {', '.join(sorted(perturbation)) or 'nothing'}")
    axis, level, seed = perturbation["axis"], perturbation["level"], perturbation["seed"]
    if axis not in AXES:
        raise ValueError(f"axis={axis!r} must be one of {', '.join(AXES)}")
    if level not in LEVELS:
        raise ValueError(f"level={level!r} must be one of {', '.join(map(str, LEVELS))}")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")
    return axis, int(level), seed


def describe(perturbation: Mapping[str, Any]) -> str:
    """What a perturbation does, in a line.

    Raises:
        ValueError: it is none, see `checked`.
    """
    axis, level, seed = checked(perturbation)
    what = _WHAT[axis].format(
        turn=TURN * level, far=1 + FURTHER * level, joints=JOINTS * level, noise=2 * level, shift=100 * SHIFT * level
    )
    return f"{axis}, level {level} of {LEVELS[-1]}, seed {seed}: {what}"


def axis_of_task(name: str) -> str | None:
    """The axis of a task of LIBERO-Plus by its name, such as `…_light_3`; None: it is one of LIBERO's."""
    view = _VIEW.search(name)
    if view is None:
        return next((axis for pattern, axis in _SUFFIXES if pattern.search(name)), None)
    *camera, robot, noise = (int(number or 0) for number in view.groups())
    if "_language_" in name:
        return "language"
    if noise:
        return "noise"
    if robot:
        return "robot"
    return "camera" if camera != [0, 0, 100, 0, 0] else None


def read_classification(text: str) -> dict[str, dict[str, tuple[str, int | None]]]:
    """LIBERO-Plus's own table of tasks: suite -> task name -> (axis, difficulty; None where it gives none).

    Raises:
        ValueError: it is no such table.
    """
    try:
        return {
            suite: {row["name"]: (CATEGORIES[row["category"]], row["difficulty_level"]) for row in rows}
            for suite, rows in json.loads(text).items()
        }
    except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"this is no task_classification.json of LIBERO-Plus: {error}") from error
