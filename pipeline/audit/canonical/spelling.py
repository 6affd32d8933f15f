"""The one spelling of each JSON file: written anew from what was read of it, and compared."""

from __future__ import annotations

import json
from typing import Any

from pipeline.format.json.strict_json import canonical


def document(value: Any) -> bytes:
    """build.json, plan.json, stats.json: sorted keys, two spaces of indentation, UTF-8, one newline at the end.

    Raises:
        ValueError: a number or text has no spelling (NaN, infinity, half a surrogate pair).
    """
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def line(value: Any) -> bytes:
    """A line of tasks.jsonl or ledger.jsonl: sorted keys, no spaces, UTF-8. Raises ValueError as `document`."""
    return canonical(value).encode() + b"\n"


def difference(found: bytes, expected: bytes) -> str:
    """Where a file departs from its content written anew; "" when it is equal."""
    if found == expected:
        return ""
    at = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(found), len(expected)) if at is None else at
    has, wants = found[at : at + 24], expected[at : at + 24]
    return f"byte {at} is not as its content is written: found {has!r}, expected {wants!r}"
