"""Checks of both writers of sample data."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import RunError, SettingsError

SIZES = range(32, 513, 2)


def new_folder(root: str | Path) -> Path:
    """Make the folder, with its parents. Raises RunError if it is not empty."""
    path = Path(root)
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        raise RunError(f"{path} is not empty; name a new folder, or remove this one")
    return path


def require_size(size: int) -> None:
    """Raise SettingsError unless frames of this size can be drawn and encoded."""
    if size not in SIZES:
        raise SettingsError(f"size must be even and from {SIZES[0]} to {SIZES[-1]} pixels, got {size}")
