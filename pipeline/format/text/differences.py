"""Where two settings differ, for messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.format.text.printable import shown

ABSENT: Final = "(absent)"


@dataclass(frozen=True)
class Difference:
    """A place as in "window.interval" or "tasks[2]" and its two values; ABSENT where one side lacks it."""

    place: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.place}: {shown(self.before)} -> {shown(self.after)}"


def differences(stored: Any, asked: Any, place: str = "") -> Iterator[Difference]:
    """Every place where two JSON-like values differ, mappings in the order of their keys. A tuple equals its list."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        for key in sorted(stored.keys() | asked.keys()):
            inner = f"{place}.{key}" if place else str(key)
            yield from differences(stored.get(key, ABSENT), asked.get(key, ABSENT), inner)
    elif isinstance(stored, list | tuple) and isinstance(asked, list | tuple) and len(stored) == len(asked):
        for i, (before, after) in enumerate(zip(stored, asked, strict=True)):
            yield from differences(before, after, f"{place}[{i}]")
    elif stored != asked:
        yield Difference(place, stored, asked)


def first_difference(stored: Any, asked: Any) -> str:
    """The first difference as text; empty if there is none. What one side lacks counts as None."""
    for found in differences(stored, asked):
        before, after = (None if value == ABSENT else value for value in (found.before, found.after))
        if before != after:
            return f"{found.place} was {shown(before)}, now {shown(after)}"
    return ""
