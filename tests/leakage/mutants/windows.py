"""Builds with other windows than their settings take; every file agrees with the manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, refingerprint
from tests.pipeline.audit.tiny_build import ROBOT, ROBOT_DROP, VIDEO, TinyWorld


def _window(build: Path, **changes: Any) -> None:
    edit_json(build, "build.json", lambda document: document["settings"]["window"].update(changes), repair=False)
    refingerprint(build)


def every_frame_where_every_second_is_due(build: Path) -> None:
    _window(build, every=2)


def more_windows_than_asked_for(build: Path) -> None:
    _window(build, every=0, per_episode=3)


def idle_windows_left_out_and_others_than_every_second(build: Path) -> None:
    """The settings allow windows to be missing, but none at another frame."""
    _window(build, every=2, skip_idle=2)


def idle_windows_left_out_and_more_than_asked_for(build: Path) -> None:
    _window(build, every=0, per_episode=3, skip_idle=2)


@dataclass(frozen=True)
class _Cut(TinyWorld):
    """The last windows of each episode, where it shows how it ended, are not there."""

    def fitting(self, num_frames: int) -> int:
        return max(1, super().fitting(num_frames) - 2)


@dataclass(frozen=True)
class _CutOne(TinyWorld):
    """One episode has a window less."""

    def fitting(self, num_frames: int) -> int:
        return super().fitting(num_frames) - (num_frames == 11)


def windows_near_the_end_left_out(build: Path) -> None:
    """As the world is."""


def windows_near_the_end_of_a_film_left_out(build: Path) -> None:
    """As the world is."""


def window_of_one_episode_left_out(build: Path) -> None:
    """As the world is."""


CUT = _Cut(**vars(ROBOT_DROP))
CUT_VIDEO = _Cut(**vars(VIDEO))
CUT_ONE = _CutOne(**vars(replace(ROBOT, mode="tubelet")))

MUTANTS = (
    Mutant(every_frame_where_every_second_is_due, "L7", "manifest", "is no window by settings.window"),
    Mutant(more_windows_than_asked_for, "L7", "manifest", "settings.window takes 3 from its"),
    Mutant(idle_windows_left_out_and_others_than_every_second, "L7", "manifest", "is no window by settings.window, of"),
    Mutant(idle_windows_left_out_and_more_than_asked_for, "L7", "manifest", "is no window by settings.window, of"),
    Mutant(windows_near_the_end_left_out, "L7", "manifest", "settings.window takes", CUT),
    Mutant(windows_near_the_end_of_a_film_left_out, "L7", "manifest", "settings.window takes", CUT_VIDEO),
    Mutant(window_of_one_episode_left_out, "L7", "manifest", "ep_c has 6 samples, settings.window takes 7", CUT_ONE),
)
