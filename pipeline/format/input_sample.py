"""The student's input of one sample as bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSample:
    """Members of one sample as bytes: a JPEG for each view in order, and the JSON."""

    key: str
    images: tuple[bytes, ...]
    json: bytes
