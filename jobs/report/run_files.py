"""The files of a training run, read for its report. Damaged or missing files are noted, never guessed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.json_lines import read_rows
from jobs.common.run_folder import require_plain
from pipeline.errors import RunError
from pipeline.format.json.strict_json import parse_any

LOG_LINES, LOG_BYTES = 200, 2**20
"""Of log.txt, the last ones."""
LARGEST_OBJECT = 2**28
"""Bytes of a file with one JSON object."""
LARGEST = 1e100
"""Numbers beyond are taken for infinite, which they would be in a plot's arithmetic."""


@dataclass(frozen=True)
class Curve:
    """A number over steps: x int64 [R] rising, y float64 [R] finite."""

    x: NDArray[np.int64]
    y: NDArray[np.float64]


@dataclass
class Metrics:
    """The content of metrics.jsonl.

    rows        readable rows;  first_step, last_step  of those
    train       curves by field, nested fields as "field/inner"
    held_out    curves by build and field
    last_held_out  the step and the numbers of the last row with held-out numbers
    """

    rows: int = 0
    first_step: int = 0
    last_step: int = 0
    train: dict[str, Curve] = field(default_factory=dict)
    held_out: dict[str, dict[str, Curve]] = field(default_factory=dict)
    last_held_out: tuple[int, dict[str, Any]] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunFolder:
    """A run's files.

    config    run.json
    held_out  numbers by build, of held_out.json or else of the last such row;  held_out_from  their file
    ended, stopped_batch  the files of these names; empty if there are none
    skipped   lines of skipped.jsonl
    log       the last lines of log.txt
    notes     what is missing or damaged
    """

    path: Path
    metrics: Metrics
    config: dict[str, Any]
    held_out: dict[str, Any]
    held_out_from: str
    ended: dict[str, Any]
    stopped_batch: dict[str, Any]
    skipped: list[dict[str, Any]]
    log: list[str]
    notes: list[str]


def read_run(path: Path) -> RunFolder:
    """Read a run's folder. Raises RunError if it holds no run.json or no metrics.jsonl, or run.json cannot be read."""
    require_plain(path)
    _require_run(path)
    notes: list[str] = []
    config = _object(path / "run.json", notes)
    if notes:
        raise RunError(f"{notes[0]}; vlajepa train writes it again when the run continues")
    metrics, log = read_metrics(path / "metrics.jsonl"), path / "log.txt"
    notes += metrics.notes
    held_out, source = _object(path / "held_out.json", notes), "held_out.json"
    if not held_out and metrics.last_held_out is not None:
        step, held_out = metrics.last_held_out
        source = f"metrics.jsonl, step {step:,}"
    return RunFolder(
        path=path,
        metrics=metrics,
        config=config,
        held_out={name: numbers for name, numbers in held_out.items() if isinstance(numbers, Mapping)},
        held_out_from=source,
        ended=_object(path / "ended.json", notes),
        stopped_batch=_object(path / "stopped_batch.json", notes),
        skipped=[entry for _, entry in read_rows(path / "skipped.jsonl") if entry is not None],
        log=_last_lines(log) if log.exists() else [],
        notes=notes,
    )


def read_metrics(path: Path) -> Metrics:
    """Curves of every numeric field. A torn last line, unreadable lines and numbers that are not finite are noted."""
    metrics, bad = Metrics(), 0
    train, held_out = _Points(), dict[str, _Points]()
    for whole, row in read_rows(path):
        step = None if row is None else row.pop("step", None)
        if row is None or not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**53:
            bad += whole  # a line without an end is one that is being written, or was when the run was killed
            continue
        metrics.first_step = min(step, metrics.first_step) if metrics.rows else step
        metrics.last_step = max(step, metrics.last_step)
        metrics.rows += 1
        if isinstance(row.get("held_out"), Mapping):
            found = {str(name): n for name, n in row.pop("held_out").items() if isinstance(n, Mapping)}
            metrics.last_held_out = (step, found)
            for name, numbers in found.items():
                held_out.setdefault(name, _Points()).add(step, numbers)
        train.add(step, row)
    metrics.train = train.curves()
    metrics.held_out = {name: points.curves() for name, points in held_out.items()}
    wild = sum(points.wild for points in (train, *held_out.values()))
    if bad:
        metrics.notes.append(f"metrics.jsonl: {bad:,} lines are no rows of numbers and were left out")
    if wild:
        metrics.notes.append(f"metrics.jsonl: {wild:,} numbers are not finite and were left out")
    return metrics


class _Points:
    """Curves while they are read. `wild` counts numbers that are not finite."""

    def __init__(self) -> None:
        self.wild = 0
        self._points: dict[str, list[tuple[int, float]]] = {}

    def add(self, step: int, numbers: Mapping[str, Any]) -> None:
        for name, value in _numbers(numbers):
            if abs(value) < LARGEST:
                self._points.setdefault(name, []).append((step, value))
            else:
                self.wild += 1

    def curves(self) -> dict[str, Curve]:
        found = {}
        for name, points in self._points.items():
            points.sort(key=lambda point: point[0])
            x, y = zip(*points, strict=True)
            found[name] = Curve(np.array(x, np.int64), np.array(y, np.float64))
        return found


def wall_time(metrics: Metrics) -> float | None:
    """Seconds spent in the rows' steps, over restarts: the field `seconds` starts again with each."""
    curve = metrics.train.get("seconds")
    if curve is None:
        return None
    ends = np.append(curve.y[1:] < curve.y[:-1], True)
    return float(curve.y[ends].sum())


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def inner(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A mapping in another one; empty if there is none."""
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _require_run(path: Path) -> None:
    missing = [name for name in ("run.json", "metrics.jsonl") if not (path / name).is_file()]
    if not missing:
        return
    stages = sorted(file.parent.name for file in path.glob("*/run.json"))
    fix = f"its folders {', '.join(stages)} are runs" if stages else "give the folder that vlajepa train wrote (out=)"
    raise RunError(f"{path} holds no {' and no '.join(missing)}, so it is no training run; {fix}")


def _last_lines(path: Path) -> list[str]:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        return file.read().decode(errors="replace").splitlines()[-LOG_LINES:]


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    """A JSON object; empty if the file is missing, or cannot be read, which is noted."""
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > LARGEST_OBJECT:
            raise ValueError(f"it has more than {LARGEST_OBJECT:,} bytes")
        content = parse_any(path.read_bytes())
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{path} cannot be read: it holds no JSON object")
        return {}
    return content


def _numbers(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, float]]:
    """Every number in a row by name: inner fields as "outer/inner", entries of lists as "field/1"…"""
    if isinstance(value, Mapping) or (isinstance(value, list) and name):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
        for key, entry in pairs if depth < 4 else ():
            yield from _numbers(entry, f"{name}/{key}" if name else str(key), depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, float(value) if abs(value) < LARGEST else math.inf
