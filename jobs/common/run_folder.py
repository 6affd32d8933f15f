"""A run's folder as somebody else may have handed it over: plain files of a bounded size, and no links."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import RunError

LARGEST = 8 * 2**30
"""Bytes of a file that lies in a run's folder itself; checkpoints lie below it."""


def require_plain(folder: Path) -> None:
    """Check what lies in a run's folder before it is read or written to. A folder that does not exist is in order.

    Raises:
        RunError: something there is a link, which would lead out of the folder, no file (a pipe would be waited for),
            or larger than any file of a run.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # a temporary file of a run that goes on
            continue
        if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST):
            continue
        kind = f"has {found.st_size:,} bytes" if stat.S_ISREG(found.st_mode) else "is no file"
        what = "is a link" if stat.S_ISLNK(found.st_mode) else kind
        raise RunError(
            f"{entry.path} {what}; a run's folder holds files of its own alone: move the run itself, and give its path"
        )
