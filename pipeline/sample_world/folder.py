"""Checks of both writers of sample data."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import RunError, SettingsError

SIZES = range(32, 513, 2)


def new_folder(root: str | Path, size: int) -> Path:
    """Make the folder, with its parents.

    Raises:
        SettingsError: frames of this size, in pixels, cannot be drawn and encoded.
        RunError: the folder is not empty.
    """
    if size not in SIZES:
        raise SettingsError(f"size must be even and from {SIZES[0]} to {SIZES[-1]} pixels, got {size}")
    path = Path(root)
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise RunError(f"{path} is not empty; name a new folder, or remove this one")
    return path
