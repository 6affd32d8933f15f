"""A folder on this node that one user alone can write to: what lies there decides what counts as verified."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import SettingsError


def make_own_folder(path: Path) -> None:
    """Make a folder with mode 0700.

    Raises:
        SettingsError: it is another user's, a link, or others may write to it.
        OSError: it cannot be made.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SettingsError(
            f"{path} must be a folder of this user that nobody else can write to (chmod 700): who writes there decides "
            "what counts as verified; or give another trainer.cache_folder"
        )
