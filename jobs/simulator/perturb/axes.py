"""The seven axes along which LIBERO-Plus changes LIBERO (arXiv 2510.13626), for both processes: standard library only.

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

from collections.abc import Mapping
from typing import Any

AXES = ("camera", "robot", "language", "light", "background", "noise", "layout")

LEVELS = (1, 2, 3, 4, 5)

TURN, RAISE, FURTHER, ASKEW, LENS = 15.0, 3.0, 0.2, 2.0, 3.0
"""Camera, largest change for each level: degrees about the scene, degrees up, distance, degrees, degrees of view."""

JOINTS = 0.1
"""Robot: length of the displacement of the joints for each level, rad."""

SHIFT = 0.02
"""Layout: largest distance that a thing is moved for each level, metres."""

_WHAT = {
    "camera": "the third-person camera is moved (turned by up to {turn:g} degrees, {far:g} times as far)",
    "robot": "the arm starts {joints:g} rad from its usual joint positions",
    "language": "the instruction is paraphrased",
    "light": "the lights have another colour, direction and gloss",
    "background": "table, floor or walls look different",
    "noise": "the third-person camera's images are blurred or foggy, strength {noise} of 10",
    "layout": "things lie up to {shift:g} cm away from where they usually do",
}


def checked(perturbation: Mapping[str, Any]) -> tuple[str, int, int]:
    """Axis, level and seed of a perturbation.

    Raises:
        ValueError: it is invalid; the message names the key and the allowed values.
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
    """One line that describes a perturbation.

    Raises:
        ValueError: it is invalid, see `checked`.
    """
    axis, level, seed = checked(perturbation)
    what = _WHAT[axis].format(
        turn=TURN * level, far=1 + FURTHER * level, joints=JOINTS * level, noise=2 * level, shift=100 * SHIFT * level
    )
    return f"{axis}, level {level} of {LEVELS[-1]}, seed {seed}: {what}"
