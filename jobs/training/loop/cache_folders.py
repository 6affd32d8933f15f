"""Folders of this machine that trainings keep files in between runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from jobs.training.loop.settings import TrainerSettings
from pipeline.storage.own_folder import make_own_folder

_log = logging.getLogger(__name__)


def cache_folder(settings: TrainerSettings) -> Path:
    """Where remote builds are cached."""
    if settings.cache_folder is not None:
        return settings.cache_folder
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlajepa"


def shared_folder(settings: TrainerSettings) -> Path | None:
    """Where the readers of this node share what they know of a build; None where it cannot be made.

    Raises:
        SettingsError: it is not this user's alone.
    """
    folder = cache_folder(settings) / "builds-read"
    try:
        make_own_folder(folder)
    except OSError as error:
        _log.warning("%s; set trainer.cache_folder: until then each process verifies every sample once itself", error)
        return None
    return folder
