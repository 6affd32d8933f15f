"""The raw data that the audit is handed: it cannot open a bucket itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jobs.audit.settings import AuditConfig
from pipeline.audit.raw.place import Place
from pipeline.errors import SettingsError
from pipeline.storage.raw.places import raw_path, raw_root


def raw_place(root: Path | str) -> Place:
    """A folder, or a place in a bucket, whose folders are listed once. Raises SettingsError."""
    place = raw_path(raw_root(root, "root"))
    return place if isinstance(place, Path) else replace(place, listings={})


def given_raw_data(settings: AuditConfig) -> Path | Place:
    """The raw data of levels "source" and "perturb". Raises SettingsError without it."""
    needed = f"level={settings.level} compares the build with its raw data: give root=FOLDER of the data"
    if settings.root is None:
        raise SettingsError(needed)
    place = raw_place(settings.root)
    if not place.is_dir():
        raise SettingsError(f"root={settings.root}: no such folder; {needed}")
    return place
