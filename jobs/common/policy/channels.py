"""What the numbers of a state or an action mean: names, units, and which value of a gripper is open.

The names say the convention too; these are known, and each stands for one way of telling a motion or a place:

    x, y, z          place                       dx, dy, dz   change of place
    ax, ay, az       rotation vector             rx, ry, rz   change of orientation, rotation vector
    roll, pitch, yaw angles about fixed x, y, z
    qx, qy, qz, qw   quaternion
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Channels:
    """Neighbouring channels of a state or action vector, as a build holds them.

    names    one per channel, in order
    units    metres, radians, …; empty: nobody said what these channels are
    meaning  frame, rotation convention, which value of a gripper is open
    """

    names: tuple[str, ...]
    units: str
    meaning: str


@dataclass(frozen=True)
class Channel:
    """One of them. unit: "" if nobody said; open: the value of an open gripper, None for what is none."""

    name: str
    unit: str
    open: float | None

    @property
    def text(self) -> str:
        """For messages."""
        convention = CONVENTIONS.get(self.name)
        opening = None if self.open is None else f"{self.open:g} is open"
        about = ", ".join(part for part in (self.unit, convention, opening) if part)
        return f"{self.name} ({about})" if about else self.name


_GROUPS = {
    "x y z": "absolute",
    "dx dy dz": "change",
    "ax ay az": "rotation vector, absolute",
    "rx ry rz": "rotation vector, change",
    "roll pitch yaw": "angles about fixed axes, absolute",
    "qx qy qz qw": "quaternion, absolute",
}
CONVENTIONS: Mapping[str, str] = {name: text for names, text in _GROUPS.items() for name in names.split()}
"""Name of a channel -> how it tells a place, an orientation or a change of them."""

_OPEN = {"open": 1.0, "closed": 0.0}


def channels_of(groups: Iterable[Mapping[str, Any]]) -> tuple[Channels, ...]:
    """From plain maps of names, units and meaning."""
    return tuple(Channels(tuple(group["names"]), group["units"], group["meaning"]) for group in groups)


def each_channel(groups: Sequence[Channels]) -> Iterator[Channel]:
    """The channels, one by one. "metres a step" counts as metres, and "0 or 1" as "0 to 1"."""
    for group in groups:
        unit = re.sub(r"^(metres|radians) .*", r"\1", group.units).replace("0 or 1", "0 to 1")
        said = re.search(r"\b1 is (open|closed)\b", group.meaning)
        for name in group.names:
            yield Channel(name, unit, _OPEN[said[1]] if said and "gripper" in name else None)


def first_difference(kind: str, found: Sequence[Channels], expected: Sequence[Channels]) -> str | None:
    """The first channel that differs, as text; None if none does, as far as both sides say what theirs are.

    Args:
        kind: "state" or "action".
    """
    ours, theirs = list(each_channel(found)), list(each_channel(expected))
    if not ours or not theirs:
        return None
    if len(ours) != len(theirs):
        return f"{kind} has {len(ours)} channels, expected {len(theirs)}"
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        said = bool(one.unit), bool(other.unit)
        opening = one.open != other.open and None not in (one.open, other.open)
        differs = (one.name, one.unit) != (other.name, other.unit) or opening
        if said[0] == said[1] and differs:
            return f"{kind}[{index}] is {one.text}, expected {other.text}"
    return None


def is_said(groups: Sequence[Channels]) -> bool:
    """Whether it is known of every channel what it is."""
    channels = list(each_channel(groups))
    return bool(channels) and all(channel.unit for channel in channels)


def described(groups: Sequence[Channels]) -> list[dict[str, Any]]:
    """A map a channel, for the metadata: name, unit, convention and, of a gripper, the values of open and closed."""
    rows = []
    for channel in each_channel(groups):
        gripper = {} if channel.open is None else {"open": channel.open, "closed": 1.0 - channel.open}
        convention = CONVENTIONS.get(channel.name)
        rows.append({"name": channel.name, "unit": channel.unit or None, "convention": convention, **gripper})
    return rows
