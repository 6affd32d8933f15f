"""KEY.json: the student's text and state. Exactly the keys of the format, in canonical JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.audit.finding import Problem
from pipeline.format.json.strict_json import canonical, parse
from pipeline.format.schema import INPUT_JSON_KEYS


@dataclass(frozen=True)
class Expected:
    """A sample by manifest and plan. `instruction` is None where the source has one for each frame."""

    key: str
    episode: str
    now: int
    source: str
    views: list[str]
    instruction: str | None
    state: int


def check_document(data: bytes, expected: Expected) -> tuple[dict[str, Any] | None, tuple[Problem, ...]]:
    """Parse one KEY.json and compare it. Never raises, whatever the bytes.

    Returns:
        The object when its keys and types are right (else None), and all problems.
    """
    try:
        value = parse(data)
    except ValueError as error:
        return None, (Problem("L10", f"the JSON cannot be read: {error}"),)
    if not isinstance(value, dict) or tuple(sorted(value)) != INPUT_JSON_KEYS:
        keys = sorted(value) if isinstance(value, dict) else type(value).__name__
        return None, (Problem("L10", f"the JSON must hold exactly {', '.join(INPUT_JSON_KEYS)}; found {keys}"),)
    wrong = [f"{key!r} must be {what}, found {value[key]!r:.80}" for key, what in _wrong_types(value)]
    if wrong:
        return None, tuple(Problem("L10", detail) for detail in wrong)
    return value, tuple(_spelling(data, value) + _differences(value, expected) + _state_problems(value, expected))


def _wrong_types(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys whose values have another type, and the type that they must have."""
    for key, kind in (("episode", str), ("instruction", str), ("key", str), ("now", int), ("source", str)):
        if type(value[key]) is not kind:
            yield key, kind.__name__
    views, state = value["views"], value["state"]
    if not isinstance(views, list) or any(type(view) is not str for view in views):
        yield "views", "a list of strings"
    if state is not None and not (isinstance(state, list) and all(type(x) is float for x in state)):
        yield "state", "null or a list of decimal numbers"


def _spelling(data: bytes, value: dict[str, Any]) -> list[Problem]:
    """A second spelling of the same object (spaces, escapes, more digits) could carry a message."""
    try:
        same = data == canonical(value).encode() + b"\n"
    except ValueError:  # infinities and lone surrogates have no canonical spelling
        same = False
    if not same:
        return [Problem("L10", "the JSON is not spelled canonically (sorted, no spaces, UTF-8, one newline)")]
    digits = [x for x in value["state"] or () if not _is_float32(x)]
    if digits:
        return [
            Problem(
                "L10",
                f"state holds {digits[0]!r}, which is not the shortest spelling of a float32 (a zero has no sign)",
            )
        ]
    return []


def _is_float32(x: float) -> bool:
    if not math.isfinite(x) or abs(x) > float(np.finfo(np.float32).max):
        return False
    return float(str(np.float32(x))) == x and (x != 0 or math.copysign(1.0, x) > 0)


def _differences(value: dict[str, Any], expected: Expected) -> list[Problem]:
    problems = []
    for key in ("key", "episode", "source", "views"):
        wants = getattr(expected, key)
        if value[key] != wants:
            problems.append(Problem("L7", f"{key!r} is {value[key]!r:.80}, the manifest has {wants!r:.80}"))
    if value["now"] != expected.now:
        problems.append(Problem("L1", f"the inputs are of frame {value['now']}, the manifest says now={expected.now}"))
    if not value["instruction"].strip():
        problems.append(Problem("L9", "the instruction is empty; such an episode belongs in the ledger"))
    elif expected.instruction is not None and value["instruction"] != expected.instruction:
        own = f"the episode's own {expected.instruction!r:.80}"
        problems.append(Problem("L9", f"the instruction is {value['instruction']!r:.80}, {own}"))
    return problems


def _state_problems(value: dict[str, Any], expected: Expected) -> list[Problem]:
    state = value["state"]
    if expected.state == 0:
        return [] if state is None else [Problem("L8", "human video has no state, found one")]
    if state is None or len(state) != expected.state:
        found = "none" if state is None else f"{len(state)} numbers"
        return [Problem("L8", f"the state must have {expected.state} numbers, found {found}")]
    return []
