"""Whether the files of a build stayed as they were while it was audited: rules open them one after the other.

Without this, who may write to the folder could show one rule other bytes than the next. A file that is written to,
exchanged or renamed gets another inode or another time of change (`st_ctime`), which no program can set; of a bucket,
every copy that is fetched is hashed.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import BUILD
from pipeline.errors import BuildError

Stamp = tuple[int, int, int, int] | None
"""Device, inode, size and time of change; None where there is no file."""


def stamps(build: ClaimedBuild) -> dict[str, Stamp]:
    """The stamps of build.json and all files that it lists, as far as they are in the folder throughout."""
    names = [BUILD, *(entry.path for entry in (build.listed() if build.fetcher is None else build.files))]
    return {name: _stamp(build.root / name) for name in names}


def require_unchanged(build: ClaimedBuild, before: dict[str, Stamp]) -> None:
    """Raise BuildError that names the first file whose stamp is another one now."""
    for name, now in stamps(build).items():
        if now != before[name]:
            raise BuildError(
                f"{build.root / name} was changed or exchanged while the build was audited, so there is no verdict; "
                "see that nothing writes there, and audit again"
            )


def _stamp(path: Path) -> Stamp:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
