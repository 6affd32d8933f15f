"""State and action vectors, assembled from the fields of a dataset that its manifest lists.

Actions of all robots use one convention of seven numbers per frame:

    0-2  change of the end effector's position in the base frame, metres
    3-5  change of its orientation in the base frame, rotation vector (axis times angle), radians
    6    gripper, 1 open, 0 closed

A vector is a list of fields of the dataset: columns of a LeRobot table, paths inside an RLDS step, or datasets of an
HDF5 demonstration. N frames, W channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError, SettingsError
from pipeline.format.settings import checked, describe, setting
from pipeline.sources.base import HashedSplitSettings
from pipeline.sources.field_names import refuse_state_fields

FieldReader = Callable[[str], NDArray[Any]]
"""Field name -> its values in every frame, [N, W]. Raises EpisodeError when they cannot be read."""


class Conversion(StrEnum):
    """How channels of a field become channels of a vector.

    EULER_XYZ         angles about the fixed axes x, y, z, to a rotation vector
    QUATERNION_XYZW   a unit quaternion, to a rotation vector
    GRIPPER           linear, so that the value `open` becomes 1 and `closed` becomes 0
    RELATIVE_GRIPPER  above 0 closes, below 0 opens, else no change: see `absolute_gripper`
    POSE_DIFFERENCE   from the pose in the field `base` to that in `field`, both x, y, z and Euler angles as above
    POSE_REACHED      from the pose in `field` to that of the next frame: a target, and the last frame has none
    QUATERNION_POSE_DIFFERENCE, QUATERNION_POSE_REACHED  the same of poses of x, y, z and a unit quaternion x, y, z, w
    """

    NONE = "none"
    EULER_XYZ = "euler_xyz"
    QUATERNION_XYZW = "quaternion_xyzw"
    GRIPPER = "gripper"
    RELATIVE_GRIPPER = "relative_gripper"
    POSE_DIFFERENCE = "pose_difference"
    POSE_REACHED = "pose_reached"
    QUATERNION_POSE_DIFFERENCE = "quaternion_pose_difference"
    QUATERNION_POSE_REACHED = "quaternion_pose_reached"


WIDTHS: Mapping[str, tuple[int, int]] = {
    "euler_xyz": (3, 3),
    "quaternion_xyzw": (4, 3),
    "gripper": (1, 1),
    "relative_gripper": (1, 1),
    "pose_difference": (6, 6),
    "pose_reached": (6, 6),
    "quaternion_pose_difference": (7, 6),
    "quaternion_pose_reached": (7, 6),
}
"""Conversion -> channels of its input and output; "none" keeps any number."""

DIFFERENCES = ("pose_difference", "quaternion_pose_difference")
"""Conversions that start from the pose of another field."""

REACHED = ("pose_reached", "quaternion_pose_reached")
"""Conversions from a measured pose to that of the next frame."""

LOOKS_AHEAD = ("relative_gripper", *REACHED)
"""Conversions whose value at a frame depends on later frames."""

_KEPT = (Conversion.NONE, Conversion.GRIPPER, Conversion.RELATIVE_GRIPPER)
"""Conversions that make a channel of each channel."""

RELATIVE_THRESHOLD = 0.1
"""A relative gripper action of smaller size changes nothing (octo, `rel2abs_gripper_actions`)."""


@checked
class VectorField:
    """Some channels of a state or action vector."""

    field: str = setting("name of the field")
    take: tuple[int, int] | None = setting(
        "(first, one past the last) channel of the field; null: all", default=None, at_least=0
    )
    scale: float = setting("factor, applied before the conversion", default=1.0)
    convert: Conversion = setting("how the channels are converted", default=Conversion.NONE)
    base: str | None = setting("field of the pose that a pose difference starts from", default=None)
    open: float | None = setting("value of an open gripper, for convert=gripper", default=None)
    closed: float | None = setting("value of a closed gripper, for convert=gripper", default=None)

    def __post_init__(self) -> None:
        if self.take is not None and (len(self.take) != 2 or self.take[0] >= self.take[1]):
            raise ValueError(f"take must be [first, one past the last], got {list(self.take)}")
        if (self.base is not None) != (self.convert in DIFFERENCES):
            raise ValueError(f"base belongs to convert={' and '.join(DIFFERENCES)}, which need it")
        ends = (self.open, self.closed)
        if self.convert == "gripper" and (None in ends or self.open == self.closed):
            raise ValueError("convert=gripper needs two different values under open and closed")
        if self.convert in (*DIFFERENCES, *REACHED) and self.scale != 1:
            raise ValueError(f"convert={self.convert} takes metres and radians, scale must be 1")
        if self.convert != "gripper" and ends != (None, None):
            raise ValueError("open and closed belong to convert=gripper")

    def width(self, available: int) -> int:
        """Channels of the vector, if the field has `available` channels.

        Raises:
            SettingsError: the field is too narrow, or does not suit the conversion.
        """
        first, last = self.take or (0, available)
        if last > available:
            raise SettingsError(f"{self.field} has {available} channels, take={[first, last]} needs more; lower it")
        taken, given = WIDTHS.get(self.convert, (last - first, last - first))
        if last - first != taken:
            raise SettingsError(
                f"{self.field}: convert={self.convert} takes {taken} channels, got {last - first}; set take"
            )
        return given


@checked
class VectorSettings(HashedSplitSettings):
    """The settings of a reader of robot data. Fields of a vector may be given as names, or as objects.

    Raises:
        SettingsError: a field of a vector is wrong, the state looks ahead (rule L8), or it uses a field of the action,
            so that the target would be an input (rule L3), by the settings or by the name of a field.
    """

    state: tuple[VectorField, ...] = setting("fields of the dataset that make the state; empty: no state")
    action: tuple[VectorField, ...] = setting("fields of the dataset that make the action; empty: no actions")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("state", "action"):
            object.__setattr__(self, name, parse_fields(getattr(self, name), name))
        ahead = [field.convert for field in self.state if field.convert in LOOKS_AHEAD]
        if ahead:
            raise SettingsError(f"state: convert={ahead[0]} looks at later frames; only an action may do so (rule L8)")
        commanded = {field.field for field in self.action if field.convert not in REACHED}
        shared = [field.field for field in self.state if field.field in commanded]
        if shared:
            raise SettingsError(
                f"state: {', '.join(shared)} is an action, a target; it must not be an input too (rule L3)"
            )
        refuse_state_fields(name for field in self.state for name in (field.field, field.base) if name is not None)


def parse_fields(values: Sequence[Any], setting: str) -> tuple[VectorField, ...]:
    """The fields of a vector, from names, objects with the attributes of `VectorField`, or these.

    Raises:
        SettingsError: an unknown key or a wrong value.
    """
    names = [described.name for described in describe(VectorField)]
    fields = []
    for value in values:
        content = {"field": value} if isinstance(value, str) else value
        if isinstance(content, VectorField):
            fields.append(content)
        elif not isinstance(content, Mapping) or "field" not in content or not content.keys() <= set(names):
            raise SettingsError(f"{setting}: an entry is a name, or an object of {', '.join(names)}; got {value!r}")
        else:
            try:
                fields.append(VectorField(**content))
            except ValueError as error:
                raise SettingsError(f"{setting}, {content['field']}: {error}") from error
    return tuple(fields)


def vector_width(fields: Sequence[VectorField], widths: Mapping[str, int], setting: str, where: str) -> int:
    """Channels of a vector, from the channels of every field of the dataset, which `where` declares.

    Raises:
        SettingsError: a field does not exist, or does not suit its conversion.
    """
    for field in fields:
        for name in filter(None, (field.field, field.base)):
            if name not in widths:
                found = ", ".join(widths)
                raise SettingsError(f"source.{setting}: {name!r} is no vector in {where}; allowed are {found}")
        if field.base is not None and widths[field.base] != WIDTHS[field.convert][0]:
            detail = f"must be a pose of {WIDTHS[field.convert][0]} channels, got {widths[field.base]}"
            raise SettingsError(f"{setting}: base {field.base} {detail}")
    try:
        return sum(field.width(widths[field.field]) for field in fields)
    except SettingsError as error:
        raise SettingsError(f"source.{setting}, by {where}: {error}") from error


def channel_names(
    fields: Sequence[VectorField], widths: Mapping[str, int], names: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """A name for each channel of a vector: the dataset's own where the channel is one of a field's, else FIELD[number].

    Args:
        widths, names: of the dataset's fields, as it declares them; a name for each channel, or no entry.
    """
    made: list[str] = []
    for field in fields:
        own, first = (names.get(field.field, ()), (field.take or (0, 0))[0]) if field.convert in _KEPT else ((), 0)
        channels = range(first, first + field.width(widths[field.field]))
        made += [own[i] if own else f"{field.field}[{i}]" for i in channels]
    return tuple(made)


def lost_frames(fields: Sequence[VectorField]) -> int:
    """Frames at the end of an episode without an action: 1 if it comes from the next frame's pose, else 0."""
    return int(any(field.convert in REACHED for field in fields))


