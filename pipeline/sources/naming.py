"""Names of sources, episodes and splits."""

from __future__ import annotations

import hashlib
import re


def clean_name(text: str) -> str:
    """A name that is safe in keys and tar members: letters, digits, `_` and `-`, without dots and slashes."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")


def short_name(text: str) -> str:
    """A clean name of at most 40 characters for a file: the name itself, or its beginning and a hash of all of it.

    Keys become names of tar members, which hold 100 characters.
    """
    clean = clean_name(text)
    if clean == text and len(text) <= 40:
        return text
    return f"{clean[:31].strip('_-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def hashed_split(own_id: str, seed: int, val_share: float) -> str:
    """Split of an episode in a source without official splits.

    A function of its own id in its dataset (an episode's id without the source's name) and a seed: it keeps its split
    when a dataset grows, and in every build of it, whatever that is named. The first 8 bytes of the SHA-256 of
    "SEED-ID", as an integer over 2**64, are below `val_share` for "val".
    """
    value = int.from_bytes(hashlib.sha256(f"{seed}-{own_id}".encode()).digest()[:8], "big") / 2**64
    return "val" if value < val_share else "train"


SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of splits in datasets -> names here."""
