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
    return str(_checked(settings, key, isinstance(settings.get(key), str), "text"))


def texts_of(settings: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A setting that must be a list of texts; none when it is not set. Raises RawError otherwise."""
    value = settings.get(key) or ()
    right = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    return tuple(_checked(settings, key, right, "a list of texts") or ())


def count_of(settings: Mapping[str, Any], key: str) -> int:
    """A setting that must be a whole number from 0 up. Raises RawError otherwise."""
    value = settings.get(key)
    return int(_checked(settings, key, type(value) is int and value >= 0, "a whole number from 0 up"))


def rate_of(settings: Mapping[str, Any], key: str = "fps") -> float:
    """Frames a second. Raises RawError unless above 0."""
    return float(_checked(settings, key, _is_number(settings.get(key)) and settings[key] > 0, "a number above 0"))


def hashed_split(episode: str, settings: Mapping[str, Any]) -> str:
    """Split by a hash of the id, where the raw data has no official ones: the share `val_share` is held out.

    The name of the source is left out of it, and `split_seed` is in it: see manifests/README.md.
    """
    share = _checked(settings, "val_share", _is_number(settings.get("val_share")), "a number")
    own = episode.removeprefix(text_of(settings, "name") + "-")
    hashed = hashlib.sha256(f"{count_of(settings, 'split_seed')}-{own}".encode()).digest()
    return "val" if int.from_bytes(hashed[:8], "big") / 2**64 < share else "train"


def clean(name: str) -> str:
    """Only letters, digits, `_` and `-`; runs of anything else become `_`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")


def short(path: str) -> str:
    """The part of an episode's id that names a file: its path if that is clean, else the beginning and a hash."""
    name = clean(path)
    if name == path and len(path) <= _SHORT:
        return path
    return f"{name[:31].strip('_-')}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _checked(settings: Mapping[str, Any], key: str, right: bool, what: str) -> Any:
    if not right:
        raise RawError(f"settings.source.{key} must be {what}, found {settings.get(key)!r:.80}")
    return settings.get(key)
