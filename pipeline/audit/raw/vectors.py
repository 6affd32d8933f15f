"""State and action put together from fields of the raw data, by `state` and `action` of settings.source.

N rows of a field, R frames of the episode, W channels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import Numbers, RawError
from pipeline.audit.raw.decoding import rotations

FieldReader = Callable[[str], NDArray[np.float64]]
"""Name of a field -> its values [N, W]. Raises RawError when they cannot be read."""

_CHANNELS: Mapping[str, int | None] = {
    "none": None,
    "euler_xyz": 3,
    "quaternion_xyzw": 4,
    "gripper": 1,
    "relative_gripper": 1,
    "pose_difference": 6,
    "pose_reached": 6,
    "quaternion_pose_difference": 7,
    "quaternion_pose_reached": 7,
}
"""Conversion -> channels it takes; None: any number."""

_ROTATED: Mapping[str, slice] = {
    "euler_xyz": slice(0, 3),
    "quaternion_xyzw": slice(0, 3),
    "pose_difference": slice(3, 6),
    "pose_reached": slice(3, 6),
    "quaternion_pose_difference": slice(3, 6),
    "quaternion_pose_reached": slice(3, 6),
}
"""Conversion -> channels of its result that are a rotation vector."""

REACHED = ("pose_reached", "quaternion_pose_reached")
"""Conversions from the pose of a row to that of the row after it."""

_FROM_BASE = ("pose_difference", "quaternion_pose_difference")
"""Conversions from the pose in `base`."""

_GRID = 2.0**24
"""Rotation vectors are multiples of 1 / 2^24 radian."""

_NEAR = 2.0**-46
"""Radians that two ways to compute a rotation vector may differ by: SciPy's and the audit's differ by 2e-15, over
millions of turns. Within it of the middle of two multiples either is right, as is one value of two million."""
_NOT_COMPARED = frozenset({"prev", "previous", "past", "history", "next", "future", "index", "timestamp"})
"""Words of names of fields that no state is compared with."""

_WIDEST = 64
"""Channels of a field that a state is compared with; wider ones are embeddings and images."""

_UNIT = 0.05
"""How far from 1 the length of a quaternion may be."""

_COMMAND = 0.1
"""A relative gripper value within it is no command."""


@dataclass(frozen=True)
class _Part:
    """Channels of one field, scaled and converted."""

    field: str
    take: tuple[int, int] | None = None
    scale: float = 1.0
    convert: str = "none"
    base: str | None = None
    open: float | None = None
    closed: float | None = None

    def values(self, read: FieldReader, shift: float) -> NDArray[np.float64]:
        """float64 [N, W], or [N - 1, W] where a value is known only with the row after it; rotations on their grid
        after `shift` is added."""
        values, rotated = self._computed(read), _ROTATED.get(self.convert)
        if rotated is not None:
            values[:, rotated] = np.rint((values[:, rotated] + shift) * _GRID) / _GRID
        return values

    def _computed(self, read: FieldReader) -> NDArray[np.float64]:
        taken = self._taken(read)
        match self.convert:
            case "euler_xyz":
                return rotations.to_vector(rotations.from_euler(taken))
            case "quaternion_xyzw":
                return rotations.to_vector(_turns(taken))
            case "gripper":
                closed, opened = float(self.closed or 0), float(self.open or 0)
                return (taken - closed) / (opened - closed)
            case "relative_gripper":
                return np.array(gripper_states(taken[:, 0].tolist()))[:, None]
            case "pose_difference" | "quaternion_pose_difference":
                base = read(str(self.base))
                if base.shape != taken.shape:
                    raise RawError(f"field {self.base} is {base.shape}, {self.field} {taken.shape}")
                return _from_pose_to_pose(base, taken)
            case "pose_reached" | "quaternion_pose_reached":
                return _from_pose_to_pose(taken[:-1], taken[1:])
        return taken

    def _taken(self, read: FieldReader) -> NDArray[np.float64]:
        values = np.asarray(read(self.field), np.float64)
        first, last = self.take or (0, values.shape[1])
        wanted = _CHANNELS[self.convert]
        if last > values.shape[1] or wanted not in (None, last - first):
            found = f"field {self.field} has {values.shape[1]} channels"
            raise RawError(f"{found}: {self.convert} cannot be made of {first}..{last - 1}")
        return values[:, first:last] * self.scale


class RawVectors:
    """How one vector of an episode, state or action, is made.

    lost   frames at the end of an episode that have none
    """

    def __init__(self, settings: Mapping[str, Any], key: str) -> None:
        value = settings.get(key)
        if not isinstance(value, list | tuple):
            raise RawError(f"settings.source.{key} must be a list of objects, found {value!r:.80}")
        self._parts = tuple(_parse(part, key) for part in value)
        self.lost = int(any(part.convert in REACHED for part in self._parts))

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def fields(self) -> frozenset[str]:
        """Every field it is made from."""
        return frozenset(name for part in self._parts for name in (part.field, part.base) if name is not None)

    def beside(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of a field [N, W] the channels that no part takes."""
        left = set(range(values.shape[1]))
        for part in self._parts:
            if name in (part.field, part.base):
                left -= set(range(*part.take)) if part.take and name == part.field else left
        return values[:, sorted(left)]

    def make(self, read: FieldReader, frames: int) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """float32 [R, W] for the first R = `frames` frames, twice: they differ where rounding leaves a choice. None
        when the settings name no parts.

        Raises:
            RawError: a field cannot be read, is too short or too narrow, or holds what is no finite number.
        """
        if not self._parts:
            return None, None
        made = self._rounded(read, frames, -_NEAR)
        turned = any(part.convert in _ROTATED for part in self._parts)
        return made, self._rounded(read, frames, _NEAR) if turned else made

    def _rounded(self, read: FieldReader, frames: int, shift: float) -> NDArray[np.float32]:
        columns = []
        for part in self._parts:
            try:
                with np.errstate(all="ignore"):  # what is not finite is refused below
                    values = part.values(read, shift)
            except ValueError as error:
                raise RawError(f"field {part.field}: {error}") from error
            if len(values) < frames:
                raise RawError(f"field {part.field} has values for {len(values)} frames, the episode has {frames}")
            columns.append(_stored(values, part.field)[:frames])
        return np.concatenate(columns, axis=1)