def make_vectors(fields: Sequence[VectorField], read: FieldReader, what: str) -> NDArray[np.float32] | None:
    """The vectors of an episode, float32 [N, W], zeros without a sign; None without fields.

    The last `lost_frames` rows are missing.

    Args:
        what: the file, for messages.

    Raises:
        EpisodeError: "not-finite", "bad-rotation", "length-mismatch" (fields of different lengths), or what `read`
            raises.
    """
    if not fields:
        return None
    rows = [_finite(_convert(field, read, what), field.field, what) for field in fields]
    lengths = {field.field: len(made) + lost_frames([field]) for field, made in zip(fields, rows, strict=True)}
    if len(set(lengths.values())) > 1:
        numbers = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise EpisodeError("length-mismatch", f"{what}: rows by {numbers}")
    shortest = min(map(len, rows))
    return np.concatenate([made[:shortest] for made in rows], axis=1)


def _convert(field: VectorField, read: FieldReader, what: str) -> NDArray[np.float64]:
    from pipeline.sources.episode.rotations import from_euler, from_quaternion, pose_difference  # SciPy: a second

    values = _taken(field, read, what)
    match field.convert:
        case "none":
            return values
        case "euler_xyz":
            return from_euler(values)
        case "quaternion_xyzw":
            return from_quaternion(values, f"{what} {field.field}")
        case "gripper":
            assert field.open is not None
            assert field.closed is not None
            return (values - field.closed) / (field.open - field.closed)
        case "relative_gripper":
            return absolute_gripper(values[:, 0])[:, None]
        case "pose_difference" | "quaternion_pose_difference":
            assert field.base is not None
            base = _taken(VectorField(field=field.base), read, what)
            if len(base) != len(values):
                raise EpisodeError(
                    "length-mismatch", f"{what}: rows by {field.field} {len(values)}, {field.base} {len(base)}"
                )
            return pose_difference(values, base, f"{what} {field.field}")
        case _:  # a pose that is reached
            return pose_difference(values[1:], values[:-1], f"{what} {field.field}")


