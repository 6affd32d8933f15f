"""LIBERO-Plus's tasks as the simulator lists them: which are played, and whether their scenes can be made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.closed_loop.evaluate.settings import PlusSettings
from jobs.closed_loop.process import SimulatorDied
from jobs.closed_loop.rollout import SimulatorSlot
from jobs.common.json_lines import JsonLines
from jobs.common.progress import progress_bar
from pipeline.errors import RunError


@dataclass(frozen=True)
class PlusRow:
    """A task: its index in the suite that was asked for, its name and suite of LIBERO, its category and difficulty
    (None: not known), and what is missing here to play it."""

    task: int
    name: str
    suite: str
    category: str
    difficulty: int | None
    missing: tuple[str, ...]


@dataclass(frozen=True)
class MadeScene:
    """A scene and start that was made, or the error; `key` as in `jobs.simulator.libero_plus.tasks.PlusTask`."""

    key: str
    name: str
    error: str
    seconds: float


def rows_of(listed: Sequence[Mapping[str, Any]]) -> tuple[PlusRow, ...]:
    """The simulator's answer to "tasks"."""
    return tuple(
        PlusRow(index, row["name"], row["suite"], row["category"], row["difficulty"], tuple(row["missing"]))
        for index, row in enumerate(listed)
    )


def chosen(rows: Sequence[PlusRow], settings: PlusSettings) -> list[int]:
    """Indices of the tasks to play: of the wanted categories, those that can be played here, or `each` of every suite
    and category, evenly spread."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if not row.missing and (settings.categories is None or row.category in settings.categories):
            groups.setdefault((row.suite, row.category), []).append(row.task)
    return sorted(task for group in groups.values() for task in _spread(group, settings.each))


def _spread(group: Sequence[int], count: int | None) -> list[int]:
    if count is None or count >= len(group):
        return list(group)
    return [group[(2 * i + 1) * len(group) // (2 * count)] for i in range(count)]


def make_scenes(
    suite: str,
    rows: Sequence[PlusRow],
    categories: Sequence[str] | None,
    slot: SimulatorSlot,
    log: JsonLines[MadeScene],
) -> tuple[PlusRow, ...]:
    """Make each scene that is not in the log; the rows, in which a scene that failed is missing."""
    keys = slot.running().ask("scenes", suite=suite)["keys"]
    wanted: dict[str, PlusRow] = {}
    for key, row in zip(keys, rows, strict=True):
        if key and (not categories or row.category in categories):
            wanted.setdefault(key, row)
    made = {one.key: one for one in log.read()}
    with progress_bar(total=len(wanted), initial=len(wanted.keys() & made.keys()), unit="scene", desc=suite) as bar:
        for key, row in wanted.items():
            if key not in made:
                made[key] = _make(suite, key, row, slot)
                log.add(made[key])
                bar.update(1)
    return tuple(
        replace(row, missing=(f"scene that can be made: {made[key].error}",)) if made.get(key, _NONE).error else row
        for key, row in zip(keys, rows, strict=True)
    )


_NONE = MadeScene("", "", "", 0.0)


def _make(suite: str, key: str, row: PlusRow, slot: SimulatorSlot) -> MadeScene:
    begun, error = time.monotonic(), ""
    try:
        slot.running().ask("make", suite=suite, task=row.task)
    except SimulatorDied as died:
        slot.close()
        error = str(died)
    except RunError as refused:
        error = str(refused)
    return MadeScene(key, row.name, error, round(time.monotonic() - begun, 3))
