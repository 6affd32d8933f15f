"""Files of a build, which may be anything: only regular files are read, and no link is followed."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from pipeline.errors import BuildError

BUILD, TASKS, LEDGER = "build.json", "tasks.jsonl", "ledger.jsonl"


def is_regular(path: Path) -> bool:
    """True for a regular file; links are not followed."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file. Raises BuildError when it is missing or something else (link, pipe, folder)."""
    if not is_regular(path):
        raise BuildError(f"{path} is missing or not a regular file; an unfinished build cannot be audited")
    return path.read_bytes()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits. Raises OSError when it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
