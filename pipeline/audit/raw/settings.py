"""Settings of a source as build.json holds them, and the rules for names and splits that they set."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.audit.raw.base import RawError

SPLITS: Mapping[str, str] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""A dataset's own name of a split -> the build's."""

_SHORT = 40


def text_of(settings: Mapping[str, Any], key: str) -> str:
    """A setting of the source that must be text. Raises RawError otherwise."""
    value = settings.get(key)
    if not isinstance(value, str):
        raise RawError(f"settings.source.{key} must be text, found {value!r:.80}")
    return value


def texts_of(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A setting that must be a list of texts; none when it is not set. Raises RawError otherwise."""
    value = settings.get(key) or ()
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise RawError(f"settings.source.{key} must be a list of texts, found {value!r:.80}")
    return tuple(value)


def number_of(settings: Mapping[str, Any], key: str) -> float:
    """A setting that must be a finite number. Raises RawError otherwise."""
    value = settings.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RawError(f"settings.source.{key} must be a number, found {value!r:.80}")
    return float(value)


def count_of(settings: Mapping[str, Any], key: str) -> int:
    """A setting that must be a whole number from 0 up. Raises RawError otherwise."""
    value = settings.get(key)
    if type(value) is not int or value < 0:
        raise RawError(f"settings.source.{key} must be a whole number from 0 up, found {value!r:.80}")
    return value


def rate_of(settings: Mapping[str, Any], key: str = "fps") -> float:
    """Frames a second. Raises RawError unless above 0."""
    value = number_of(settings, key)
    if not value > 0:
        raise RawError(f"{key} must be above 0, found {value}")
    return value


def hashed_split(episode: str, settings: Mapping[str, Any]) -> str:
    """Split by a hash of the id, where the raw data has no official ones: the share `val_share` is held out."""
    value = int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big") / 2**64
    return "val" if value < number_of(settings, "val_share") else "train"


def clean(name: str) -> str:
    """Only letters, digits, `_` and `-`; runs of anything else become `_`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")


def short(path: str) -> str:
    """The part of an episode's id that names a file: its path if that is clean, else the beginning and a hash."""
    name = clean(path)
    if name == path and len(path) <= _SHORT:
        return path
    return f"{name[:31].strip('_-')}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def number_in(text: str, digits: int) -> int | None:
    """A number written with at least so many digits, as ids hold it; None where another text means the same number."""
    if not re.fullmatch(r"[0-9]+", text):
        return None
    number = int(text) if len(text) < 19 else -1
    return number if f"{number:0{digits}d}" == text else None
