"""Names of numbers in messages: TOPIC:PATH, as in /ee_pose:pose.position or /joint_states:position[shoulder, elbow].

A PATH is names of fields with dots between them; a number takes an entry of a list of messages (points.0.positions).
Names in brackets take entries of a list by the message's own list of names (`name` of a JointState, `joint_names` of a
JointTrajectory), whose order may be another in each message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pipeline.errors import SettingsError

LISTS_OF_NAMES = ("name", "joint_names")
"""Fields of a message that say what the entries of its lists are."""

_FIELD = re.compile(r"(?P<topic>[^:\[\]]+):(?P<path>[A-Za-z0-9_.]+)(?:\[(?P<names>[^\[\]]*)\])?")


@dataclass(frozen=True)
class MessageField:
    """A name, taken apart. names: entries that are taken by the message's list of names; empty: all."""

    topic: str
    path: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> MessageField:
        """Raises SettingsError for anything else."""
        found = _FIELD.fullmatch(text)
        names = (
            tuple(name.strip() for name in found["names"].split(",")) if found and found["names"] is not None else ()
        )
        path = tuple(found["path"].split(".")) if found else ()
        if not found or "" in path or "" in names or len(set(names)) < len(names):
            raise SettingsError(
                f"{text!r} names no numbers of a message; write TOPIC:PATH, as in /ee_pose:pose.position, or "
                "/joint_states:position[shoulder, elbow]"
            )
        return cls(found["topic"], path, names)

    def overlaps(self, other: MessageField) -> bool:
        """Whether both may take the same number."""
        shorter = min(len(self.path), len(other.path))
        apart = self.names and other.names and not set(self.names) & set(other.names)
        return self.topic == other.topic and self.path[:shorter] == other.path[:shorter] and not apart


class FieldError(Exception):
    """A message does not hold the field, or not as numbers."""


@dataclass(frozen=True)
class Found:
    """Numbers of one message.

    names      of each, as the message has them: joints, x, y, z; empty for a list of numbers
    is_listed  they are all of a list without names, which may be longer in another message
    """

    values: tuple[float, ...]
    names: tuple[str, ...]
    is_listed: bool


def find_numbers(field: MessageField, message: Any) -> Found | None:
    """The numbers of a field; None if the message has none of the field's names, as that of another publisher.

    Raises:
        FieldError: what the message has instead.
    """
    found = message
    for part in field.path:
        found = _step(found, part)
    if not isinstance(found, list | tuple | bytes):
        if field.names:
            raise FieldError(f"{'.'.join(field.path)} is no list, so it has no {', '.join(field.names)}")
        named = tuple(_leaves(found, "" if isinstance(found, SimpleNamespace) else field.path[-1]))
        return Found(tuple(value for _, value in named), tuple(name for name, _ in named), False)
    values = tuple(_number(value, field.path[-1]) for value in found)
    if not field.names:
        if own := _own_names(message, len(values)):
            raise FieldError(f"its entries have names, whose order may change: choose of [{', '.join(own)}]")
        return Found(values, (), True)
    names = _own_names(message, len(values))
    if names is None:
        raise FieldError(f"it has no list of {len(values)} names ({' or '.join(LISTS_OF_NAMES)}) to choose from")
    there = [name for name in field.names if name in names]
    if not there:
        return None
    if len(there) < len(field.names) or any(names.count(name) > 1 for name in there):
        raise FieldError(f"its names are {', '.join(names)}; wanted is each of {', '.join(field.names)} once")
    return Found(tuple(values[names.index(name)] for name in field.names), field.names, False)


def _step(message: Any, part: str) -> Any:
    if isinstance(message, list) and part.isdigit() and len(part) < 7:
        if int(part) >= len(message):
            raise FieldError(f"a list has {len(message)} entries, none of number {part}")
        return message[int(part)]
    slots = getattr(message, "__slots__", ())
    if part not in slots or not hasattr(message, part):
        raise FieldError(f"no field {part}; there are {', '.join(slots) or 'no fields'}")
    return getattr(message, part)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers of a message by their names (position.x), in the order of its definition."""
    if isinstance(value, SimpleNamespace):
        for part in getattr(value, "__slots__", ()):
            yield from _leaves(getattr(value, part), f"{name}.{part}".lstrip("."))
    else:
        yield name, _number(value, name)


def _number(value: Any, name: str) -> float:
    if not isinstance(value, int | float):
        raise FieldError(f"{name} holds a {type(value).__name__}, expected a number")
    return float(value)


def _own_names(message: Any, length: int) -> list[str] | None:
    """The message's list of names, if it names so many entries."""
    for field in LISTS_OF_NAMES:
        names = getattr(message, field, None)
        if isinstance(names, list) and len(names) == length and names and all(isinstance(one, str) for one in names):
            return names
    return None
