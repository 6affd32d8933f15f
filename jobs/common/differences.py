"""Where two settings differ, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def first_difference(stored: Any, asked: Any, where: str = "") -> str:
    """The first place where two JSON-like values differ, as text; empty if they are equal."""
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        for key in sorted(stored.keys() | asked.keys()):
            inner = first_difference(stored.get(key), asked.get(key), f"{where}.{key}" if where else str(key))
            if inner:
                return inner
        return ""
    if isinstance(stored, list | tuple) and isinstance(asked, list | tuple) and len(stored) == len(asked):
        for i, (a, b) in enumerate(zip(stored, asked, strict=True)):
            inner = first_difference(a, b, f"{where}[{i}]")
            if inner:
                return inner
        return ""
    return "" if stored == asked else f"{where} was {stored!r}, now {asked!r}"
