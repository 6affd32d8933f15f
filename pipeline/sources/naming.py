"""Names of sources, episodes and splits."""

from __future__ import annotations

import hashlib
import re

from pipeline.errors import SettingsError


def clean_name(text: str) -> str:
    """A name that is safe in keys and tar members: letters, digits, `_` and `-`; no dot, no slash."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")


def short_name(text: str) -> str:
    """A clean name of at most 40 characters for a file: the name itself, or its beginning and a hash of all of it.

    Keys become names of tar members, which hold 100 characters.
    """
    clean = clean_name(text)
    if clean == text and len(text) <= 40:
        return text
    return f"{clean[:31].strip('_-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def hashed_split(episode_id: str, val_share: float) -> str:
    """Split of an episode in a source without official splits.

    A pure function of the id, so a dataset that grows never moves an episode: SHA-256 of the id, first 8 bytes as an
    integer over 2**64, is below `val_share` for "val".
    """
    value = int.from_bytes(hashlib.sha256(episode_id.encode()).digest()[:8], "big") / 2**64
    return "val" if value < val_share else "train"


SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What datasets call their splits -> what they are called here."""


def require_clean_name(name: str) -> None:
    """Raise SettingsError unless a source's name can be part of keys and file names."""
    if not name or clean_name(name) != name:
        fix = clean_name(name) or "a name"
        raise SettingsError(f"name must consist of letters, digits, _ and -, got {name!r}; use {fix!r} instead")


def require_share(val_share: float) -> None:
    """Raise SettingsError unless it can be the share of the episodes that are held out."""
    if not 0 <= val_share < 1:
        raise SettingsError(f"val_share must be at least 0 and below 1, got {val_share}")
