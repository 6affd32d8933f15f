"""Numbers of decoded messages by TOPIC:PATH[NAMES], as docs/datasets.md defines it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audit.raw.base import RawError


@dataclass(frozen=True)
class Path:
    """names: entries of a list by the names that the message has for them; empty: all."""

    topic: str
    parts: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Path:
        """Raises RawError for another form."""
        topic, colon, rest = text.partition(":")
        path, bracket, names = rest.partition("[")
        listed = tuple(name.strip() for name in names.removesuffix("]").split(",")) if bracket else ()
        parts = tuple(path.split("."))
        if (
            not topic
            or not colon
            or not all(parts)
            or not all(listed)
            or bracket != ("[" if rest.endswith("]") else "")
        ):
            raise RawError(f"{text!r:.200} is no TOPIC:PATH")
        return cls(topic, parts, listed)

    def numbers(self, message: Mapping[str, Any]) -> tuple[list[float], bool] | None:
        """The numbers, and whether they are a whole list; None where the message has none of the names.

        Raises:
            RawError: the message does not hold them.
        """
        found: Any = message
        for part in self.parts:
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise RawError(f"there is no {'.'.join(self.parts)}")
        own = _names(message, found)
        if not isinstance(found, list | bytes):
            if self.names:
                raise RawError(f"{'.'.join(self.parts)} is no list")
            return list(_flat(found)), False
        values = [_plain(value) for value in found]
        if not self.names:
            if own is not None:
                raise RawError(f"{'.'.join(self.parts)} has names")
            return values, True
        if own is None:
            raise RawError(f"{'.'.join(self.parts)} has no names")
        if not set(self.names) & set(own):
            return None
        if any(own.count(name) != 1 for name in self.names):
            raise RawError(f"the names are {own!r:.200}")
        return [values[own.index(name)] for name in self.names], False


def _names(message: Mapping[str, Any], values: Any) -> list[str] | None:
    """What a JointState or a JointTrajectory calls the entries of its lists."""
    for name in ("name", "joint_names"):
        own = message.get(name)
        if not isinstance(own, list) or not own or not isinstance(values, list | bytes) or len(own) != len(values):
            continue
        if all(isinstance(one, str) for one in own):
            return own
    return None


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _flat(inner)
    else:
        yield _plain(value)


def _plain(value: Any) -> float:
    if not isinstance(value, int | float):
        raise RawError(f"a {type(value).__name__} is no number")
    return float(value)
