"""Which camera of a simulator, or of a message, is which view of a policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.errors import SettingsError

_ON_THE_WRIST = re.compile(r"wrist|in_hand|gripper|(^|_)hand(_|$)", re.IGNORECASE)


def on_the_wrist(name: str) -> bool:
    """Whether a camera's name says that it moves with the hand (wrist_image, robot0_eye_in_hand, …)."""
    return _ON_THE_WRIST.search(name) is not None


def cameras_of(views: Sequence[str], cameras: Sequence[str], chosen: Mapping[str, str] | None) -> dict[str, str]:
    """View -> camera: as chosen, else in their order; where there are fewer views than cameras, those of the wrist and
    the others each in their own.

    Raises:
        SettingsError: nothing was chosen, and the order would give a view of the wrist another camera's images, or the
            other way round: a policy fails at that without a word.
    """
    if chosen is not None:
        return dict(chosen)
    paired = dict(zip(views, cameras, strict=False))
    if any(map(on_the_wrist, views)) and any(map(on_the_wrist, cameras)):
        if len(views) < len(cameras):
            left = {wrist: [name for name in cameras if on_the_wrist(name) == wrist] for wrist in (True, False)}
            paired = {view: left[on_the_wrist(view)].pop(0) for view in views if left[on_the_wrist(view)]}
        for view, camera in paired.items():
            if on_the_wrist(view) != on_the_wrist(camera):
                raise SettingsError(
                    f"the policy's cameras are {', '.join(views)}, expected the order of {', '.join(cameras)}: "
                    f"{view} would see what {camera} shows; say which is which with cameras={{{view}: …}}"
                )
    return paired
