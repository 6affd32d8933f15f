"""What a mutant is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pipeline.audit.tiny_build import ROBOT, Row, TinyWorld


@dataclass(frozen=True)
class Mutant:
    """One way to break a build of `world`. `level` is the lowest that must find it; `message` is part of its text."""

    apply: Callable[[Path], object]
    rule: str
    level: str
    message: str
    world: TinyWorld = ROBOT

    @property
    def name(self) -> str:
        return self.apply.__name__


def set_column(column: str, value: Any, row: int = 4) -> Callable[[list[Row]], None]:
    """An edit of the manifest: one value of one row."""

    def edit(rows: list[Row]) -> None:
        rows[row][column] = value

    return edit