def _taken(field: VectorField, read: FieldReader, what: str) -> NDArray[np.float64]:
    values = np.asarray(read(field.field), np.float64)
    first, last = field.take or (0, values.shape[1])
    values = values[:, first:last] * field.scale
    # Before the conversion: SciPy's message on values that are not finite names no place.
    _finite(values, field.field, what)
    return values


def absolute_gripper(closing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative commands (above 0 closes, below 0 opens) -> 1 open, 0 closed, float64 [N].

    Before the first command the gripper is in the opposite state of that command. Without any command it is open (octo,
    `rel2abs_gripper_actions`). This looks ahead, so it is for targets only.
    """
    commands = np.where(closing > RELATIVE_THRESHOLD, 0.0, np.where(closing < -RELATIVE_THRESHOLD, 1.0, np.nan))
    given = np.flatnonzero(~np.isnan(commands))
    if len(given) == 0:
        return np.ones(len(closing))
    last = np.maximum.accumulate(np.where(np.isnan(commands), -1, np.arange(len(closing))))
    return np.where(last < 0, 1 - commands[given[0]], commands[last])


def _finite(values: NDArray[np.float64], field: str, what: str) -> NDArray[np.float32]:
    # A float64 that is too large for float32 becomes infinite here and is reported.
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = values.astype(np.float32) + np.float32(0)  # -0.0 becomes +0.0
    finite = np.isfinite(matrix)
    if not finite.all():
        row, channel = (int(i) for i in np.argwhere(~finite)[0])
        raise EpisodeError("not-finite", f"{what} {field} at frame {row}, channel {channel} is {values[row, channel]}")
    return matrix
