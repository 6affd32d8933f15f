"""The id by which a tracker knows the run in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path


def identity_of(out: Path) -> str:
    """16 hex digits of the folder's path: the same folder is the same run."""
    return hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
