"""The raw data that the audit is handed: it cannot open a bucket itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.audit.raw.place import Place
from pipeline.storage.raw.places import raw_path, raw_root


def raw_place(root: Path | str) -> Place:
    """A folder, or a place in a bucket, whose folders are listed once. Raises SettingsError."""
    place = raw_path(raw_root(root, "root"))
    return place if isinstance(place, Path) else replace(place, listings={})
