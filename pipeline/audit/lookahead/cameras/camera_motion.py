"""Cameras that are ahead of the robot, turned round in time, or stand still (rule L1), from every decoded episode.

A camera that is the only one at its place has no other to be compared with. But its pictures change when the robot
moves (`motion_lags`), and they tell where it is (`pose_regression`). Pictures that are before the state *and* before
the actions show what is still to come; with the actions, and the state behind both, the state is late: no leak. A film
that tells the state only when it is turned round is played backwards. A camera that never changes while the robot moves
shows one moment of its episode, and nothing tells that it is not the last.

N frames.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.lookahead.cameras.motion_lags import MIN_FRAMES, LagSums, size, speed
from pipeline.audit.lookahead.cameras.pose_regression import LAGS, TOLD, PoseSums, Values
from pipeline.audit.lookahead.cameras.thumbnails import is_blank

BETTER = 1.15
"""A lag that is found must leave so many times less untold than all that are honest."""

FRAMES, SECONDS = 2, 0.1
"""A camera is ahead by at least so many frames, and so long: a state is often measured or filtered a little late."""

EPISODES = 8
"""That are needed to tell."""

_STILL = 0.05
"""Mean change of a thumbnail in grey levels below which nothing changes."""

_ROBOT, _HALVES = "", 2

Key = tuple[str, str, int]
"""A camera (_ROBOT for the state), what it is compared with, and one half of the episodes."""


@dataclass(frozen=True)
class MotionSums:
    """Of one episode. seen: cameras that were compared;  still: those that stand still while the robot moves."""

    lags: dict[Key, LagSums]
    poses: dict[Key, PoseSums]
    seen: tuple[str, ...]
    still: tuple[str, ...]


def motion_sums(
    episode: str, thumbnails: Mapping[str, NDArray[np.uint8]], state: Values, actions: Values | None
) -> MotionSums:
    """Compare each camera with the robot.

    Args:
        episode: its id, which decides the half.
        thumbnails: uint8 [F, S, S] by camera; one with another number of frames is left out.
        state, actions: float64 [N, S], [N, A].
    """
    half = zlib.crc32(episode.encode(errors="surrogatepass")) % _HALVES
    robot = {"state": speed(state)}
    if actions is not None and len(actions) == len(state):
        robot |= {"actions": size(actions), "changes of the actions": speed(actions)}
    lags: dict[Key, LagSums | None] = {
        (_ROBOT, name, half): LagSums.of(robot["state"], signal) for name, signal in robot.items() if name != "state"
    }
    poses: dict[Key, PoseSums | None] = {}
    films = {view: frames for view, frames in thumbnails.items() if len(frames) == len(state) >= MIN_FRAMES}
    still = []
    for view, frames in films.items():
        change = np.zeros(len(frames))
        change[1:] = np.abs(np.diff(frames.astype(np.float64), axis=0)).mean(axis=(1, 2))
        if change.max() <= _STILL and not is_blank(frames[0]) and 2 * _moves(state) > len(state):
            still.append(view)
        lags |= {(view, name, half): LagSums.of(change, signal) for name, signal in robot.items()}
        poses[view, "forwards", half], poses[view, "turned", half] = (
            PoseSums.of(film, state) for film in (frames, frames[::-1])
        )
    return MotionSums(_there(lags), _there(poses), tuple(films), tuple(still))


class CameraMotion:
    """The sums of all episodes. Memory does not grow with their number."""

    def __init__(self) -> None:
        self._lags: dict[Key, LagSums] = {}
        self._poses: dict[Key, PoseSums] = {}
        self._seen: Counter[str] = Counter()
        self._still: Counter[str] = Counter()

    def add(self, sums: MotionSums) -> None:
        """Add an episode. What is given is changed later on."""
        _add(self._lags, sums.lags)
        _add(self._poses, sums.poses)
        self._seen.update(sums.seen)
        self._still.update(sums.still)

    def merge(self, other: CameraMotion) -> None:
        """Add the episodes of another part of the build."""
        _add(self._lags, other._lags)
        _add(self._poses, other._poses)
        self._seen.update(other._seen)
        self._still.update(other._still)

    def findings(self, rate: float | None) -> Iterator[str]:
        """One line for each camera. rate: frames a second, where it is known."""
        least = max(FRAMES, int(np.ceil(SECONDS * (rate or 1.0))))
        for view, seen in self._seen.items():
            still = self._still[view]
            if seen < EPISODES:
                continue
            ahead = max(self._ahead_by_pose(view, least), self._ahead_by_motion(view, least))
            if 2 * still >= seen:
                which = f"in {still} of {seen} episodes: which moment of them nothing tells"
                yield f"camera {view} shows one picture while the robot moves, {which}"
            elif ahead >= least:
                yield f"camera {view} is about {ahead} frames ahead of the robot ({seen} episodes)"
            elif self._turned(view):
                yield f"camera {view} is played backwards: turned round, it tells the state ({seen} episodes)"

    def _ahead_by_motion(self, view: str, least: int) -> int:
        """Frames by which the pictures change before state and actions do; 0 where nothing tells."""
        found = []
        for name in ("state", "actions", "changes of the actions"):
            halves = [sums for half in range(_HALVES) if (sums := self._lags.get((view, name, half)))]
            if any(sums.told.any() for sums in halves):
                clear = all(sums.agree for sums in halves)
                found.append(_ahead([sums.told for sums in halves], least) if clear else 0)
        return min(found, default=0)

    def _ahead_by_pose(self, view: str, least: int) -> int:
        """Frames by which the pictures tell the state before it is there, less what the state is behind the actions."""
        halves = [sums.told for half in range(_HALVES) if (sums := self._poses.get((view, "forwards", half)))]
        if not halves or min(told.max() for told in halves) < TOLD:
            return 0
        return _ahead(halves, least) - self._state_behind()

    def _state_behind(self) -> int:
        """Frames by which the state follows the actions, beyond the one that physics takes; 0 where nothing tells."""
        behind = []
        for name in ("actions", "changes of the actions"):
            halves = [sums for half in range(_HALVES) if (sums := self._lags.get((_ROBOT, name, half)))]
            if halves and all(sums.told.any() for sums in halves):
                behind.append(min(int(sums.told.argmax()) - LAGS - 1 for sums in halves))
        return max(0, min(behind, default=0))

    def _turned(self, view: str) -> bool:
        """Whether the film tells the state only when it is turned round, in both halves."""
        for half in range(_HALVES):
            forwards, turned = (self._poses.get((view, way, half)) for way in ("forwards", "turned"))
            if forwards is None or turned is None:
                return False
            best = float(turned.told.max())
            if best < TOLD or not _clear(best, float(forwards.told.max())):
                return False
        return True


def _ahead(halves: list[Values], least: int) -> int:
    """Frames by which the first of two things is ahead, as all halves of the episodes say within a frame, by the share
    told at each lag, [L]; 0 where that is less than `least`, or lags that are honest tell nearly as much."""
    leads = [LAGS - int(told.argmax()) for told in halves]
    clear = all(_clear(float(told.max()), float(told[LAGS - least + 1 :].max())) for told in halves)
    return min(leads) if clear and min(leads) >= least and max(leads) - min(leads) <= 1 else 0


def _clear(best: float, honest: float) -> bool:
    return 1 - max(honest, 0.0) >= BETTER * max(1 - best, 1e-6)


def _moves(state: Values) -> int:
    """Frames at which the state changes."""
    return int((np.abs(np.diff(state, axis=0)) > 0).any(axis=1).sum())


_Sums = TypeVar("_Sums", LagSums, PoseSums)


def _there(sums: Mapping[Key, _Sums | None]) -> dict[Key, _Sums]:
    return {key: found for key, found in sums.items() if found is not None}


def _add(own: dict[Key, _Sums], more: Mapping[Key, _Sums]) -> None:
    for key, sums in more.items():
        if key in own:
            own[key].add(sums)
        else:
            own[key] = sums
