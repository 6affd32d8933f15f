"""A full disk of this machine: one error that names the folder, however deep in a library the write failed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import BuildError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def naming_full_disk(folder: Path | str, fix: str) -> Iterator[None]:
    """Around what writes below a folder. Other errors pass as they are.

    Args:
        fix: what to do about it, in words.

    Raises:
        BuildError: the disk or the user's share of it is full.
    """
    try:
        yield
    except OSError as error:
        if is_full_disk(error):
            reason = os.strerror(error.errno or errno.ENOSPC)
            raise BuildError(f"{folder} cannot be written: {reason}; {fix}") from error
        raise


def is_full_disk(error: BaseException) -> bool:
    """Whether an error says that a disk of this machine is full."""
    return isinstance(error, OSError) and error.errno in _FULL
