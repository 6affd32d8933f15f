"""The seven axes along which LIBERO-Plus changes LIBERO (arXiv 2510.13626), for both processes: standard library only.

What is from LIBERO-Plus's repository (sylvestf/LIBERO-plus, 10,030 tasks) and what is ours:

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

AXES = ("camera", "robot", "language", "light", "background", "noise", "layout")

LEVELS = (1, 2, 3, 4, 5)

TURN, RAISE, FURTHER, ASKEW, LENS = 15.0, 3.0, 0.2, 2.0, 3.0
"""Camera, largest change for each level: degrees about the scene, degrees up, distance, degrees, degrees of view."""

JOINTS = 0.1
"""Robot: length of the displacement of the joints for each level, rad."""

SHIFT = 0.02
"""Layout: largest distance that a thing is moved for each level, metres."""