def _stored(values: NDArray[np.float64], field: str) -> NDArray[np.float32]:
    """As a build stores them. A row that is not finite makes an episode unusable, if it belongs to no frame too."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(np.float32) + np.float32(0)  # -0.0 becomes +0.0
    if not np.isfinite(stored).all():
        raise RawError(f"field {field} is not finite at row {int(np.argwhere(~np.isfinite(stored))[0, 0])}")
    return stored


class RobotVectors:
    """State and action of an episode."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.state, self.action = RawVectors(settings, "state"), RawVectors(settings, "action")
        self.fields = self.state.fields | self.action.fields

    def make(
        self, read: FieldReader, frames: int, read_action: FieldReader | None = None, names: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The fields of `RawEpisode` that they fill. names: of all fields of numbers. Raises RawError as
        `RawVectors.make`."""
        state, actions = self.state.make(read, frames), self.action.make(read_action or read, frames)
        return {
            "state": state[0],
            "state_ties": state[1],
            "actions": actions[0],
            "actions_ties": actions[1],
            "others": tuple(self._others(read, frames, read_action or read, names)) if self.state else (),
        }

    def _others(
        self, read: FieldReader, frames: int, read_action: FieldReader, names: Iterable[str]
    ) -> Iterator[Numbers]:
        """Actions, and what was recorded with the observation but is not in the state. Other fields may have been
        recorded before the step or after it (LIBERO's `states`), and do not say whether the state is ahead. A field
        that cannot be read is no part of the build."""
        for name in dict.fromkeys([*sorted(self.action.fields), *names]):
            words = set(re.findall(r"[a-z]+", name.lower()))
            action = name in self.action.fields or bool(words & {"action", "actions"})
            compared = action or bool(words & {"observation", "obs"})
            if words & _NOT_COMPARED or not compared:
                continue
            with suppress(RawError, ValueError):
                values = self.state.beside(name, np.asarray((read_action if action else read)(name), np.float64))
                if values.ndim == 2 and 0 < values.shape[1] <= _WIDEST and len(values) >= frames:
                    yield Numbers(name, action, values[:frames])


def gripper_states(commands: list[float]) -> list[float]:
    """Relative commands -> 1 open, 0 closed: above 0.1 it closes, below -0.1 it opens, else it stays as it is.

    Before the first command it is in the other state than the one commanded; without any it is open.
    """
    given = [0.0 if value > 0 else 1.0 for value in commands if abs(value) > _COMMAND]
    now = 1 - given[0] if given else 1.0
    states = []
    for value in commands:
        if abs(value) > _COMMAND:
            now = 0.0 if value > 0 else 1.0
        states.append(now)
    return states


def _from_pose_to_pose(base: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses [N, 6], x, y, z and angles about fixed axes, or [N, 7], x, y, z and a quaternion -> target - base, rotation
    vector of R(target) R(base)^T."""
    start, end = _turns(base[:, 3:]), _turns(target[:, 3:])
    turned = rotations.to_vector(rotations.product(end, rotations.inverse(start)))
    return np.concatenate([target[:, :3] - base[:, :3], turned], axis=1)


def _turns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles about fixed axes [N, 3], or quaternions with the real part last [N, 4]. Raises ValueError for one that is
    no rotation."""
    if values.shape[1] == 3:
        return rotations.from_euler(values)
    if (np.abs(np.linalg.norm(values, axis=1) - 1) > _UNIT).any():
        raise ValueError("it holds a quaternion that is no rotation")
    return rotations.from_xyzw(values)


def _parse(value: object, key: str) -> _Part:
    """Raises RawError unless the object defines in full how its channels are made: nothing is guessed."""
    if isinstance(value, Mapping) and value.keys() <= {f.name for f in fields(_Part)}:
        part = _Part(**{"field": None, **value})
        take, ends = part.take, (part.open, part.closed)
        numbers = [part.scale, *(end for end in ends if end is not None)]
        if (
            isinstance(part.field, str)
            and isinstance(part.convert, str)
            and part.convert in _CHANNELS
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            and (isinstance(part.base, str) if part.convert in _FROM_BASE else part.base is None)
            and (part.convert != "gripper" or (None not in ends and part.open != part.closed))
            and (take is None or _is_range(take))
        ):
            return part
    raise RawError(f"settings.source.{key}: no part of a vector: {value!r:.200}")


def _is_range(take: Any) -> bool:
    """Whether it is a list of the first channel and the one after the last."""
    numbers = isinstance(take, list | tuple) and [type(end) for end in take] == [int, int]
    return numbers and 0 <= take[0] < take[1]
